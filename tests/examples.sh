#!/usr/bin/env bash
# Every page of section 3 has one program in its EXAMPLES, which compiles without a warning against the built library and ends with 0 beside a daemon.
# Arguments: names of pages; none: all of them.
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
build=${LARDER_BUILD:-$src/build/gcc}

# shellcheck source=tests/own_daemon.sh
. "$src/tests/own_daemon.sh"
start_daemon --client-namespaces 8

bad=0
# result NAME STATUS: and what was printed, if it failed
result() {
    if [ "$2" = 0 ]; then
        echo "ok - $1"
    else
        echo "not ok - $1"
        echo "exit status $2"
        cat "$dir/out"
        bad=1
    fi
}

# example PAGE: its program, as somebody sees it who reads the page
example() {
    awk '/^\.Sh / { on = ($2 == "EXAMPLES") }
         on && /^\.Bd -literal/ { text = 1; next }
         /^\.Ed/ { text = 0 }
         text' "$1" | sed -e 's/^\\&//' -e "s/\\\\(aq/'/g" -e 's/\\(dq/"/g' -e 's/\\-/-/g' -e 's/\\e/\\/g'
}

if [ $# -gt 0 ]; then names=("$@"); else
    names=()
    for page in "$src"/man/*.3; do
        page=${page##*/}
        names+=("${page%.3}")
    done
fi
for name in "${names[@]}"; do
    example "$src/man/$name.3" >"$dir/$name.c"
    if [ "$(grep -c '^int main(' "$dir/$name.c")" != 1 ]; then
        echo "EXAMPLES is not one program" >"$dir/out"
        result "$name" 1
        continue
    fi
    # twice, since a program that leaves something in the cache must not depend on being the first
    ${CC:-gcc} -std=gnu11 -O1 -Wall -Wextra -Wconversion -Werror -I"$src/libclient" "$dir/$name.c" -o "$dir/$name" \
        -L"$build/.libs" -llarder -Wl,-rpath,"$build/.libs" >"$dir/out" 2>&1 &&
        timeout 20 "$dir/$name" >"$dir/out" 2>&1 && timeout 20 "$dir/$name" >"$dir/out" 2>&1
    result "$name" $?
done
kill -0 "$daemon" 2>/dev/null || { echo "not ok - the daemon lives"; cat "$dir/log"; bad=1; }
exit "$bad"
