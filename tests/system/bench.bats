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

# many FILE [TTL]: 30,000 requests for 3,000 objects of 100 to 1,000 bytes, popular ones more often, and one object that fits no block; a tenth are sets
many() {
    python3 - "$1" "${2:-0}" <<'END'
import random
import struct
import sys

r = random.Random(1)
n, m = 30000, 3000
sizes = [100 + r.randrange(900) // 8 * 8 for _ in range(m - 1)] + [200000]
objects = [min(int(r.paretovariate(0.5)) - 1, m - 1) for _ in range(n)]
with open(sys.argv[1], 'wb') as f:
    f.write(b'LTR1' + struct.pack('<3I', n, m, 0) + struct.pack(f'<{m}I', *sizes) + struct.pack(f'<{m}I', *[int(sys.argv[2])] * m))
    f.write(struct.pack(f'<{n}I', *objects) + struct.pack(f'<{n}I', *[i // 10 for i in range(n)]) + bytes(r.randrange(10) == 0 for _ in range(n)))
END
}

# value NAME: of the figure, from $DIR/json
value() { jq -e --arg name "$1" '.figures[] | select(.name == $name) | .value' "$DIR/json"; }

# holds NAME CONDITION: of the figure, for example 'replay: sets' '> 0'
holds() {
    jq -e --arg name "$1" ".figures[] | select(.name == \$name) | .value $2" "$DIR/json" || {
        echo "$1: $(value "$1"), not $2"
        return 1
    }
}

for_each_mode() {
    local mode
    for mode in latency get get-many hot mixed set wait incr beside idle bytes attach; do
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

@test "a replay against a part of the footprint has exactly that" {
    many "$DIR/t.ltr"
    small -o json --fraction 0.1 --policy fifo replay "$DIR/t.ltr" >"$DIR/json"
    holds "replay: arena / footprint" '| . > 0.0999 and . < 0.1001'
    holds "replay: blocks" '== 64'
    holds "replay: block" '== 16'
    holds "replay: items evicted" '> 0'
    holds "replay: items replaced for want of a slot" '== 0'
    holds "replay: gets of objects that do not fit" '> 0'
    holds "replay: miss ratio of objects that fit" '| . > 0.1 and . < 0.9'
    small -o json --fraction 0.3 --policy evict --blocks 32 --min-block 32K --processes 3 --idle-lanes 5 replay "$DIR/t.ltr" >"$DIR/json"
    holds "replay: blocks" '== 32'
    holds "replay: block" '== 32'
    holds "replay: arena / footprint" '| . > 0.2997 and . < 0.3003'
    small --fraction 0.1 --processes 2 --unit 50 replay "$DIR/t.ltr"
}

@test "a replay says what was copied and how long the writer paused" {
    many "$DIR/t.ltr"
    small -o json --fraction 0.1 --policy evict replay "$DIR/t.ltr" >"$DIR/json"
    holds "replay: write amplification" '| . >= 1 and . <= 2.1'
    holds "replay: bytes written by clients" '> 0'
    holds "replay: intervals of the writer" '> 0'
    holds "replay: writer, own, max" '> 0'
}

@test "a replay with times to live returns nothing that has expired, and the writer frees it" {
    many "$DIR/t.ltr" 20
    small -o json --fraction 0.5 --speed 2000 --check-expiry replay "$DIR/t.ltr" >"$DIR/json"
    holds "replay: expired items returned" '== 0'
    holds "replay: the trace's clock goes faster by" '== 2000'
    holds "replay: expired bytes still held" '== 0'
    small -o json --fraction 0.5 --speed auto --check-expiry replay "$DIR/t.ltr" >"$DIR/json"
    holds "replay: the trace's clock goes faster by" '> 1'
    holds "replay: expired items returned" '== 0'
    small --fraction 0.5 --speed auto --processes 2 replay "$DIR/t.ltr"
}

@test "a table of replays" {
    many "$DIR/t.ltr"
    {
        printf 'trace\tfraction_of_footprint\tpolicy\tmiss_ratio\n'
        printf 't\t0.1\t%s\t0.5\n' fifo-blocks s3-fifo s3-log
        printf 'absent\t0.1\tfifo-blocks\t0.5\n'
    } >"$DIR/expected"
    TMPDIR=$DIR "$LARDER_SRC/tools/replay-table" --bench "$LARDER_BUILD/larder-bench" --daemon-option=--spin-us=10 --processes 2 --idle-lanes 3 -o json \
        "$DIR" "$DIR/expected" >"$DIR/json"
    jq -e '.summary.points == 1 and (.rows[0] | .measured.fifo > 0 and .measured.evict > 0 and .expected_reduction == 0)' "$DIR/json"
    run env TMPDIR="$DIR" "$LARDER_SRC/tools/replay-table" --bench "$LARDER_BUILD/larder-bench" --fractions 0.1 --traces t "$DIR" "$DIR/expected"
    [ "$status" -eq 0 ]
    [[ $output == *"write amplification: mean"* ]]
}

@test "a leaderboard loses no row, though blocks are reclaimed all the time" {
    TMPDIR=$DIR bench --start-daemon --memory 24M --items 20K --seconds 1 --idle-lanes 3 -o json leaderboard >"$DIR/json"
    holds "leaderboard: rows lost" '== 0'
    holds "leaderboard: rows wrong" '== 0'
    holds "leaderboard: rows older than what was written" '== 0'
    holds "leaderboard: blocks freed" '> 10'
    [ "$(value "leaderboard: live bytes at the start")" = "$(value "leaderboard: live bytes at the end")" ]
    jq -e '[.distributions[].name] == ["leaderboard: get", "leaderboard: control"]' "$DIR/json"
    small --seconds 0.2 --rate 1000 --get-rate 0 --processes 2 leaderboard
}

@test "a leaderboard that does not fit says what it lost" {
    run env TMPDIR="$DIR" "$LARDER_BUILD/larder-bench" --start-daemon --memory 16M --items 200K --seconds 0.2 leaderboard
    [ "$status" -eq 2 ]
    [[ $output == *"rows are lost"* ]]
    [[ $output == *"rows lost of those that rest"* ]]
}

@test "a hunt finds nothing of before a reset" {
    small -o json --seconds 1 hunt >"$DIR/json"
    holds "hunt: hits from before a reset" '== 0'
    holds "hunt: resets" '> 10'
    holds "hunt: hits" '> 0'
    holds "hunt: messages / memcpy" '> 0'
    small --seconds 0.3 --rate 0 --processes 2 hunt
}

@test "leases of killed holders are handed over" {
    small -o json --seconds 0.2 lease >"$DIR/json"
    holds "lease: asked for and given back" '> 0'
    holds "lease: holders killed" '>= 10'
    holds "lease: hand-over, max" '> 0'
}

@test "after a reset every get misses, and the blocks become free" {
    small -o json --items 200K reset >"$DIR/json"
    holds "reset: items before" '== 200000'
    holds "reset: hits afterwards" '== 0'
    holds "reset: gets afterwards" '== 200000'
    holds "reset: in the writer" '> 0'
    holds "reset: blocks to free after the call" '>= 0'
}

@test "pauses are said beside a control" {
    small -o json --memory 16M --value 4000 --seconds 1 pauses >"$DIR/json"
    holds "pauses: items evicted" '> 0'
    holds "pauses: items expired with their block" '>= 0'
    holds "pauses: rounds of harvest" '> 0'
    holds "pauses: intervals of the writer" '> 0'
    holds "pauses: writer, own, max" '> 0'
    holds "pauses: control, own: max" '> 0'
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
--fraction 2 replay a
--fraction 0.5 replay a
--policy lru replay a
--policy fifo get
--speed fast replay a
--blocks 4 replay a
--min-block 4M replay a
--unit 0 replay a
--rate -1 hunt
--processes 2 --check-expiry replay a
leaderboard file
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
