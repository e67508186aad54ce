#!/usr/bin/env bash
# larder from Python, by ctypes.
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
build=${LARDER_BUILD:-$src/build/gcc}
# shellcheck source=tests/own_daemon.sh
. "$src/tests/own_daemon.sh"

python3 -c 'import ctypes' || { echo "no Python with ctypes here"; exit 77; }
start_daemon --client-namespaces 8
timeout 60 python3 "$src/tests/bindings/larder.py" "$build/.libs/liblarder.so"
