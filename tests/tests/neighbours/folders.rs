//! virtiofsd: a folder that a guest mounts, by a daemon that maps the guest's memory.

use std::path::Path;

use tests::{During, Error, ORDINARY_USER, Result, VIRTIOFSD, Workdir, need};

use crate::scene::{Daemon, MEMORY_OF_NOBODY, assert_well, boot, command, proof};

/// Starts virtiofsd for the folder `shared`, which holds one file, in a work folder.
fn serve(workdir: &Workdir) -> Result<Daemon> {
    std::fs::create_dir(workdir.path("shared")).during("make the folder")?;
    workdir.write("shared/given", b"swordfish\n")?;
    let installed = VIRTIOFSD.into_iter().find(|program| Path::new(program).exists());
    let program = installed.ok_or_else(|| Error::Unexpected("there is no virtiofsd".into()))?;
    let source = format!("source={}", workdir.path("shared").display());
    // By this path it names its pid file, which is not in the work folder.
    let socket = format!("--socket-path={}", workdir.path("folder.sock").display());
    let words = [program, &socket, "-o", &source, "-o", "sandbox=chroot"];
    Daemon::start(workdir, None, &words, "folder.sock")
}

/// What a guest does in the folder with its memory made by `memory`.
fn use_folder(memory: &str, user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    let daemon = serve(&workdir)?;
    let command = boot(command(&workdir, user), &workdir, "near.folder")?;
    let finished = command
        .args(["-object", memory, "-numa", "node,memdev=m", "-chardev", "socket,id=c,path=folder.sock"])
        .args(["-device", "vhost-user-fs-pci,chardev=c,tag=near"])
        .run()?;
    assert_well(&finished);
    let told = proof(&finished.stdout, "FOLDER-PROOF: ");
    let expected = Some("read=swordfish listed=given,written, kept=1310720");
    assert_eq!(told, expected, "{finished:?} {}", daemon.said());
    assert_eq!(workdir.read("shared/written")?.len(), 1_310_720);
    // QEMU's own virtiofsd leaves this file, and the newer one has none of this name.
    let socket = workdir.path("folder.sock").display().to_string().replace('/', ".");
    let _ = std::fs::remove_file(format!("/run/virtiofsd/{socket}.pid"));
    Ok(())
}

#[test]
fn a_guest_uses_a_folder() -> Result<()> {
    need!(Qemu, Landlock, Guest, Root, Virtiofsd);
    use_folder(MEMORY_OF_NOBODY, None)
}

#[test]
fn a_users_guest_uses_a_folder_by_memory_in_a_file() -> Result<()> {
    need!(Qemu, Landlock, Guest, Root, Virtiofsd, UserNamespaces);
    use_folder("memory-backend-file,id=m,size=256M,share=on,mem-path=/dev/shm", Some(ORDINARY_USER))
}

#[test]
fn a_guest_uses_a_folder_by_memory_in_a_named_file() -> Result<()> {
    need!(Qemu, Landlock, Guest, Root, Virtiofsd);
    use_folder("memory-backend-file,id=m,size=256M,share=on,mem-path=ram", None)
}
