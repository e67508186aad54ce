#!/usr/bin/env bash
# The offset of every shared byte is what tests/layout.txt says it is for this LRD_LAYOUT_VERSION.
#   tests/layout.sh          compare
#   tests/layout.sh --write  write tests/layout.txt anew; raise LRD_LAYOUT_VERSION in the same change
# The list of structs is not kept by hand: all structs, fields, enumerators and plain #defines of shm/layout.h are printed.
set -u
cd "${LARDER_SRC:-$(dirname "$0")/..}" || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

awk '
function out(s) { print "    " s }
BEGIN {
    print "#include <stdio.h>"
    print "#include <stdint.h>"
    print "#include \"shm/layout.h\""
    print "#define DEFINE(n) printf(\"%s = %llu\\n\", #n, (unsigned long long)(n))"
    print "#define STRUCT(s) printf(\"\\nstruct %s: %zu bytes, aligned to %zu\\n\", #s, sizeof(struct s), _Alignof(struct s))"
    print "#define FIELD(s, f) printf(\"%6zu %6zu  %s\\n\", offsetof(struct s, f), sizeof(((struct s *)0)->f), #f)"
    print "int main(void)\n{"
}
# comments go first; one that spans lines is dropped line by line
{
    gsub(/\/\*[^*]*\*+([^\/*][^*]*\*+)*\//, "")
    if (in_comment) { if (!sub(/^.*\*\//, "")) next; in_comment = 0 }
    if (sub(/\/\*.*$/, "")) in_comment = 1
}
/^#define LRD_LAYOUT_H/ || /\\$/ { next } # the guard; the hash, which follows from the rest
/^#define LRD_[A-Z0-9_]+[ \t]+[^ \t]/ { out("DEFINE(" $2 ");"); next }
/^struct [a-z_0-9]+ \{/ { name = $2; out("STRUCT(" name ");"); next }
/^enum [a-z_0-9]+ \{/ { in_enum = 1; out("puts(\"\\n" $1 " " $2 "\");"); sub(/^[^{]*\{/, "") }
in_enum {
    last = index($0, "}")
    if ($0 ~ /#[ \t]*include "shm\/counters.def"/) {
        out("#define LRD_COUNTER(n, unit, scope, help) DEFINE(LRD_C_##n);\n#include \"shm/counters.def\"\n#undef LRD_COUNTER")
        next
    }
    if ($0 ~ /^[ \t]*#/) next
    sub(/\}.*/, "")
    n = split($0, part, ",")
    for (i = 1; i <= n; i++) { sub(/=.*/, "", part[i]); gsub(/[ \t]/, "", part[i]); if (part[i] != "") out("DEFINE(" part[i] ");") }
    if (last) in_enum = 0
    next
}
name != "" && /^\};/ { name = ""; next }
name != "" && NF {
    if ($0 !~ /^[ \t]+(const |unsigned |struct )*[a-z_0-9]+ [a-z_0-9]+(\[.*\])?;[ \t]*$/) {
        print "layout.sh does not understand shm/layout.h:" FNR ": " $0 > "/dev/stderr"
        failed = 1
        exit
    }
    f = $0; sub(/(\[.*\])?;[ \t]*$/, "", f); sub(/^.*[ \t]/, "", f)
    out("FIELD(" name ", " f ");")
}
END { print "    return 0;\n}"; exit failed }
' shm/layout.h >"$dir/print.c" || exit 1
${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -Wall -Werror -I. -o "$dir/print" "$dir/print.c" || exit 1
{
    echo "# Written by tests/layout.sh --write. Columns: offset, size, field."
    "$dir/print"
} >"$dir/layout.txt" || exit 1

if [ "${1:-}" = --write ]; then
    cp "$dir/layout.txt" tests/layout.txt
    exit
fi
diff -u --label tests/layout.txt --label shm/layout.h tests/layout.txt "$dir/layout.txt" || {
    old=$(sed -n 's/^LRD_LAYOUT_VERSION = //p' tests/layout.txt)
    new=$(sed -n 's/^LRD_LAYOUT_VERSION = //p' "$dir/layout.txt")
    [ "$old" = "$new" ] && echo "The layout changed and LRD_LAYOUT_VERSION did not: raise it."
    echo "Then: tests/layout.sh --write"
    exit 1
}
echo "$(grep -c '^struct' "$dir/layout.txt") structs as in tests/layout.txt"
