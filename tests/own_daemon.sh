# shellcheck shell=bash
# Sourced by tests that run programs beside a daemon: starts one. Sets dir, a folder of one's own, and LARDER_SOCKET; nothing is left at the end.
# In the environment or set before: src, build.
dir=$(mktemp -d "${TMPDIR:-/tmp}/larder-test.XXXXXX") || exit 1
daemon=
# shellcheck disable=SC2317 # called by the trap
end_daemon() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null
    wait
    rm -rf "$dir"
}
trap end_daemon EXIT

# start_daemon OPTION...
start_daemon() {
    local tries
    export LARDER_SOCKET=$dir/larder.sock
    "${build:?}/larderd" --memory 64M --socket "$LARDER_SOCKET" --log-level error "$@" >"$dir/log" 2>&1 </dev/null &
    daemon=$!
    for ((tries = 0; tries < 200; tries++)); do
        "$build/larderctl" ping >/dev/null 2>&1 && return
        sleep 0.05
    done
    cat "$dir/log"
    echo "no daemon"
    exit 1
}
