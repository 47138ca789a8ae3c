//! The sockets that QEMU makes of some words.

use std::collections::HashMap;
use std::fs;
use std::process::{Command, Stdio};

use tests::{During, Result, Workdir};

/// A socket that was bound or connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub call: Call,
    pub datagrams: bool,
    /// `/PATH`, `PATH`, `@NAME`, or `ADDRESS PORT`.
    pub address: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Bind,
    Connect,
}

/// What QEMU did, and what it said.
#[derive(Debug)]
pub struct Traced {
    pub attempts: Vec<Attempt>,
    pub said: String,
}

/// A shell script whose arguments are a program and its words, in the folder of the test.
///
/// The addresses beside the loopback's own are for the resolver, which looks for none of a family that the host has not.
const SCRIPT: &str = r#"ip link set lo up
ip address add 10.9.9.9/32 dev lo
ip address add fd00::9/128 dev lo
program=$1
shift
case $program in
qemu-system-*)
"$program" -machine none -nodefaults -display none -chardev stdio,id=the-end -mon chardev=the-end,mode=control "$@" <<END
{"execute":"qmp_capabilities"}
{"execute":"quit"}
END
;;
qemu-nbd) "$program" "$@" --fork --pid-file="$PWD/pid" </dev/null; test ! -s pid || kill -KILL "$(cat pid)" ;;
*) "$program" "$@" </dev/null ;;
esac"#;

/// Runs `words`, the program first, until it has started, and ends it.
pub fn run(words: &[String], workdir: &Workdir) -> Result<Traced> {
    let folder = workdir.files();
    fs::write(folder.join("disk"), [0; 512]).during("write an image")?;
    let trace = workdir.aside().join("trace");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "strace", "--seccomp-bpf", "-f", "-qq", "-s", "200", "-o"])
        .arg(&trace)
        .args(["-e", "trace=socket,bind,connect", "timeout", "60", "sh", "-c", SCRIPT, "sh"])
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .during("trace QEMU")?;
    let trace = fs::read_to_string(trace).during("read the trace")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Traced { attempts: read(&trace), said })
}

/// Reads the lines of strace: `PID CALL(ARGUMENTS) = RESULT`.
fn read(trace: &str) -> Vec<Attempt> {
    let mut datagrams = HashMap::new();
    let mut attempts = Vec::new();
    for line in trace.lines() {
        let Some((_, line)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = line.trim_start().split_once('(') else { continue };
        if call == "socket" {
            if let Some((_, number)) = line.rsplit_once("= ") {
                datagrams.insert(number.to_owned(), arguments.contains("SOCK_DGRAM"));
            }
            continue;
        }
        let call = if call == "bind" { Call::Bind } else { Call::Connect };
        let Some((number, arguments)) = arguments.split_once(", ") else { continue };
        if let Some(address) = address(arguments) {
            attempts.push(Attempt { call, datagrams: datagrams.get(number) == Some(&true), address });
        }
    }
    attempts.retain(|attempt| !attempt.address.ends_with("/nscd/socket"));
    attempts
}

/// The address among the arguments of a call.
fn address(arguments: &str) -> Option<String> {
    let between = |start: &str, end: &str| Some(arguments.split_once(start)?.1.split_once(end)?.0.to_owned());
    if arguments.contains("AF_UNIX") {
        let name = between("sun_path=@\"", "\"").map(|name| format!("@{name}"));
        return name.or_else(|| between("sun_path=\"", "\""));
    }
    let port = between("htons(", ")")?;
    let host = between("inet_addr(\"", "\"").or_else(|| between("inet_pton(AF_INET6, \"", "\""))?;
    Some(format!("{host} {port}"))
}

#[test]
fn lines_of_strace_are_understood() {
    let text = "12 socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 9\n\
        12 bind(9, {sa_family=AF_INET6, sin6_port=htons(5900), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, \"::\", &sin6_addr), sin6_scope_id=0}, 28) = 0\n\
        12 socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP) = 10\n\
        13 connect(10, {sa_family=AF_INET, sin_port=htons(1), sin_addr=inet_addr(\"127.0.0.1\")}, 16) = 0\n\
        13 connect(11, {sa_family=AF_UNIX, sun_path=\"/x\"}, 110) = -1 ENOENT (No such file or directory)\n\
        13 bind(12, {sa_family=AF_UNIX, sun_path=@\"n\"}, 4) = 0\n\
        13 connect(13, {sa_family=AF_UNIX, sun_path=\"/var/run/nscd/socket\"}, 110) = -1 ENOENT\n\
        +++ exited with 0 +++\n";
    let attempt = |call, datagrams, address: &str| Attempt { call, datagrams, address: address.to_owned() };
    assert_eq!(
        read(text),
        [
            attempt(Call::Bind, false, ":: 5900"),
            attempt(Call::Connect, true, "127.0.0.1 1"),
            attempt(Call::Connect, false, "/x"),
            attempt(Call::Bind, false, "@n"),
        ]
    );
}
