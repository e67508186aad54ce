#!/usr/bin/env bash
# Every header compiles alone, and twice in a row, with gcc and clang; the installed one also as plain C99 and as C++.
set -u
cd "${LARDER_SRC:-$(dirname "$0")/..}" || exit 1

bad=0
n=0
# compile WHAT HEADER COMPILER FLAG...
compile() {
    local what=$1 header=$2
    shift 2
    n=$((n + 1))
    printf '#include "%s"\n#include "%s"\nint larder_header_test;\n' "$header" "$header" |
        "$@" -fsyntax-only -Wall -Wextra -Werror -I. - || {
        echo "$header does not compile alone: $what"
        bad=1
    }
}

ours=(-x c -std=gnu11 -D_GNU_SOURCE -Wconversion -Wcast-qual -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla)
compilers=()
for cc in gcc clang; do
    if command -v "$cc" >/dev/null; then compilers+=("$cc"); else echo "no $cc here"; fi
done
[ "${#compilers[@]}" -gt 0 ] || { echo "neither gcc nor clang"; exit 77; }

for cc in "${compilers[@]}"; do
    for header in {shm,libclient,daemon,tools,tests}/*.h; do
        [ -e "$header" ] || continue
        compile "$cc" "$header" "$cc" "${ours[@]}"
        # what is only compiled in for tests
        compile "$cc, with invariants and testpoints" "$header" "$cc" "${ours[@]}" -DLRD_INVARIANTS -DLRD_TESTPOINTS
    done
    compile "$cc, C99" libclient/larder.h "$cc" -x c -std=c99 -pedantic -pedantic-errors -Wc++-compat
    for std in c++11 c++17; do
        compile "$cc, $std" libclient/larder.h "$cc" -x c++ -std=$std -pedantic
    done
done

# The header says its version to the compiler, configure.ac to everybody else.
version=$(sed -n 's/^AC_INIT(\[larder\], \[\(.*\)\])$/\1/p' configure.ac)
grep -qF "#define LARDER_VERSION \"$version\"" libclient/larder.h || {
    echo "LARDER_VERSION in libclient/larder.h is not configure.ac's $version"
    bad=1
}

echo "$n compilations"
exit "$bad"
