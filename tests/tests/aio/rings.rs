//! Guests with rings: beside a TCP socket, over reopens and commits, and when an agent dies.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::fs::OFlags;
use rustix::process::Signal;
use serde_json::json;
use tests::{BrokerCommand, During, Emulator, Qmp, Result, Workdir, need, qcow2_over};

use crate::{DISK, command, quit, rings, tell};

const IO_URING: &str = "aio=io_uring";

fn start(workdir: &Workdir, more: &[&str]) -> Result<(Emulator, Qmp)> {
    workdir.write("disk.raw", &vec![0x11; DISK])?;
    command(workdir, IO_URING).args(more.iter().copied()).start_with_monitor()
}

/// Writes the disk and reads it, by the ring: two transfers.
fn use_disk(qmp: &mut Qmp, pattern: u8) -> Result<()> {
    tell(qmp, &format!("write -P {pattern} 0 64k"))?;
    tell(qmp, &format!("read -P {pattern} 0 64k"))
}

/// Ends the emulator, which has made so many transfers.
fn end(emulator: Emulator, qmp: Qmp, transfers: usize) -> Result<()> {
    let made = quit(emulator, qmp)?;
    assert_eq!(made.len(), transfers, "{made:?}");
    Ok(())
}

#[test]
fn a_display_on_tcp_goes_together_with_a_ring() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("find a free port")?;
    let port = free.local_addr().during("ask for the port")?.port();
    drop(free);
    // `-vnc` counts from 5900.
    let display = format!("127.0.0.1:{}", port - 5900);
    let (emulator, mut qmp) = start(&workdir, &["-vnc", &display])?;
    use_disk(&mut qmp, 7)?;
    assert!(rings(&emulator)? > 0);
    let mut greeting = [0; 3];
    let mut viewer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).during("connect to the display")?;
    viewer.read_exact(&mut greeting).during("read the display's greeting")?;
    assert_eq!(&greeting, b"RFB");
    use_disk(&mut qmp, 8)?;
    end(emulator, qmp, 4)
}

#[test]
fn an_image_is_opened_anew_and_its_ring_stays() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (emulator, mut qmp) = start(&workdir, &[])?;
    for direct in [true, false] {
        let file = json!({
            "driver": "file", "node-name": "file", "filename": "disk.raw", "aio": "io_uring", "cache": { "direct": direct },
        });
        qmp.execute("blockdev-reopen", json!({ "options": [file] }))?;
        let flags = emulator.process().open_flags_of(&workdir.path("disk.raw"))?;
        assert!(flags.iter().any(|flags| flags.contains(OFlags::DIRECT)) == direct, "{flags:?}");
        use_disk(&mut qmp, u8::from(direct))?;
    }
    end(emulator, qmp, 4)
}

#[test]
fn a_commit_goes_through_a_ring() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("base.raw", &vec![0; DISK])?;
    qcow2_over(&workdir, "top.qcow2", "base.raw", "raw")?;
    let drive = "file=top.qcow2,format=qcow2,if=none,id=top,aio=io_uring";
    let (emulator, mut qmp) = BrokerCommand::new(&workdir)
        .options(["--allow", "commit"])
        .args(tests::PLAIN_QEMU)
        .args(["-S", "-accel", "tcg", "-drive", drive, "-device", "virtio-blk-pci,drive=top,id=front"])
        .start_with_monitor()?;
    tell(&mut qmp, "write -P 0x42 64k 64k")?;
    qmp.execute("block-commit", json!({ "device": "top", "job-id": "job" }))?;
    qmp.wait_event("BLOCK_JOB_READY")?;
    qmp.execute("block-job-complete", json!({ "device": "job" }))?;
    let event = qmp.wait_event("BLOCK_JOB_COMPLETED")?;
    assert!(event.pointer("/data/error").is_none(), "{event}");
    assert!(rings(&emulator)? > 0);
    end(emulator, qmp, 1)?;
    let base = workdir.read("base.raw")?;
    assert_eq!(base.get(1 << 16..(1 << 16) + 4), Some([0x42; 4].as_slice()));
    Ok(())
}

#[test]
fn rings_outlive_the_agent_that_made_them() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("other.raw", &vec![0x11; DISK])?;
    let other = "driver=file,node-name=other,filename=other.raw,aio=io_uring";
    let (emulator, mut qmp) = start(&workdir, &["-blockdev", other, "-object", "iothread,id=another"])?;
    use_disk(&mut qmp, 1)?;
    let before = rings(&emulator)?;
    let sandbox = emulator.process().namespace("mnt")?;
    // The keeper is the agent's parent, and older.
    let mut agent = None;
    for helper in emulator.helpers()? {
        if helper.namespace("mnt")? == sandbox {
            agent = Some(helper);
        }
    }
    agent.unwrap().signal(Signal::KILL)?;
    use_disk(&mut qmp, 2)?;
    // The next agent makes rings as well: each thread with a disk has one, QEMU 10's when the guest first uses the disk.
    qmp.execute("x-blockdev-set-iothread", json!({ "node-name": "other", "iothread": "another" }))?;
    let read = json!({ "command-line": "qemu-io other \"read -P 0x11 0 4k\"" });
    assert_eq!(qmp.execute("human-monitor-command", read)?, "");
    use_disk(&mut qmp, 3)?;
    qmp.execute("cont", json!({}))?;
    tests::until(tests::PATIENCE, "another ring", || Ok((rings(&emulator)? > before).then_some(())))?;
    end(emulator, qmp, 7)
}
