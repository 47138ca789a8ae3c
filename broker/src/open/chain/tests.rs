//! Chains made by qemu-img, and headers that no tool would write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

use super::*;
use crate::emulator::Program;
use crate::prober::header::{Scratch, parse};

/// A folder of this test's own, which is also the working directory and the image root of its walks.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chain-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().canonicalize().unwrap().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes an image with qemu-img, which must be installed.
    fn create(&self, arguments: &str) {
        let status = Command::new("qemu-img")
            .arg("create")
            .arg("-q")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .status()
            .unwrap();
        assert!(status.success(), "qemu-img create {arguments}");
    }

    /// Writes a qcow2 header that names this backing file.
    fn forge(&self, image: &str, backing: &str, format: Option<&str>) {
        fs::write(self.path(image), forged(backing, format)).unwrap();
    }

    fn walk(&self, top: &str, format: Option<&str>) -> Result<Chain, Error> {
        self.walk_with(top, format, Follows::default(), &mut probe_here)
    }

    fn walk_with(
        &self,
        top: &str,
        format: Option<&str>,
        follows: Follows<'_>,
        probe: Probe<'_>,
    ) -> Result<Chain, Error> {
        let pin = Pin::take(&self.path(top)).unwrap();
        let top = Top { name: OsStr::new(top), pin: &pin, format, follows, program: Program::System };
        let roots = ImageRoots { named: Vec::new(), implied: vec![Root::take(&self.0).unwrap()] };
        let rules = Rules { working_directory: &self.0, image_roots: &roots };
        walk(&top, &rules, probe)
    }

    /// What the walk from `top.qcow2` finds wrong with a backing file.
    fn refusal(&self) -> Refusal {
        match self.walk("top.qcow2", Some("qcow2")) {
            Err(Error::Member { refusal, .. }) => *refusal,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads a header in this process.
fn probe_here(pin: &Pin, stated: Option<Format>) -> Result<Found, prober::Error> {
    let image = pin.reopen(OFlags::RDONLY | OFlags::NONBLOCK).map_err(prober::Error::Open)?;
    let mut scratch = Scratch::default();
    Ok(parse(&image.as_fd(), stated, &mut scratch)?.to_found())
}

fn forged(backing: &str, format: Option<&str>) -> Vec<u8> {
    let mut image = vec![0; 256];
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &256_u64.to_be_bytes());
    put(16, &u32::try_from(backing.len()).unwrap().to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    if let Some(format) = format {
        put(104, &0xE279_2ACA_u32.to_be_bytes());
        put(108, &u32::try_from(format.len()).unwrap().to_be_bytes());
        put(112, format.as_bytes());
    }
    image.extend_from_slice(backing.as_bytes());
    image
}

fn names(chain: &Chain) -> Vec<&str> {
    chain.members.iter().map(|member| member.name.to_str().unwrap()).collect()
}

#[test]
fn members_have_the_names_that_qemu_opens() {
    let folder = Folder::new();
    fs::create_dir(folder.path("sub")).unwrap();
    fs::create_dir(folder.path("pool")).unwrap();
    folder.create("-f raw base.raw 1M");
    folder.create("-f qcow2 -F raw -b base.raw one.qcow2");
    folder.create(&format!("-f qcow2 -o compat=0.10 -F qcow2 -b {} sub/two.qcow2", folder.path("one.qcow2").display()));
    symlink("../sub/two.qcow2", folder.path("pool/link")).unwrap();
    folder.create("-f qcow2 -u -F qcow2 -b ../pool/link sub/three.qcow2 1M");
    folder.create("-f qcow2 -o cluster_size=2M -u -F qcow2 -b ./sub/../sub/three.qcow2 four.qcow2 1M");
    folder.create("-f qcow2 -o cluster_size=512 -u -F qcow2 -b file:four.qcow2 sub/top.qcow2 1M");
    let chain = folder.walk("sub/top.qcow2", Some("qcow2")).unwrap();

    let qemu = Command::new("qemu-img")
        .args(["info", "--backing-chain", "sub/top.qcow2"])
        .current_dir(&folder.0)
        .output()
        .unwrap();
    let listing = String::from_utf8(qemu.stdout).unwrap();
    let qemu: Vec<&str> = listing.lines().filter_map(|line| line.strip_prefix("image: ")).skip(1).collect();
    assert_eq!(qemu.len(), 5, "{listing}");
    assert_eq!(names(&chain), qemu);
    assert_eq!(chain.members[4].format, Format::Raw);
    assert_eq!(chain.members[2].pin.path(), folder.path("sub/two.qcow2"));
    assert!(chain.warnings.is_empty());
}

#[test]
fn the_real_prober_finds_the_same() {
    let folder = Folder::new();
    folder.create("-f raw base.raw 1M");
    folder.create("-f qcow2 -F raw -b base.raw mid.qcow2");
    folder.create("-f qcow2 -F qcow2 -b mid.qcow2 top.qcow2");
    let prober = crate::prober::Prober::new().unwrap();
    let mut reader = prober.reader();
    let mut probe = |pin: &Pin, format| reader.probe(pin, format);
    let chain = folder.walk_with("top.qcow2", Some("qcow2"), Follows::default(), &mut probe).unwrap();
    assert_eq!(names(&chain), ["mid.qcow2", "base.raw"]);
    fs::write(folder.path("top.qcow2"), "no image").unwrap();
    let error = folder.walk_with("top.qcow2", Some("qcow2"), Follows::default(), &mut probe).unwrap_err();
    assert!(error.to_string().contains("it is no qcow2 image"), "{error}");
}

#[test]
fn a_backing_file_of_the_command_line_takes_the_place_of_the_headers() {
    let folder = Folder::new();
    folder.forge("top.qcow2", "/etc/shadow", Some("raw"));
    let follows = Follows { backing_given: true, ..Follows::default() };
    for format in [Some("qcow2"), None] {
        let chain = folder.walk_with("top.qcow2", format, follows, &mut probe_here).unwrap();
        assert!(chain.members.is_empty() && chain.format == Format::Qcow2, "{chain:?}");
        assert_eq!(chain.warnings.len(), usize::from(format.is_none()));
    }
}

#[test]
fn formats_of_the_command_line_take_the_place_of_the_headers() {
    let folder = Folder::new();
    folder.forge("top.qcow2", "mid.qcow2", None);
    folder.forge("mid.qcow2", "base", None);
    fs::write(folder.path("base"), "").unwrap();
    let layers = ["qcow2".to_owned(), "raw".to_owned()];
    let walk = |layers| {
        folder.walk_with("top.qcow2", Some("qcow2"), Follows { layers, ..Follows::default() }, &mut probe_here)
    };
    let chain = walk(&layers[..]).unwrap();
    assert_eq!(names(&chain), ["mid.qcow2", "base"]);
    assert_eq!(chain.members[0].references, [Link { role: ReferenceRole::Backing, member: 1 }]);
    let error = walk(&layers[..1]).unwrap_err().to_string();
    assert!(error.contains("\"mid.qcow2\" names") && error.contains("backing.driver=FORMAT"), "{error}");
}

#[test]
fn a_raw_image_has_no_chain_whatever_its_guest_wrote() {
    let folder = Folder::new();
    folder.forge("disk.img", "other.raw", Some("raw"));
    fs::write(folder.path("other.raw"), "another guest's").unwrap();
    assert!(folder.walk("disk.img", Some("raw")).unwrap().members.is_empty());
    // Without a format the guest has chosen, which whoever asked for the walk has to know.
    let chain = folder.walk("disk.img", None).unwrap();
    assert!(!chain.stated && chain.format == Format::Qcow2 && chain.members.len() == 1, "{chain:?}");
}

#[test]
fn an_image_without_a_format_is_what_qemu_takes_it_for() {
    let folder = Folder::new();
    folder.create("-f qcow2 alone.qcow2 1M");
    fs::write(folder.path("empty.img"), "").unwrap();
    fs::write(folder.path("disk.dmg"), "").unwrap();
    for (name, format) in [("alone.qcow2", Format::Qcow2), ("empty.img", Format::Raw), ("disk.dmg", Format::Dmg)] {
        let chain = folder.walk(name, None).unwrap();
        assert_eq!(chain.format, format);
        assert!(chain.warnings[0].contains(&format!("format={}", format.name())), "{:?}", chain.warnings);
    }
    assert!(matches!(folder.walk("empty.img", Some("vvfat")), Err(Error::Format { .. })));
}

#[test]
fn members_lie_beneath_the_image_roots() {
    let folder = Folder::new();
    let elsewhere = Folder::new();
    fs::write(elsewhere.path("base.raw"), "").unwrap();
    let outside = elsewhere.path("base.raw");
    symlink(&outside, folder.path("link.raw")).unwrap();
    let climbing = format!("../{}/base.raw", elsewhere.0.file_name().unwrap().to_str().unwrap());
    for name in [outside.to_str().unwrap(), "link.raw", &climbing] {
        folder.forge("top.qcow2", name, Some("raw"));
        let error = folder.walk("top.qcow2", Some("qcow2")).unwrap_err().to_string();
        assert!(error.ends_with(&format!("add --image-root {}", elsewhere.0.display())), "{error}");
    }
    // A folder whose name only begins like a root's is another folder.
    let sibling = PathBuf::from(format!("{}-2", folder.0.display()));
    fs::create_dir(&sibling).unwrap();
    fs::write(sibling.join("base.raw"), "").unwrap();
    folder.forge("top.qcow2", sibling.join("base.raw").to_str().unwrap(), Some("raw"));
    let refusal = folder.refusal();
    fs::remove_dir_all(&sibling).unwrap();
    assert!(matches!(refusal, Refusal::Outside { .. }), "{refusal}");
}

#[test]
fn an_implied_root_holds_no_hidden_folder() {
    let folder = Folder::new();
    fs::create_dir(folder.path(".ssh")).unwrap();
    fs::write(folder.path(".ssh/id"), "").unwrap();
    folder.forge("top.qcow2", ".ssh/id", Some("raw"));
    assert!(matches!(folder.refusal(), Refusal::Outside { .. }));
    let named = ImageRoots { named: vec![Root::take(&folder.path(".ssh")).unwrap()], implied: Vec::new() };
    assert!(matches!(named.find(&folder.path(".ssh/id")), Ok(Place::Beneath(_))));
}

#[test]
fn a_root_over_everything_does_not_hold_the_kernels_files() {
    let folder = Folder::new();
    let pin = Pin::take(&folder.0).unwrap();
    let roots = ImageRoots { named: vec![Root::take(Path::new("/")).unwrap()], implied: Vec::new() };
    let rules = Rules { working_directory: &folder.0, image_roots: &roots };
    symlink("/proc", folder.path("link")).unwrap();
    for name in ["link/self/environ", "/sys/kernel/notes"] {
        fs::write(folder.path("top.qcow2"), forged(name, Some("raw"))).unwrap();
        let pin = Pin::take(&folder.path("top.qcow2")).unwrap();
        let top = Top {
            name: OsStr::new("top.qcow2"),
            pin: &pin,
            format: Some("qcow2"),
            follows: Follows::default(),
            program: Program::System,
        };
        let error = walk(&top, &rules, &mut probe_here).unwrap_err();
        assert!(matches!(&error, Error::Member { refusal, .. } if matches!(**refusal, Refusal::Kernel(_))), "{error}");
    }
    assert!(matches!(not_an_image(&pin), Some("a directory")));
}

#[test]
fn names_that_are_no_files_are_refused() {
    let folder = Folder::new();
    for name in [
        "nbd://localhost/export",
        "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"host_device\",\"filename\":\"/dev/sda\"}}",
        "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/proc/self/environ\"}}",
        "/proc/self/environ",
        "/dev/fdset/0",
        "fat:rw:/etc",
    ] {
        folder.forge("top.qcow2", name, Some("raw"));
        let refusal = folder.refusal();
        assert!(matches!(refusal, Refusal::Name(_)), "{refusal}");
    }
}

#[test]
fn only_regular_files_and_block_devices_back_an_image() {
    let folder = Folder::new();
    mkfifoat(CWD, folder.path("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    fs::create_dir(folder.path("dir")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap();
    for name in ["fifo", "dir", "socket", "dir/.."] {
        folder.forge("top.qcow2", name, Some("qcow2"));
        let refusal = folder.refusal();
        assert!(matches!(refusal, Refusal::Kind(_)), "{refusal}");
    }
    // As a top, it is not opened either.
    let error = folder.walk("fifo", None).unwrap_err();
    assert!(matches!(error, Error::Kind { kind: "a FIFO", .. }), "{error}");
    folder.forge("top.qcow2", "/dev/zero", Some("raw"));
    assert!(matches!(folder.refusal(), Refusal::Outside { .. }));
}

#[test]
fn a_missing_format_comes_with_the_command_that_states_it() {
    let folder = Folder::new();
    folder.forge("top.qcow2", "my base$(reboot)", None);
    fs::write(folder.path("my base$(reboot)"), "").unwrap();
    let error = folder.walk("top.qcow2", Some("qcow2")).unwrap_err().to_string();
    assert!(error.contains("qemu-img rebase -u -F FORMAT -b 'my base$(reboot)' top.qcow2, or"), "{error}");
    folder.forge("top.qcow2", "base", Some("vvfat"));
    assert!(matches!(folder.refusal(), Refusal::Format(format, _) if format == "vvfat"));
    folder.forge("top.qcow2", "gone.raw", Some("raw"));
    assert!(matches!(folder.refusal(), Refusal::Missing(..)));
}

#[test]
fn loops_are_found() {
    let folder = Folder::new();
    folder.forge("top.qcow2", "top.qcow2", Some("qcow2"));
    assert!(matches!(folder.refusal(), Refusal::Loop(_)));
    folder.forge("top.qcow2", "other.qcow2", Some("qcow2"));
    folder.forge("other.qcow2", "link", Some("qcow2"));
    fs::hard_link(folder.path("top.qcow2"), folder.path("link")).unwrap();
    assert!(matches!(folder.refusal(), Refusal::Loop(_)));
}

#[test]
fn a_chain_has_at_most_200_backing_files() {
    let folder = Folder::new();
    let chain_of = |count: usize| {
        for index in 0..count {
            folder.forge(&format!("{index}.qcow2"), &format!("{}.qcow2", index + 1), Some("qcow2"));
        }
        folder.create(&format!("-f qcow2 {count}.qcow2 1M"));
        folder.walk("0.qcow2", Some("qcow2"))
    };
    let error = chain_of(300).unwrap_err();
    assert!(error.to_string().contains("more than 200 backing files"), "{error}");
    assert_eq!(chain_of(200).unwrap().members.len(), 200);
    assert!(chain_of(201).is_err());
}

#[test]
fn links_that_stay_beneath_a_root_are_followed() {
    let folder = Folder::new();
    fs::create_dir(folder.path("sub")).unwrap();
    fs::write(folder.path("sub/base.raw"), "").unwrap();
    symlink("sub", folder.path("link")).unwrap();
    symlink(folder.path("link/base.raw"), folder.path("base")).unwrap();
    folder.forge("top.qcow2", "base", Some("raw"));
    let chain = folder.walk("top.qcow2", Some("qcow2")).unwrap();
    assert_eq!(names(&chain), ["base"]);
    assert_eq!(chain.members[0].pin.path(), folder.path("sub/base.raw"));
}

#[test]
fn a_json_name_of_a_format_over_a_file_is_a_member() {
    let folder = Folder::new();
    fs::write(folder.path("base.raw"), "").unwrap();
    let name =
        |driver: &str| format!(r#"json:{{"driver":"{driver}","file":{{"driver":"file","filename":"base.raw"}}}}"#);
    folder.forge("top.qcow2", &name("raw"), None);
    assert_eq!(names(&folder.walk("top.qcow2", Some("qcow2")).unwrap()), ["base.raw"]);
    folder.forge("top.qcow2", &name("qcow2"), Some("raw"));
    assert!(matches!(folder.refusal(), Refusal::TwoFormats(..)));
}

#[test]
fn messages_hold_no_control_characters() {
    let folder = Folder::new();
    folder.forge("top.qcow2", "\u{1b}[2Jx\ny", Some("\u{1b}[2J\n"));
    let error = folder.walk("top.qcow2", Some("qcow2")).unwrap_err().to_string();
    assert!(!error.chars().any(char::is_control), "{error:?}");
    folder.forge("top.qcow2", "\u{1b}[2Jx\ny", Some("raw"));
    let error = folder.walk("top.qcow2", Some("qcow2")).unwrap_err().to_string();
    assert!(!error.chars().any(char::is_control), "{error:?}");
}
