#!/bin/sh
# nfs.sh TREE: in a test machine, starts an NFS server (its programs in TREE) that exports an ext4 disk with
# root_squash, and mounts it by NFSv4.2 at /mnt/nfs. The folder /mnt/nfs/images belongs to user 1000 alone.
set -eu
tar -C "$1" -c . | tar -C / --keep-directory-symlink -x
modprobe -a ext4 nfsd nfs nfsv4

mkdir -p /srv/export /mnt/nfs /run/rpcbind /run/sendsigs.omit.d /var/lib/nfs/sm /var/lib/nfs/sm.bak \
    /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
mount /dev/vda /srv/export
mkdir /srv/export/images
chown 1000:1000 /srv/export/images
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /var/lib/nfs/xtab /var/lib/nfs/state
grep -q '^_rpc:' /etc/passwd || echo '_rpc:x:107:65534::/run/rpcbind:/usr/sbin/nologin' >> /etc/passwd

echo '/srv/export 127.0.0.1(rw,root_squash,no_subtree_check,sync,fsid=0,insecure)' > /etc/exports
mount -t nfsd nfsd /proc/fs/nfsd
mount -t rpc_pipefs pipefs /var/lib/nfs/rpc_pipefs
rpcbind -w
exportfs -ra
rpc.nfsd --no-nfs-version 3 --grace-time 10 --lease-time 10 2
rpc.mountd
mount -t nfs -o vers=4.2,noac 127.0.0.1:/ /mnt/nfs
# There was no earlier server whose clients could want their locks back.
echo 1 > /proc/fs/nfsd/v4_end_grace 2>/dev/null || true
