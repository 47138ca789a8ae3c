#!/bin/sh
# nfs.sh TREE: in a test machine, starts an NFS server (its programs in TREE) that exports an ext4 disk with
# root_squash, and mounts it by NFSv4.2 at /mnt/nfs, by versions 3, 4.0 and 4.1 at /mnt/nfs-VERSION. The folders images
# and private belong to user 1000 alone, and only that user can look into the latter.
set -eu
tar -C "$1" -c . | tar -C / --keep-directory-symlink -x
modprobe -a ext4 nfsd nfs nfsv3 nfsv4

mkdir -p /srv/export /mnt/nfs /run/rpcbind /run/sendsigs.omit.d /var/lib/nfs/sm /var/lib/nfs/sm.bak \
    /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
mount /dev/vda /srv/export
mkdir /srv/export/images
mkdir -m 0700 /srv/export/private
chown 1000:1000 /srv/export/images /srv/export/private
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab /var/lib/nfs/state
grep -q '^statd:' /etc/passwd || echo 'statd:x:106:65534::/var/lib/nfs:/usr/sbin/nologin' >> /etc/passwd
grep -q '^_rpc:' /etc/passwd || echo '_rpc:x:107:65534::/run/rpcbind:/usr/sbin/nologin' >> /etc/passwd

echo '/srv/export 127.0.0.1(rw,root_squash,no_subtree_check,sync,fsid=0,insecure)' > /etc/exports
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs pipefs /var/lib/nfs/rpc_pipefs
rpcbind -w
rpc.statd
exportfs -ra
rpc.nfsd --grace-time 10 --lease-time 10 2
rpc.mountd
mount -t nfs -o vers=4.2,noac 127.0.0.1:/ /mnt/nfs
for version in 3 4.0 4.1; do
    # Version 3 knows no root of all exports.
    path=/
    [ $version = 3 ] && path=/srv/export
    mkdir /mnt/nfs-$version
    mount -t nfs -o vers=$version,noac 127.0.0.1:$path /mnt/nfs-$version
done
# There was no earlier server whose clients could want their locks back.
echo 1 > /proc/fs/nfsd/v4_end_grace 2>/dev/null || true
