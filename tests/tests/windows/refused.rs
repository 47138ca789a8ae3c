//! Without `--allow display` there is no window, and with it there is no graphics device.

use tests::{Result, Workdir, need, run_tool};

use super::server::{KEY, Server, authority, command};

fn refusal(options: &[&str], words: &[&str]) -> Result<String> {
    let workdir = Workdir::new()?;
    let start = command(&workdir, None, &[("DISPLAY", ":0")]).options(options.iter().copied());
    let finished = start.args(words.iter().copied()).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    Ok(finished.stderr)
}

#[test]
fn a_window_is_for_the_operator_to_allow() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for display in ["gtk", "sdl", "default"] {
        let said = refusal(&[], &["-display", display])?;
        let expected = format!("the display {display} is not served; add --allow display, or use -vnc");
        assert!(said.contains(&expected), "{said}");
    }
    let said = refusal(&["--allow", "display"], &["-display", "gtk,gl=on"])?;
    assert!(said.contains("gl=on is not served; leave gl out"), "{said}");
    Ok(())
}

#[test]
fn what_is_no_list_of_keys_is_not_handed_over() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    let aside = Workdir::new()?;
    let server = Server::start(&aside)?;
    let workdir = Workdir::new()?;
    // One that is neither, with the right key in it.
    let file = workdir.write("file", &[&authority(KEY)[..], b"a disk"].concat())?;
    let pipe = workdir.path("pipe");
    run_tool(&workdir.files(), "mkfifo", &[&pipe.to_string_lossy()])?;
    for (name, notice) in [(&file, true), (&pipe, false)] {
        let variables = [("DISPLAY", server.display.as_str()), ("XAUTHORITY", &name.to_string_lossy())];
        let start = command(&workdir, None, &variables).options(["--allow", "display"]);
        let finished = start.args(["-nodefaults", "-m", "64", "-S", "-display", "gtk"]).run()?;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        assert_eq!(finished.stderr.contains("is no list of keys"), notice, "{finished:?}");
        assert!(!finished.stderr.contains("refused:"), "{finished:?}");
    }
    Ok(())
}

#[test]
fn without_it_the_default_is_no_window() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock, Windows);
    let workdir = Workdir::new()?;
    let server = Server::start(&workdir)?;
    let key = workdir.write("key", &authority(KEY))?;
    let variables = [("DISPLAY", server.display.as_str()), ("XAUTHORITY", &key.to_string_lossy())];
    let (mut emulator, mut qmp) =
        command(&workdir, None, &variables).args(["-nodefaults", "-m", "64", "-S"]).start_with_monitor()?;
    assert!(!server.shows("QEMU")?);
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.stderr.contains("added -display none; for a window, add --allow display"), "{finished:?}");
    Ok(())
}
