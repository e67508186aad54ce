#!/usr/bin/env bats
# stat, inspect, ping: the figures are there, add up, and are the same as text and as JSON.
load helpers

setup() { start_daemon --memory 64M --average-item 100; }
teardown() { stop_daemon; }

# lines N BYTES: N items with values of that size
lines() { awk -v n="$1" -v size="$2" 'BEGIN { for (i = 0; i < size; i++) v = v "v"; for (i = 0; i < n; i++) printf "key %d\t0\t-\t%s\n", i, v }'; }

@test "ping of one that lives" {
    status_of 0 ctl ping
    [[ $output == "$SOCKET: alive, worker "* ]]
}

@test "JSON is JSON and has what the text has" {
    lines 1000 100 | ctl load
    ctl stat -o json >"$DIR/json" || [ $? -eq 1 ]
    jq -e . "$DIR/json" >/dev/null
    for group in segment pages daemon table arena lanes clients pauses pauses_scheduler counters warnings notes units; do
        jq -e "has(\"$group\")" "$DIR/json" >/dev/null
    done
    ctl stat >"$DIR/text" || [ $? -eq 1 ]
    while read -r name; do
        grep -q "^  $name " "$DIR/text"
    done < <(jq -r '.counters, .arena, .table, .segment | keys[]' "$DIR/json")
    # every counter of the list, with its unit
    while read -r name unit; do
        [ "$(jq -r ".units.counters.$name" "$DIR/json")" = "$unit" ]
    done < <(sed -n 's/^LRD_COUNTER(\([a-z_]*\), \([a-z]*\),.*/\1 \2/p' "$LARDER_SRC/shm/counters.def")
}

@test "the figures add up" {
    lines 5000 100 | ctl load
    lines 2000 80 | ctl load
    ctl delete 'key 7'
    ctl stat -o json >"$DIR/json" || [ $? -eq 1 ]
    jq -e '.arena | .live_bytes + .dead_bytes + .tail_bytes + .free_bytes' "$DIR/json" >"$DIR/sum"
    [ "$(cat "$DIR/sum")" = "$(jq .segment.arena_bytes "$DIR/json")" ]
    jq -e '.segment | .table_bytes + .arena_bytes + .other_bytes == .bytes' "$DIR/json"
    jq -e '.pages | .hugetlb_bytes + .transparent_huge_bytes + .small_bytes > 0' "$DIR/json"
    jq -e '.arena.live_items == 4999 and .table.slots_live == 4999' "$DIR/json"
    jq -e '.counters | .sets == 7000 and .overwrites == 2000 and .deletes == 1' "$DIR/json"
    jq -e '.counters.slots_used == .table.slots_live + .table.slots_dead' "$DIR/json"
    jq -e '.arena | .blocks == .blocks_free + .blocks_open + .blocks_full' "$DIR/json"
    jq -e '.table.lines_per_hit >= 1 and .table.lines_per_hit < 1.5' "$DIR/json"
    jq -e '.daemon.silence_ms < 1000' "$DIR/json"
}

@test "pauses, as the writer recorded them" {
    stop_daemon
    start_damaged peopled
    ctl stat -o json >"$DIR/json" || [ $? -eq 1 ]
    jq -e '.pauses == {"count": 10000, "p50_ns": 100, "p99_ns": 100, "p99_9_ns": 5000, "p99_99_ns": 5000, "max_ns": 5000}' "$DIR/json"
    jq -e '.pauses_scheduler.count == 1 and .pauses_scheduler.max_ns == 40000' "$DIR/json"
}

@test "a lane shows its client" {
    mkfifo "$DIR/pipe"
    ctl load <"$DIR/pipe" >/dev/null 3>&- &
    loader=$!
    exec 7>"$DIR/pipe"
    printf 'a\t0\t-\tb\n' >&7
    wait_until 5 ctl stat
    wait_until 5 bash -c "'$LARDER_BUILD/larderctl' -s '$SOCKET' stat -o json | jq -e '.lanes | length == 1 and .[0].state == \"live\"'"
    pid=$(figure 'lanes[0].pid')
    [ "$pid" = "$loader" ] || [ "$pid" = 0 ] || [ -d "/proc/$pid" ]
    exec 7>&-
    wait "$loader"
    wait_until 5 bash -c "'$LARDER_BUILD/larderctl' -s '$SOCKET' stat -o json | jq -e '.lanes | length == 0'"
}

@test "items smaller than planned: it says so, and which option helps" {
    stop_daemon
    start_daemon --memory 16M --average-item 1000
    lines 100000 20 | ctl load
    status_of 1 ctl stat
    [[ $output == *"the table limits what fits"*"--average-item "* ]]
    ctl stat -o json | jq -e '.warnings | length == 1' || [ "${PIPESTATUS[1]}" -eq 0 ]
    # which helps
    found=$(figure table.average_item_found)
    stop_daemon
    start_daemon --memory 16M --average-item "$found"
    lines 100000 20 | ctl load
    status_of 0 ctl stat
}

@test "inspect says where an item is" {
    lines 1000 100 | ctl load
    ctl inspect -o json 'key 5' >"$DIR/json"
    jq -e '.search.outcome == "found" and .search.buckets_looked_at >= 1' "$DIR/json"
    jq -e '.item.value_bytes == 100 and .item.key_bytes == 5 and .item.bytes == 128' "$DIR/json"
    jq -e '.slot.bucket == .buckets[.slot.displacement].bucket' "$DIR/json"
    jq -e '.block.state == "open" or .block.state == "full"' "$DIR/json"
    status_of 0 ctl inspect 'key 5'
    [[ $output == *"outcome"*"found"* ]]
    status_of 1 ctl inspect 'no such key'
    [[ $output == *"absent"* ]]
}
