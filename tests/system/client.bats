#!/usr/bin/env bats
# A client and its daemon, through the deaths of both. tests/client_story.c looks at every value.

load helpers

setup() { make_dir; }
teardown() {
    [ -z "${STORY:-}" ] || kill "$STORY" 2>/dev/null || true
    stop_daemon
}

story() { "$LARDER_BUILD/tests/client_story" "$1" "$SOCKET" "${@:2}"; }

# start_story OUTPUT VERB ARGUMENT...: in the background; its pid is in STORY. Not by story(): that would be the pid of a shell.
start_story() {
    "$LARDER_BUILD/tests/client_story" "$2" "$SOCKET" "${@:3}" >"$1" 3>&- &
    STORY=$!
}

# kill_worker: only one that our daemon says is its own
kill_worker() {
    local worker
    worker=$(figure daemon.worker_pid)
    [ "$(ps -o ppid= -p "$worker" | tr -d ' ')" = "$DAEMON" ] && kill -9 "$worker"
}

consistent() { ctl check | tee "$DIR/check" | grep -q '^0 findings'; }

has_testpoints() { grep -q '^#define LRD_TESTPOINTS' "$LARDER_BUILD/config.h"; }

@test "threads read their own writes, and never an older value after a newer one" {
    start_daemon --memory 64M
    story write 3 1.5 >"$DIR/written"
    story verify <"$DIR/written"
    consistent
}

@test "the same while the worker is killed again and again: nothing acknowledged is lost" {
    start_daemon --memory 64M
    start_story "$DIR/written" write 3 3
    for _ in {1..12}; do
        sleep 0.15
        kill_worker || true
    done
    wait "$STORY"
    [ "$(figure daemon.worker_count)" -ge 5 ]
    story verify <"$DIR/written"
    consistent
}

@test "a stopped worker: writes wait in the ring and are read back; then they are refused, then they are applied" {
    start_daemon --memory 64M
    stop_worker
    (
        sleep 1
        kill -CONT "$WORKER"
    ) 3>&- &
    story write 2 1.5 >"$DIR/written"
    wait $!
    WORKER=
    story verify <"$DIR/written"
}

@test "a keeper that is killed: writes are told, reads if they asked; the next daemon is found" {
    start_daemon --memory 64M
    start_story "$DIR/read" read 4 300
    local reader=$STORY
    start_story "$DIR/watch" watch 4
    wait_until 5 grep -q 'get: done' "$DIR/read"
    kill -9 "$DAEMON"
    wait "$DAEMON" || true
    wait_until 3 grep -q 'set: no live daemon' "$DIR/watch"
    wait_until 3 grep -q 'get: the daemon has been silent for too long' "$DIR/read"
    start_daemon --memory 64M
    wait "$STORY"
    wait "$reader"
    cat "$DIR/watch" "$DIR/read"
    [ "$(grep -c '^set: done' "$DIR/watch")" = 2 ]
    [ "$(tail -n 1 "$DIR/read")" = "get: done" ]
    run grep -vE ': (done|no live daemon|no such item|the daemon has been silent for too long|the daemon that had it is gone, with all that was in it)$' "$DIR/watch" "$DIR/read"
    [ "$status" = 1 ] # nothing else was said
}

@test "forked children have lanes of their own" {
    start_daemon --memory 64M
    story fork 30
    consistent
}

@test "a client that is killed between claim and commit harms nobody" {
    has_testpoints || skip "without --enable-testpoints"
    start_daemon --memory 64M
    for point in ring_after_claim ring_after_claim:1000 ring_after_commit ring_after_commit:1000; do
        LARDER_TESTPOINT=$point status_of 137 story write 2 5
        story write 2 0.2 >"$DIR/written"
        story verify <"$DIR/written"
    done
    consistent
}

@test "opening says why not" {
    run "$LARDER_BUILD/larderctl" --socket "$DIR/nobody" set k v
    [ "$status" -ne 0 ]
    start_daemon --memory 64M --max-clients 1
    start_story "$DIR/watch" watch 20
    wait_until 5 grep -q 'set: done' "$DIR/watch"
    run story read 0.1 0
    [ "$status" = 2 ]
    [[ $output == *"all lanes of the daemon are taken"* ]]
    kill -9 "$STORY"
    wait "$STORY" || true
    STORY=
    wait_until 5 story read 0.1 0
}
