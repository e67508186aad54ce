# For tests/system/*.bats: a daemon of one's own in a temporary folder, and nothing of it left afterwards.
# In the environment: LARDER_BUILD, LARDER_SRC.
# shellcheck shell=bash disable=SC2154 # bats sets status and output

LARDER_SRC=${LARDER_SRC:-$(cd "${BATS_TEST_DIRNAME:-.}/../.." && pwd)}
LARDER_BUILD=${LARDER_BUILD:-$LARDER_SRC/build/gcc}
DAEMON=

# Sets DIR and SOCKET.
make_dir() {
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/larder-test.XXXXXX")
    SOCKET=$DIR/larder.sock
    export DIR SOCKET
    unset LARDER_SOCKET
}

# start_daemon OPTION...: sets DAEMON, the keeper's pid. Its messages are in $DIR/log.
start_daemon() {
    [ -n "${DIR:-}" ] || make_dir
    "$LARDER_BUILD/larderd" --socket "$SOCKET" "$@" >"$DIR/log" 2>&1 </dev/null 3>&- &
    DAEMON=$!
    wait_until 10 ctl ping || {
        cat "$DIR/log"
        return 1
    }
}

# Ends what start_daemon or start_damaged started, and removes its folder.
stop_daemon() {
    if [ -n "$DAEMON" ]; then
        continue_worker
        kill "$DAEMON" 2>/dev/null || true
        wait "$DAEMON" 2>/dev/null || true
        DAEMON=
    fi
    [ -z "${DIR:-}" ] || rm -rf "$DIR"
    DIR=
}

# start_damaged KIND: a segment with one thing wrong behind SOCKET.peek (tests/damaged.c)
start_damaged() {
    [ -n "${DIR:-}" ] || make_dir
    rm -f "$SOCKET.peek"
    mkfifo "$DIR/in"
    "$LARDER_BUILD/tests/damaged" "$SOCKET" "$1" <"$DIR/in" >"$DIR/out" 2>&1 3>&- &
    DAEMON=$!
    exec 8>"$DIR/in"
    rm "$DIR/in"
    wait_until 10 grep -qx ready "$DIR/out"
}

ctl() { "$LARDER_BUILD/larderctl" --socket "$SOCKET" "$@"; }

# figure GROUP.NAME: one number of larderctl stat
figure() { ctl stat -o json | jq -e ".$1"; }

# wait_until SECONDS COMMAND...: true as soon as the command is, false if it never was
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# The worker, stopped and continued. Only one that our daemon said is its own.
stop_worker() {
    WORKER=$(figure daemon.worker_pid)
    kill -STOP "$WORKER"
}

continue_worker() {
    [ -z "${WORKER:-}" ] || kill -CONT "$WORKER" 2>/dev/null || true
    WORKER=
}

# status_of EXPECTED COMMAND...: like run, and the exit status must be that
status_of() {
    local expected=$1
    shift
    run "$@"
    [ "$status" -eq "$expected" ] || {
        echo "exit status $status, not $expected: $*"
        echo "$output"
        return 1
    }
}
