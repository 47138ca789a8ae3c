#!/bin/sh
# setup.sh FOLDER: fetches into FOLDER what the test machines are made of, unless it is there already:
#   6.12/, 6.1/   Debian 12's two kernels for virtual machines, each with an initramfs
#   devices/      its kernel 6.12 for all kinds of machines, which has drivers for devices too
#   nfs/          the NFS server and client programs, unpacked
# Installs nothing.
set -eu
here=$(dirname "$(realpath "$0")")
setup=$here/../setup
folder=$1

stamp=$folder/complete
if [ -f "$stamp" ] && [ -z "$(find "$here/setup.sh" "$here/initramfs-init" "$setup/initramfs.sh" -newer "$stamp")" ]; then
    exit 0
fi
rm -f "$stamp"
mkdir -p "$folder"
cd "$folder"

make_kernel() {
    if [ ! -f "$1/ready" ]; then
        "$setup/kernel.sh" "$2" "$1"
        touch "$1/ready"
    fi
    "$setup/initramfs.sh" "$1" "$here/initramfs-init" "$1/initrd" virtio_pci virtio_console virtiofs overlay virtio_blk
}
make_kernel 6.12 linux-image-6.12-cloud-amd64
make_kernel 6.1 linux-image-cloud-amd64
make_kernel devices linux-image-6.12-amd64

if [ ! -f nfs/ready ]; then
    rm -rf nfs
    mkdir -p nfs/packages
    (
        cd nfs/packages
        # The programs and those of their libraries that a small Debian does not have.
        apt-get download -qq -o APT::Sandbox::User=root nfs-kernel-server nfs-common rpcbind keyutils \
            libnfsidmap1 libevent-core-2.1-7 libtirpc3 libtirpc-common libwrap0 libdevmapper1.02.1 \
            libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1
    )
    for package in nfs/packages/*.deb; do
        dpkg -x "$package" nfs/tree
    done
    rm -r nfs/packages nfs/tree/usr/share
    touch nfs/ready
fi
touch "$stamp"
