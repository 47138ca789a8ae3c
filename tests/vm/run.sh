#!/bin/sh
# run.sh FOLDER KERNEL SECONDS COMMAND [ARGUMENT...]: runs COMMAND as root in a test machine made of FOLDER (see
# setup.sh) with KERNEL (6.12, 6.1 or devices), and ends it after SECONDS. The machine is emulated without /dev/kvm. Its
# root is the host's, read-only, under a layer of memory: all may be written, nothing lasts. The command starts in
# the current folder, with an empty ext4 disk at /dev/vda. Its output is printed and its exit status returned; 125
# means that there was none (the console is then on standard error), 124 that the time was over. Needs root.
set -eu
here=$(dirname "$(realpath "$0")")
kernel=$(realpath "$1/$2") seconds=$3
shift 3
PATH=$PATH:/usr/sbin:/sbin
memory=2G

run=$(mktemp -d "$kernel/../run.XXXXXX")
run=$(realpath "$run")

# Devices of this machine that a guest inside it may be given.
machine="-machine pc"
case $kernel in
    */devices)
        machine=$(sed -e 's/#.*//' -e "s|@RUN@|$run|g" "$here/devices" | tr '\n' ' ')
        truncate --size 1M "$run/stick"
        ;;
esac

processes=
trap 'kill $processes 2>/dev/null || true; rm -rf "$run"' EXIT
trap 'exit 143' TERM INT

cp "$here/second-stage.sh" "$run/second-stage"
echo "$kernel" > "$run/kernel"
{
    echo "cd '$(pwd)'"
    printf "'%s' " "$@"
    echo
} > "$run/command"
truncate --size 512M "$run/disk"
mkfs.ext4 -q "$run/disk"
mkfifo "$run/output"

# The host's root with all that is mounted in it, in a mount namespace of its own so that it can be read-only.
mkdir "$run/root"
# shellcheck disable=SC2016 # the inner shell's
setpriv --pdeathsig TERM unshare --mount --propagation private sh -c '
    mount --rbind / "$1/root" && mount -o remount,bind,ro "$1/root" &&
    exec /usr/lib/qemu/virtiofsd --socket-path="$1/root.sock" -o source="$1/root" -o cache=always
' sh "$run" > "$run/virtiofsd.log" 2>&1 &
processes=$!
tries=0
until [ -S "$run/root.sock" ] || [ $tries = 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
done

cat "$run/output" &
reader=$!
ended=0
# shellcheck disable=SC2086 # words of options
timeout --kill-after 5 "$seconds" qemu-system-x86_64 \
    -accel tcg,thread=multi,tb-size=512 -smp 2 -m "$memory" -nodefaults -no-user-config -display none -no-reboot \
    -object "memory-backend-memfd,id=memory,size=$memory,share=on" -numa node,memdev=memory \
    $machine \
    -kernel "$kernel"/boot/vmlinuz-* -initrd "$kernel/initrd" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off intel_iommu=on vm.run=$run" -serial "file:$run/console" \
    -chardev "socket,id=root,path=$run/root.sock" -device vhost-user-fs-pci,chardev=root,tag=root \
    -drive "file=$run/disk,format=raw,if=virtio,cache=unsafe" -device virtio-rng-pci -device virtio-serial \
    -chardev "file,id=output,path=$run/output" -device virtserialport,chardev=output,name=output \
    -chardev "file,id=status,path=$run/status" -device virtserialport,chardev=status,name=status \
    < /dev/null > "$run/emulator.log" 2>&1 || ended=$?
wait $reader || true

if [ -s "$run/status" ]; then
    exit "$(cat "$run/status")"
fi
echo "run.sh: no exit status came out of the machine; its console and the emulator's messages:" >&2
tail -n 30 "$run/console" "$run/emulator.log" "$run/virtiofsd.log" >&2 || true
[ "$ended" = 124 ] && exit 124
exit 125
