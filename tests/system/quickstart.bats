#!/usr/bin/env bats
# tools/quickstart, with what is built already: it shows a cache at work and leaves nothing behind.
# shellcheck disable=SC2034 # helpers use SOCKET
load helpers

setup() {
    [ -r /var/lib/dpkg/status ] || skip "no package database here"
    make_dir
    mkdir "$DIR/run"
    export XDG_RUNTIME_DIR=$DIR/run
}
teardown() { stop_daemon; }

quickstart() { "$LARDER_SRC/tools/quickstart" --build "$LARDER_BUILD" "$@"; }

# Nothing is left in the folder it worked in, and no daemon has its socket there.
nothing_left() {
    [ -z "$(ls -A "$DIR/run")" ]
    ! grep -qF "$DIR/run" /proc/net/unix
}

@test "a whole turn" {
    status_of 0 quickstart
    [ "$(grep -c 'every one as in the file' <<<"$output")" = 3 ]
    [[ $output == *"0 findings; "*"What to type next"* ]]
    nothing_left
}

@test "--keep leaves the daemon, and says how to reach and to stop it" {
    status_of 0 quickstart --keep
    [[ $output =~ export\ LARDER_SOCKET=([^ ]+)$'\n' ]]
    SOCKET=${BASH_REMATCH[1]}
    [[ $output =~ (kill [0-9]+; rm -r [^ ]+)$ ]]
    stop=${BASH_REMATCH[1]}
    ctl ping
    name=$(sed -n 's/^Package: //p' /var/lib/dpkg/status | head -n 1)
    ctl get "$name" | grep -qx "Package: $name"
    eval "$stop"
    wait_until 5 nothing_left
}

@test "interrupted, it leaves nothing either" {
    setsid "$LARDER_SRC/tools/quickstart" --build "$LARDER_BUILD" >"$DIR/out" 2>&1 3>&- &
    pid=$!
    wait_until 20 grep -q 'for 3 seconds' "$DIR/out"
    kill -TERM "$pid"
    wait "$pid" || true
    wait_until 5 nothing_left
}

@test "an option that is none" {
    status_of 64 quickstart --fast
    [[ $output == *"tools/quickstart --keep"* ]]
}
