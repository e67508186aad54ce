#!/usr/bin/env bash
# The manual pages are clean, refer to pages that exist, and explain every function of liblarder.
set -u
cd "${LARDER_SRC:-$(dirname "$0")/..}" || exit 1
command -v mandoc >/dev/null || { echo "no mandoc here"; exit 77; }

bad=0
say() {
    echo "$1"
    bad=1
}

shopt -s nullglob
pages=(man/*.[1-8])
[ "${#pages[@]}" -gt 0 ] || { echo "no pages"; exit 1; }
mandoc -T lint -W warning "${pages[@]}" || say "mandoc has something to say"

while read -r page name section; do
    [ -e "man/$name.$section" ] || say "$page refers to $name($section), which does not exist"
done < <(awk '$1 == ".Xr" && $2 ~ /^larder/ { print FILENAME, $2, $3 }' "${pages[@]}")

names=$(sed -n '/global:/,/local:/p' libclient/liblarder.map | grep -oE 'larder_[a-z0-9_]+;' | tr -d ';')
for name in $names; do
    grep -qE "^\.F[no] $name( |\$)" man/*.3 || say "$name is explained on no page of section 3"
done

echo "${#pages[@]} pages"
exit "$bad"
