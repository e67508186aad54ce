#!/usr/bin/env bash
# The stories of tests/system/*.bats, told to the programs in LARDER_BUILD. Arguments are handed to bats.
set -u
src=${LARDER_SRC:-$(cd "$(dirname "$0")/.." && pwd)}
export LARDER_SRC=$src LARDER_BUILD=${LARDER_BUILD:-$src/build/gcc}
export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-120}
command -v bats >/dev/null || { echo "no bats here"; exit 77; }
exec bats --tap "$@" "$src/tests/system"
