//! QEMU's defaults that reach outside are switched off in so many words.
//!
//! Sources: `default_net` in `qemu_init` and `qemu_setup_display` in QEMU's `system/vl.c`.

use super::draft::Draft;
use super::resource::Window;

/// Spells out two of QEMU's defaults that reach outside: user networking, and a window or a VNC server.
pub(super) fn add(draft: &mut Draft<'_>) {
    if draft.line.informational {
        return;
    }
    if !draft.network && !draft.no_defaults {
        draft.add_default(
            ["-nic", "none"],
            "no network is named, and QEMU's default one is not served: added -nic none",
        );
    }
    if !draft.display && draft.windows {
        draft.line.window = Some(Window::Default);
    } else if !draft.display {
        draft.add_default(
            ["-display", "none"],
            "no display is named, and QEMU's default one cannot be reached: added -display none; for a window, add --allow display",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::line;

    fn added(words: &[&str]) -> Vec<String> {
        let line = line(words).unwrap();
        let added = line.argv.iter().skip(words.len() + 1);
        added.map(|w| w.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_defaults_that_reach_outside_are_spelled_out() {
        assert_eq!(added(&[]), ["-nic", "none", "-display", "none"]);
        assert_eq!(added(&["-nodefaults"]), ["-display", "none"]);
        assert_eq!(added(&["-nographic"]), ["-nic", "none"]);
        assert_eq!(added(&["-nic", "none", "-display", "none"]), [""; 0]);
        assert_eq!(added(&["-netdev", "hubport,id=h,hubid=0", "-vnc", "none"]), [""; 0]);
        assert_eq!(added(&["-version"]), [""; 0]);
        assert_eq!(added(&["-device", "help"]), [""; 0]);
        assert_eq!(line(&[]).unwrap().notices.len(), 2);
        assert!(line(&["-nodefaults", "-nographic"]).unwrap().notices.is_empty());
    }
}
