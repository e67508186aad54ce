#!/usr/bin/env bats
# get, set, delete: good and bad input, any bytes.
load helpers

setup() { start_daemon --memory 64M; }
teardown() { stop_daemon; }

@test "what was set is got, byte for byte and no more" {
    status_of 0 ctl set greeting 'hello, world'
    [ -z "$output" ]
    [ "$(ctl get greeting | od -An -tx1)" = "$(printf 'hello, world' | od -An -tx1)" ]
}

@test "a miss is status 1 and no output" {
    status_of 1 ctl get nothing-there
    [ -z "$output" ]
}

@test "set overwrites" {
    ctl set key one
    ctl set key two
    [ "$(ctl get key)" = two ]
}

@test "an empty value is a value" {
    ctl set empty ''
    status_of 0 ctl get empty
    [ -z "$output" ]
    ctl set empty2 - </dev/null
    status_of 0 ctl get empty2
}

@test "a value from standard input may have any bytes" {
    head -c 100000 /dev/urandom >"$DIR/value"
    ctl set blob - <"$DIR/value"
    ctl get blob | cmp - "$DIR/value"
}

@test "a value as large as items get, and one byte more" {
    max=$(figure segment.item_max_bytes)
    head -c $((max - 16 - 3)) /dev/zero >"$DIR/value"
    ctl set big - <"$DIR/value"
    ctl get big | cmp - "$DIR/value"
    printf x >>"$DIR/value"
    status_of 2 ctl set big - <"$DIR/value"
    [[ $output == *"at most $max"* ]]
    ctl get big | cmp -n $((max - 19)) - "$DIR/value"
}

# shellcheck disable=SC1003 # backslashes are meant
@test "keys with any bytes, by escapes and by digits" {
    ctl set -e 'a\0b\xff\t\\' 'v\n\e'
    [ "$(ctl get -e 'a\0b\xff\t\\' | od -An -tx1)" = " 76 0a 1b" ]
    [ "$(ctl get --hex 610062ff095c | od -An -tx1)" = " 76 0a 1b" ]
    ctl set -x 00 ff
    [ "$(ctl get -x 00 | od -An -tx1)" = " ff" ]
    status_of 1 ctl get a
}

@test "without an option a backslash is a backslash" {
    ctl set 'a\n' 'b\n'
    [ "$(ctl get 'a\n')" = 'b\n' ]
}

@test "arguments that begin with a hyphen" {
    ctl set -- -key -5
    [ "$(ctl get -- -key)" = -5 ]
    ctl set -e dash '\x2d'
    [ "$(ctl get dash)" = - ]
}

@test "keys have 1 to 1024 bytes" {
    long=$(head -c 1024 /dev/zero | tr '\0' k)
    ctl set "$long" v
    [ "$(ctl get "$long")" = v ]
    status_of 64 ctl set "${long}k" v
    [[ $output == *"keys have 1 to 1024"* ]]
    status_of 64 ctl get ''
}

@test "delete" {
    ctl set key value
    status_of 0 ctl delete key
    status_of 1 ctl get key
    status_of 1 ctl delete key
}

@test "flags are kept" {
    ctl set --flags 0xfffffff0 key value
    [ "$(ctl inspect -o json key | jq .item.flags)" = 4294967280 ]
}

@test "time to live" {
    ctl set --ttl 700ms short v
    ctl set --ttl 2h long v
    ctl set --ttl none never v
    ctl get short
    sleep 0.8
    status_of 1 ctl get short
    [ "$(ctl inspect -o json short | jq -r .search.outcome)" = expired ] || [ "$(ctl inspect -o json short | jq -r .search.outcome)" = absent ]
    left=$(ctl inspect -o json long | jq .item.ttl_left_ms)
    [ "$left" -gt 7190000 ]
    [ "$left" -le 7200000 ]
    [ "$(ctl inspect -o json never | jq -r .item.ttl)" = none ]
}

@test "what is wrong on the command line is said in one line" {
    for bad in "" "fly" "get" "get a b" "get --ttl 5 a" "set a" "set --ttl soon a b" "set --ttl 0 a b" "set --flags -1 a b" "set --flags 4294967296 a b" \
        "get --hex abc" "get --hex zz" "stat --output xml" "ping extra" "dump a b" "--bogus" "get --socket"; do
        # shellcheck disable=SC2086
        status_of 64 ctl $bad
        [ "${#lines[@]}" -eq 1 ]
    done
    status_of 64 ctl get -e 'a\q'
    [[ $output == *"byte 2"* ]]
}

@test "a wrong value of an option is answered with the right ones" {
    for bad in "set --ttl 5x a b" "set --flags -1 a b" "incr --create x a" "ping --max-silence x" "keys --output xml" "watch --count 0"; do
        # shellcheck disable=SC2086
        status_of 64 ctl $bad
        [[ $output == "larderctl ${bad%% *}: --"*"does not do: say "* ]]
        [ "${#lines[@]}" -eq 1 ]
    done
}

@test "help of everything" {
    status_of 0 "$LARDER_BUILD/larderctl" --help
    verbs=$(awk '/^  [a-z]/ { print $1 }' <<<"$output")
    [ "$(wc -w <<<"$verbs")" -ge 9 ]
    for verb in $verbs; do
        status_of 0 "$LARDER_BUILD/larderctl" "$verb" --help
        [[ $output == "usage: larderctl"*" $verb"* ]]
    done
    status_of 0 "$LARDER_BUILD/larderctl" --version
}

@test "the socket from the environment, and options on either side" {
    LARDER_SOCKET=$SOCKET "$LARDER_BUILD/larderctl" set key value
    [ "$("$LARDER_BUILD/larderctl" get key --socket "$SOCKET")" = value ]
}

@test "no daemon is status 69 and says what to do" {
    for verb in ping "get a" "set a b" "delete a" dump load stat "inspect a" check; do
        # shellcheck disable=SC2086
        status_of 69 "$LARDER_BUILD/larderctl" --socket "$DIR/none" $verb
        [[ $output == *"no daemon at $DIR/none: start larderd"* ]]
        [ "${#lines[@]}" -eq 1 ]
    done
}

@test "something else behind the socket is no daemon" {
    python3 - "$DIR/other.peek" <<'PY' 3>&- &
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
s.listen()
c, _ = s.accept()
c.send(b"x" * 128)
PY
    other=$!
    wait_until 5 test -S "$DIR/other.peek"
    status_of 2 "$LARDER_BUILD/larderctl" --socket "$DIR/other" stat
    [[ $output == *"not a larderd"* ]]
    wait "$other"
}

@test "a full disk behind get, dump and stat is a failure" {
    ctl set key value
    for verb in "get key" dump stat "stat -o json" "inspect key" check; do
        # shellcheck disable=SC2086
        status_of 2 bash -c '"$@" >/dev/full' - "$LARDER_BUILD/larderctl" --socket "$SOCKET" $verb
    done
}
