#!/bin/sh
# test.sh FOLDER GUEST: runs the tests in a Debian 13 (made in FOLDER), that is with QEMU 10 and a newer C library,
# on this host's kernel. GUEST is the folder of tests/setup/guest.sh. Needs root.
set -eu
here=$(dirname "$(realpath "$0")")
folder=$(realpath -m "$1")
guest=$(realpath "$2")
sources=$(realpath "$here/../..")

"$here/setup.sh" "$folder"
"$here/../setup/programs.sh" "$folder/programs"

# A mount namespace whose root is the tree. Not a mere chroot: in one, no user namespace can be made.
# shellcheck disable=SC2016 # the inner shell's
exec unshare --mount --propagation private sh -c '
    set -eu
    tree=$1 programs=$2 guest=$3 sources=$4
    mount --bind "$tree" "$tree"
    for name in dev proc sys; do mount --rbind "/$name" "$tree/$name"; done
    mkdir -p "$tree/programs" "$tree/guest" "$tree/old" "$tree$sources"
    mount --bind "$programs" "$tree/programs"
    mount --bind "$guest" "$tree/guest"
    mount --bind "$sources" "$tree$sources"
    mount -t tmpfs -o mode=755 run "$tree/run"
    cd "$tree"
    pivot_root . old
    umount -l /old
    export BROKER_TESTS_BINARY=/programs/broker BROKER_TESTS_GUEST=/guest TMPDIR=/tmp
    for program in /programs/test-*; do
        echo "== $program on Debian $(cat /etc/debian_version)"
        case $program in
            # Whole boots: of those that stand for what is new to this QEMU.
            */test-two_guests) "$program" four_queues stock_qemu macvtaps no_guest ;;
            */test-hostile_images) "$program" ;;
            # A program of our own takes the place of the emulator: nothing there is of this Debian.
            */test-hostile_* | */test-filter_oracle) echo "not run: no emulator" ;;
            *) "$program" ;;
        esac
    done
' sh "$folder/tree" "$folder/programs" "$guest" "$sources"
