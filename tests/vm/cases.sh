#!/bin/sh
# cases.sh KERNEL PROGRAMS NFS-TREE: what runs inside a test machine, as root. PROGRAMS is a folder with the broker
# and the test programs; the environment is the harness's (see tests/src).
set -eu
here=$(dirname "$(realpath "$0")")
kernel=$1
# Where an ordinary user can reach them, whatever folder this repository lies in.
cp "$2"/* /usr/local/bin
export BROKER_TESTS_BINARY=/usr/local/bin/broker

as_user() {
    setpriv --reuid 1000 --regid 1000 --clear-groups -- "$@"
}

# networks TEST...: those of the tests of vhost-net that these words name, or all.
networks() {
    echo "== networks whose frames the kernel moves (vhost-net)"
    modprobe -a tun vhost_net bridge veth macvtap
    BROKER_TESTS_REQUIRE=all test-vhost_net "$@"
}

case $kernel in
    6.12)
        networks
        export BROKER_TESTS_REQUIRE=all-but:kvm,guest,root,old-landlock
        for scope in 1 2 0; do
            echo "== the emulator under Yama $scope"
            echo $scope > /proc/sys/kernel/yama/ptrace_scope
            test-boot boot_sector_runs_under_tcg
            as_user test-boot a_user_starts
        done
        echo "== a guest of libvirt's user under AppArmor"
        "$here/apparmor.sh"
        "$here/nfs.sh" "$3"
        export BROKER_TESTS_FOLDER=/mnt/nfs/images
        echo "== images on NFSv4.2 with root_squash, as their owner"
        as_user test-boot boot_sector
        as_user test-reopen
        as_user test-locks
        as_user test-refusal
        as_user test-parity commit::active_by_nodes commit::by_people overlay::and_save saved::save_past
        unset BROKER_TESTS_FOLDER
        export BROKER_TESTS_REQUIRE=all-but:kvm,guest,old-landlock
        for version in 3 4.0 4.1 4.2; do
            echo "== root, on NFSv$version with root_squash, with the images of user 1000"
            folder=/mnt/nfs-$version
            [ $version = 4.2 ] && folder=/mnt/nfs
            BROKER_TESTS_SQUASHED=$folder/private test-image_user_nfs
        done
        ;;
    6.1)
        # Its vhost-net has threads of the kernel's where later ones have the emulator's; the rest is the same.
        networks one_queue of_the_group what_was_demanded
        export BROKER_TESTS_REQUIRE=all-but:kvm,guest,root
        echo "== a kernel whose Landlock lacks later rights"
        broker check || true
        test-old_kernel
        as_user test-boot a_user_starts
        as_user test-parity within::reopen_read_only within::start_with commit::active_by_nodes
        ;;
    devices)
        # Each test brings the modules of its devices in.
        export BROKER_TESTS_REQUIRE=all-but:kvm,guest,old-landlock
        export BROKER_TESTS_MACHINE=devices
        echo "== PCI devices of the host (vfio-pci)"
        test-vfio
        echo "== a graphics device that draws"
        modprobe virtio-gpu
        chmod a+rw /dev/dri/renderD128
        test-render_node
        echo "== a device of the host's USB buses"
        modprobe -a xhci_pci usb_storage sd_mod
        tries=0
        until [ -b /dev/sda ] || [ $tries = 300 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
        test-usb_host
        echo "== guest memory in huge pages"
        test-neighbours guests_take_huge_pages
        ;;
esac
