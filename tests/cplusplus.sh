#!/usr/bin/env bash
# A C++ program compiles with larder.h, without a warning, by g++ and clang++, and uses one handle from several threads.
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
build=${LARDER_BUILD:-$src/build/gcc}
# shellcheck source=tests/own_daemon.sh
. "$src/tests/own_daemon.sh"

compilers=()
for cxx in g++ clang++; do
    if command -v "$cxx" >/dev/null; then compilers+=("$cxx"); else echo "no $cxx here"; fi
done
[ "${#compilers[@]}" -gt 0 ] || { echo "neither g++ nor clang++"; exit 77; }
start_daemon --client-namespaces 8

bad=0
for cxx in "${compilers[@]}"; do
    # both with one standard library; the oldest standard the header is for, and a newer one
    for std in c++11 c++17; do
        "$cxx" -std=$std -O1 -pedantic -Wall -Wextra -Wconversion -Wold-style-cast -Wcast-qual -Wshadow -Werror -pthread -I"$src/libclient" \
            "$src/tests/cplusplus.cc" -o "$dir/cplusplus" -L"$build/.libs" -llarder -Wl,-rpath,"$build/.libs" || {
            echo "$cxx -std=$std does not compile it"
            bad=1
            continue
        }
        "$build/larderctl" delete fetched >/dev/null 2>&1
        "$build/larderctl" delete all >/dev/null 2>&1
        timeout 30 "$dir/cplusplus" || { echo "$cxx -std=$std: exit status $?"; bad=1; }
    done
done
exit "$bad"
