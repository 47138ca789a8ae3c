//! A guest without a machine, which has what its command line names and nothing else.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tests::{BrokerCommand, During, Emulator, Error, Qmp, Result, Workdir, until};

/// How long a socket may take to come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments of a guest without a machine.
pub const NOTHING: [&str; 6] = ["-M", "none", "-nodefaults", "-display", "none", "-S"];

/// A start of such a guest.
pub fn command(workdir: &Workdir) -> BrokerCommand<'_> {
    BrokerCommand::new(workdir).options(["-v"]).args(NOTHING)
}

/// Connects to a monitor at `path` once it is there.
///
/// # Errors
/// When it does not come; what the emulator said is then in the error.
pub fn monitor(emulator: &Emulator, path: &Path) -> Result<Qmp> {
    let stream = until(PATIENCE, "the monitor's socket", || Ok(UnixStream::connect(path).ok()));
    match stream {
        Ok(stream) => Qmp::greet(stream),
        Err(error) => Err(Error::Unexpected(format!("{error}: {}", emulator.stderr()?))),
    }
}

/// A TCP port of 127.0.0.1 that is free now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).during("bind a port")?;
    Ok(listener.local_addr().during("ask for the port")?.port())
}

/// The words of `broker:` in a start's messages that refuse something.
pub fn refusals(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.starts_with("broker: refused")).collect()
}
