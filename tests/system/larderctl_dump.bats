#!/usr/bin/env bats
# dump and load: what comes out goes in again, whatever its bytes.
load helpers

setup() { start_daemon --memory 64M; }
teardown() { stop_daemon; }

# Lines of a dump without the notes and with the time to live as yes or no, in order.
items() { grep -v '^#' "$1" | awk -F'\t' -v OFS='\t' '{ $3 = $3 == "-" ? "-" : "ttl" } 1' | LC_ALL=C sort; }

@test "a dump of nothing" {
    ctl dump >"$DIR/dump"
    [ "$(cat "$DIR/dump")" = $'#larder dump 1\n#end 0' ]
    status_of 0 ctl load "$DIR/dump"
}

@test "every byte goes around" {
    python3 - >"$DIR/in" <<'PY'
import os, random
random.seed(1)
def esc(b):
    return "".join("\\x%02x" % x for x in b)
print("\t".join([esc(bytes(range(256))), "1", "-", esc(bytes(range(256)))]))
for n in range(500):
    key = bytes([n % 256, n // 256]) + random.randbytes(random.randrange(0, 300))
    print("\t".join([esc(key), str(n * 8589934), "-" if n % 2 else "3600000", esc(random.randbytes(random.randrange(0, 3000)))]))
print("\t".join(["\\x23hash", "0", "-", "#value"]))
print("\t".join([" blank ", "0", "-", " \\\\ trailing "]))
PY
    status_of 0 ctl load "$DIR/in"
    [ "$output" = "503 items loaded" ]
    status_of 0 ctl dump "$DIR/one"
    [ "$output" = "503 items in $DIR/one" ]
    # nothing in it that an editor or a mail would change
    LC_ALL=C grep -q '[^ -~	]' "$DIR/one" && false
    [ "$(ctl get -x "$(printf '%02x' $(seq 0 255))" | od -An -v -tx1 | tr -d ' \n')" = "$(printf '%02x' $(seq 0 255))" ]

    first=$SOCKET SOCKET=$DIR/second.sock
    "$LARDER_BUILD/larderd" --socket "$SOCKET" --memory 64M >"$DIR/log2" 2>&1 </dev/null 3>&- &
    second=$!
    wait_until 10 ctl ping
    "$LARDER_BUILD/larderctl" -s "$first" dump | ctl load
    ctl dump >"$DIR/two"
    ctl check
    kill "$second"
    wait "$second" || true
    SOCKET=$first
    diff <(items "$DIR/one") <(items "$DIR/two")
}

@test "flags and the time left survive" {
    ctl set --ttl 1h --flags 7 key value
    ctl dump | ctl load
    [ "$(ctl inspect -o json key | jq .item.flags)" = 7 ]
    left=$(ctl inspect -o json key | jq .item.ttl_left_ms)
    [ "$left" -gt 3500000 ]
    [ "$left" -le 3600000 ]
}

@test "what has expired is not dumped" {
    ctl set --ttl 300ms key value
    ctl set stays here
    sleep 0.4
    [ "$(ctl dump | grep -vc '^#')" = 1 ]
}

@test "a line that is none is named, the others are loaded" {
    printf 'good\t0\t-\tvalue\nno tabs\nkey\tx\t-\tv\nkey\t0\tsoon\tv\nkey\t0\t0\tv\nbad\\q\t0\t-\tv\nkey\t0\t-\t\\x4\n\t0\t-\tv\n\nalso\t0\t-\ttabs\tstay\n' >"$DIR/in"
    status_of 2 ctl load "$DIR/in"
    for n in 2 3 4 5 6 7 8; do
        [[ $output == *"$DIR/in:$n: "* ]]
    done
    [[ $output == *"2 items loaded"* ]]
    [[ $output == *"7 lines"* ]]
    [ "$(ctl get good)" = value ]
    [ "$(ctl get also)" = $'tabs\tstay' ]
}

@test "half a dump is no dump" {
    for i in 1 2 3; do ctl set "key $i" value; done
    ctl dump >"$DIR/dump"
    head -n 3 "$DIR/dump" >"$DIR/half"
    status_of 2 ctl load "$DIR/half"
    [[ $output == *"not a whole dump"* ]]
    sed 2d "$DIR/dump" >"$DIR/less"
    status_of 2 ctl load "$DIR/less"
    sed '1s/1/9/' "$DIR/dump" >"$DIR/newer"
    status_of 2 ctl load "$DIR/newer"
    [[ $output == *"format"* ]]
    status_of 2 ctl load "$DIR/nowhere"
    status_of 2 ctl dump "$DIR/no/where"
}

@test "an item too large for this daemon is left out" {
    { printf 'big\t0\t-\t'; head -c 3000000 /dev/zero | tr '\0' v; printf '\nsmall\t0\t-\tv\n'; } >"$DIR/in"
    status_of 2 ctl load "$DIR/in"
    [[ $output == *":1: "*"larger"* ]]
    [ "$(ctl get small)" = v ]
}

@test "a dump under writes has every item that was there all the time" {
    seq 1 20000 | awk '{ printf "stays %d\t0\t-\tvalue %d\n", $1, $1 }' | ctl load
    (seq 1 60000 | awk '{ printf "comes %d\t0\t-\tvalue\n", $1 }' | ctl load) 3>&- &
    writer=$!
    ctl dump >"$DIR/dump"
    wait "$writer"
    [ "$(grep -c '^stays ' <(LC_ALL=C sort -u "$DIR/dump"))" = 20000 ]
    ctl check
}
