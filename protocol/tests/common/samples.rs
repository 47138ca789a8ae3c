//! The messages whose bytes are kept in `golden/`, at least one of every kind.

use protocol::{
    AccessMode, Errno, FileMode, Hello, Name, OpenBits, OpenFlags, Outcome, RefusedCall, Reply, Request, RequestBody,
    RequestId, Socket, SocketAddress, SocketKind, Status, UnixName, Welcome,
};

/// `AUDIT_ARCH_X86_64` (`linux/audit.h`).
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Every request with the name of its file.
pub fn requests() -> Vec<(&'static str, Request)> {
    let request = |id, body| Request { id: RequestId(id), body };
    let mut requests = widest_requests();
    requests.extend(socket_requests());
    requests.extend([
        ("request-open", request(1, open())),
        ("request-unlink", request(300, RequestBody::Unlink { name: name("/run/a.pid") })),
        ("request-refused", request(2, RequestBody::Refused(RefusedCall { nr: 250, arch: AUDIT_ARCH_X86_64 }))),
        ("request-create", request(3, create())),
        ("request-commit-begin", request(4, RequestBody::CommitBegin { name: name("/srv/vm/base.qcow2") })),
        ("request-commit-end", request(5, RequestBody::CommitEnd { name: name("/srv/vm/base.qcow2") })),
        ("request-change-medium", request(6, change_medium())),
        ("request-status", request(7, RequestBody::Status)),
        ("request-resolve", request(8, RequestBody::Resolve { name: name("/srv/vm") })),
    ]);
    requests
}

/// Of the requests with numbers, one each with the greatest.
fn widest_requests() -> Vec<(&'static str, Request)> {
    let name = || Name::new(*b"\xff\xfe").unwrap();
    let flags = OpenFlags::new(AccessMode::Write, OpenBits::try_from((1 << 14) - 2).unwrap());
    let mode = FileMode::from_raw(0o7777);
    let bodies = [
        ("request-open-widest", RequestBody::Open { name: name(), flags }),
        ("request-refused-widest", RequestBody::Refused(RefusedCall { nr: u32::MAX, arch: u32::MAX })),
        ("request-create-widest", RequestBody::Create { name: name(), flags, mode }),
        ("request-change-medium-widest", RequestBody::ChangeMedium { name: name(), flags }),
    ];
    bodies.map(|(file, body)| (file, Request { id: RequestId(u32::MAX), body })).into()
}

/// An address of each family, and each kind of UNIX name.
fn socket_requests() -> Vec<(&'static str, Request)> {
    let unix = |name: &[u8]| SocketAddress::Unix(UnixName::new(name).unwrap());
    let v4 = SocketAddress::V4 { ip: [127, 0, 0, 1], port: 5900 };
    let mut ip = [0; 16];
    ip[15] = 1;
    let v6 = SocketAddress::V6 { ip, port: 4444, scope: 0 };
    let widest = SocketAddress::V6 { ip: [0xff; 16], port: u16::MAX, scope: u32::MAX };
    let server =
        Socket { kind: SocketKind::Stream, nonblocking: false, reuse_address: true, keep_alive: false, v6_only: false };
    let client = Socket { nonblocking: true, reuse_address: false, keep_alive: true, ..server };
    let every =
        Socket { kind: SocketKind::Datagram, nonblocking: true, reuse_address: true, keep_alive: true, v6_only: true };
    let request = |id, body| Request { id: RequestId(id), body };
    vec![
        ("request-bind", request(9, RequestBody::Bind { address: unix(b"/run/a.qmp"), socket: server })),
        ("request-bind-inet", request(10, RequestBody::Bind { address: v4, socket: server })),
        ("request-bind-widest", request(u32::MAX, RequestBody::Bind { address: widest, socket: every })),
        ("request-connect", request(11, RequestBody::Connect { address: v6, socket: client })),
        ("request-connect-abstract", request(12, RequestBody::Connect { address: unix(b"\0vm/1"), socket: client })),
    ]
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn open() -> RequestBody {
    let flags = OpenFlags::new(AccessMode::ReadWrite, OpenBits::DIRECT | OpenBits::CLOEXEC);
    RequestBody::Open { name: name("/srv/vm/a.qcow2"), flags }
}

fn create() -> RequestBody {
    let flags = OpenFlags::new(AccessMode::ReadWrite, OpenBits::EXCLUSIVE | OpenBits::CLOEXEC);
    RequestBody::Create { name: name("/srv/vm/new.qcow2"), flags, mode: FileMode::from_raw(0o644) }
}

fn change_medium() -> RequestBody {
    let flags = OpenFlags::new(AccessMode::Read, OpenBits::NONBLOCK | OpenBits::CLOEXEC);
    RequestBody::ChangeMedium { name: name("/srv/iso/b.iso"), flags }
}

/// Every reply with the name of its file.
pub fn replies() -> Vec<(&'static str, Reply)> {
    let errno = |number| Outcome::Errno(Errno::try_from(number).unwrap());
    let widest = Status {
        grants: u32::MAX,
        commits: u32::MAX,
        files_created: u32::MAX,
        files_allowed: u32::MAX,
        bytes_created: u64::MAX,
        bytes_allowed: u64::MAX,
    };
    vec![
        ("reply-descriptor", Reply { id: RequestId(1), outcome: Outcome::Descriptor }),
        ("reply-done", Reply { id: RequestId(300), outcome: Outcome::Done }),
        ("reply-connecting", Reply { id: RequestId(11), outcome: Outcome::Connecting }),
        ("reply-errno", Reply { id: RequestId(2), outcome: errno(13) }),
        ("reply-errno-widest", Reply { id: RequestId(u32::MAX), outcome: errno(4095) }),
        ("reply-status", Reply { id: RequestId(7), outcome: Outcome::Status(super::status()) }),
        ("reply-status-widest", Reply { id: RequestId(u32::MAX), outcome: Outcome::Status(widest) }),
    ]
}

/// The two greetings.
pub fn greetings() -> (Hello, Welcome) {
    (Hello::default(), Welcome::default())
}
