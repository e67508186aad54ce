#!/usr/bin/env bash
# What is installed works for somebody else, and nothing of it is left after uninstalling.
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
build=$(cd "${LARDER_BUILD:-$src/build/gcc}" && pwd) || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
fail() {
    echo "$1"
    exit 1
}

make -C "$build" install DESTDIR="$dir/root" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "make install failed"; }
pc=$(find "$dir/root" -name larder.pc)
[ -n "$pc" ] || fail "no larder.pc"
pages=("$src"/man/*.[1-8])
[ "$(find "$dir/root" -path '*/man/*' -type f | wc -l)" = "${#pages[@]}" ] || fail "not all of the ${#pages[@]} manual pages are installed"
for name in $(sed -n '/global:/,/local:/p' "$src/libclient/liblarder.map" | grep -oE 'larder_[a-z0-9_]+;' | tr -d ';'); do
    [ -e "$(find "$dir/root" -path "*/man3/$name.3")" ] || fail "no manual page is installed as $name(3)"
done
[ "$(find "$dir/root" -name '*.h')" = "$(find "$dir/root" -name larder.h)" ] || fail "another header than larder.h is installed"
for program in bin/larderctl bin/larder-bench sbin/larderd; do
    found=$(find "$dir/root" -path "*/$program")
    [ -x "$found" ] || fail "$program is not installed"
    readelf -d "$found" | grep -F "$build/.libs" && fail "$program looks for libraries in the build folder"
done

# a program of somebody else, who knows only pkg-config
cat >"$dir/user.c" <<'END'
#include <larder.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    puts(larder_strerror(LARDER_MISS));
    return strcmp(larder_version(), LARDER_VERSION) != 0;
}
END
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_SYSROOT_DIR=$dir/root
read -ra flags < <(pkg-config --cflags --libs larder)
libdir=$(dirname "$(find "$dir/root" -name liblarder.so)")
${CC:-gcc} -Wall -Werror -o "$dir/user" "$dir/user.c" "${flags[@]}" || fail "a program does not compile with: ${flags[*]}"
LD_LIBRARY_PATH=$libdir "$dir/user" || fail "a program does not run with the installed library"
if [ -e "$libdir/liblarder.a" ]; then
    ${CC:-gcc} -Wall -Werror -o "$dir/user" "$dir/user.c" -I"$dir/root$(pkg-config --variable=includedir larder | sed "s|^$dir/root||")" \
        "$libdir/liblarder.a" || fail "a program does not link statically"
    "$dir/user" || fail "a program does not run with the static library"
fi

make -C "$build" uninstall DESTDIR="$dir/root" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "make uninstall failed"; }
left=$(find "$dir/root" ! -type d)
[ -z "$left" ] || fail "left after uninstalling: $left"
