#!/usr/bin/env bash
# Counts the instructions of the hot calls with callgrind and compares them with tests/instructions.txt: growth by more than the percentage there fails. Counts are exact for
# a compiler and a libc, whatever else the machine does, but for set, which looks at how far the writer is; times are not, so none is looked at. --write records
# what was counted.
set -euo pipefail
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
build=${LARDER_BUILD:?the folder with larderd}
recorded=$src/tests/instructions.txt
calls=19200

skip() {
    echo "$1"
    exit 77
}
command -v valgrind >/dev/null || skip "valgrind is not installed"
command -v gcc >/dev/null || skip "gcc is not installed"
compiler="gcc $(gcc -dumpfullversion), libc $(getconf GNU_LIBC_VERSION)"
[ "${1:-}" = --write ] || grep -qxF "# $compiler" "$recorded" || skip "recorded with another compiler or libc than $compiler"

dir=$(mktemp -d "${TMPDIR:-/tmp}/larder-count.XXXXXX")
daemon=
# shellcheck disable=SC2317 # called by the trap
finish() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap finish EXIT

# A build of its own: without testpoints, sanitizers or whatever the other one has.
gcc -O2 -g -std=gnu11 -D_GNU_SOURCE -fPIC -shared -fvisibility=hidden -I"$src" "$src"/libclient/*.c "$src"/shm/{segment,lane,wait,hello,namespace,units,glob}.c -o "$dir/liblarder.so"
gcc -O2 -g -std=gnu11 -D_GNU_SOURCE -I"$src" "$src/tests/count_calls.c" -L"$dir" -llarder -Wl,-rpath,"$dir" -o "$dir/count_calls"
"$build/larderd" --memory 16M --namespace other --socket "$dir/s" --log-level error &
daemon=$!

count() { # count CALL CALLS [NAMESPACE]: instructions of one call, what it calls included
    valgrind --tool=callgrind --callgrind-out-file="$dir/out" --collect-atstart=no --toggle-collect="larder_$1" "$dir/count_calls" "$dir/s" "$1" "$calls" ${3:+"$3"} \
        >"$dir/log" 2>&1 || {
        cat "$dir/log"
        return 1
    }
    awk -v calls="$2" '/^summary:|^totals:/ { n = $2 } END { printf "%d\n", n / calls + 0.5 }' "$dir/out"
}

get=$(count get "$calls")
get_many=$(count get_many "$calls") # of one key
get_many_other=$(count get_many "$calls" other) # in a namespace that is not the default
revisit=$(count revisit "$calls")
set=$(count set $((calls + 1000)))  # those that fill it too
set_many=$(count set_many "$calls") # of one key

if [ "${1:-}" = --write ]; then
    printf '# Instructions of one call (of one key for get_many and set_many): key 16 bytes, value 256. Written by tests/instructions.sh --write.\n# %s\nget %d 3\nget_many %d 3\nget_many_other %d 3\nrevisit %d 3\nset %d 10\nset_many %d 10\n' \
        "$compiler" "$get" "$get_many" "$get_many_other" "$revisit" "$set" "$set_many" >"$recorded"
    exit 0
fi
status=0
while read -r name was percent; do
    case $name in '#') continue ;; esac
    now=${!name}
    echo "$name: $now instructions, $was recorded"
    if [ $((now * 100)) -gt $((was * (100 + percent))) ]; then
        echo "$name has grown by more than $percent %: find out why; if it is worth it, record it with tests/instructions.sh --write and say so in the commit"
        status=1
    fi
done <"$recorded"
exit $status
