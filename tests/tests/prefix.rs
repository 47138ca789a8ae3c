//! An emulator that was unpacked anywhere finds its program, its libraries and its firmware in the sandbox.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::{During, Result, Workdir, broker_binary, need};

/// A library of the emulator's that it loads at every start.
const LIBRARY: &str = "libglib-2.0.so.0";

/// Where Debian keeps it.
fn library_of_the_host() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join(LIBRARY)).find(|path| path.exists())
}

#[test]
fn an_emulator_in_another_prefix_runs_with_its_own_files() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let library = library_of_the_host().unwrap();
    // QEMU looks for its modules beside its program, as lib/x86_64-linux-gnu/qemu beside bin.
    let modules = library.with_file_name("qemu");
    let own_modules = workdir.path("opt").join(modules.strip_prefix("/usr").unwrap());
    for folder in ["opt/bin", "opt/share", "opt/libraries"] {
        fs::create_dir_all(workdir.path(folder)).during(format!("make {folder}"))?;
    }
    fs::create_dir_all(own_modules.parent().unwrap()).during("make the folder of modules")?;
    let program = workdir.path("opt/bin/qemu-system-x86_64");
    let copies = [
        ("/usr/bin/qemu-system-x86_64".into(), program.clone()),
        (library, workdir.path("opt/libraries").join(LIBRARY)),
        (modules, own_modules),
        ("/usr/share/qemu".into(), workdir.path("opt/share/qemu")),
        ("/usr/share/seabios".into(), workdir.path("opt/share/seabios")),
    ];
    for (from, to) in copies {
        // By a program: a file that this process wrote cannot be executed while another child of it is being forked.
        let copied = Command::new("cp").arg("-rL").args([&from, &to]).status().during("start cp")?;
        assert!(copied.success(), "{}", from.display());
    }
    fs::write(workdir.path("opt/share/qemu/mark.bin"), "of this prefix").during("write a firmware file")?;
    let firmware = workdir.path("opt/share/qemu/mark.bin");
    let mut child = Command::new(broker_binary()?)
        .args(["--".as_ref(), program.as_os_str()])
        .args(["-machine", "q35", "-display", "none", "-nic", "none", "-S", "-qmp", "stdio", "-fw_cfg"])
        .arg(format!("name=opt/mark,file={}", firmware.display()))
        .env("LD_LIBRARY_PATH", workdir.path("opt/libraries"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .during("start the broker")?;
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut greeting = String::new();
    output.read_line(&mut greeting).during("read the greeting")?;
    assert!(greeting.starts_with("{\"QMP\""), "{greeting}");
    let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).during("read the emulator's maps")?;
    for file in ["opt/bin/qemu-system-x86_64", "opt/libraries/libglib-2.0.so.0"] {
        assert!(maps.contains(file), "{file} is not in use: {maps}");
    }
    input.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}").during("quit")?;
    output.read_to_end(&mut Vec::new()).during("read to the end")?;
    let status = child.wait().during("wait for the emulator")?;
    assert!(status.success(), "{status}");
    Ok(())
}
