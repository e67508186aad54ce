#!/usr/bin/env bats
# larder-bench runs in every mode, says what it measured, and refuses what makes no sense. What it measures is looked at by people.

load helpers

setup() { make_dir; }
teardown() { stop_daemon; }

bench() { "$LARDER_BUILD/larder-bench" "$@"; }

# small MODE...: as little of it as there can be, with a private daemon
small() {
    TMPDIR=$DIR bench --start-daemon --larderd "$LARDER_BUILD/larderd" --memory 64M --items 1000 --seconds 0.02 --clients 4 --verify "$@"
}

nothing_left() { [ -z "$(ls -A "$DIR")" ]; }

# le32 NUMBER...
le32() {
    local n
    for n; do
        # shellcheck disable=SC2059 # the escapes are the format
        printf "\\x$(printf %02x $((n & 255)))\\x$(printf %02x $((n >> 8 & 255)))\\x$(printf %02x $((n >> 16 & 255)))\\x$(printf %02x $((n >> 24)))"
    done
}

# trace FILE: 6 requests for 2 objects: a b a b a, and b once more, set
trace() {
    {
        printf LTR1
        le32 6 2 0 # requests, objects
        le32 100 200 # sizes
        le32 0 3600 # times to live
        le32 0 1 0 1 0 1 # objects
        le32 0 0 0 1 1 1 # times
        printf '\0\0\0\0\0\1'
    } >"$1"
}

for_each_mode() {
    local mode
    for mode in latency get get-many hot mixed set wait beside idle bytes attach; do
        "$@" "$mode" || {
            echo "$mode failed"
            return 1
        }
    done
}

runs_as_json() {
    small -o json "$1" >"$DIR.json" && jq -e ".mode == \"$1\" and (.figures | length > 0) and ([.figures[] | .name and .unit != null] | all)" "$DIR.json"
    local result=$?
    rm -f "$DIR.json"
    return $result
}

@test "every mode runs, and leaves nothing behind" {
    for_each_mode small
    nothing_left
}

@test "every mode says JSON" {
    for_each_mode runs_as_json
}

@test "all says for each target whether it was met" {
    small -o json all >"$DIR/json"
    jq -e '[.figures[] | select(has("met"))] | length >= 15' "$DIR/json"
    jq -e '[.figures[] | select(has("met")) | (.met | type == "boolean") and (has("at_most") or has("at_least"))] | all' "$DIR/json"
    jq -e '[.distributions[] | .net_ns.p50 <= .raw_ns.p50 and .raw_ns.p50 <= .raw_ns.max] | all' "$DIR/json"
}

@test "all says text as well" {
    run small all
    [ "$status" -eq 0 ]
    [[ $output == *"get / floor, p50"* ]]
    [[ $output == *"p99.99"* ]]
}

@test "several processes and threads, popular keys, other sizes" {
    small --processes 2 --threads 2 --keys zipf:0.99 get
    small --processes 2 --keys zipf:1 --ratio 1:1 mixed
    small --threads 2 --value 1000 --batch 7 get-many
    small --value 1 set
    small --value 0 get
    small --cpu none latency
}

@test "gets find what was set" {
    small -o json get >"$DIR/json"
    jq -e '.figures[] | select(.name == "get: hits") | .value == 100' "$DIR/json"
}

@test "a daemon that runs already" {
    start_daemon --memory 64M
    bench --socket "$SOCKET" --items 1000 --seconds 0.02 get
    bench --socket "$SOCKET" --items 1000 --seconds 0.02 --no-fill --verify get-many
    LARDER_SOCKET=$SOCKET bench --items 1000 --seconds 0.02 hot
    bench --socket "$SOCKET" --items 1000 --seconds 0.02 all
}

@test "a replay counts hits and misses" {
    trace "$DIR/t.ltr"
    small -o json replay "$DIR/t.ltr" >"$DIR/json"
    jq -e '.figures[] | select(.name == "replay: requests") | .value == 6' "$DIR/json"
    jq -e '.figures[] | select(.name == "replay: miss ratio") | .value == 0.4' "$DIR/json"
    jq -e '.figures[] | select(.name == "replay: sets") | .value == 3' "$DIR/json"
    small --processes 2 --speed 100 replay "$DIR/t.ltr"
}

@test "what is not a trace is refused" {
    trace "$DIR/t.ltr"
    head -c 60 "$DIR/t.ltr" >"$DIR/short.ltr"
    : >"$DIR/empty.ltr"
    sed 's/LTR1/LTR2/' "$DIR/t.ltr" >"$DIR/other.ltr"
    for file in short empty other missing; do
        run bench replay "$DIR/$file.ltr"
        [ "$status" -eq 64 ]
        [ "${#lines[@]}" -eq 1 ]
    done
}

@test "a wrong command line gets one line and 64" {
    while read -r -a args; do
        run bench "${args[@]}"
        echo "${args[*]}: $status $output"
        [ "$status" -eq 64 ]
        [ "${#lines[@]}" -eq 1 ]
        [[ $output == larder-bench:* ]]
    done <<'END'

nonsense
get get
replay
replay a b
--nonsense get
-x get
--items get
--items 0 get
--items 1X get
--items -1 get
--items 99999999G get
--value 1T get
--seconds 0 get
--seconds nan get
--keys normal get
--keys zipf: get
--ratio 95 mixed
--ratio 0:0 mixed
--batch 0 get-many
--batch 2000 get-many
--processes 0 get
--processes 200 --threads 200 get
--cpu 4096 get
--output xml get
get --seconds
END
}

@test "no daemon gets one line and 69" {
    for mode in get idle attach all; do
        run bench --socket "$DIR/none" --items 10 --seconds 0.01 "$mode"
        [ "$status" -eq 69 ]
        [ "${#lines[@]}" -eq 1 ]
    done
}

@test "a private daemon that cannot start gets one line" {
    run small --larderd-option=--nonsense get
    [ "$status" -eq 2 ]
    [ "${#lines[@]}" -eq 1 ]
    run bench --start-daemon --larderd "$DIR/none" --items 10 get
    [ "$status" -eq 2 ]
    [ "${#lines[@]}" -eq 1 ]
    nothing_left
}

@test "help and version" {
    run bench --help
    [ "$status" -eq 0 ]
    [[ $output == *usage* ]]
    run bench --version
    [ "$status" -eq 0 ]
}
