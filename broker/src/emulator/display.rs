//! Displays and sound. Neither windows nor servers are within reach of the sandbox yet.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::json;
use super::resource::Kind;
use super::value::{Pairs, is_help};

const NO_WINDOW: &str = "use -display none or -nographic";

/// `-display`.
///
/// # Errors
/// [`Error::NotServed`] for every display but `none` and `vnc=none`.
pub(super) fn display(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    draft.display = true;
    if is_help(value) {
        draft.line.informational = true;
        return Ok(());
    }
    if let Some(address) = value.as_bytes().strip_prefix(b"vnc=") {
        return vnc(draft, option, OsStr::from_bytes(address));
    }
    let pairs = if value.as_bytes().starts_with(b"{") {
        json::pairs(option, value)?
    } else {
        Pairs::parse(option, value, Some("type"))?
    };
    match pairs.text("type") {
        Some("none") => Ok(()),
        kind => {
            let what = format!("the display {}", kind.unwrap_or_default());
            Err(Error::not_served(option, what, NO_WINDOW))
        }
    }
}

/// `-vnc none` makes a server that listens nowhere.
///
/// # Errors
/// [`Error::NotServed`] for every other address.
pub(super) fn vnc(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    draft.display = true;
    if value == "none" {
        return Ok(());
    }
    Err(Error::not_served(option, "the VNC server", NO_WINDOW))
}

/// `-nographic`.
///
/// # Errors
/// None.
pub(super) fn nographic(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.display = true;
    Ok(())
}

/// `-audiodev` and `-audio`: silence, or a WAV file.
///
/// # Errors
/// [`Error::NotServed`] for every sound server.
pub(super) fn audio(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let asked = ["driver", "model"].iter().any(|key| pairs.get(key).is_some_and(is_help));
    if pairs.help || asked {
        draft.line.informational = true;
        return Ok(());
    }
    match pairs.text("driver") {
        Some("none") => Ok(()),
        Some("wav") => {
            // The default name is that of wav_init_out in audio/wavaudio.c.
            let path = pairs.get("path").unwrap_or(OsStr::new("qemu.wav"));
            draft.file(option, path, Kind::OutputFile { append: false }, OpenedBy::Plain)
        }
        driver => {
            let what = format!("the sound driver {}", driver.unwrap_or_default());
            Err(Error::not_served(option, what, "use none, or wav with path=FILE"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line};

    #[test]
    fn no_display_names_nothing() {
        assert_harmless(&[
            &["-display", "none"],
            &["-display", r#"{"type":"none"}"#],
            &["-nographic"],
            &["-vnc", "none"],
            &["-display", "vnc=none"],
            &["-audiodev", "none,id=a"],
            &["-audio", "none,model=hda"],
        ]);
    }

    #[test]
    fn windows_servers_and_sound_are_refused() {
        assert_not_served(&[
            &["-display", "gtk"],
            &["-display", "default"],
            &["-display", "sdl,gl=on"],
            &["-display", "curses"],
            &["-display", "egl-headless,rendernode=/dev/dri/renderD128"],
            &["-display", "vnc=:0"],
            &["-display", r#"{"type":"dbus","p2p":true}"#],
            &["-vnc", ":0"],
            &["-vnc", "unix:/x"],
            &["-vnc", "none,websocket=5700"],
            &["-spice", "port=1"],
            &["-audiodev", "pa,id=a,server=/x"],
            &["-audiodev", "oss,id=a,out.dev=/dev/dsp"],
        ]);
    }

    #[test]
    fn asking_for_help_starts_nothing() {
        for words in [["-display", "help"], ["-audiodev", "help"], ["-audio", "model=help"]] {
            assert!(line(&words).unwrap().informational, "{words:?}");
        }
    }

    #[test]
    fn sound_into_the_default_file() {
        let found = line(&["-audiodev", "wav,id=a"]).unwrap();
        assert_eq!(found.resources[0].name, "qemu.wav");
    }
}
