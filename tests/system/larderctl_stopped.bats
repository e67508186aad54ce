#!/usr/bin/env bats
# The worker is stopped: what looks goes on, what writes says what is the matter.
# shellcheck disable=SC2016 # evaluated later
load helpers

setup() {
    start_daemon --memory 64M
    ctl set key value
    stop_worker
}
teardown() { stop_daemon; }

# The signal stops one thread, which stops the others: on a busy machine the writer goes on for a while.
all_stopped() { ! awk '/^State:/ && $2 != "T"' "/proc/$WORKER/task/"*/status | grep -q .; }

@test "everything that looks works" {
    [ "$(ctl get key)" = value ]
    [ "$(ctl dump | grep -vc '^#')" = 1 ]
    ctl inspect key
    ctl check --stable
    sleep 1.1
    status_of 1 ctl stat
    [[ $output == *"worker is silent since"* ]]
}

@test "ping says since when it is silent" {
    sleep 1.1
    status_of 1 ctl ping
    [[ $output == *"silent since"*" ms" ]]
    status_of 1 ctl ping --max-silence 500
    continue_worker
    wait_until 5 ctl ping
}

@test "set says that nobody answers, in bounded time" {
    SECONDS=0
    status_of 2 ctl set key other
    [[ $output == *"does not answer"* ]]
    [ "$SECONDS" -lt 15 ]
    [ "$(ctl get key)" = value ]
}

@test "a write that is acknowledged and not visible yet is called that" {
    continue_worker
    mkfifo "$DIR/value"
    (ctl set key - <"$DIR/value" >"$DIR/out" 2>&1 || echo "status $?" >>"$DIR/out") 3>&- &
    setter=$!
    exec 7>"$DIR/value"
    wait_until 5 eval 'ctl stat -o json | jq -e ".lanes[0].state == \"live\""'
    sleep 0.2
    stop_worker
    wait_until 10 all_stopped
    printf late >&7
    exec 7>&-
    wait "$setter"
    grep -q 'acknowledged, but not visible' "$DIR/out"
    grep -qx 'status 1' "$DIR/out"
    [ "$(ctl get key)" = value ]
    continue_worker
    wait_until 5 eval '[ "$(ctl get key)" = late ]'
}

@test "a killed worker is replaced, and its items are there" {
    before=$(figure daemon.worker_count)
    kill -KILL "$WORKER"
    WORKER=
    wait_until 10 ctl ping
    [ "$(figure daemon.worker_count)" -gt "$before" ]
    [ "$(ctl get key)" = value ]
    ctl check
}
