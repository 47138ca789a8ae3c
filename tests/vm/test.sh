#!/bin/sh
# test.sh FOLDER: runs in test machines (made in FOLDER) what needs another kernel than this host's: Landlock 2 and
# 6, Yama, and images on NFS. Needs root.
set -eu
here=$(dirname "$(realpath "$0")")
folder=$(realpath -m "$1")

"$here/setup.sh" "$folder"
"$here/../setup/programs.sh" "$folder/programs"
for kernel in 6.12 6.1; do
    echo "== test machine with Linux $kernel"
    "$here/run.sh" "$folder" $kernel 900 "$here/cases.sh" $kernel "$folder/programs" "$folder/nfs/tree"
done
