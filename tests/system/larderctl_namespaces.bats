#!/usr/bin/env bats
# namespaces, create, reset, --namespace: made and emptied as said; what is wrong is one line and changes nothing.
# shellcheck disable=SC2030,SC2031,SC2016 # bats sets output; evaluated later
load helpers

teardown() { stop_daemon; }

# of NAME FILTER: a fact about one namespace
of() { ctl namespaces -o json | jq -e --arg name "$1" ".namespaces[] | select(.name == \$name) | $2"; }

# one_line STATUS PATTERN COMMAND...: fails with exactly one line
one_line() {
    status_of "$1" "${@:3}"
    echo "$output"
    # shellcheck disable=SC2053 # a pattern it is
    [[ $output == $2 ]]
    [ "${#lines[@]}" = 1 ]
}

@test "rows of a made-up segment" {
    start_damaged peopled
    of default '.policy == "evict" and .min_blocks == 0 and .max_blocks == 8 and .epoch == 1 and .sets == 9000'
    of second '.live_items == 10 and .live_bytes == 288 and .dead_bytes == 0 and .free_bytes == 65248 and .blocks == 1 and .sets == 10'
    of second '.copied_bytes == 250 and .write_amplification == 1.25'
    # granted and not used, of lanes that live or die
    of kept '.policy == "refuse" and .min_blocks == 2 and .credit_bytes == 1700 and .credit_items == 14 and .largest_bytes == 4711 and .default_ttl_ms == 5000'
    [ "$(ctl namespaces -o json | jq '.namespaces | length')" = 3 ]
    # and the same as text: each name begins a line of each table
    status_of 0 ctl namespaces
    [ "$(grep -c '^  second ' <<<"$output")" = "$(grep -c '^  name ' <<<"$output")" ]
    for column in $(ctl namespaces -o json | jq -r '.namespaces[0] | keys[]'); do
        grep -qw "$column" <<<"$output"
    done
    [ "$(awk '{ if (length($0) > 100) print }' <<<"$output")" = "" ]
}

@test "what a reset leaves" {
    start_damaged was_reset
    of second '.live_items == 0 and .live_bytes == 0 and .dead_bytes == 288 and .epoch == 2 and .resets == 1'
    ctl check
}

@test "looking at one namespace" {
    start_damaged peopled
    [ "$(ctl get -n second 'key 3')" = vvv ]
    status_of 1 ctl get -n kept 'key 3'
    [ "$(ctl dump -n second | grep -vc '^#')" = 10 ]
    [ "$(ctl inspect -n second -o json 'key 3' | jq .item.namespace)" = 1 ]
    [ "$(ctl stat -n second -o json | jq .counters.sets)" = 10 ]
    [ "$(ctl stat -n second -o json | jq '.counters | has("batches")')" = false ]
    [ "$(ctl stat -o json | jq '.counters | .sets == 9010 and has("batches")')" = true ]
    for verb in "get a" "dump" "inspect a" "why a" "stat"; do
        # shellcheck disable=SC2086
        one_line 2 "larderctl ${verb%% *}: no namespace 'third' at *" ctl $verb --namespace third
    done
}

@test "create, write, reset" {
    start_daemon --memory 64M
    ctl create 'rows,policy=fifo,min=2M,max=8M,ttl=1h'
    of rows '.policy == "fifo" and .min_blocks > 0 and .max_blocks > .min_blocks and .default_ttl_ms == 3600000 and .live_items == 0'
    # made so already
    ctl create 'rows,policy=fifo,min=2M,max=8M,ttl=1h'
    ctl set -n rows key value
    ctl set key other
    [ "$(ctl get -n rows key)" = value ]
    [ "$(ctl get key)" = other ]
    of rows '.live_items == 1 and .sets == 1'
    [ "$(ctl inspect -n rows -o json key | jq '.item.ttl_left_ms > 3500000')" = true ]
    before=$(of rows .epoch)
    status_of 0 ctl reset rows
    [ "$output" = "" ]
    [ "$(of rows .epoch)" = $((before + 1)) ]
    of rows '.resets == 1 and .live_items == 0'
    status_of 1 ctl get -n rows key
    [ "$(ctl get key)" = other ]
    status_of 1 ctl why -n rows key
    [[ ${lines[0]} == *"namespace rows was reset "* ]]
    ctl check
}

@test "load and dump of a namespace" {
    start_daemon --memory 64M
    ctl create rows
    printf 'a\t1\t-\tb\nc\t2\t-\td\n' | ctl load --namespace rows
    [ "$(ctl dump -n rows | grep -v '^#' | sort)" = $'a\t1\t-\tb\nc\t2\t-\td' ]
    [ "$(ctl dump | grep -vc '^#')" = 0 ]
    ctl delete -n rows a
    status_of 1 ctl delete -n rows a
    [ "$(ctl dump -n rows | grep -vc '^#')" = 1 ]
}

@test "a namespace that is not there: one line, nothing changed" {
    start_daemon --memory 64M
    ctl set key value
    ctl namespaces -o json | jq '.namespaces[] | [.name, .epoch, .sets, .resets]' >"$DIR/before"
    one_line 2 "larderctl reset: no namespace 'rows' at *" ctl reset rows
    one_line 2 "larderctl reset: no namespace 'a b' at *" ctl reset 'a b'
    one_line 2 "larderctl reset: no namespace '' at *" ctl reset ''
    one_line 2 "larderctl set: no namespace 'rows' at *" ctl set -n rows key value
    one_line 2 "larderctl delete: no namespace 'rows' at *" ctl delete -n rows key
    printf 'a\t0\t-\tb\n' >"$DIR/dump"
    one_line 2 "larderctl load: no namespace 'rows' at *" ctl load -n rows "$DIR/dump"
    ctl namespaces -o json | jq '.namespaces[] | [.name, .epoch, .sets, .resets]' | diff "$DIR/before" -
    [ "$(ctl get key)" = value ]
}

@test "specs that are none: one line, nothing made" {
    start_daemon --memory 64M
    for spec in '' ',' 'a b' '-a' 'rows,' 'rows,policy' 'rows,policy=lru' 'rows,min=' 'rows,min=x' 'rows,max=-1' 'rows,ttl=1y' 'rows,reset-every=0' 'rows,what=1' \
        'rows,min=1M,min=1M' 'rows,min=2M,max=1M' 'rows,policy=refuse' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; do
        one_line 64 'larderctl create: *' ctl create -- "$spec"
    done
    one_line 64 'larderctl: *' "$LARDER_BUILD/larderctl" nonsense
    one_line 64 'larderctl create: usage: *' ctl create
    one_line 64 'larderctl reset: usage: *' ctl reset
    [ "$(ctl namespaces -o json | jq '.namespaces | length')" = 1 ]
}

@test "what does not fit is said" {
    start_daemon --memory 64M
    ctl create rows,max=8M
    one_line 2 "larderctl create: there is a namespace 'rows' at * already, made with other options*" ctl create rows,max=16M
    one_line 2 "larderctl create: namespace 'large' does not fit into *: a minimum of 1G is more than the *K that can still be set apart*" ctl create large,min=1G
    one_line 2 "larderctl create: namespace 'small' does not fit into *: 100K is too little where blocks have *; give it * or more" ctl create small,max=100K
    [ "$(ctl namespaces -o json | jq '.namespaces | length')" = 2 ]
    of rows '.max_blocks * 65536 <= 8388608'
}

@test "a namespace that refuses: full is said, and nothing goes" {
    start_daemon --memory 64M
    ctl create kept,policy=refuse,min=4M
    head -c 100000 /dev/zero | tr '\0' v >"$DIR/value"
    n=0
    while ctl set -n kept "key $n" - <"$DIR/value" 2>"$DIR/err"; do
        n=$((n + 1))
        [ "$n" -lt 100 ]
    done
    [ "$n" -gt 5 ]
    grep -q "namespace 'kept' refuses eviction and is full" "$DIR/err"
    [ "$(wc -l <"$DIR/err")" = 1 ]
    for i in $(seq 0 $((n - 1))); do
        [ "$(ctl get -n kept "key $i" | wc -c)" = 100000 ]
    done
    of kept ".live_items == $n and .evicted == 0"
    ctl check
    # and a reset makes room again
    ctl reset kept
    wait_until 5 ctl set -n kept again value
}

@test "reset and create without a daemon, or with one that is stopped" {
    make_dir
    one_line 69 'larderctl reset: no daemon at *' ctl reset default
    one_line 69 'larderctl create: no daemon at *' ctl create rows
    start_daemon --memory 16M
    stop_worker
    one_line 2 '*' ctl reset default
}
