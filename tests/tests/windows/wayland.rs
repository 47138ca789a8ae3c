//! Where there is a Wayland server, GTK takes that one, and the X server is out of reach.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};

use tests::{During, PATIENCE, Result, Workdir, need, until};

use super::server::{KEY, Server, authority, command};

/// The first request of every client: `wl_display.get_registry`, object 1, opcode 1, 12 bytes (the protocol's wire format).
const GET_REGISTRY: [[u8; 4]; 2] = [1_u32.to_ne_bytes(), ((12_u32 << 16) | 1).to_ne_bytes()];

/// What the first client asks for first; then it is left alone.
fn first_request(listener: &UnixListener) -> Result<Vec<u8>> {
    listener.set_nonblocking(true).during("stop blocking")?;
    let accept = || match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).during("accept"),
    };
    let mut stream: UnixStream = until(PATIENCE, "a client of the Wayland server", accept)?;
    stream.set_nonblocking(false).during("block")?;
    stream.set_read_timeout(Some(PATIENCE)).during("set a time limit")?;
    let mut bytes = vec![0; 8];
    stream.read_exact(&mut bytes).during("read the first request")?;
    Ok(bytes)
}

/// Starts a window with both servers; what came to that of Wayland, and what the start said in the end.
fn start_with_both(absolute: bool) -> Result<(Vec<u8>, String)> {
    let workdir = Workdir::new()?;
    let server = Server::start(&workdir)?;
    let key = workdir.write("key", &authority(KEY))?;
    let socket = workdir.path("wayland-test");
    let listener = UnixListener::bind(&socket).during("listen as a Wayland server")?;
    let (folder, path) = (workdir.files().display().to_string(), socket.display().to_string());
    let wayland = if absolute { path.as_str() } else { "wayland-test" };
    let key = key.display().to_string();
    let variables = [
        ("DISPLAY", server.display.as_str()),
        ("XAUTHORITY", &key),
        ("XDG_RUNTIME_DIR", &folder),
        ("WAYLAND_DISPLAY", wayland),
    ];
    let start = command(&workdir, None, &variables).options(["--allow", "display"]);
    let mut emulator = start.args(["-nodefaults", "-nic", "none", "-S", "-display", "gtk"]).start()?;
    let request = first_request(&listener).map_err(|error| emulator.explain(error))?;
    drop(listener);
    Ok((request, emulator.wait()?.stderr))
}

#[test]
fn the_wayland_server_is_granted_and_the_x_server_is_not() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    for absolute in [false, true] {
        let (request, said) = start_with_both(absolute)?;
        assert_eq!(request, GET_REGISTRY.concat(), "{said}");
        // The server went away, and so GTK tries the other one.
        assert!(said.contains("refused: connect abstract:/tmp/.X11-unix/X"), "{said}");
        assert!(said.contains("gtk initialization failed"), "{said}");
        assert!(!said.contains("all windows of the X server"), "{said}");
    }
    Ok(())
}
