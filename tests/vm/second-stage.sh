# A test machine's second program, on the host's files: mounts what a Debian system has, runs the command, sends
# its output and its exit status out by the virtual serial ports of these names, and powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t securityfs security /sys/kernel/security
ln -sfn /proc/self/fd /dev/fd
busybox ip link set lo up

run=$(sed -n 's/.*vm\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
port() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$(cat "$entry/name")" = "$1" ]; then echo "/dev/${entry##*/}"; fi
    done
}
version=$(uname -r)
mkdir -p "/lib/modules/$version"
mount --bind "$(cat "$run/kernel")/lib/modules/$version" "/lib/modules/$version"
setsid sh "$run/command" > "$(port output)" 2>&1 < /dev/null
echo $? > "$(port status)"
sync
busybox poweroff -f
