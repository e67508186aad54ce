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

# ---- what a client may, and what it gets ----

# as_nobody COMMAND...: as a user that is not root
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

# nobody_attaches: that user, until fd 7 is closed
nobody_attaches() { PEER_UID=65534 peer_stays "$DIR/nobody" 1 attach; }

rights() { peer lanes | sed -n 's/.* rights \([0-9]*\) .*/\1/p'; }
rights_are() { [ "$(rights)" = "$1" ]; }
lanes_are() { [ "$(peer lanes | wc -l)" -eq "$1" ]; }
measurements_are() { [ "$(peer measured | cut -d ' ' -f 1)" -eq "$1" ]; }
marked() { grep -vc ' marks 0 ' "$1" || true; }

@test "rights go by the user at the other end" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to be somebody else"
    chmod 755 "$DIR"
    for limit in 0 2; do
        start_daemon --memory 16M --socket-mode 0666 --client-namespaces $limit
        wait_until 5 no_lanes
        peer_stays "$DIR/out" 1 attach
        rights_are 3 # root: LRD_RIGHT_ADMIN | LRD_RIGHT_CREATE
        exec 7>&-
        wait_until 5 no_lanes
        nobody_attaches
        rights_are $limit # LRD_RIGHT_CREATE is 2
        exec 7>&-
        kill "$DAEMON"
        wait "$DAEMON"
    done
}

@test "the daemon's own user may do everything" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to be somebody else"
    as_nobody test -x "$LARDER_BUILD/larderd" || skip "the build folder is not for everybody"
    chown 65534 "$DIR"
    # not by the function: $! would be a shell
    setpriv --reuid 65534 --regid 65534 --clear-groups "$LARDER_BUILD/larderd" --socket "$SOCKET" --memory 16M --socket-mode 0666 2>"$DIR.log" 3>&- &
    DAEMON=$!
    wait_until 10 ctl ping
    wait_until 5 no_lanes
    rm -f "$DIR.log"
    nobody_attaches
    rights_are 3
    exec 7>&-
    wait_until 5 no_lanes
    peer_stays "$DIR/out" 1 attach # root
    rights_are 3
    # Its /proc/self belongs to root: it can be measured all the same.
    wait_until 5 measurements_are 1
    [ "$(peer measured | cut -d ' ' -f 2)" -eq $((16 << 20)) ]
}

@test "mark maps as long as they stay in their budget, and who leaves gives one back" {
    start_daemon --memory 16M --average-item 1 --max-clients 40
    wait_until 5 no_lanes
    peer marks 40 </dev/null >"$DIR/all"
    n=$(marked "$DIR/all")
    [ "$n" -gt 1 ]
    [ "$n" -lt 37 ]
    # those in the beginning; and a lane without one is shorter by just that
    [ "$(head -n "$n" "$DIR/all" | grep -c ' marks 0 ')" -eq 0 ]
    [ "$(awk '{ print $6 - $4 }' "$DIR/all" | sort -u | wc -l)" -eq 1 ]
    wait_until 5 no_lanes

    mkfifo "$DIR/held"
    python3 "$LARDER_SRC/tests/system/peer.py" "$SOCKET" marks 1 <>"$DIR/held" >"$DIR/first" 3>&- &
    PEERS=$!
    first=$PEERS
    wait_until 5 test -s "$DIR/first"
    peer_stays "$DIR/out" $((n + 2)) marks $((n + 2))
    [ "$(marked "$DIR/first")" -eq 1 ]
    [ "$(marked "$DIR/out")" -eq $((n - 1)) ]
    peer lanes >"$DIR/lanes"
    [ "$(grep -c ' marks 0$' "$DIR/lanes")" -eq 3 ]
    peer marks 1 </dev/null | grep -q ' marks 0 '
    wait_until 5 lanes_are $((n + 3))

    # The next worker finds every map where it was, and counts it.
    kill -KILL "$(figure daemon.worker_pid)"
    wait_until 5 ctl set key value
    wait_until 5 lanes_are $((n + 3))
    peer lanes | diff "$DIR/lanes" -
    peer marks 1 </dev/null | grep -q ' marks 0 '

    kill -KILL "$first"
    wait_until 5 lanes_are $((n + 2))
    peer marks 1 </dev/null | grep -qv ' marks 0 '
    [ "$(figure daemon.worker_count)" -eq 2 ]
}

# measured PAGES: what the kernel says of a worker is what there is
measured() {
    local n segment lanes private files bytes both rss sum
    start_daemon --memory 32M --pages "$1" --max-clients 8
    wait_until 5 measurements_are 1
    read -r n segment lanes private files bytes <<<"$(peer measured)"
    [ "$bytes" -eq $((32 << 20)) ]
    [ "$segment" -eq "$bytes" ]
    wait_until 5 no_lanes

    # The next worker measures again; two lanes are there, each once, and all of it.
    peer_stays "$DIR/out" 2 marks 2
    both=$(awk '{ n += $6 } END { print n }' "$DIR/out")
    kill -KILL "$(figure daemon.worker_pid)"
    wait_until 5 measurements_are 2
    read -r n segment lanes private files bytes <<<"$(peer measured)"
    [ "$segment" -eq "$bytes" ]
    [ "$lanes" -eq "$both" ]
    [ "$private" -gt 65536 ]
    [ "$files" -gt 65536 ]
    # Beside the second mapping of the cells nothing is left out, and nothing is there twice.
    rss=$(awk '/^Rss:|^(Shared|Private)_Hugetlb:/ { n += $2 } END { print n * 1024 }' "/proc/$(figure daemon.worker_pid)/smaps")
    sum=$((segment + lanes + private + files))
    echo "$n: $segment + $lanes + $private + $files = $sum, $rss in all"
    [ "$sum" -le $((rss + (1 << 20))) ]
    [ "$sum" -ge $((rss - both - (1 << 20))) ]
}

@test "the kernel's figures, small pages" { measured small; }
@test "the kernel's figures, transparent huge pages" { measured thp; }
@test "the kernel's figures, reserved huge pages" {
    [ "$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages)" -ge 16 ] || skip "16 huge pages of 2 MiB are not free"
    measured hugetlb
}

# ---- namespaces ----

@test "namespaces of the configuration are in the segment" {
    start_daemon --memory 64M --block-size 256K --namespace sessions,min=16M,ttl=30m --namespace frames,policy=fifo,max=2000K,reset-every=16ms \
        --namespace jobs,policy=refuse,min=4000K --namespace default,min=1,ttl=1s
    peer namespaces >"$DIR/out"
    blocks=$(sed -n 's/^0 .* blocks 1 \([0-9]*\) .*/\1/p' "$DIR/out")
    [ "$blocks" -gt 200 ]
    sed 's/ epoch .*//' "$DIR/out" | diff - <(
        echo "0 default policy 0 credit 8 blocks 1 $blocks ttl 1000 every 0"
        echo "1 sessions policy 0 credit 8 blocks 64 $blocks ttl 1800000 every 0"
        echo "2 frames policy 1 credit 8 blocks 0 7 ttl 0 every 16"
        echo "3 jobs policy 2 credit 0 blocks 16 16 ttl 0 every 0"
    )
    kill -KILL "$(figure daemon.worker_pid)"
    wait_until 5 ctl set key value
    peer namespaces | sed 's/ epoch .*//' | diff <(sed 's/ epoch .*//' "$DIR/out") -
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
