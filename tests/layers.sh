#!/usr/bin/env bash
# Includes point down only: tools -> libclient -> shm <- daemon; examples see what is installed. Ours are written from the root and in quotes.
set -u
cd "${LARDER_SRC:-$(dirname "$0")/..}" || exit 1

n_files=0
bad=0
say() {
    echo "$1"
    bad=1
}

# check FOLDER REGEX: what files of FOLDER may include in quotes
check() {
    local folder=$1 allowed=$2 file line name
    for file in "$folder"/*.[ch] "$folder"/*.def; do
        [ -e "$file" ] || continue
        n_files=$((n_files + 1))
        while IFS=' ' read -r line name; do
            [[ $name =~ ^$allowed$ ]] || say "$file:$line: \"$name\" is not for $folder/"
        done < <(includes '"' '"' "$file")
        # <...> is for what is not ours; the public header may be included as its users do
        while IFS=' ' read -r line name; do
            [[ $name =~ ^(shm|libclient|daemon|tools|tests)/ || $name == config.h || ($name == larder.h && ! $folder =~ ^(tools|examples)$) ]] &&
                say "$file:$line: <$name> is ours: write it from the root, in quotes"
        done < <(includes '<' '>' "$file")
    done
}

# includes OPEN CLOSE FILE: line and name of each include
includes() {
    sed -nE "/^[[:space:]]*#[[:space:]]*include[[:space:]]*$1/ { =; s/^[^$1]*$1([^$2]*)$2.*/\1/; p; }" "$3" | paste -d ' ' - -
}

check shm 'shm/[a-z_]+\.(h|def)'
check libclient '(shm|libclient)/[a-z_]+\.(h|def)'
check daemon '(shm|daemon)/[a-z_]+\.(h|def)'
check examples 'nothing'
check tools '(libclient/larder\.h|(shm|tools)/[a-z_]+\.(h|def))'

# The installed header stands alone.
grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' libclient/larder.h && say "libclient/larder.h includes something that is not installed"

echo "$n_files files looked at"
[ "$n_files" -gt 0 ] && [ "$bad" = 0 ]
