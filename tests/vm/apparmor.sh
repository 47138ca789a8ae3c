#!/bin/sh
# apparmor.sh: runs, in a test machine as root, a guest as libvirt's user in a profile of AppArmor as libvirt makes them,
# with the lines that docs/libvirt.md names. Fails if it does not run, or if anything was denied.
set -eu
docs=$(dirname "$(realpath "$0")")/../../docs/libvirt.md
home=/var/lib/libvirt/qemu/guest-home records=/var/lib/libvirt/broker images=/srv/images
install -D -m 755 /usr/local/bin/broker /usr/local/lib/broker/qemu-system-x86_64
install -d -o libvirt-qemu -g kvm "$home" "$records" "$images"
mkdir -p /etc/broker
echo "options = [\"--keep-descriptors\", \"--chain-dir\", \"$records\"]" > /etc/broker/emulators.toml
qemu-img create -q -f qcow2 "$images/base.qcow2" 64M
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 "$images/disk.qcow2"
chown libvirt-qemu:kvm "$images"/*

{
    echo '#include <tunables/global>'
    echo 'profile libvirt-guest flags=(attach_disconnected) {'
    echo '  #include <abstractions/libvirt-qemu>'
    sed -n '/^## AppArmor/,/^These lines/s/^    //p' "$docs"
    echo "  \"$images/disk.qcow2\" rwk, \"$images/base.qcow2\" rk, \"$home/{,**}\" rwk,"
    echo '}'
} > /root/libvirt-guest
apparmor_parser --replace /root/libvirt-guest

answer=$(printf '{"execute":"%s"}\n' qmp_capabilities query-status quit |
    env -i PATH="$PATH" HOME="$home" XDG_CONFIG_HOME="$home" setpriv --reuid libvirt-qemu --regid kvm --init-groups \
        aa-exec -p libvirt-guest -- /usr/local/lib/broker/qemu-system-x86_64 -machine pc,accel=tcg -nodefaults \
        -display none -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
        -drive "file=$images/disk.qcow2,format=qcow2,if=virtio" -qmp stdio -pidfile "$home/pid" 2>&1) || true
denied=$(dmesg | grep 'apparmor="DENIED"' || true)
case $answer in
    *'"status": "running"'*host-qmp-quit*) ;;
    *) denied="no guest: $answer $denied" ;;
esac
[ -z "$denied" ] || { echo "$denied" >&2; exit 1; }
