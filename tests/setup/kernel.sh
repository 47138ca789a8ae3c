#!/bin/sh
# kernel.sh PACKAGE FOLDER: unpacks the newest kernel that Debian's meta package PACKAGE stands for into FOLDER
# (boot/vmlinuz-*, lib/modules/*). Installs nothing and needs no rights but to write FOLDER.
set -eu
meta=$1 folder=$2

refresh_lists() {
    if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo -n apt-get update -qq; fi
}

newest_package() {
    apt-cache depends "$meta" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

download() {
    package=$(newest_package)
    [ -n "$package" ] && (cd "$folder" && apt-get download -qq -o APT::Sandbox::User=root "$package")
}

rm -rf "$folder"
mkdir -p "$folder"
if ! download && ! { refresh_lists && download; }; then
    echo "kernel.sh: cannot download the kernel of $meta; run 'apt-get update' as root, then try again" >&2
    exit 1
fi
dpkg -x "$folder"/linux-image-*.deb "$folder"
rm "$folder"/linux-image-*.deb
# Debian 13 ships the modules beneath /usr only.
[ -d "$folder/lib/modules" ] || ln -s usr/lib "$folder/lib"
PATH=$PATH:/usr/sbin:/sbin
depmod -b "$folder" "$(ls "$folder/lib/modules")"
