//! Displays and sound: no screen, the caller's terminal, a graphics device of the host that draws unseen, and windows,
//! which are for the operator to allow. Sound servers are not within reach of the sandbox.

pub(super) mod spice;
pub(super) mod vnc;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::json;
use super::resource::{Kind, RenderNode, Window};
use super::value::{Pairs, is_help};

const NO_WINDOW: &str = "use -vnc, -spice, -display none or -nographic";

/// The same for displays that the operator can allow.
const NO_SERVER: &str = "add --allow display, or use -vnc, -spice, -display none or -nographic";

/// Displays that are windows of the operator's desktop.
const WINDOWS: [(&str, Window); 3] = [("default", Window::Default), ("gtk", Window::Gtk), ("sdl", Window::Sdl)];

/// Displays that are not to be had (`DisplayType` in `qapi/ui.json`), and what is instead.
const DISPLAYS: &[(&str, &str)] = &[
    ("cocoa", NO_WINDOW),
    ("dbus", "use -display none: no D-Bus is within reach"),
    ("default", NO_SERVER),
    ("gtk", NO_SERVER),
    ("sdl", NO_SERVER),
    ("spice-app", "use -display none: the viewer that it starts would be outside"),
];

/// Drivers that need a server or a device of the host (`AudiodevDriver` in `qapi/audio.json`).
const SOUND: &[&str] = &["alsa", "coreaudio", "dbus", "dsound", "jack", "oss", "pa", "pipewire", "sdl", "sndio"];

/// `-display`.
///
/// # Errors
/// [`Error::NotServed`] for every display but `none`, `curses`, `egl-headless`, `vnc=`, and the windows that the operator
/// allows.
pub(super) fn display(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    draft.display = true;
    // The last one counts.
    draft.line.window = None;
    if is_help(value) {
        draft.line.informational = true;
        return Ok(());
    }
    if let Some(address) = value.as_bytes().strip_prefix(b"vnc=") {
        let pairs = Pairs::parse(option, OsStr::from_bytes(address), Some("vnc"))?;
        let option = option.to_owned();
        draft.groups.push(Group { name: "vnc", option, pairs, read: vnc::read, from_file: false, word: None });
        return Ok(());
    }
    let pairs = if value.as_bytes().starts_with(b"{") {
        json::pairs(option, value)?
    } else {
        Pairs::parse(option, value, Some("type"))?
    };
    match pairs.text("type") {
        Some("none") => Ok(()),
        Some("curses") => {
            draft.line.curses = true;
            Ok(())
        }
        Some("egl-headless") => render_node(draft, option, pairs.get("rendernode")),
        kind => {
            let kind = kind.unwrap_or_default();
            if let Some((_, found)) = WINDOWS.iter().find(|(name, _)| draft.windows && *name == kind) {
                return window(draft, option, &pairs, *found);
            }
            let what = format!("the display {kind}");
            Err(match DISPLAYS.iter().find(|(name, _)| *name == kind) {
                Some((_, instead)) => Error::not_served(option, what, *instead),
                None => Error::not_known(option, what, NO_WINDOW),
            })
        }
    }
}

/// A window, which the operator has allowed.
fn window(draft: &mut Draft<'_>, option: &str, pairs: &Pairs, kind: Window) -> Result<(), Error> {
    // Of a value that it does not know QEMU says so itself (`DisplayGLMode` in its qapi/ui.json).
    if let Some(gl) = pairs.text("gl").filter(|gl| matches!(*gl, "on" | "core" | "es")) {
        let instead = "leave gl out: no graphics device of the host is handed in to a window";
        return Err(Error::not_served(option, format!("gl={gl}"), instead));
    }
    draft.line.window = Some(kind);
    Ok(())
}

/// Notes that graphics libraries draw on the node `path`, or on the first that QEMU finds (`qemu_drm_rendernode_open` in
/// its `util/drm.c`).
///
/// # Errors
/// As [`Draft::file`].
fn render_node(draft: &mut Draft<'_>, option: &str, path: Option<&OsStr>) -> Result<(), Error> {
    if let Some(path) = path {
        draft.file(option, path, Kind::Device, OpenedBy::Plain)?;
    }
    draft.line.render_nodes.push(RenderNode { option: option.to_owned(), path: path.map(OsStr::to_owned) });
    Ok(())
}

/// `-nographic`.
///
/// # Errors
/// None.
pub(super) fn nographic(draft: &mut Draft<'_>, _: &str) -> Result<(), Error> {
    draft.display = true;
    Ok(())
}

/// `-audiodev` and `-audio`: silence, a WAV file, or whoever is connected to `-spice`.
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
        Some("none" | "spice") => Ok(()),
        Some("wav") => {
            // The default name is that of wav_init_out in audio/wavaudio.c.
            let path = pairs.get("path").unwrap_or(OsStr::new("qemu.wav"));
            draft.file(option, path, Kind::OutputFile { append: false }, OpenedBy::Plain)
        }
        driver => {
            let what = format!("the sound driver {}", driver.unwrap_or_default());
            let instead = "use none, or wav with path=FILE";
            let known = driver.is_some_and(|driver| SOUND.contains(&driver));
            Err(if known { Error::not_served(option, what, instead) } else { Error::not_known(option, what, instead) })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::super::testing::{assert_harmless, assert_not_served, line, names};
    use super::super::{Allowed, parse_allowing};
    use super::*;

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
            &["-audiodev", r#"{"id":"a","driver":"spice"}"#],
        ]);
    }

    #[test]
    fn windows_and_sound_servers_are_refused() {
        assert_not_served(&[
            &["-display", "gtk"],
            &["-display", "default"],
            &["-display", "sdl,gl=on"],
            &["-display", "egl-headless,rendernode=/dev/fdset/1"],
            &["-display", r#"{"type":"dbus","p2p":true}"#],
            &["-display", "spice-app"],
            &["-audiodev", "pa,id=a,server=/x"],
            &["-audiodev", "oss,id=a,out.dev=/dev/dsp"],
        ]);
    }

    #[test]
    fn windows_are_opened_where_the_operator_allows_it() {
        let windows = |words: &[&str]| {
            let argv: Vec<OsString> = std::iter::once(&"q").chain(words).map(OsString::from).collect();
            let no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
            parse_allowing(&argv, &no_files, Allowed { windows: true })
        };
        for (words, window) in [
            (&["-display", "gtk"][..], Some(Window::Gtk)),
            (&["-display", "sdl,gl=off,grab-mod=rctrl"], Some(Window::Sdl)),
            (&["-display", r#"{"type":"gtk","show-tabs":true}"#], Some(Window::Gtk)),
            (&["-display", "default"], Some(Window::Default)),
            (&[], Some(Window::Default)),
            (&["-display", "gtk", "-display", "none"], None),
            (&["-vnc", "none"], None),
            (&["-nographic"], None),
        ] {
            let found = windows(words).unwrap();
            assert_eq!(found.window, window, "{words:?}");
            assert!(!found.argv.iter().skip(words.len() + 1).any(|word| word == "-display"), "{words:?}");
        }
        for words in [["-display", "gtk,gl=on"], ["-display", "sdl,gl=es"], ["-display", "spice-app"]] {
            assert!(matches!(windows(&words), Err(Error::NotServed { known: true, .. })), "{words:?}");
        }
    }

    #[test]
    fn the_node_that_draws_is_named_or_found() {
        let named = r#"{"type":"egl-headless","rendernode":"/dev/dri/renderD129"}"#;
        for words in [
            &["-display", "egl-headless,rendernode=/dev/dri/renderD129"][..],
            &["-display", named],
            &["-spice", "gl=on,unix=on,addr=s,rendernode=/dev/dri/renderD129"],
        ] {
            let found = line(words).unwrap();
            assert_eq!(names(&found), [("/dev/dri/renderD129", &Kind::Device)], "{words:?}");
            assert_eq!(found.render_nodes[0].path.as_deref(), Some("/dev/dri/renderD129".as_ref()), "{words:?}");
        }
        for words in [["-display", "egl-headless"], ["-display", "egl-headless,gl=es"], ["-spice", "gl=on"]] {
            let found = line(&words).unwrap();
            assert!(found.resources.is_empty() && found.render_nodes[0].path.is_none(), "{words:?}");
        }
        assert!(line(&["-spice", "gl=off,port=1"]).unwrap().render_nodes.is_empty());
    }

    #[test]
    fn a_terminal_is_drawn_on() {
        for words in [["-display", "curses"], ["-display", "curses,charset=CP850"]] {
            assert!(line(&words).unwrap().curses, "{words:?}");
        }
        assert!(!line(&["-display", "none"]).unwrap().curses);
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
