//! Keys and certificates in a folder, and a client of VNC that proves who it is.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tests::{During, Error, PATIENCE, Process, Result, Workdir, need, run_tool, until};

use crate::scene::{assert_well, command, users};

/// What `certtool` is to put into a certificate of one side.
const SIDE: &str = "cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\nencryption_key\nsigning_key\n";

/// Files of the names that QEMU looks for: an authority, both sides with certificates of it, and shared keys.
pub struct Keys;

impl Keys {
    /// Makes them in a work folder.
    pub fn make(workdir: &Workdir) -> Result<()> {
        let tool = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            run_tool(&workdir.files(), "certtool", &words).map(drop)
        };
        workdir.write("ca.info", b"cn = authority\nca\ncert_signing_key\n")?;
        tool("--generate-privkey --key-type ecdsa --outfile ca-key.pem")?;
        tool("--generate-self-signed --load-privkey ca-key.pem --template ca.info --outfile ca-cert.pem")?;
        for side in ["server", "client"] {
            workdir.write(&format!("{side}.info"), format!("{SIDE}tls_www_{side}\n").as_bytes())?;
            tool(&format!("--generate-privkey --key-type ecdsa --outfile {side}-key.pem"))?;
            tool(&format!(
                "--generate-certificate --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem \
                 --load-privkey {side}-key.pem --template {side}.info --outfile {side}-cert.pem"
            ))?;
        }
        run_tool(&workdir.files(), "psktool", &["-u", "guest", "-p", "keys.psk"])?;
        Ok(())
    }
}

/// What a client of RFB 3.8 says before the keys (RFC 6143, and the extension VeNCrypt): its version, the kind of security
/// 19 (VeNCrypt), that one's version 0.2, and its kind 260 (certificates, no password).
const BEFORE: &[u8] = b"RFB 003.008\n\x13\x00\x02\x00\x00\x01\x04";
/// What it says behind them: it shares the display.
const BEHIND: &[u8] = b"\x01";
/// How the server's own greeting, and its name behind the keys, begin; the name's length stands before it.
const GREETING: &str = "RFB 003.008";
const NAME: &str = "\x04QEMU";

/// A client, killed when dropped, and what it printed.
struct Client<'a> {
    child: Child,
    workdir: &'a Workdir,
}

impl<'a> Client<'a> {
    /// Connects to the display, and has the keys exchanged.
    fn connect(workdir: &'a Workdir, port: u16, more: &[&str]) -> Result<Self> {
        let (out, _) = workdir.log("client.out")?;
        let mut command = Command::new("gnutls-cli");
        command.args(["--starttls", "--x509cafile", "ca-cert.pem", "-p", &port.to_string()]).args(more);
        command.arg("127.0.0.1").current_dir(workdir.files()).stdin(Stdio::piped());
        command.stdout(out.try_clone().during("copy the log")?).stderr(out);
        let mut client = Self { child: command.spawn().during("start gnutls-cli")?, workdir };
        client.wait_for(GREETING)?;
        client.say(BEFORE)?;
        // The kinds of security, their version, that it is taken, the kinds of VeNCrypt, and that one is taken.
        client.wait_for("\0\0\x01\x04\x01")?;
        // gnutls-cli(1): with --starttls the exchange begins at SIGALRM.
        Process(client.child.id()).signal(Signal::ALARM)?;
        Ok(client)
    }

    fn said(&self) -> Result<String> {
        let bytes = fs::read(self.workdir.aside().join("client.out")).during("read the client's log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        until(PATIENCE, text, || Ok(self.said()?.contains(text).then_some(())))
            .map_err(|error| Error::Unexpected(format!("{error}: {:?}", self.said().unwrap_or_default())))
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.child.stdin else { return Err(Error::Unexpected("no standard input".into())) };
        stdin.write_all(bytes).and_then(|()| stdin.flush()).during("speak to the client")
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        // Killing what has ended already fails, and that is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A display that asks for certificates is shown to who has one.
#[test]
fn a_display_is_shown_to_who_has_a_certificate() -> Result<()> {
    need!(Qemu, Landlock, TlsTools, UserNamespaces);
    for (number, user) in (0..).zip(users()) {
        let workdir = Workdir::new()?;
        Keys::make(&workdir)?;
        // VNC numbers displays from port 5900 on.
        let display = 60_u16 + u16::try_from(std::process::id() % 900).unwrap_or_default() * 2 + number;
        let start = command(&workdir, user).args(["-machine", "none", "-nodefaults"]);
        let start = start.args(["-object", "tls-creds-x509,id=t,dir=.,endpoint=server,verify-peer=on"]);
        let (mut emulator, mut qmp) =
            start.args(["-vnc", &format!("127.0.0.1:{display},tls-creds=t")]).start_with_monitor()?;
        let own = ["--x509certfile", "client-cert.pem", "--x509keyfile", "client-key.pem"];
        let mut client = Client::connect(&workdir, 5900 + display, &own)?;
        client.wait_for("Description: (TLS")?;
        client.say(BEHIND)?;
        client.wait_for(NAME).map_err(|error| emulator.explain(error))?;
        qmp.quit()?;
        assert_well(&emulator.wait()?);
    }
    Ok(())
}
