#!/usr/bin/env bats
# mem: every byte of the segment is somewhere, once; and the kernel says the same.
# shellcheck disable=SC2016 # evaluated later
load helpers

teardown() { stop_daemon; }

# lines FROM TO SIZE
lines() { awk -v from="$1" -v to="$2" -v size="$3" 'BEGIN { for (i = from; i <= to; i++) { v = sprintf("%*d", 1 + i * 7919 % size, i); printf "key %d\t0\t-\t%s\n", i, v } }'; }

# adds_up FILE: what mem said as JSON adds up to the segment, and the namespaces to the arena
adds_up() {
    jq -e '.total.sum == .total.segment' "$1"
    jq -e '([.parts, .table, .arena | .[]] | add) == .total.segment' "$1"
    for part in live_payload live_headers live_padding dead free block_tails; do
        jq -e --arg part "$part" '([.namespaces[][$part]] | add) == .arena[$part]' "$1"
    done
    jq -e 'all(.namespaces[]; .bytes == .live_payload + .live_headers + .live_padding + .dead + .free + .block_tails)' "$1"
    jq -e 'all(.namespaces[]; .live_headers == 16 * .items)' "$1"
}

@test "a made-up segment adds up to the byte" {
    start_damaged peopled
    status_of 0 ctl mem --no-measure
    [[ $output == *"sum"*"segment"* ]]
    ctl mem --no-measure -o json >"$DIR/json"
    adds_up "$DIR/json"
    # ten items of ten keys of 5 bytes and 0 to 9 bytes of value
    jq -e '.namespaces[] | select(.name == "second") | .items == 10 and .live_payload == 95 and .live_headers == 160 and .live_padding == 33 and .dead == 0 and .free == 65248 and .block_tails == 0' "$DIR/json"
    # a bucket is seven slots and a word
    jq -e '.table | .slots_live + .slots_dead + .slots_free == 7 * .displaced_words' "$DIR/json"
    jq -e '.lanes | .lanes == 2 and .with_mark_map == 1 and .bytes == .each + .each_with_mark_map' "$DIR/json"
}

@test "items of an older epoch are dead" {
    start_damaged was_reset
    ctl mem --no-measure -o json >"$DIR/json"
    adds_up "$DIR/json"
    jq -e '.namespaces[] | select(.name == "second") | .items == 0 and .live_payload == 0 and .dead == 288' "$DIR/json"
}

@test "the kernel's figures, and how old they are" {
    start_damaged measured
    status_of 0 ctl mem --no-measure
    ctl mem --no-measure -o json >"$DIR/json"
    jq -e '.kernel | .measurements == 1 and .lanes == 11 and .private == 12 and .files == 13 and .measured_ago_ms >= 1500 and .measured_ago_ms < 60000' "$DIR/json"
    jq -e '.worker.private_notes == 14 and .kernel.segment == .total.segment and .warnings == []' "$DIR/json"
}

@test "a segment of which the kernel says another size" {
    start_damaged measured_short
    status_of 1 ctl mem --no-measure
    [[ $output == *"kernel says"*"(-4096)"* ]]
}

@test "parts that overlap" {
    start_damaged parts_overlap
    status_of 1 ctl mem --no-measure
    [[ $output == *"the parts sum up to "*"(+4096)"* ]]
}

@test "a block whose descriptor makes no sense is accounted for and said" {
    start_damaged state_unknown
    status_of 1 ctl mem --no-measure
    [[ $output == *"descriptors of 1 blocks make no sense"* ]]
    ctl mem --no-measure -o json >"$DIR/json" || true
    adds_up "$DIR/json"
    jq -e '.arena.unknown_blocks == 65536' "$DIR/json"
}

@test "never asked is said" {
    start_damaged none
    status_of 0 ctl mem --no-measure
    [[ $output == *"the kernel was never asked"* ]]
}

@test "a daemon at work: every look adds up, and the kernel agrees" {
    start_daemon --memory 16M --average-item 60
    (for round in 1 2 3; do lines 1 100000 $((40 + round * 10)) | ctl load; done) >/dev/null 3>&- &
    writer=$!
    for round in 1 2 3 4 5 6 7 8; do
        ctl mem -o json >"$DIR/json"
        adds_up "$DIR/json"
        jq -e '.kernel.measurements >= 1 and .kernel.segment == .total.segment and .kernel.measured_ago_ms < 5000 and .notes == []' "$DIR/json"
    done
    wait "$writer"
    ctl mem -o json >"$DIR/json"
    adds_up "$DIR/json"
    jq -e '.worker.private_notes > 0 and .kernel.private > 0 and .kernel.files > 0' "$DIR/json"
    # larderctl's own lane, and nobody else's
    wait_until 5 eval 'ctl mem -o json | jq -e ".lanes.lanes == 1 and .kernel.lanes == .lanes.bytes"'
    # the same live items and bytes as stat
    ctl stat -o json >"$DIR/stat" || true
    jq -e --slurpfile stat "$DIR/stat" '.arena | .live_payload + .live_headers + .live_padding == $stat[0].arena.live_bytes' "$DIR/json"
}

@test "a stopped daemon: the last measurement" {
    start_daemon --memory 16M
    ctl mem -o json >"$DIR/json"
    stop_worker
    sleep 1.2
    SECONDS=0
    status_of 0 ctl mem
    [[ $output == *"not asked anew"*"silent"* ]]
    [ "$SECONDS" -lt 3 ]
    [ "$(ctl mem -o json | jq .kernel.measurements)" = "$(jq .kernel.measurements "$DIR/json")" ]
    ctl mem -o json | jq -e '.kernel.measured_ago_ms >= 1000'
}

# kill_worker: and wait for the next one
kill_worker() {
    local worker
    worker=$(figure daemon.worker_pid)
    kill -KILL "$worker"
    wait_until 5 eval '[ "$(figure daemon.worker_pid)" != '"$worker"' ]'
}

@test "after eviction, resets, deletes and kills of the worker the kernel still agrees" {
    start_daemon --memory 16M --average-item 60 --namespace timed,policy=fifo,max=2M,reset-every=20ms --namespace kept,policy=refuse,min=2M
    for round in 1 2 3; do
        (lines 1 150000 $((80 + round * 40)) | ctl load) >/dev/null 3>&- &
        writer=$!
        (lines 1 5000 50 | ctl load --namespace timed) >/dev/null 3>&- &
        timed=$!
        kill_worker
        kill_worker
        wait "$writer" "$timed"
        lines "$round" $((round * 1000)) 30 | ctl load --namespace kept >/dev/null
        ctl delete --namespace kept "key $round"
        ctl reset timed
        ctl mem -o json >"$DIR/json"
        adds_up "$DIR/json"
        jq -e '.kernel.segment == .total.segment and .notes == []' "$DIR/json"
        wait_until 5 ctl check
    done
    figure counters.evicted >"$DIR/evicted"
    [ "$(cat "$DIR/evicted")" -gt 0 ]
    jq -e '.namespaces[] | select(.name == "kept") | .items == 2997' "$DIR/json"
}
