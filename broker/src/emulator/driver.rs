//! The block drivers that are served (`BlockdevDriver` in `qapi/block-core.json`).

/// What QEMU does with a `driver=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// Opens `filename=`.
    Protocol,
    /// Opens nothing.
    Nothing,
    /// Connects to a server.
    Remote,
    /// Reads a header; `true` if the header can name a backing file.
    Format(bool),
    /// Passes through.
    Filter,
}

/// Every driver that is served. All others reach for hardware or for a folder, or through a library that opens
/// more than the options say.
const DRIVERS: &[(&str, Driver)] = &[
    ("file", Driver::Protocol),
    ("host_device", Driver::Protocol),
    ("host_cdrom", Driver::Protocol),
    ("null-co", Driver::Nothing),
    ("null-aio", Driver::Nothing),
    ("nbd", Driver::Remote),
    ("virtio-blk-vhost-user", Driver::Remote),
    ("raw", Driver::Format(false)),
    ("qcow2", Driver::Format(true)),
    ("qcow", Driver::Format(true)),
    ("qed", Driver::Format(true)),
    ("vmdk", Driver::Format(true)),
    ("vdi", Driver::Format(false)),
    ("vhdx", Driver::Format(false)),
    ("vpc", Driver::Format(false)),
    ("parallels", Driver::Format(false)),
    ("bochs", Driver::Format(false)),
    ("cloop", Driver::Format(false)),
    ("dmg", Driver::Format(false)),
    ("luks", Driver::Format(false)),
    ("throttle", Driver::Filter),
    ("copy-on-read", Driver::Filter),
    ("copy-before-write", Driver::Filter),
    ("snapshot-access", Driver::Filter),
    ("compress", Driver::Filter),
    ("preallocate", Driver::Filter),
    ("blkdebug", Driver::Filter),
    ("blkverify", Driver::Filter),
    ("blkreplay", Driver::Filter),
    ("blklogwrites", Driver::Filter),
    ("quorum", Driver::Filter),
];

/// The others of QEMU 7.2 and 10.0, and what each of them reaches for.
const REFUSED: &[(&str, &str)] = &[
    ("ftp", "a server"),
    ("ftps", "a server"),
    ("gluster", "a server"),
    ("http", "a server"),
    ("https", "a server"),
    ("io_uring", "hardware, through libblkio"),
    ("iscsi", "a server"),
    ("iser", "a server"),
    ("nbd", "a server"),
    ("nfs", "a server"),
    ("nvme", "hardware"),
    ("nvme-io_uring", "hardware, through libblkio"),
    ("rbd", "a server"),
    ("replication", "a server of NBD"),
    ("ssh", "a server"),
    ("vvfat", "a folder"),
    ("virtio-blk-vfio-pci", "hardware, through libblkio"),
    ("virtio-blk-vhost-user", "another process, through libblkio"),
    ("virtio-blk-vhost-vdpa", "hardware, through libblkio"),
];

/// What a driver that is not served reaches for; `None` for one that QEMU has not.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(n, _)| *n == name).map(|(_, outside)| *outside)
}

/// What the options say of a served driver; `None` for one that is not.
pub(super) fn find(name: &str) -> Option<Driver> {
    DRIVERS.iter().find(|(n, _)| *n == name).map(|(_, d)| *d)
}
