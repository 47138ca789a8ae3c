//! A link to `broker`, or a copy, by the name of one of QEMU's programs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use tests::{During, Result, Workdir, broker_binary, need, two_level_chain};

/// Puts a configuration where the host's would be, in a mount namespace of its own, and becomes the rest of its words.
/// `/etc/alternatives` goes, and QEMU needs nothing of it.
const WITH_CONFIGURATION: &str = "cp -a /etc/. \"$SCRATCH\" && mkdir -p \"$SCRATCH/broker\" && printf %s \
                                  \"$CONFIGURATION\" > \"$SCRATCH/broker/emulators.toml\" && mount --bind \"$SCRATCH\" /etc \
                                  && exec \"$@\"";

/// Two folders with programs that are `broker`, and one for images.
struct Scene {
    workdir: Workdir,
}

impl Scene {
    fn new() -> Result<Self> {
        let workdir = Workdir::new()?;
        for (folder, link) in [("links", true), ("copies", false)] {
            let folder = workdir.aside().join(folder);
            fs::create_dir(&folder).during("make a folder for programs")?;
            for name in ["qemu-system-x86_64", "qemu-img", "kvm"] {
                let to = folder.join(name);
                if link {
                    symlink(broker_binary()?, &to).during("link broker")?;
                } else {
                    // By a process of its own: what is open for writing in another thread's child cannot be executed.
                    Command::new("cp").arg(broker_binary()?).arg(&to).status().during("copy broker")?;
                }
            }
        }
        Ok(Self { workdir })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.workdir.aside().join(name)
    }

    /// Runs a program with the folders of programs in front of `PATH`.
    fn run(&self, program: impl Into<PathBuf>, arguments: &[&str]) -> Result<Output> {
        let folders = format!("{}:{}:/usr/bin:/bin", self.folder("links").display(), self.folder("copies").display());
        let state = self.workdir.chains(None)?;
        let mut command = Command::new(program.into());
        command.args(arguments).current_dir(self.workdir.files()).env("PATH", folders).env("XDG_STATE_HOME", state);
        command.env_remove("LD_LIBRARY_PATH").output().during("start it")
    }

    /// The same under a configuration of the administrator's.
    fn configured(&self, configuration: &str, words: &[&str]) -> Result<Output> {
        let scratch = Workdir::new()?;
        let link = self.folder("links").join("qemu-system-x86_64");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", WITH_CONFIGURATION, "sh"]).arg(link).args(words);
        command.env("SCRATCH", scratch.files()).env("CONFIGURATION", configuration).env_remove("LD_LIBRARY_PATH");
        command.current_dir(self.workdir.files()).output().during("start unshare")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_qemu_prints_is_printed_byte_for_byte() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let scene = Scene::new()?;
    for arguments in
        [&["-version"][..], &["-help"], &["-accel", "help"], &["-machine", "help"], &["-machine", "nonsense"]]
    {
        let bare =
            scene.run("/usr/bin/qemu-system-x86_64", &[arguments, &["-nic", "none", "-display", "none"]].concat())?;
        for folder in ["links", "copies"] {
            let program = scene.folder(folder).join("qemu-system-x86_64");
            let own = scene.run(program, &[arguments, &["-nic", "none", "-display", "none"]].concat())?;
            assert_eq!(own.status.code(), bare.status.code(), "{arguments:?}: {}", text(&own.stderr));
            assert_eq!(
                (text(&own.stdout), text(&own.stderr)),
                (text(&bare.stdout), text(&bare.stderr)),
                "{arguments:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn names_of_other_programs_stand_for_those() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let scene = Scene::new()?;
    let image = scene.run(scene.folder("links").join("qemu-img"), &["--version"])?;
    assert!(text(&image.stdout).starts_with("qemu-img version"), "{}", text(&image.stderr));
    let kvm = scene.run(scene.folder("copies").join("kvm"), &["-version"])?;
    assert!(text(&kvm.stdout).starts_with("QEMU emulator version"), "{}", text(&kvm.stderr));
    // Nothing of broker's own is reached by its arguments: this one is a disk.
    let word = scene.run(scene.folder("links").join("qemu-system-x86_64"), &["-display", "none", "bridge-helper"])?;
    let disk = "qemu-system-x86_64: bridge-helper: Could not open 'bridge-helper': No such file or directory";
    assert!(text(&word.stderr).contains(disk), "{}", text(&word.stderr));
    Ok(())
}

#[test]
fn broker_never_executes_itself() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let scene = Scene::new()?;
    let found = scene.run(broker_binary()?, &["--", "qemu-system-x86_64", "-version"])?;
    assert!(text(&found.stdout).starts_with("QEMU emulator version"), "{}", text(&found.stderr));
    let path = scene.folder("copies").join("qemu-system-unheard-of");
    symlink(broker_binary()?, &path).unwrap();
    let missing = scene.run(&path, &["-version"])?;
    assert_eq!(missing.status.code(), Some(127), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("[emulator.qemu-system-unheard-of] binary"), "{}", text(&missing.stderr));
    Ok(())
}

#[test]
fn the_file_says_which_program_and_which_options() -> Result<()> {
    need!(Broker, Qemu, Landlock, Root);
    let scene = Scene::new()?;
    two_level_chain(&scene.workdir)?;
    let chains = scene.workdir.chains(None)?;
    let audit = scene.workdir.aside().join("audit.json");
    let file = format!(
        "options = ['--chain-dir', '{}']\n[emulator.qemu-system-x86_64]\nbinary = '/usr/bin/qemu-system-x86_64'\n\
         [guest.web]\noptions = ['--audit', '{}']\n",
        chains.display(),
        audit.display()
    );
    let line = ["-machine", "none", "-display", "none", "-nodefaults", "-monitor", "stdio"];
    let drive = ["-drive", "file=top.qcow2,format=qcow2,if=none"];
    let other = scene.configured(&file, &[&line[..], &drive, &["-name", "other", "-version"]].concat())?;
    assert!(text(&other.stdout).starts_with("QEMU emulator version"), "{}", text(&other.stderr));
    assert!(!audit.exists());
    let web = scene.configured(&file, &[&line[..], &drive, &["-name", "guest=web", "-version"]].concat())?;
    assert_eq!(web.status.code(), Some(0), "{}", text(&web.stderr));
    assert!(audit.exists());
    Ok(())
}

#[test]
fn the_file_allows_windows_to_one_guest() -> Result<()> {
    need!(Broker, Qemu, Landlock, Root);
    let scene = Scene::new()?;
    let file = "[guest.desk]\noptions = ['--allow', 'display']\n";
    let start =
        |name: &str| scene.configured(file, &["-machine", "none", "-display", "gtk", "-name", name, "-version"]);
    let desk = start("desk")?;
    assert_eq!(desk.status.code(), Some(0), "{}", text(&desk.stderr));
    let other = start("other")?;
    assert_eq!(other.status.code(), Some(125), "{}", text(&other.stderr));
    assert!(text(&other.stderr).contains("add --allow display"), "{}", text(&other.stderr));
    Ok(())
}

#[test]
fn a_file_that_is_not_understood_stops_the_start() -> Result<()> {
    need!(Broker, Qemu, Landlock, Root);
    let scene = Scene::new()?;
    for (file, part) in [
        ("options = ['--no-such']", "/etc/broker/emulators.toml: options: "),
        ("[emulators]\n", "/etc/broker/emulators.toml: line 1: "),
        ("[emulator.qemu-system-x86_64]\nbinary = '/nowhere/qemu'", "/nowhere/qemu"),
    ] {
        let output = scene.configured(file, &["-version"])?;
        let said = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(125 | 127)), "{file}: {said}");
        assert!(said.contains(part) && said.lines().count() == 1, "{file}: {said}");
    }
    Ok(())
}
