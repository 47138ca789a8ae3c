//! A folder of images, and a command line run in copies of it, under the broker and without.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use tests::{BrokerCommand, During, Error, ORDINARY_USER, Result, Workdir};

/// Lines of the shell that make the images. 64 KiB of a pattern and 960 KiB of nothing, as several images.
const IMAGES: &str = "set -e
head -c 65536 /dev/zero | tr '\\0' 'A' > raw.img
truncate -s 1M raw.img
cp raw.img extra.img
qemu-img convert -f raw -O qcow2 raw.img base.qcow2
cp base.qcow2 other.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 top.qcow2
qemu-io -f qcow2 -c 'write -q -P 66 128k 64k' top.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b top.qcow2 leaf.qcow2
qemu-io -f qcow2 -c 'write -q -P 67 256k 64k' leaf.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b top.qcow2 thin.qcow2
cp base.qcow2 snap.qcow2
qemu-img snapshot -c one snap.qcow2
cp base.qcow2 bits.qcow2
qemu-img bitmap --add -f qcow2 bits.qcow2 b0
qemu-img create -q -f qcow2 -u -F raw -b gone.img orphan.qcow2 1M
mkdir folder
printf swordfish > secret
chmod 644 *.qcow2 *.img
";

/// The images, to be copied.
pub struct Images {
    workdir: Workdir,
}

/// How a run ended, and what it left.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Option<i32>,
    /// Without lines that tell how long something took.
    pub stdout: String,
    /// Without the broker's own lines.
    pub stderr: String,
    /// Those of the broker that tell of a refusal.
    pub refused: Vec<String>,
    /// Each file with its permissions and its bytes; no bytes of `vary.*`, which hold random numbers or the time.
    pub files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Outcome {
    /// All but the bytes of files.
    pub fn summary(&self) -> String {
        let files = self.files.iter().map(|(name, (mode, bytes))| format!("{name} {mode:o} {}", bytes.len()));
        let files: Vec<String> = files.collect();
        format!("{:?} {:?} {:?} {:?} {}", self.status, self.stdout, self.stderr, self.refused, files.join(", "))
    }
}

impl Images {
    pub fn make() -> Result<Self> {
        let workdir = Workdir::new()?;
        shell(&workdir, IMAGES)?;
        Ok(Self { workdir })
    }

    /// A fresh copy.
    pub fn copy(&self) -> Result<Workdir> {
        let copy = Workdir::new()?;
        for name in self.workdir.listing()? {
            let (from, name) = (self.workdir.files().join(&name), name.to_string_lossy().into_owned());
            if from.is_dir() {
                fs::create_dir(copy.path(&name)).during(format!("make {name}"))?;
            } else {
                copy.copy(&from, &name)?;
            }
        }
        Ok(copy)
    }

    /// Runs `line` bare in a copy.
    pub fn run_bare(&self, line: &[&str], as_user: bool) -> Result<Outcome> {
        let workdir = self.copy()?;
        let (program, arguments) = line.split_first().ok_or_else(|| Error::Unexpected("no program".into()))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(workdir.files()).stdin(Stdio::null());
        if as_user && rustix::process::getuid().is_root() {
            workdir.give_to(ORDINARY_USER)?;
            command.uid(ORDINARY_USER).gid(ORDINARY_USER);
        }
        let output = command.output().during(format!("start {program}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        outcome(&workdir, output.status, &text(output.stdout), &text(output.stderr))
    }

    /// Runs `line` under the broker in another copy.
    pub fn run_confined(&self, line: &[&str], as_user: bool) -> Result<Outcome> {
        let workdir = self.copy()?;
        let (program, arguments) = line.split_first().ok_or_else(|| Error::Unexpected("no program".into()))?;
        let mut command = BrokerCommand::new(&workdir).program(*program).args(arguments.iter().copied());
        if as_user {
            command = command.user(ORDINARY_USER);
        }
        let finished = command.run()?;
        outcome(&workdir, finished.status, &finished.stdout, &finished.stderr)
    }
}

/// Runs lines of the shell beside the images.
pub fn shell(workdir: &Workdir, lines: &str) -> Result<()> {
    let output =
        Command::new("sh").args(["-c", lines]).current_dir(workdir.files()).output().during("start a shell")?;
    if output.status.success() {
        return Ok(());
    }
    let (program, stderr) = (lines.to_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    Err(Error::Tool { program, status: output.status, stderr })
}

fn outcome(workdir: &Workdir, status: ExitStatus, stdout: &str, stderr: &str) -> Result<Outcome> {
    let others = stderr.lines().filter(|line| !line.starts_with("broker: "));
    let refused = stderr.lines().filter(|line| line.starts_with("broker: refused")).map(str::to_owned).collect();
    let timeless = |line: &&str| !line.starts_with("Run completed in ") && !line.contains(" ops/sec");
    let stdout = stdout.split_inclusive('\n').filter(timeless).collect();
    let mut files = BTreeMap::new();
    for name in workdir.listing()? {
        let name = name.to_string_lossy().into_owned();
        let path = workdir.path(&name);
        let mode = fs::metadata(&path).during(format!("look at {name}"))?.permissions().mode();
        let bytes = if name.starts_with("vary.") || path.is_dir() { Vec::new() } else { workdir.read(&name)? };
        files.insert(name, (mode, bytes));
    }
    let stderr = others.collect::<Vec<_>>().join("\n");
    Ok(Outcome { status: status.code(), stdout, stderr, refused, files })
}
