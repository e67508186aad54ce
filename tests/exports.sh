#!/usr/bin/env bash
# liblarder exports exactly what liblarder.map names, needs libc and nothing else, and holds no writing half of the segment.
set -u
src=${LARDER_SRC:-$(dirname "$0")/..}
build=${LARDER_BUILD:-$src/build/gcc}

so=$build/.libs/liblarder.so
static=$build/.libs/liblarder.a
writing=$build/.libs/libshmw.a
map=$src/libclient/liblarder.map
for file in "$so" "$writing" "$map"; do
    [ -e "$file" ] || { echo "$file does not exist"; exit 1; }
done

bad=0
# same WHAT EXPECTED FOUND
same() {
    diff -u --label expected --label found <(printf '%s\n' "$2") <(printf '%s\n' "$3") || {
        echo "$1"
        bad=1
    }
}

wanted=$(sed -e 's|/\*.*\*/||' -e 's|#.*||' "$map" | sed -n '/global:/,/local:/p' | grep -oE '[A-Za-z_][A-Za-z0-9_*]*;' | tr -d ';' | sort)
[ -n "$wanted" ] || { echo "$map names nothing"; exit 1; }
grep -q '\*' <<<"$wanted" && { echo "$map: a pattern exports what nobody decided to export"; bad=1; }
grep -vE '^larder_' <<<"$wanted" && { echo "$map: public names begin with larder_"; bad=1; }

# A is the version's own symbol.
exported=$(nm --dynamic --defined-only --extern-only "$so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
same "liblarder.so does not export what liblarder.map names" "$wanted" "$exported"

# Every one is declared in the installed header, and nothing is declared that is not there.
declared=$(${CC:-gcc} -E -P "$src/libclient/larder.h" | grep -oE '\blarder_[a-z0-9_]+[[:space:]]*\(' | tr -d '( ' | sort -u)
same "larder.h does not declare what liblarder.map names" "$wanted" "$declared"

needed=$(readelf -d "$so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so|ld-linux)')
same "liblarder.so needs more than libc" "" "$needed"

# Whatever libshmw defines is a writing half.
halves=$(nm --defined-only --extern-only "$writing" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u)
[ -n "$halves" ] || { echo "$writing defines nothing"; exit 1; }
for file in "$so" "$static"; do
    [ -e "$file" ] || continue
    found=$(nm "$file" 2>/dev/null | awk 'NF >= 2 { print $NF }' | sort -u | grep -xF -e "$halves")
    [ -z "$found" ] || { printf '%s has to do with a writing half:\n%s\n' "$file" "$found"; bad=1; }
done
[ -e "$static" ] || echo "$static was not built"

echo "$(wc -l <<<"$wanted") names exported, $(wc -l <<<"$halves") names of writing halves looked for"
exit "$bad"
