#!/bin/sh
# Makes configure and the Makefile.in files. Needed once after a clone; afterwards make does it by itself.
set -e
cd "$(dirname "$0")"
[ -e /usr/share/aclocal/ax_append_compile_flags.m4 ] || aclocal --print-ac-dir >/dev/null 2>&1 || {
    echo "autogen.sh: autoconf, automake, libtool and autoconf-archive are needed" >&2
    exit 1
}
mkdir -p build-aux
exec autoreconf --install --force
