#!/usr/bin/env bash
# liblarder's binary interface is what tests/liblarder.abi says: functions and structs, as abidw reads them from the debugging information, and the numbers behind the header's
# constants, as comments at its end. A program that was linked with an older liblarder must go on with a newer one, so what is there does not change; what is new is noted.
# --write writes it anew: in the commit that changes the interface.
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
recorded=$src/tests/liblarder.abi

skip() {
    echo "$1"
    exit 77
}
for program in abidw abidiff gcc; do
    command -v "$program" >/dev/null || skip "$program is not installed (abidw and abidiff are in abigail-tools)"
done
[ "$(uname -m)" = x86_64 ] || skip "recorded on x86_64"

dir=$(mktemp -d "${TMPDIR:-/tmp}/larder-abi.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT

# A build of its own, so that nothing depends on how and where the other one was made.
cd "$src" || exit 1
gcc -O1 -g -std=gnu11 -D_GNU_SOURCE -fPIC -shared -fvisibility=hidden -ffile-prefix-map="$src"=. -I. -Wl,--version-script=libclient/liblarder.map \
    -Wl,-soname,liblarder.so.0 libclient/*.c shm/{segment,lane,wait,hello}.c -o "$dir/liblarder.so" || exit 1
mkdir "$dir/headers" && cp libclient/larder.h "$dir/headers" || exit 1
# Only what larder.h shows; what handles are made of is nobody's business.
seen() {
    abidw --headers-dir "$dir/headers" --drop-private-types --exported-interfaces-only --no-show-locs --no-corpus-path --no-comp-dir-path --no-elf-needed \
        --type-id-style hash "$dir/liblarder.so"
}
# Results are ints and options are bits: no debugging information has them.
constants() {
    local names name
    names=$(gcc -E -P -dD libclient/larder.h | grep -oE '\bLARDER_[A-Z0-9_]*[A-Z0-9]\b' | grep -vxE 'LARDER_(H|VERSION)' | sort -u)
    {
        printf '#include "libclient/larder.h"\n#include <stdio.h>\nint main(void)\n{\n'
        for name in $names; do printf '    printf("<!-- %s %%lld -->\\n", (long long)(%s));\n' "$name" "$name"; done
        printf '    return 0;\n}\n'
    } >"$dir/constants.c"
    gcc -I. "$dir/constants.c" -o "$dir/constants" && "$dir/constants"
}
seen >"$dir/liblarder.abi" && constants >>"$dir/liblarder.abi" || exit 1
if [ "${1:-}" = --write ]; then
    cp "$dir/liblarder.abi" "$recorded"
    exit
fi
abidiff "$recorded" "$dir/liblarder.abi" >"$dir/diff" # both without private types already
status=$?
cat "$dir/diff"
if ! diff -u --label recorded --label now <(grep '^<!-- ' "$recorded") <(grep '^<!-- ' "$dir/liblarder.abi"); then
    status=$((status | 4))
fi
# 1: abidiff could not, 2: used wrongly, 4: something is different, 8: incompatible for certain
if [ $((status & 3)) -ne 0 ]; then
    echo "abidiff could not compare"
elif [ $((status & 8)) -ne 0 ]; then
    echo "programs that were linked before may not go on with this library"
elif [ $status -ne 0 ]; then
    echo "the interface has changed: if it is meant, write it anew with tests/abi.sh --write"
fi
exit "$status"
