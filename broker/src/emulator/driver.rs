//! The block drivers that are served (`BlockdevDriver` in `qapi/block-core.json`).

/// What QEMU does with a `driver=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// Opens `filename=`.
    Protocol,
    /// Opens nothing.
    Nothing,
    /// Reads a header; `true` if the header can name a backing file.
    Format(bool),
    /// Passes through.
    Filter,
}

/// Every driver that is served. All others reach for the network, for hardware or for a folder.
const DRIVERS: &[(&str, Driver)] = &[
    ("file", Driver::Protocol),
    ("host_device", Driver::Protocol),
    ("host_cdrom", Driver::Protocol),
    ("null-co", Driver::Nothing),
    ("null-aio", Driver::Nothing),
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

/// What the options say of a served driver; `None` for one that is not.
pub(super) fn find(name: &str) -> Option<Driver> {
    DRIVERS.iter().find(|(n, _)| *n == name).map(|(_, d)| *d)
}
