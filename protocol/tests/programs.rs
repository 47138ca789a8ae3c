//! Programs that find their connection in the environment: the example, and the client in C that `docs/protocol.md`
//! shows. Both do the same and must say the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not the functions beside them"
)]

mod common;

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use common::fake_broker::FakeBroker;
use protocol::{AccessMode, Name, OpenBits, OpenFlags, RequestBody, SOCKET_VARIABLE};
use rustix::io::{FdFlags, fcntl_setfd};

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs").join(name)
}

/// Panics with what `command` said unless it ended well.
fn must_succeed(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}, which must be here: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The example, built by cargo in this test's own target folder and profile: nothing tells a test where examples are,
/// nor makes one of them when a test is run alone.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        // TARGET/PROFILE/deps/TEST-HASH
        let test = std::env::current_exe().unwrap();
        let (profile, target) = (test.ancestors().nth(2).unwrap(), test.ancestors().nth(3).unwrap());
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "protocol", "--example", "reopen"]);
        cargo.env("CARGO_TARGET_DIR", target).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        must_succeed(cargo);
        profile.join("examples/reopen")
    })
}

/// The page's one block of C, compiled.
fn c_client() -> &'static Path {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
        let page = std::fs::read_to_string(page).unwrap();
        let blocks: Vec<_> = page.split("\n```c\n").skip(1).collect();
        let [block] = blocks[..] else { panic!("{} blocks of C in docs/protocol.md", blocks.len()) };
        let (text, _) = block.split_once("\n```\n").expect("the block ends");
        let folder = scratch("c");
        std::fs::create_dir_all(&folder).unwrap();
        let (source, client) = (folder.join("client.c"), folder.join("client"));
        std::fs::write(&source, format!("{text}\n")).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&client).arg(&source);
        must_succeed(compiler);
        client
    })
}

/// Runs `program` with `socket` as the one descriptor that it is told of.
fn run(program: &Path, socket: OwnedFd, arguments: &[&OsStr]) -> Output {
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env(SOCKET_VARIABLE, socket.as_raw_fd().to_string());
    command.output().unwrap()
}

/// What `program` says of `ACTION NAME` for the file of that name, its exit status, and what it asked.
fn ask(program: &Path, action: &str, file: &str, commit_allowed: bool) -> (String, i32, Vec<RequestBody>) {
    let folder = scratch(&format!("{}-{action}-{file}-{commit_allowed}", program.file_name().unwrap().display()));
    let (socket, serving) = FakeBroker::new(&folder, commit_allowed).serve();
    let path = folder.join(file);
    let output = run(program, socket, &[OsStr::new(action), path.as_os_str()]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let said = said.strip_prefix(&format!("{action} {}: ", path.display())).expect("action and name first");
    (said.to_owned(), output.status.code().unwrap(), serving.join().unwrap())
}

/// The file that each request names, by its last part, with the kind of the request.
fn summary(asked: &[RequestBody]) -> Vec<String> {
    let file = |name: &Name| name.as_path().file_name().unwrap().display().to_string();
    let sketch = |body: &RequestBody| match body {
        RequestBody::Open { name, flags } => format!("open {} {flags}", file(name)),
        RequestBody::ChangeMedium { name, flags } => format!("medium {} {flags}", file(name)),
        RequestBody::CommitBegin { name } => format!("begin {}", file(name)),
        RequestBody::CommitEnd { name } => format!("end {}", file(name)),
        other => format!("{other:?}"),
    };
    asked.iter().map(sketch).collect()
}

fn check_reopens(program: &Path) {
    let (said, status, asked) = ask(program, "direct", "disk", false);
    assert_eq!((said.as_str(), status), ("O_RDWR, then O_RDWR|O_DIRECT\n", 0));
    assert_eq!(summary(&asked), ["open disk O_RDWR|O_CLOEXEC", "open disk O_RDWR|O_DIRECT|O_CLOEXEC"]);

    let (said, status, asked) = ask(program, "commit", "base", true);
    assert_eq!((said.as_str(), status), ("O_RDWR, then O_RDONLY\n", 0));
    let opens = ["open base O_RDWR|O_CLOEXEC", "open base O_RDONLY|O_CLOEXEC"];
    assert_eq!(summary(&asked), ["begin base", opens[0], opens[1], "end base"]);

    let (said, status, asked) = ask(program, "medium", "medium", false);
    assert_eq!((said.as_str(), status), ("O_RDONLY\n", 0));
    assert_eq!(summary(&asked), ["medium medium O_RDONLY|O_CLOEXEC"]);
}

fn check_refusals(program: &Path) {
    for (action, file) in [("direct", "base"), ("commit", "base"), ("medium", "disk")] {
        let (said, status, asked) = ask(program, action, file, false);
        assert_eq!((said.as_str(), status), ("refused: EACCES\n", 1), "{action}");
        assert_eq!(asked.len(), 1, "{action}: it went on");
    }
    // A commit that has begun is ended, whatever comes between.
    let (said, status, asked) = ask(program, "commit", "gone", true);
    assert_eq!((said.as_str(), status), ("refused: ENOENT\n", 1));
    assert_eq!(summary(&asked), ["begin gone", "open gone O_RDWR|O_CLOEXEC", "end gone"]);
}

fn check_status(program: &Path) {
    let folder = scratch(&format!("{}-status", program.file_name().unwrap().display()));
    let (socket, serving) = FakeBroker::new(&folder, false).serve();
    let output = run(program, socket, &[OsStr::new("status")]);
    let said = "status: grants 3, commits 1, files 2 of 32, bytes 393216 of 1099511627776\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), said);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(serving.join().unwrap(), [RequestBody::Status]);
}

/// Without a connection, or with one that is none, nothing can be asked.
fn check_sockets_that_are_none(program: &Path) {
    let attempt = |value: Option<&str>| {
        let mut command = Command::new(program);
        command.arg("status").env_remove(SOCKET_VARIABLE).envs(value.map(|value| (SOCKET_VARIABLE, value)));
        let output = command.output().unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // 0 is /dev/null or whatever this test reads, 987 is not open.
    for value in [None, Some("0"), Some("987"), Some("three"), Some("")] {
        let (status, said) = attempt(value);
        assert_eq!(status, Some(2), "{value:?}: {said}");
        assert!(!said.is_empty());
    }
    assert!(attempt(None).1.contains("BROKER_SOCKET"));
}

#[test]
fn the_example_reopens() {
    check_reopens(example());
}

#[test]
fn the_example_names_refusals() {
    check_refusals(example());
}

#[test]
fn the_example_shows_the_status() {
    check_status(example());
}

#[test]
fn the_example_needs_its_socket() {
    check_sockets_that_are_none(example());
}

#[test]
fn the_example_goes_on_after_a_refusal() {
    let folder = scratch("several");
    let (socket, serving) = FakeBroker::new(&folder, false).serve();
    let (base, disk) = (folder.join("base"), folder.join("disk"));
    let actions = ["direct".as_ref(), base.as_os_str(), "--".as_ref(), "direct".as_ref(), disk.as_os_str()];
    let output = run(example(), socket, &actions);
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = said.lines().map(|line| line.rsplit(": ").next().unwrap()).collect();
    assert_eq!(lines, ["EACCES", "O_RDWR, then O_RDWR|O_DIRECT"]);
    assert_eq!(output.status.code(), Some(1));
    let flags = OpenFlags::new(AccessMode::ReadWrite, OpenBits::CLOEXEC);
    let refused = RequestBody::Open { name: Name::try_from(base.as_path()).unwrap(), flags };
    assert_eq!(serving.join().unwrap()[0], refused);
}

#[test]
fn the_client_in_c_reopens() {
    check_reopens(c_client());
}

#[test]
fn the_client_in_c_names_refusals() {
    check_refusals(c_client());
}

#[test]
fn the_client_in_c_shows_the_status() {
    check_status(c_client());
}

#[test]
fn the_client_in_c_needs_its_socket() {
    check_sockets_that_are_none(c_client());
}
