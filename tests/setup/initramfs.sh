#!/bin/sh
# initramfs.sh KERNEL-FOLDER INIT OUTPUT MODULE...: an initramfs with a static busybox, the script INIT as /init,
# and the kernel modules named with all that they depend on, in /modules; /modules/order lists them in the order
# in which they must be loaded.
set -eu
kernel=$1 init=$2 output=$3
shift 3
PATH=$PATH:/usr/sbin:/sbin
version=$(ls "$kernel/lib/modules")

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/modules" "$tree/root"
cp "$(command -v busybox)" "$tree/bin/busybox"
cp "$init" "$tree/init"
chmod 755 "$tree/init"

: > "$tree/modules/order"
for module in "$@"; do
    modprobe --dirname "$kernel" --set-version "$version" --show-depends "$module" |
        sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r file; do
    name=$(basename "$file" .xz)
    case $file in
        *.xz) xz --decompress --stdout "$file" > "$tree/modules/$name" ;;
        *) cp "$file" "$tree/modules/$name" ;;
    esac
    echo "$name" >> "$tree/modules/order"
done
(cd "$tree" && find . | cpio --create --format newc --quiet) > "$output"
