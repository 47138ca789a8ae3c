//! The messages whose bytes are kept in `golden/`, one of every kind.

use protocol::{
    AccessMode, Errno, FileMode, Hello, Name, OpenBits, OpenFlags, Outcome, RefusedCall, Reply, Request, RequestBody,
    RequestId, Welcome,
};

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Every request with the name of its file.
pub fn requests() -> Vec<(&'static str, Request)> {
    let name = |bytes: &[u8]| Name::new(bytes).unwrap();
    let disk = RequestBody::Open {
        name: name(b"/srv/vm/a.qcow2"),
        flags: OpenFlags::new(AccessMode::ReadWrite, OpenBits::DIRECT | OpenBits::CLOEXEC),
        mode: FileMode::from_raw(0),
    };
    let widest = RequestBody::Open {
        name: name(b"\xff\xfe"),
        flags: OpenFlags::new(AccessMode::Write, OpenBits::try_from((1 << 14) - 1).unwrap()),
        mode: FileMode::from_raw(0o7777),
    };
    let unlink = RequestBody::Unlink { name: name(b"/run/a.pid") };
    let refused = RequestBody::Refused(RefusedCall { nr: 250, arch: AUDIT_ARCH_X86_64 });
    vec![
        ("request-open", Request { id: RequestId(1), body: disk }),
        ("request-open-widest", Request { id: RequestId(u32::MAX), body: widest }),
        ("request-unlink", Request { id: RequestId(300), body: unlink }),
        ("request-refused", Request { id: RequestId(2), body: refused }),
    ]
}

/// Every reply with the name of its file.
pub fn replies() -> Vec<(&'static str, Reply)> {
    let errno = Outcome::Errno(Errno::try_from(13).unwrap());
    vec![
        ("reply-descriptor", Reply { id: RequestId(1), outcome: Outcome::Descriptor }),
        ("reply-done", Reply { id: RequestId(300), outcome: Outcome::Done }),
        ("reply-errno", Reply { id: RequestId(2), outcome: errno }),
    ]
}

/// The two greetings.
pub fn greetings() -> (Hello, Welcome) {
    (Hello::default(), Welcome::default())
}
