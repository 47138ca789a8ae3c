#!/bin/sh
# setup.sh FOLDER: makes a Debian 13 with QEMU 10, a C compiler for the hostile programs of the tests, strace, ip,
# setcap and the programs that QEMU speaks to, in FOLDER/tree, unless it is there and as this script makes it. Needs root and debootstrap.
set -eu
folder=$1
if [ -f "$folder/complete" ] && [ -z "$(find "$0" -newer "$folder/complete")" ]; then
    exit 0
fi
rm -rf "$folder/tree"
mkdir -p "$folder"
packages=qemu-system-x86,qemu-utils,gcc,libc6-dev,strace,iproute2,libcap2-bin,swtpm,virtiofsd,gnutls-bin
if ! debootstrap --variant=minbase --include=$packages trixie "$folder/tree" > "$folder/debootstrap.log" 2>&1; then
    tail -n 20 "$folder/debootstrap.log" >&2
    exit 1
fi
rm -rf "$folder"/tree/var/cache/apt/archives/*.deb
# An installed Debian has the name of the host itself; debootstrap leaves that to the installer.
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$folder/tree/etc/hosts"
touch "$folder/complete"
