//! A program that attacks, in the emulator's place: `tests/hostile` in C, built here, started with images of its
//! own beside those of somebody else.

mod answers;
mod puppet;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

use crate::command::{BrokerCommand, PLAIN_QEMU};
use crate::emulator::{Emulator, Finished};
use crate::error::{During, Error, Result};
use crate::images::run_tool;
use crate::wait::{PATIENCE, until};
use crate::workdir::Workdir;
pub use answers::{Answers, make_confined_calls};
pub use puppet::{Order, Puppet};

/// What stands in the images of somebody else.
pub const CANARY: &str = "CANARY: another guest's disk";

/// The images of somebody else, in the same folder and of the same user.
const VICTIMS: [&str; 2] = ["victim.qcow2", "victim.raw"];

/// An argument with which the emulator may make processes of its own, and not only threads: some attacks take one.
pub const FORKS: &str = "-async-teardown";

/// Bytes at the start of the talk image that hold parameters; the byte behind them is the step that the test has
/// taken (`tests/hostile/hostile.c`).
const PARAMETERS: usize = 4096;

/// Size of the small images in bytes: whole sectors, and room for a list of calls.
const IMAGE: usize = 256 * 1024;

/// The program, built once from its C sources, statically: nothing of the host's is needed to run it.
///
/// # Errors
/// When the C compiler fails, with its message.
pub fn hostile_program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    match PROGRAM.get_or_init(|| build().map_err(|error| error.to_string())) {
        Ok(path) => Ok(path),
        Err(message) => Err(Error::Unexpected(message.clone())),
    }
}

fn build() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hostile");
    let test = std::env::current_exe().during("find this test's own path")?;
    let program = test.with_file_name("hostile");
    let changed = |path: &Path| fs::metadata(path).and_then(|status| status.modified()).ok();
    let entries = fs::read_dir(&folder).during(format!("list {}", folder.display()))?.flatten();
    let files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    if files.iter().all(|file| changed(file) <= changed(&program)) {
        return Ok(program);
    }
    let flags = ["-static", "-O1", "-pthread", "-Wall", "-Wextra", "-Werror", "-Wno-nonnull"];
    let sources = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "c"));
    // Several test programs may build it at once: each its own, and the last one to finish stays.
    let unfinished = program.with_extension(std::process::id().to_string());
    let mut words: Vec<String> = flags.map(str::to_owned).to_vec();
    words.extend(sources.map(|file| file.to_string_lossy().into_owned()));
    words.extend(["-o".to_owned(), unfinished.to_string_lossy().into_owned()]);
    run_tool(&folder, "cc", &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    fs::rename(&unfinished, &program).during(format!("rename {}", unfinished.display()))?;
    Ok(program)
}

/// A work folder in which an attack takes place.
#[derive(Debug)]
pub struct Scene {
    /// The folder: images that are granted, and images that are not.
    pub workdir: Workdir,
    program: PathBuf,
    victims: BTreeMap<String, Trace>,
}

/// What an attack would have changed of a file.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    inode: u64,
    mode: u32,
    links: u64,
    modified: (i64, i64),
    bytes: Vec<u8>,
}

impl Trace {
    fn of(path: &Path) -> Result<Self> {
        let status = fs::symlink_metadata(path).during(format!("stat {}", path.display()))?;
        Ok(Self {
            inode: status.ino(),
            mode: status.mode(),
            links: status.nlink(),
            modified: (status.mtime(), status.mtime_nsec()),
            bytes: fs::read(path).during(format!("read {}", path.display()))?,
        })
    }
}

impl Scene {
    /// Makes the images.
    ///
    /// # Errors
    /// When the program cannot be built, or an image cannot be made.
    pub fn new() -> Result<Self> {
        let workdir = Workdir::new()?;
        for name in ["backing.raw", "readonly.raw", "talk.raw"] {
            workdir.write(name, &vec![0; IMAGE])?;
        }
        let arguments = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "backing.raw", "granted.qcow2"];
        run_tool(&workdir.files(), "qemu-img", &arguments)?;
        for name in VICTIMS {
            workdir.write(name, CANARY.as_bytes())?;
        }
        let victim = workdir.path("victim.qcow2");
        symlink(&victim, workdir.path("link-to-victim")).during("make a symbolic link")?;
        fs::hard_link(&victim, workdir.path("hard-link-to-victim")).during("make a hard link")?;
        // Reachable by an ordinary user, and not beside the images.
        let program = workdir.aside().join("hostile");
        // Another process copies it: what a child of another test inherited open for writing cannot be executed.
        run_tool(&workdir.aside(), "cp", &[&hostile_program()?.to_string_lossy(), &program.to_string_lossy()])?;
        let audit = workdir.aside().join("audit.json");
        File::create(&audit)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o666)))
            .during(format!("create {}", audit.display()))?;
        let mut scene = Self { workdir, program, victims: BTreeMap::new() };
        for name in VICTIMS.into_iter().chain(["backing.raw", "readonly.raw"]) {
            scene.victims.insert(name.to_owned(), Trace::of(&scene.workdir.path(name))?);
        }
        Ok(scene)
    }

    /// Tells the program what it needs to know, one `name=value` a line. To be called before the step that it
    /// waits for.
    ///
    /// # Errors
    /// When the talk image cannot be written.
    pub fn tell(&self, parameters: &str) -> Result<()> {
        let mut bytes = parameters.as_bytes().to_vec();
        bytes.resize(PARAMETERS, b'\n');
        self.write_at("talk.raw", &bytes, 0)
    }

    /// Takes the step that the program waits for, once it waits.
    ///
    /// # Errors
    /// When it does not come so far.
    pub fn take_step(&self, emulator: &mut Emulator, step: char) -> Result<()> {
        self.await_step(emulator, step)?;
        self.write_at("talk.raw", step.to_string().as_bytes(), PARAMETERS as u64)
    }

    /// Waits until the program waits for `step`.
    ///
    /// # Errors
    /// When it ends before, or never comes so far.
    pub fn await_step(&self, emulator: &mut Emulator, step: char) -> Result<()> {
        let waits = format!("waiting-for {step}");
        let look = || Ok((emulator.stdout()?.contains(&waits) || !emulator.process().is_running()).then_some(()));
        until(PATIENCE, &waits, look).map_err(|error| emulator.explain(error))?;
        if emulator.stdout()?.contains(&waits) {
            return Ok(());
        }
        Err(Error::Unexpected(format!("ended before step {step}: {:?}", emulator.wait()?)))
    }

    /// Writes the list of calls for the attack `make-calls`, which waits for step `a`.
    ///
    /// # Errors
    /// When the image cannot be written.
    pub fn write_calls(&self, list: &str) -> Result<()> {
        self.workdir.write("readonly.raw", list.as_bytes()).map(drop)
    }

    fn write_at(&self, name: &str, bytes: &[u8], offset: u64) -> Result<()> {
        let path = self.workdir.path(name);
        let file = File::options().write(true).open(&path).during(format!("open {}", path.display()))?;
        file.write_all_at(bytes, offset).during(format!("write {}", path.display()))
    }

    /// `broker --audit FILE -- hostile -name ATTACK` with the images that are granted.
    #[must_use]
    pub fn command(&self, attack: &str) -> BrokerCommand<'_> {
        BrokerCommand::new(&self.workdir)
            .options(["--audit".into(), self.workdir.aside().join("audit.json").into_os_string()])
            .program(&self.program)
            .args(self.arguments(attack))
    }

    /// The arguments of the hostile program: options of the emulator whose place it takes.
    #[must_use]
    pub fn arguments(&self, attack: &str) -> Vec<String> {
        let drives = [
            "file=granted.qcow2,format=qcow2,if=none,id=a",
            "file=readonly.raw,format=raw,if=none,id=b,readonly=on",
            "file=talk.raw,format=raw,if=none,id=c",
        ];
        let mut words = vec!["-name".to_owned(), attack.to_owned()];
        words.extend(PLAIN_QEMU.iter().map(|word| (*word).to_owned()));
        words.extend(drives.into_iter().flat_map(|drive| ["-drive".to_owned(), drive.to_owned()]));
        words
    }

    /// The path of the program, for a start without the broker.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The lines of the audit file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no JSON.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let path = self.workdir.aside().join("audit.json");
        let text = fs::read_to_string(&path).during(format!("read {}", path.display()))?;
        let parse =
            |line| serde_json::from_str(line).map_err(|error| Error::Unexpected(format!("audit line {line}: {error}")));
        text.lines().map(parse).collect()
    }

    /// Fails if a file changed that nobody was to change, or if its bytes came out.
    ///
    /// # Panics
    /// Then.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn assert_unharmed(&self, finished: &Finished) -> Result<()> {
        for (name, before) in &self.victims {
            assert_eq!(&Trace::of(&self.workdir.path(name))?, before, "{name} was changed");
        }
        assert!(!finished.stdout.contains(CANARY), "read: {}", finished.stdout);
        Ok(())
    }
}
