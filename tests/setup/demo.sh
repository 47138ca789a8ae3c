#!/bin/sh
# demo.sh BROKER GUEST FOLDER: boots the guest in GUEST (see guest.sh) twice under BROKER, from copies of its images
# in FOLDER, and shows what the guest proves and what the broker reports. Fails unless the guest finds at the second
# boot what it wrote at the first.
set -eu
broker=$(realpath "$1") guest=$(realpath "$2") folder=$3

rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
cp "$guest"/base.qcow2 "$guest"/mid.qcow2 "$guest"/top.qcow2 .

for boot in 1 2; do
    echo "== boot $boot: the guest's disk is top.qcow2, over mid.qcow2, over base.qcow2"
    # The pipe ends when the broker has, with its report, and not before.
    timeout --foreground 180 "$broker" -v -- qemu-system-x86_64 -accel tcg -m 256 \
        -drive file=top.qcow2,if=virtio,format=qcow2 \
        -kernel "$guest/vmlinuz" -initrd "$guest/initrd" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off" -nographic -nic none -no-reboot \
        < /dev/null 2>&1 | timeout 200 tee "boot-$boot.log"
    if ! grep -q "GUEST-PROOF: boots=$boot base=only-the-base-image-holds-this" "boot-$boot.log"; then
        echo "demo.sh: boot $boot gave no proof" >&2
        exit 1
    fi
done
echo "== the guest wrote its disk at both boots, through descriptors that the broker gave it"
