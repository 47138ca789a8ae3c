//! A window under the broker is the window without it.

use serde_json::{Value, json};
use tests::{ORDINARY_USER, PATIENCE, Result, Workdir, need, until};

use super::server::{KEY, Server, WRONG_KEY, authority, command};

/// A guest that does nothing but have a screen.
const GUEST: [&str; 10] = ["-nodefaults", "-nic", "none", "-m", "64", "-S", "-vga", "std", "-accel", "tcg"];

/// The line that tells of what X gives away.
const NOTICE: &str = "can see and type into all windows of the X server";

/// A window while it was there.
struct Window {
    options: Value,
    screen: Vec<u8>,
    messages: String,
}

/// Opens the window that `words` name and looks at it when nothing on the screen changes any more, or it is as `wanted`.
fn open(server: &Server, bare: bool, user: Option<u32>, words: &[&str], wanted: Option<&[u8]>) -> Result<Window> {
    let workdir = Workdir::new()?;
    let key = workdir.write("key", &authority(KEY))?;
    let variables = [("DISPLAY", server.display.as_str()), ("XAUTHORITY", &key.to_string_lossy())];
    let files = workdir.listing()?;
    let start = command(&workdir, user, &variables).options(["--allow", "display"]).args(GUEST).args(words);
    let (mut emulator, mut qmp) = if bare { start.bare() } else { start }.start_with_monitor()?;
    until(PATIENCE, "the window", || Ok(server.shows("QEMU")?.then_some(())))
        .map_err(|error| emulator.explain(error))?;
    let mut last = (Vec::new(), 0);
    // A picture that holds for a while: GTK draws the menus first and the guest's screen later.
    let screen = until(PATIENCE, "the picture", || {
        let now = server.screen()?;
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        let is_it = wanted.map_or(last.1 > 100, |wanted| wanted == last.0);
        Ok(is_it.then(|| last.0.clone()))
    })
    .map_err(|error| emulator.explain(error))?;
    let options = qmp.execute("query-display-options", json!({}))?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    until(PATIENCE, "the end of the window", || Ok((!server.shows("QEMU")?).then_some(())))?;
    if !bare {
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    Ok(Window { options, screen, messages: finished.stderr })
}

fn compare(words: &[&str], user: Option<u32>) -> Result<()> {
    let aside = Workdir::new()?;
    let server = Server::start(&aside)?;
    let empty = server.screen()?;
    let bare = open(&server, true, user, words, None)?;
    let confined = open(&server, false, user, words, Some(&bare.screen))?;
    assert_ne!(empty, bare.screen, "{words:?}: the window is not on the screen");
    assert_eq!(confined.options, bare.options, "{words:?}");
    let lines: Vec<&str> = confined.messages.lines().filter(|line| line.starts_with("broker: ")).collect();
    assert!(lines.iter().any(|line| line.contains(NOTICE)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("refused")), "{lines:?}");
    Ok(())
}

#[test]
fn gtk_draws_the_same_picture() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    compare(&["-display", "gtk"], None)
}

#[test]
fn sdl_draws_the_same_picture() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    compare(&["-display", "sdl"], None)
}

#[test]
fn an_ordinary_users_windows_are_the_same() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows, Root);
    compare(&["-display", "gtk"], Some(ORDINARY_USER))?;
    compare(&["-display", "sdl"], Some(ORDINARY_USER))
}

#[test]
fn where_no_display_is_named_qemu_takes_its_own() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    compare(&[], None)
}

#[test]
fn what_goes_wrong_is_said_in_qemus_words() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    let aside = Workdir::new()?;
    let server = Server::start(&aside)?;
    for display in ["gtk", "sdl"] {
        for (name, key) in [(server.display.as_str(), WRONG_KEY), (":54321", KEY), ("nonsense", KEY), ("", KEY)] {
            let run = |bare: bool| -> Result<(Option<i32>, Vec<String>)> {
                let workdir = Workdir::new()?;
                let key = workdir.write("key", &authority(key))?;
                let variables = [("DISPLAY", name), ("XAUTHORITY", &key.to_string_lossy())];
                let start = command(&workdir, None, &variables).options(["--allow", "display"]);
                let start = start.args(GUEST).args(["-display", display]);
                let finished = if bare { start.bare() } else { start }.run()?;
                // What GTK tries last, where no server lets it in, is its own of no desktop.
                assert!(!finished.stderr.contains("broker: refused"), "{finished:?}");
                let own = finished.stderr.lines().filter(|line| !line.starts_with("broker: "));
                Ok((finished.status.code(), own.map(str::to_owned).collect()))
            };
            let (bare, confined) = (run(true)?, run(false)?);
            assert_eq!(bare, confined, "{display} on {name:?}");
            assert_eq!(bare.0, Some(1), "{display} on {name:?}");
        }
    }
    Ok(())
}
