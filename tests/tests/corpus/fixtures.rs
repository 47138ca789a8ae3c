//! The files that command lines name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tests::{During, Error, Result, Workdir};

/// SeaBIOS, where Debian's package of it puts it.
const FIRMWARE: &str = "/usr/share/seabios/bios-256k.bin";

/// Images, each with the words of `qemu-img create` behind the name of the format. What a later one names comes first.
const IMAGES: &[(&str, &str, &[&str])] = &[
    ("base.qcow2", "qcow2", &["base.qcow2", "64M"]),
    ("top.qcow2", "qcow2", &["-F", "qcow2", "-b", "base.qcow2", "top.qcow2"]),
    ("snap.qcow2", "qcow2", &["-F", "qcow2", "-b", "top.qcow2", "snap.qcow2"]),
    ("disk.qcow2", "qcow2", &["disk.qcow2", "64M"]),
    ("data.qcow2", "qcow2", &["data.qcow2", "32M"]),
    ("disk.img", "raw", &["disk.img", "64M"]),
    ("data.img", "raw", &["data.img", "16M"]),
    ("disk.vmdk", "vmdk", &["disk.vmdk", "16M"]),
    ("disk.vdi", "vdi", &["disk.vdi", "16M"]),
    ("disk.vhdx", "vhdx", &["disk.vhdx", "16M"]),
    ("disk.vpc", "vpc", &["disk.vpc", "16M"]),
    ("disk.qed", "qed", &["disk.qed", "16M"]),
    ("luks.img", "luks", &["--object", "secret,id=s,data=123456", "-o", "key-secret=s,iter-time=10", "luks.img", "4M"]),
    ("root.ext4", "raw", &["root.ext4", "16M"]),
];

/// Other files, and their bytes.
fn plain() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let firmware = fs::read(FIRMWARE).during(format!("read {FIRMWARE}"))?;
    Ok(vec![
        ("code.fd", firmware),
        ("vars.fd", vec![0xff; 128 << 10]),
        ("cdrom.iso", vec![0; 1 << 20]),
        ("seed.iso", vec![0; 376_832]),
        ("virtio-win.iso", vec![0; 1 << 20]),
        ("floppy.img", vec![0; 1440 << 10]),
        ("bzImage", kernel()),
        ("initrd.img", vec![0x07; 64 << 10]),
        ("secret.txt", b"123456".to_vec()),
        ("option.rom", option_rom()),
        ("config.ign", b"{\"ignition\":{\"version\":\"3.0.0\"}}".to_vec()),
        ("slic.bin", slic()),
        ("vm.cfg", b"[device \"b\"]\n  driver = \"virtio-balloon-pci\"\n[drive \"d\"]\n  file = \"disk.qcow2\"\n  format = \"qcow2\"\n  if = \"virtio\"\n".to_vec()),
        ("garbage.qcow2", vec![0x5a; 64 << 10]),
        ("ram.bin", vec![0; 64 << 20]),
    ])
}

/// The header of a Linux kernel for x86, as far as QEMU reads it (Documentation/arch/x86/boot.rst), and no code.
fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 64 << 10];
    // Sectors of setup, the magic of the sector, that of the header, and protocol 2.12.
    for (offset, field) in [(0x1f1, &[1][..]), (0x1fe, &[0x55, 0xaa]), (0x202, b"HdrS"), (0x206, &[0x0c, 0x02])] {
        for (byte, value) in bytes.iter_mut().skip(offset).zip(field) {
            *byte = *value;
        }
    }
    // The greatest address for an initial file system.
    for (byte, value) in bytes.iter_mut().skip(0x22c).zip(0x7fff_ffff_u32.to_le_bytes()) {
        *byte = value;
    }
    bytes
}

/// An option ROM of 512 bytes that does nothing.
fn option_rom() -> Vec<u8> {
    let mut bytes = vec![0x55, 0xaa, 1, 0xcb];
    bytes.resize(512, 0);
    bytes
}

/// An ACPI table with a header and nothing else: name, length, revision.
fn slic() -> Vec<u8> {
    let mut bytes = b"SLIC".to_vec();
    bytes.extend(36_u32.to_le_bytes());
    bytes.resize(36, 0);
    bytes
}

/// Puts the files that `words` name into a folder.
pub(crate) fn place(words: &[String], folder: &Path) -> Result<()> {
    let text = words.join(" ");
    for name in names()?.into_iter().filter(|name| text.contains(name)) {
        copy(name, folder)?;
        for below in below(name) {
            copy(below, folder)?;
        }
    }
    Ok(())
}

fn names() -> Result<Vec<&'static str>> {
    Ok(IMAGES.iter().map(|(name, ..)| *name).chain(plain()?.iter().map(|(name, _)| *name)).collect())
}

/// What a file needs beside it.
fn below(name: &str) -> &'static [&'static str] {
    match name {
        "snap.qcow2" => &["top.qcow2", "base.qcow2"],
        "top.qcow2" => &["base.qcow2"],
        "vm.cfg" => &["disk.qcow2"],
        _ => &[],
    }
}

fn copy(name: &str, folder: &Path) -> Result<()> {
    let from = templates()?.join(name);
    let to = folder.join(name);
    // A program of its own, since the files have holes; what another line's start inherits open is then not this.
    let status = Command::new("cp").arg("--sparse=always").args([&from, &to]).status().during("start cp")?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("cp {} failed", from.display()))) }
}

/// Where all files are made once.
fn templates() -> Result<PathBuf> {
    static TEMPLATES: OnceLock<std::result::Result<Workdir, String>> = OnceLock::new();
    match TEMPLATES.get_or_init(|| make().map_err(|error| error.to_string())) {
        Ok(workdir) => Ok(workdir.files()),
        Err(message) => Err(Error::Unexpected(message.clone())),
    }
}

fn make() -> Result<Workdir> {
    let workdir = Workdir::new()?;
    for (name, format, words) in IMAGES {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", format]).args(*words).current_dir(workdir.files());
        let output = command.output().during("start qemu-img")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Unexpected(format!("qemu-img create {name}: {said}")));
        }
    }
    for (name, bytes) in plain()? {
        workdir.write(name, &bytes)?;
    }
    Ok(workdir)
}
