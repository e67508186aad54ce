#!/usr/bin/env bash
# larder from Node, by an FFI that npm brings (tests/bindings/package-lock.json says which, by its hash).
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
build=$(cd "${LARDER_BUILD:-$src/build/gcc}" && pwd) || exit 1
# shellcheck source=tests/own_daemon.sh
. "$src/tests/own_daemon.sh"

command -v node >/dev/null || { echo "no Node here"; exit 77; }

# Brought once for a build folder. Its scripts are not run: what is needed comes compiled.
modules=$build/tests/node
loads() { node -e 'require(process.argv[1])' "$modules/node_modules/koffi" 2>/dev/null; }
if ! loads || ! cmp -s "$src/tests/bindings/package-lock.json" "$modules/package-lock.json"; then
    command -v npm >/dev/null || { echo "no npm here, which brings the FFI"; exit 77; }
    rm -rf "$modules"
    mkdir -p "$modules" || exit 1
    cp "$src"/tests/bindings/package*.json "$modules" && chmod u+w "$modules"/*.json || exit 1
    if ! (cd "$modules" && timeout 60 npm ci --ignore-scripts --no-audit --no-fund --fetch-retries=1) >"$dir/npm" 2>&1 || ! loads; then
        tail -n 5 "$dir/npm"
        rm -rf "$modules"
        echo "npm could not bring koffi, the FFI"
        exit 77
    fi
fi
start_daemon --client-namespaces 8
timeout 60 node "$src/tests/bindings/larder.js" "$modules" "$build/.libs/liblarder.so"
