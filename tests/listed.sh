#!/usr/bin/env bash
# Every file of a folder is in its Makefile.inc, and every file named there exists: nothing is forgotten in a tarball, no test is
# written and never run.
set -u
cd "${LARDER_SRC:-$(dirname "$0")/..}" || exit 1

bad=0
say() {
    echo "$1"
    bad=1
}

# listed FOLDER: the files its Makefile.inc names; a program is named by its source without .c
listed() {
    sed 's/#.*//' "$1/Makefile.inc" | grep -oE '%D%/[A-Za-z0-9_./-]+' | sed "s|%D%|$1|" | sort -u
}

for folder in shm libclient daemon tools examples man tests; do
    names=$(listed "$folder")
    for file in "$folder"/*; do
        case $file in
        *~ | */Makefile.inc | *.in) continue ;; # configure knows the .in files
        esac
        grep -qxF -e "$file" -e "${file%.c}" <<<"$names" || say "$file is not in $folder/Makefile.inc"
    done
    for file in $names; do
        [ -e "$file" ] || [ -e "$file.c" ] || [ -e "$file.in" ] || say "$folder/Makefile.inc names $file, which does not exist"
    done
done
for file in m4/larder_*.m4; do
    grep -qF "$file" Makefile.am || say "$file is not in Makefile.am"
done
exit "$bad"
