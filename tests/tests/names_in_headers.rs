//! Which file QEMU opens for a name in a header is a matter of text, and the broker must agree with it: random names,
//! asked of one bare QEMU by its monitor.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use broker::open::chain::name;
use serde_json::{Value, json};
use tests::corpus::{Descriptor, Qcow2};
use tests::{During, Error, PLAIN_QEMU, Qmp, Random, Result, Workdir, need};

/// Names that are tried.
const CASES: usize = 1200;

/// Parts of backing names, chosen so that some of what they make up exists, and that much of it is odd.
const PARTS: [&str; 17] = [
    "/", "//", "./", "../", "files/", "base.raw", "a:b", "b:c/", ":", "file:", "nbd:", "json:", "sub/", ".", "raw:",
    "x y", "%41",
];

/// How the folder of an overlay is spelled, from the work folder.
const FOLDERS: [&str; 8] = ["", "./", "sub/", "./sub//", "sub/../", "b:c/", "./b:c/", "sub/b:c/"];

/// What QEMU does about a backing name.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It opens this file.
    Opens(String),
    /// It takes it for something else than a file, or for nothing.
    Refuses(String),
}

/// A QEMU without a machine, whose monitor opens images.
struct Oracle {
    qmp: Qmp,
    child: std::process::Child,
}

impl Oracle {
    fn start(workdir: &Workdir) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair().during("make the monitor's sockets")?;
        let child = Command::new("qemu-system-x86_64")
            .args(PLAIN_QEMU)
            .args(["-machine", "none", "-S", "-chardev", "stdio,id=m", "-mon", "chardev=m,mode=control"])
            .current_dir(workdir.files())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone().during("copy a socket")?)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .during("start QEMU")?;
        Ok(Self { qmp: Qmp::greet(ours)?, child })
    }

    /// What it opens below `overlay`, an image for `driver`.
    fn ask(&mut self, driver: &str, overlay: &str) -> Result<Answer> {
        let node = json!({ "driver": driver, "node-name": "top", "file": { "driver": "file", "filename": overlay } });
        match self.qmp.execute("blockdev-add", node) {
            Ok(_) => {
                let nodes = self.qmp.execute("query-named-block-nodes", json!({ "flat": true }))?;
                self.qmp.execute("blockdev-del", json!({ "node-name": "top" }))?;
                let below = nodes.as_array().into_iter().flatten().find(|node| is_below(overlay, node));
                let name = below.and_then(|node| node.get("file")).and_then(Value::as_str);
                name.map(|name| Answer::Opens(name.to_owned()))
                    .ok_or_else(|| Error::Unexpected(format!("no file below {overlay}: {nodes}")))
            }
            Err(Error::Refused { description, .. }) => Ok(failed_name(&description)),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a node is the file below the overlay, and not the overlay's own.
fn is_below(overlay: &str, node: &Value) -> bool {
    let text = |key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default();
    text("drv") == "file" && plain(text("file")) != plain(overlay)
}

/// The name in an error about a file that could not be opened.
fn failed_name(description: &str) -> Answer {
    let name = ["Could not open '", "driver requires '"].iter().find_map(|before| description.rsplit_once(before));
    match name.and_then(|(_, rest)| rest.split_once('\'')) {
        Some((name, _)) => Answer::Opens(name.to_owned()),
        None => Answer::Refuses(description.to_owned()),
    }
}

/// A name; some begin with the work folder's own path.
fn random_name(random: &mut Random, workdir: &Workdir) -> String {
    let mut name = String::new();
    if random.below(8) == 0 {
        name.push_str(&workdir.files().to_string_lossy());
        name.push('/');
    }
    for _ in 0..=random.below(4) {
        name.push_str(random.pick(&PARTS).copied().unwrap_or_default());
    }
    name
}

/// The same path, without what the broker puts before a name so that nobody finds a protocol in it.
fn plain(name: &str) -> &str {
    name.strip_prefix("./").unwrap_or(name)
}

/// A kind of name in a header.
struct Kind {
    driver: &'static str,
    /// An image that holds the name.
    image: fn(&str) -> Vec<u8>,
    /// What the broker takes it for, in this overlay.
    resolve: fn(&OsStr, &[u8]) -> std::result::Result<OsString, name::Error>,
    /// Whether QEMU knows protocols there; where it takes a name as it stands, the broker still refuses what looks like one.
    has_protocols: bool,
}

/// Asks both about random names.
fn compare(kind: &Kind) -> Result<()> {
    need!(Qemu);
    let workdir = Workdir::new()?;
    for folder in ["sub", "b:c", "sub/b:c"] {
        fs::create_dir(workdir.path(folder)).during("mkdir")?;
    }
    for folder in ["", "sub/", "b:c/"] {
        for name in ["base.raw", "a:b"] {
            workdir.write(&format!("{folder}{name}"), &vec![0; 1 << 20])?;
        }
    }
    let mut oracle = Oracle::start(&workdir)?;
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..CASES {
        let name = random_name(&mut random, &workdir);
        let overlay = format!("{}top", random.pick(&FOLDERS).copied().unwrap_or_default());
        workdir.write(&overlay, &(kind.image)(&name))?;
        let ours = (kind.resolve)(OsStr::new(&overlay), name.as_bytes());
        let what = format!("{name:?} in {overlay:?}");
        match (oracle.ask(kind.driver, &overlay)?, ours) {
            (Answer::Opens(theirs), Ok(ours)) => {
                assert_eq!(plain(&ours.to_string_lossy()), plain(&theirs), "{what}");
                opened += 1;
            }
            (Answer::Refuses(_), Err(_)) => refused += 1,
            // No file has an empty name: what the broker then finds is a folder.
            (Answer::Refuses(_), Ok(ours)) if ours.is_empty() => refused += 1,
            (Answer::Opens(_), Err(_)) if !kind.has_protocols && what.contains(':') => refused += 1,
            (theirs, ours) => panic!("{what}: QEMU {theirs:?}, the broker {ours:?}"),
        }
    }
    assert!(opened > CASES / 4 && refused > CASES / 10, "{opened} opened, {refused} refused: the test tests little");
    Ok(())
}

#[test]
fn backing_files() -> Result<()> {
    compare(&Kind {
        driver: "qcow2",
        image: |name| Qcow2::new().over(name, "raw").bytes(),
        resolve: name::resolve,
        has_protocols: true,
    })
}

#[test]
fn data_files() -> Result<()> {
    compare(&Kind {
        driver: "qcow2",
        image: |name| Qcow2::new().data_file(name).bytes(),
        resolve: |_, name| name::resolve_data_file(name),
        has_protocols: false,
    })
}

#[test]
fn extents() -> Result<()> {
    compare(&Kind {
        driver: "vmdk",
        image: |name| Descriptor::new("monolithicFlat").extent("FLAT", name).text().into_bytes(),
        resolve: name::resolve_extent,
        has_protocols: false,
    })
}
