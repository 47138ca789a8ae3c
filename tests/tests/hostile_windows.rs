//! An emulator that may open windows, and that a guest has taken over: it reaches the display server that is granted, and
//! nothing else of the desktop.

use std::fs;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use tests::hostile::{Answers, CANARY, Scene};
use tests::{During, Result, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_391;

/// What each attempt of `windows.c` comes to.
const EXPECTED: &[(&str, &str)] = &[
    ("ok", "connect-granted connect-again list-shown"),
    ("EACCES", "connect-other-server connect-x open-server read-key read-other-key read-passwords list-folder"),
    // Where libraries ask and do without, nobody is told.
    ("ENOENT", "connect-bus read-settings list-beside"),
    ("EACCES|EROFS|ENOENT", "write-settings write-shown new-fonts"),
    ("EACCES|ENOENT", "above-shown"),
    ("ENOSYS", "shared-memory attach-shared-memory"),
    ("EPERM", "execute-shown affinity-of-others affinity"),
];

fn attack(user: Option<u32>) -> Result<()> {
    let scene = Scene::new()?;
    let home = scene.workdir.files();
    for folder in [".config", ".config/gtk-3.0"] {
        fs::create_dir(home.join(folder)).during(format!("mkdir {folder}"))?;
    }
    for file in [".config/gtk-3.0/settings.ini", ".Xauthority", ".ssh-key"] {
        scene.workdir.write(file, CANARY.as_bytes())?;
    }
    let listen = |name: &str| UnixListener::bind(home.join(name)).during(format!("listen on {name}"));
    let (granted, others) = (listen("wayland-test")?, [listen("wayland-other")?, listen("bus")?]);
    let number = 20_000 + std::process::id() % 20_000 + u32::from(user.is_some()) * 20_000;
    let name = format!("/tmp/.X11-unix/X{number}");
    let address = SocketAddr::from_abstract_name(&name).during("make an abstract name")?;
    let x = UnixListener::bind_addr(&address).during("listen as an X server")?;
    scene.tell(&format!("x=@{name}\n"))?;

    let identity = user.map(|user| {
        ["setpriv".to_owned(), format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]
    });
    let path = home.display();
    let environment = [
        "env".to_owned(),
        "--unset=GDK_BACKEND".to_owned(),
        format!("HOME={path}"),
        format!("XDG_RUNTIME_DIR={path}"),
        "WAYLAND_DISPLAY=wayland-test".to_owned(),
        format!("DISPLAY=:{number}"),
        format!("DBUS_SESSION_BUS_ADDRESS=unix:path={path}/bus"),
    ];
    let command = scene.command("windows").options(["--allow", "display"]).args(["-display", "gtk"]);
    let command = command.through(identity.into_iter().flatten().chain(environment));
    let command = if let Some(user) = user { command.user(user) } else { command };
    let finished = command.run()?;

    Answers::of(&finished)?.assert(EXPECTED);
    scene.assert_unharmed(&finished)?;
    granted.accept().during("accept the granted connection")?;
    for listener in others.iter().chain([&x]) {
        listener.set_nonblocking(true).during("stop blocking")?;
        let came = listener.accept().map_err(|error| error.kind());
        assert!(matches!(came, Err(ErrorKind::WouldBlock)), "{came:?}");
    }
    Ok(())
}

#[test]
fn a_window_reaches_its_server_and_nothing_else_of_the_desktop() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(None)
}

#[test]
fn an_ordinary_users_window_reaches_nothing_else_either() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Root);
    attack(Some(USER))
}
