#!/usr/bin/env bats
# larderd's start and end: what it takes, what it refuses and how it says so, and that nothing half-made is left.
# shellcheck disable=SC2030,SC2031,SC2154 # bats sets status, output and lines
load helpers

setup() { make_dir; }
teardown() {
    [ -z "${OTHER:-}" ] || kill -KILL "$OTHER" 2>/dev/null || true
    stop_daemon
}

larderd() { timeout 20 "$LARDER_BUILD/larderd" "$@" </dev/null 3>&-; }

# refuses STATUS PATTERN OPTION...: exits with the status and one line that has the pattern, and leaves nothing
refuses() {
    local status_wanted=$1 pattern=$2 before
    shift 2
    before=$(ls -A "$DIR")
    run larderd "$@"
    echo "$output"
    [ "$status" -eq "$status_wanted" ]
    [ "${#lines[@]}" -eq 1 ]
    # shellcheck disable=SC2053 # a pattern it is
    [[ $output == $pattern ]]
    [ "$(ls -A "$DIR")" = "$before" ]
}

# as_nobody COMMAND...: as a user without rights
as_nobody() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
    else
        "$@"
    fi
}

# ---- options ----

@test "an unknown option" { refuses 64 'larderd: unknown option --memroy: *--help*' --socket "$SOCKET" --memroy 1G; }
@test "an unreadable size" { refuses 64 'larderd: --memory: "4X" *K, M, G or T*' --socket "$SOCKET" --memory 4X; }
@test "an option without its value" { refuses 64 'larderd: --memory needs a value*' --socket "$SOCKET" --memory; }
@test "an argument" { refuses 64 'larderd: "start" is not an option*' --socket "$SOCKET" start; }

@test "a mistake in the configuration file names file and line" {
    printf 'memory = 64M\n\nmax-clients = lots\n' >"$DIR/conf"
    refuses 64 "larderd: $DIR/conf:3: max-clients: \"lots\" *from 1 to 65536" --config "$DIR/conf"
    printf 'memroy = 64M\n' >"$DIR/conf"
    refuses 64 "larderd: $DIR/conf:1: *memroy*" --config "$DIR/conf"
    refuses 64 "larderd: --config $DIR/none: No such file*" --config "$DIR/none"
}

@test "help, version, and no daemon for either" {
    status_of 0 larderd --help
    [[ $output == *"--memory SIZE  (default: 256M)"* ]]
    status_of 0 larderd --version
    [[ $output == "larderd "[0-9]* ]]
    [ -z "$(ls -A "$DIR")" ]
}

@test "the manual has the options as they are" {
    diff <(larderd --help=mdoc) <(sed -n '/^\.\\" options begin/,/^\.\\" options end/p' "$LARDER_SRC/man/larderd.8" | sed '1d;$d')
}

@test "check-config says what would be made, and makes nothing" {
    status_of 0 larderd --check-config --socket "$SOCKET" --memory 64M --max-clients 10
    for word in socket table arena blocks namespace lanes marks segment 'in total' pages; do
        grep -q "^$word " <<<"$output"
    done
    [[ $output == *"segment   64M"* ]]
    [ -z "$(ls -A "$DIR")" ]
    refuses 64 'larderd: --memory 8M is too little for 65536 clients*give it at least *' --check-config --socket "$SOCKET" --memory 8M --max-clients 65536
    refuses 64 'larderd: --memory 64M has no room for change feeds of 1T: lower --feeds, *' --check-config --socket "$SOCKET" --memory 64M --feeds 1T
    refuses 64 'larderd: --memory 16M has no room for change feeds of 64.0M: lower feed= *' --check-config --socket "$SOCKET" --memory 16M --namespace a,feed=1000000
}

# ---- namespaces ----

@test "namespaces that cannot be are refused before anything is made" {
    refuses 64 'larderd: --namespace: a: "policy=lru" does not do: say evict, fifo or refuse' --socket "$SOCKET" --namespace a,policy=lru
    refuses 64 'larderd: --namespace: "-a" is no name of a namespace: say 1 to 31 *' --socket "$SOCKET" --namespace=-a
    refuses 64 'larderd: --namespace: a is there twice*' --socket "$SOCKET" --namespace a --namespace a,min=1M
    refuses 64 'larderd: --namespace: a: policy=refuse needs min=SIZE*' --socket "$SOCKET" --namespace a,policy=refuse
    for check in '' --check-config; do
        # shellcheck disable=SC2086 # nothing when empty
        refuses 64 'larderd: --namespace: b: a minimum of 40M does not fit: the arena has 58M, and 38400K of it at most can still be set apart' $check \
            --socket "$SOCKET" --memory 64M --namespace a,min=20M --namespace b,min=40M
        # shellcheck disable=SC2086
        refuses 64 'larderd: --namespace: a: 100K is too little: blocks have 256K, *: give it 1M or more' $check --socket "$SOCKET" --memory 64M --namespace a,max=100K
    done
    # shellcheck disable=SC2046 # words they are
    refuses 64 'larderd: --namespace: n9: there are 8 namespaces that refuse eviction*' --socket "$SOCKET" --memory 64M \
        $(printf -- '--namespace n%d,policy=refuse,min=1M ' 1 2 3 4 5 6 7 8 9)
    # shellcheck disable=SC2046
    refuses 64 'larderd: --namespace: n63: there are 63 namespaces*' --socket "$SOCKET" --memory 64M $(seq -f '--namespace n%g' 63)
    printf 'memory = 64M\nnamespace = {"a,min=1M",\n"b,ttl=soon"}\n' >"$DIR/conf"
    refuses 64 "larderd: $DIR/conf:3: namespace: b: \"ttl=soon\" does not do: say a number with ms, s, m, h or d*" --socket "$SOCKET" --config "$DIR/conf"
    printf 'namespace = {"a,min=1G"}\n' >"$DIR/conf"
    refuses 64 "larderd: --namespace: a: a minimum of 1G does not fit*" --socket "$SOCKET" --config "$DIR/conf"
}

@test "check-config says what namespaces come to" {
    printf 'namespace = {"sessions,min=16M,ttl=30m", "frames,policy=fifo,max=32M,reset-every=16ms"}\n' >"$DIR/conf"
    status_of 0 larderd --check-config --config "$DIR/conf" --socket "$SOCKET" --memory 64M --namespace frames,policy=fifo,max=20M --namespace jobs,policy=refuse,min=4M
    grep -qx 'namespace default: evict, 0 to 58M' <<<"$output"
    grep -qx 'namespace frames: fifo, 0 to 20M' <<<"$output"
    grep -qx 'namespace jobs: refuse, 4M to 4M' <<<"$output"
    grep -qx 'namespace sessions: evict, 16M to 58M, items live 30m' <<<"$output"
    [ "$(grep -c '^namespace' <<<"$output")" -eq 4 ]
    grep -q '^minimums  20M of the arena; .*: 38M is left to all$' <<<"$output"
    status_of 0 larderd --check-config --socket "$SOCKET" --memory 64M --namespace default,policy=fifo,min=1M,max=2M,ttl=1d,reset-every=90s
    grep -qx 'namespace default: fifo, 1M to 2M, items live 1d, reset every 90s' <<<"$output"
}

@test "blocks of the size and number that were asked for" {
    status_of 0 larderd --check-config --socket "$SOCKET" --memory 64M --block-size 1M --blocks 20
    grep -qx 'blocks    20 of 1M; largest item 512K' <<<"$output"
    refuses 64 'larderd: --block-size 3000: say a power of two from 4K to 2M, or 0' --socket "$SOCKET" --memory 64M --block-size 3000
    refuses 64 'larderd: --block-size 2048: say a power of two from 4K to 2M, or 0' --socket "$SOCKET" --memory 64M --block-size 2K
    refuses 64 'larderd: --block-size: "4M" *from 0 to 2M*' --socket "$SOCKET" --memory 64M --block-size 4M
    refuses 64 'larderd: --blocks 7: say 8 or more, or 0 for all' --socket "$SOCKET" --memory 64M --blocks 7
    refuses 64 'larderd: --memory 16M is too little *give it at least *' --socket "$SOCKET" --memory 16M --block-size 2M
    refuses 64 'larderd: --client-namespaces: "63" *from 0 to 62' --socket "$SOCKET" --client-namespaces 63
}

@test "options from a file" {
    printf 'memory = 32M # comment\nmax-clients = 5\nsocket = "%s"\npages = small\n' "$SOCKET" >"$DIR/conf"
    start_daemon --config "$DIR/conf" --max-clients 6
    [ "$(figure segment.bytes)" -eq $((32 << 20)) ]
    [ "$(figure pages.small_bytes)" -eq $((32 << 20)) ]
    grep -q 'ready: .* 6 clients' "$DIR/log"
}

# ---- limits ----

@test "more memory than the machine has" { refuses 1 '*error: 100T for the segment and *available; lower --memory*' --socket "$SOCKET" --memory 100T; }
@test "lanes for more clients than there is memory for" {
    available=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
    refuses 1 '* for the segment and * for the lanes of all clients do not fit*lower --memory, --max-clients or --ring*' --socket "$SOCKET" --memory "${available}K"
}
@test "less memory than works" { refuses 64 'larderd: --memory 8M is too little*give it at least *' --socket "$SOCKET" --memory 8M --max-clients 65536; }

@test "more clients than descriptors" {
    (
        ulimit -n 300
        refuses 1 '*64 clients take * descriptors, at most 300 are allowed*lower --max-clients to *' --socket "$SOCKET" --memory 64M
    )
}

@test "reserved huge pages that are not there" {
    refuses 1 '*huge pages of 2 MiB, free are *nr_hugepages*' --socket "$SOCKET" --memory 3T --pages hugetlb
}

@test "a memory node that is not there" { refuses 1 '*--numa*' --socket "$SOCKET" --memory 16M --numa bind:1000; }

@test "stopped while it populates: nothing is left" {
    "$LARDER_BUILD/larderd" --socket "$SOCKET" --memory 1G --pages small >"$DIR.log" 2>&1 </dev/null 3>&- &
    OTHER=$!
    wait_until 5 test -e "$SOCKET.lock"
    kill "$OTHER"
    wait "$OTHER" || true
    OTHER=
    rm "$DIR.log"
    [ -z "$(ls -A "$DIR")" ]
}

# ---- the place ----

@test "a folder that is not there" { refuses 1 "*cannot make the lock $DIR/none/x.sock.lock: No such file or directory: make the folder*" --socket "$DIR/none/x.sock" --memory 16M; }
@test "a part of the path that is no folder" {
    : >"$DIR/file"
    refuses 1 '*Not a directory*' --socket "$DIR/file/x.sock" --memory 16M
}

@test "a folder that may not be written" {
    mkdir "$DIR/closed"
    chmod 755 "$DIR"
    chmod 555 "$DIR/closed"
    as_nobody test -x "$LARDER_BUILD/larderd" || skip "the build folder is not for everybody"
    run as_nobody timeout 20 "$LARDER_BUILD/larderd" --socket "$DIR/closed/x.sock" --memory 16M 3>&-
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *"Permission denied: run larderd as who may write there"* ]]
}

@test "a path that is too long" {
    refuses 1 '*the path has * bytes, at most * do: choose a shorter one' --socket "$DIR/$(printf '%0100d' 0).sock" --memory 16M
}

@test "something else at the path stays" {
    echo precious >"$SOCKET"
    refuses 1 "*$SOCKET exists and is not a socket*" --socket "$SOCKET" --memory 16M
    [ "$(cat "$SOCKET")" = precious ]
}

@test "another program's socket stays" {
    python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); s.listen(); time.sleep(60)' "$SOCKET" 3>&- &
    OTHER=$!
    wait_until 5 test -S "$SOCKET"
    sleep 0.2
    refuses 1 "*$SOCKET is in use by another program*" --socket "$SOCKET" --memory 16M
    [ -S "$SOCKET" ]
}

@test "a second daemon of the same name" {
    start_daemon --memory 16M
    ctl set key value
    refuses 1 "*$SOCKET is already in use by the larderd with pid $DAEMON: stop that one*" --socket "$SOCKET" --memory 16M
    [ "$(ctl get key)" = value ]
    ctl set key other
}

@test "what a killed daemon left is replaced" {
    start_daemon --memory 16M
    kill -KILL "$DAEMON"
    wait "$DAEMON" || true
    [ -S "$SOCKET" ]
    start_daemon --memory 16M
    grep -q "removed $SOCKET, left over" "$DIR/log"
    ctl set key value
}

@test "two at once: one wins, the other says so" {
    for i in 1 2 3; do
        "$LARDER_BUILD/larderd" --socket "$SOCKET" --memory 16M 2>"$DIR/log.a" </dev/null 3>&- &
        a=$!
        "$LARDER_BUILD/larderd" --socket "$SOCKET" --memory 16M 2>"$DIR/log.b" </dev/null 3>&- &
        b=$!
        wait_until 10 ctl ping
        wait_until 10 grep -q 'already in use' "$DIR/log.a" "$DIR/log.b"
        ctl ping
        kill "$a" "$b" 2>/dev/null || true
        wait "$a" "$b" || true
        [ ! -e "$SOCKET" ]
    done
}

@test "the end leaves nothing" {
    start_daemon --memory 16M --pid-file "$DIR/pid"
    [ "$(cat "$DIR/pid")" = "$DAEMON" ]
    [ "$(figure daemon.keeper_pid)" = "$DAEMON" ] || true
    kill "$DAEMON"
    wait "$DAEMON"
    DAEMON=
    [ "$(ls -A "$DIR")" = log ]
    tail -n 1 "$DIR/log" | grep -q stopped
}

@test "SIGINT ends it, SIGHUP does not" {
    start_daemon --memory 16M
    kill -HUP "$DAEMON"
    wait_until 5 grep -q SIGHUP "$DIR/log"
    ctl ping
    kill -INT "$DAEMON"
    wait "$DAEMON"
    DAEMON=
    [ "$(ls -A "$DIR")" = log ]
}

@test "a stopped worker does not keep it from ending" {
    start_daemon --memory 16M
    stop_worker
    kill "$DAEMON"
    wait "$DAEMON"
    # shellcheck disable=SC2034 # teardown looks at it
    DAEMON='' WORKER=
    grep -q 'does not stop: killed' "$DIR/log"
    [ "$(ls -A "$DIR")" = log ]
}

@test "the worker goes with the keeper" {
    start_daemon --memory 16M
    worker=$(figure daemon.worker_pid)
    kill -KILL "$DAEMON"
    wait "$DAEMON" || true
    DAEMON=
    wait_until 5 bash -c "! kill -0 $worker"
}

@test "the sockets have the mode that was asked for" {
    start_daemon --memory 16M --socket-mode 0600
    [ "$(stat -c %a "$SOCKET" "$SOCKET.peek" "$SOCKET.lock" | sort -u)" = 600 ]
}

@test "a folder of its own for the default, and only for that" {
    mkdir "$DIR/runtime"
    LARDER_SOCKET=$DIR/runtime/larder/default.sock "$LARDER_BUILD/larderd" --memory 16M 2>"$DIR/log" 3>&- &
    DAEMON=$!
    SOCKET=$DIR/runtime/larder/default.sock
    wait_until 10 ctl ping
    kill "$DAEMON"
    wait "$DAEMON"
    DAEMON=
    [ -z "$(ls -A "$DIR/runtime")" ]
}

@test "a log that nobody reads does not stop it" {
    mkfifo "$DIR/pipe"
    exec 7<>"$DIR/pipe"
    "$LARDER_BUILD/larderd" --socket "$SOCKET" --memory 16M --log-level debug 2>&7 </dev/null 3>&- 7>&- &
    DAEMON=$!
    wait_until 10 ctl ping
    for i in $(seq 400); do ctl set "key $i" value; done
    exec 7>&-
    ctl set key value
    kill -KILL "$(figure daemon.worker_pid)"
    wait_until 5 ctl set key value
}
