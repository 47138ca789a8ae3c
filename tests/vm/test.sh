#!/bin/sh
# test.sh FOLDER: runs in test machines (made in FOLDER) what needs another kernel than this host's, or other devices:
# Landlock 2 and 6, Yama, AppArmor, images on NFS, vhost-net, and devices that guests take. Needs root.
set -eu
here=$(dirname "$(realpath "$0")")
folder=$(realpath -m "$1")

"$here/setup.sh" "$folder"
"$here/../setup/programs.sh" "$folder/programs"
# 125: the machine itself ended, without a status. A kernel that patches its own code on two emulated processors does
# so now and then while it boots; another one is then started. A test that fails has another status, and is not repeated.
run_cases() {
    for attempt in 1 2 3; do
        status=0
        "$here/run.sh" "$folder" "$1" 1200 "$here/cases.sh" "$1" "$folder/programs" "$folder/nfs/tree" || status=$?
        [ $status = 125 ] || return $status
        echo "== the machine ended by itself, at attempt $attempt of 3"
    done
    return 125
}

for kernel in 6.12 6.1 devices; do
    echo "== test machine with Linux $kernel"
    run_cases $kernel
done
