#!/bin/sh
# install.sh [PACKAGE...]: installs the Debian packages that the demo and the tests need, and those named, where
# they are missing. Calls apt only then. As an ordinary user it uses sudo where that asks no password.
set -eu

needed="qemu-system-x86 qemu-utils busybox-static cpio kmod e2fsprogs xz-utils strace iproute2"
needed="$needed libvirt-daemon-system libvirt-clients dbus-daemon qemu-system-gui xvfb x11-utils swtpm gnutls-bin"
# What -display egl-headless draws with.
needed="$needed libegl-mesa0 libegl1 libgbm1 libgl1-mesa-dri libgl1 $*"

missing=
for package in $needed; do
    status=$(dpkg-query --show --showformat '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    case $status in
        ii*) ;;
        *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root="sudo -n"
    if ! $as_root true 2>/dev/null; then
        echo "install.sh: packages are missing; as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
fi

# On Debian 12 a qemu-utils from backports keeps qemu-system-x86 from being installed, unless both are asked for
# together at one version.
case $missing in
    *qemu*) if grep -q '^VERSION_ID="12"' /etc/os-release; then missing="$missing qemu-utils=1:7.2*"; fi ;;
esac
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends --allow-downgrades $missing
