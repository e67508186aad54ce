#!/usr/bin/env bats
# larderd and its clients: who gets a lane, who is refused, what happens when either dies.
# shellcheck disable=SC2030,SC2031,SC2154 # bats sets status, output and lines
load helpers

setup() { make_dir; }
teardown() {
    exec 7>&- 2>/dev/null || true
    local pid
    for pid in ${PEERS:-}; do kill -KILL "$pid" 2>/dev/null || true; done
    stop_daemon
}

peer() { python3 "$LARDER_SRC/tests/system/peer.py" "$SOCKET" "$@"; }

# peer_stays OUTPUT N COMMAND...: in the background, until fd 7 is closed; returns when it has said N lines
peer_stays() {
    local out=$1 n=$2
    shift 2
    [ -p "$DIR/hold" ] || mkfifo "$DIR/hold"
    peer "$@" <"$DIR/hold" >"$out" 3>&- &
    PEERS="${PEERS:-} $!"
    exec 7>"$DIR/hold"
    wait_until 10 bash -c "[ \$(wc -l <'$out') -ge $n ]"
}

lanes() { ctl stat -o json | jq '.lanes | length'; }
no_lanes() { [ "$(lanes)" -eq 0 ]; }

# ---- coming and going ----

@test "a lane for each, until there is none" {
    start_daemon --memory 32M --max-clients 3
    wait_until 5 no_lanes # the ping's
    before=$(figure counters.attached)
    peer_stays "$DIR/out" 4 attach 4
    [ "$(grep -c 'result 0 .* fds 3' "$DIR/out")" -eq 3 ]
    tail -n 1 "$DIR/out" | grep -q 'result 2 .* fds 0' # TOO_MANY
    [ "$(lanes)" -eq 3 ]
    grep -q 'all 3 lanes are taken; raise --max-clients' "$DIR/log"
    exec 7>&-
    wait_until 5 no_lanes
    [ "$(figure counters.attached)" -eq $((before + 3)) ]
    [ "$(figure counters.detached)" -eq $((before + 3)) ]
    [ "$(figure counters.refused)" -eq 1 ]
    ctl set key value
}

@test "a client of another layout, and one that talks nonsense" {
    start_daemon --memory 16M
    [ "$(peer stranger)" = "result 1 lane 4294967295 fds 0" ]
    [ "$(peer garbage)" = "result 4 lane 4294967295 fds 0" ]
    [ "$(peer garbage 10)" = "result 4 lane 4294967295 fds 0" ]
    [ "$(peer garbage 4000)" = "result 4 lane 4294967295 fds 0" ]
    ctl set key value
}

@test "who talks after the answer is cut off" {
    start_daemon --memory 16M
    peer babble | grep -q 'hung up'
    wait_until 5 no_lanes
}

@test "many that say nothing keep nobody out" {
    start_daemon --memory 16M
    peer_stays "$DIR/out" 1 silent 500
    SECONDS=0
    ctl set key value
    [ "$(ctl get key)" = value ]
    [ "$SECONDS" -lt 3 ]
}

@test "who says nothing is cut off after 5 seconds" {
    start_daemon --memory 16M
    [ "$(peer one-silent)" -eq 5 ]
}

@test "a client's child that holds everything does not hold the lane" {
    start_daemon --memory 16M
    run peer widow
    child=${lines[1]}
    PEERS=$child
    kill -0 "$child"
    wait_until 5 no_lanes
    kill -0 "$child"
}

@test "what anybody gets can only be read" {
    start_daemon --memory 16M
    run peer peek
    echo "$output"
    [ "${lines[0]}" = "result 0 lane 4294967295 fds 1" ]
    [ "${#lines[@]}" -eq 5 ]
    [[ $output != *works* ]]
}

# ---- the worker dies ----

@test "a client goes on through a worker's death, and nothing acknowledged is lost" {
    start_daemon --memory 32M
    mkfifo "$DIR/pipe"
    ctl load "$DIR/pipe" >"$DIR/loaded" 2>&1 3>&- &
    loader=$!
    exec 7>"$DIR/pipe"
    for round in 1 2 3 4 5 6; do
        for i in $(seq 200); do printf 'key %d.%d\t0\t-\tvalue\n' "$round" "$i" >&7; done
        kill -KILL "$(figure daemon.worker_pid)"
        sleep 0.1
    done
    exec 7>&-
    wait "$loader"
    grep -q '^1200 items loaded' "$DIR/loaded"
    [ "$(ctl dump | grep -vc '^#')" -eq 1200 ]
    [ "$(figure counters.sets)" -eq 1200 ]
    [ "$(figure daemon.worker_count)" -gt 6 ]
    ctl check
    wait_until 5 no_lanes
}

# dies_at PLACE: the first worker that passes there is killed; a client gets its lane all the same, and lanes are not lost
dies_at() {
    grep -q "$1" "$LARDER_BUILD/larderd" || skip "built without --enable-testpoints"
    export LARDER_TESTPOINT=$1
    start_daemon --memory 16M --max-clients 2
    unset LARDER_TESTPOINT
    for i in 1 2 3 4 5; do
        wait_until 10 ctl set "key $i" value
        [ "$(ctl get "key $i")" = value ]
    done
    [ "$(figure daemon.worker_count)" -eq 2 ]
    wait_until 5 no_lanes
    ctl check
    peer_stays "$DIR/out" 2 attach 2
    [ "$(grep -c 'result 0' "$DIR/out")" -eq 2 ]
}

@test "dies before the keeper has the lane" { dies_at attach_prepared; }
@test "dies when the keeper has the lane" { dies_at attach_kept; }
@test "dies before the answer" { dies_at attach_live; }
@test "dies behind the answer" { dies_at attach_sent; }
@test "dies when a client is gone" { dies_at detach_dying; }
@test "dies before the keeper drops a lane" { dies_at drop_before_keeper; }
@test "dies before it was ever ready" { dies_at worker_recovered; }

@test "faults: two are survived, after three the segment starts empty and says why" {
    start_daemon --memory 16M
    ctl set key value
    for i in 1 2; do
        kill -SEGV "$(figure daemon.worker_pid)"
        wait_until 5 bash -c "[ \$('$LARDER_BUILD/larderctl' -s '$SOCKET' stat -o json | jq .daemon.worker_count) -eq $((i + 1)) ]"
        [ "$(ctl get key)" = value ]
    done
    kill -SEGV "$(figure daemon.worker_pid)"
    wait_until 5 test -e "$SOCKET.post-mortem"
    wait_until 5 ctl ping
    status_of 1 ctl get key
    [ "$(stat -c %a "$SOCKET.post-mortem")" = 600 ]
    grep -q '^journal: ' "$SOCKET.post-mortem"
    ctl set key value
    [ "$(ctl get key)" = value ]
    ctl check
    # counted from there: the next one is the first again
    kill -SEGV "$(figure daemon.worker_pid)"
    wait_until 5 ctl set key2 value
    [ "$(ctl get key)" = value ]
}

@test "being killed is no fault" {
    start_daemon --memory 16M
    ctl set key value
    for i in $(seq 10); do
        kill -KILL "$(figure daemon.worker_pid)"
        wait_until 5 bash -c "[ \$('$LARDER_BUILD/larderctl' -s '$SOCKET' stat -o json | jq .daemon.worker_count) -eq $((i + 1)) ]"
    done
    [ "$(ctl get key)" = value ]
    [ ! -e "$SOCKET.post-mortem" ]
}

@test "idle, it rests" {
    start_daemon --memory 16M
    ctl set key value
    sleep 0.5
    ticks() { cat "/proc/$DAEMON/stat" "/proc/$(figure daemon.worker_pid)/stat" | awk '{ n += $14 + $15 } END { print n }'; }
    before=$(ticks)
    sleep 3
    # goal 0.5 % of a core; a busy machine's ticks are coarse
    [ $(($(ticks) - before)) -le $(($(getconf CLK_TCK) * 3 / 50)) ]
}
