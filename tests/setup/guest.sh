#!/bin/sh
# guest.sh FOLDER: makes a small Linux guest in FOLDER, unless it is there already:
#   vmlinuz, initrd    Debian's kernel for virtual machines, and busybox with the modules that find the disk
#   base.qcow2         an ext4 root file system
#   mid.qcow2          over base.qcow2
#   top.qcow2          over mid.qcow2: what the guest boots from
#   network-initrd     what the guest boots from, without a disk, to speak to another one
#   neighbour-initrd   the same for programs beside QEMU
# Needs no root. What the guest does is in guest-initramfs-init and guest-disk-init, in guest-network-init,
# or in guest-neighbour-init.
set -eu
here=$(dirname "$(realpath "$0")")
folder=$1
PATH=$PATH:/usr/sbin:/sbin

stamp=$folder/complete
if [ -f "$stamp" ] && [ -z "$(find "$here" -newer "$stamp" -type f)" ]; then
    exit 0
fi
rm -f "$stamp"
mkdir -p "$folder"
cd "$folder"

if [ ! -f vmlinuz ]; then
    "$here/kernel.sh" linux-image-cloud-amd64 kernel
    cp kernel/boot/vmlinuz-* vmlinuz
fi
"$here/initramfs.sh" kernel "$here/guest-initramfs-init" initrd virtio_pci virtio_blk ext4
"$here/initramfs.sh" kernel "$here/guest-network-init" network-initrd virtio_pci virtio_net
"$here/initramfs.sh" kernel "$here/guest-neighbour-init" neighbour-initrd virtio_pci virtiofs virtio-rng

tree=$(mktemp -d)
trap 'rm -rf "$tree" disk.raw' EXIT
(cd "$tree" && mkdir bin dev etc proc sbin var)
cp "$(command -v busybox)" "$tree/bin/busybox"
cp "$here/guest-disk-init" "$tree/sbin/init"
chmod 755 "$tree" "$tree/sbin/init"
echo only-the-base-image-holds-this > "$tree/etc/base-only"
: > "$tree/var/boots"
truncate --size 32M disk.raw
mke2fs -q -t ext4 -O '^has_journal' -E root_owner=0:0 -d "$tree" disk.raw

qemu-img convert -f raw -O qcow2 disk.raw base.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 mid.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b mid.qcow2 top.qcow2
touch "$stamp"
