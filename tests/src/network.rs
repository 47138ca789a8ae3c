//! Network namespaces that tests make for themselves, and what is in them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::error::{During, Error, Result};
use crate::images::run_tool;
use crate::process::{self, Process};

/// What makes a namespace's own `/dev/net/tun`, which everybody may open as on an ordinary Debian (char 10:200,
/// Documentation/admin-guide/devices.txt), says so, and then keeps the namespaces for as long as standard input is open:
/// they go with the test, however that ends.
const HOLDER: &str = "mkdir -p /dev/net && mount -t tmpfs -o mode=0755 tmpfs /dev/net && mknod /dev/net/tun c 10 200 \
                      && chmod 0666 /dev/net/tun && echo ready && exec cat >/dev/null";

/// What gives a namespace its own copy of `/etc` with this access list for bridges in it, at the place where QEMU's bridge
/// helper and ours look for it; the host's `/etc` stays as it is.
const ACCESS_LIST: &str = "mount -t tmpfs -o mode=0755 tmpfs /mnt && cp -a /etc/. /mnt && mkdir -p /mnt/qemu \
                           && printf %s \"$1\" >/mnt/qemu/bridge.conf && mount --move /mnt /etc";

/// A network namespace with nothing in it but `lo`, and a mount namespace in which anybody may open `/dev/net/tun`. What
/// `/sys` shows is the host's network, not this one. Gone, with all interfaces, when it is dropped.
#[derive(Debug)]
pub struct Network {
    holder: Child,
}

impl Network {
    /// Makes one; takes root.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", HOLDER]);
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().during("start unshare")?;
        let mut network = Self { holder };
        let mut line = String::new();
        if let Some(stdout) = network.holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).during("hear of the namespace")?;
        }
        if line != "ready\n" {
            return Err(Error::Unexpected(format!("the network namespace was not made; it said {line:?}")));
        }
        Ok(network)
    }

    /// The process that keeps the namespaces.
    #[must_use]
    pub fn holder(&self) -> Process {
        Process(self.holder.id())
    }

    /// The words that, before a program's own, run that program in the namespaces: it keeps the process number of the
    /// first word. With `user` it runs as that user and the group of the same number, without any capability.
    #[must_use]
    pub fn words(&self, user: Option<u32>) -> Vec<String> {
        let target = format!("--target={}", self.holder.id());
        let mut words = ["nsenter", &target, "--net", "--mount", "--"].map(str::to_owned).to_vec();
        if let Some(user) = user {
            let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
            words.extend(["setpriv", &uid, &gid, "--clear-groups", "--inh-caps=-all", "--"].map(str::to_owned));
        }
        words
    }

    /// Runs a program in the namespaces to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, user: Option<u32>, program: &str, arguments: &[&str]) -> Result<String> {
        let words = self.words(user);
        let mut line: Vec<&str> = words.iter().map(String::as_str).collect();
        line.push(program);
        line.extend(arguments);
        let (first, rest) = line.split_first().ok_or_else(|| Error::Unexpected("no words".to_owned()))?;
        run_tool(Path::new("/"), first, rest)
    }

    /// Runs `ip` as root, with the words of `line`.
    ///
    /// # Errors
    /// When it fails.
    pub fn ip(&self, line: &str) -> Result<String> {
        self.run(None, "ip", &line.split_whitespace().collect::<Vec<_>>())
    }

    /// Makes a bridge, up.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn bridge(&self, name: &str) -> Result<()> {
        self.ip(&format!("link add {name} type bridge"))?;
        self.ip(&format!("link set {name} up")).map(|_| ())
    }

    /// Makes the text the host's access list for bridges, as seen from here.
    ///
    /// # Errors
    /// When it cannot be put there.
    pub fn access_list(&self, text: &str) -> Result<()> {
        self.run(None, "sh", &["-c", ACCESS_LIST, "sh", text]).map(|_| ())
    }

    /// Keeps IPv6 from an interface, whose addresses and routes would otherwise come at a time of their own.
    ///
    /// # Errors
    /// When the kernel has no such switch.
    pub fn without_ipv6(&self, name: &str) -> Result<()> {
        let line = format!("echo 1 >/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        self.run(None, "sh", &["-c", &line]).map(|_| ())
    }

    /// Makes two interfaces that are the ends of one cable, up.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn cable(&self, one: &str, other: &str) -> Result<()> {
        self.ip(&format!("link add {one} type veth peer name {other}"))?;
        self.ip(&format!("link set {one} up"))?;
        self.ip(&format!("link set {other} up")).map(|_| ())
    }

    /// What `ip -details -json link` says of an interface; nothing if there is none.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn link(&self, name: &str) -> Result<Option<Value>> {
        let links = self.json("-details link show")?;
        Ok(links.into_iter().find(|link| link.get("ifname").is_some_and(|found| found == name)))
    }

    /// The names of all interfaces, in the order in which they were made.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let links = self.json("link show")?;
        Ok(links.iter().filter_map(|link| link.get("ifname")?.as_str().map(str::to_owned)).collect())
    }

    /// All routes, of every table.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn routes(&self) -> Result<Vec<Value>> {
        let mut routes = self.json("-4 route show table all")?;
        routes.extend(self.json("-6 route show table all")?);
        Ok(routes)
    }

    /// The processes that are in the network namespace, besides the one that keeps it.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let ours = self.holder().namespace("net")?;
        let inside = |process: &Process| process.namespace("net").is_ok_and(|namespace| namespace == ours);
        Ok(process::all()?.into_iter().filter(|process| *process != self.holder() && inside(process)).collect())
    }

    /// Does `work` in a thread that is in the namespaces, as root or as `user` with no capability.
    ///
    /// # Errors
    /// When the thread cannot be put there.
    ///
    /// # Panics
    /// When `work` does.
    pub fn within<T: Send>(&self, user: Option<u32>, work: impl FnOnce() -> T + Send) -> Result<T> {
        let thread = || {
            self.enter()?;
            if let Some(user) = user {
                become_user(user)?;
            }
            Ok(work())
        };
        std::thread::scope(|scope| match scope.spawn(thread).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Puts this thread there.
    fn enter(&self) -> Result<()> {
        // A thread that shares its current folder with others cannot change its mount namespace (setns(2)).
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).during("stop sharing the current folder")?;
        for (name, kind) in [("net", LinkNameSpaceType::Network), ("mnt", LinkNameSpaceType::Mount)] {
            let path = format!("/proc/{}/ns/{name}", self.holder.id());
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let link = rustix::fs::openat(CWD, &path, flags, Mode::empty()).during(format!("open {path}"))?;
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&link), Some(kind)).during(format!("enter {path}"))?;
        }
        Ok(())
    }

    fn json(&self, line: &str) -> Result<Vec<Value>> {
        let text = self.ip(&format!("-json {line}"))?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).map_err(|error| Error::Unexpected(format!("ip -json {line}: {error}: {text:?}")))
    }
}

/// Gives this thread, and no other, an ordinary user's identity. The kernel takes its capabilities with the last user id
/// of root's (capabilities(7)).
fn become_user(user: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    rustix::thread::set_thread_groups(&[]).during("setgroups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).during("setresgid")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).during("setresuid")
}

impl Drop for Network {
    fn drop(&mut self) {
        // Both fail only for a holder that has ended by itself.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
