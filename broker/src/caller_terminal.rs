//! The terminal that the emulator was started on. QEMU's `stdio` character device makes it raw and its descriptors
//! non-blocking, the `curses` display makes it raw in another way, and both undo that at their end, unless QEMU is killed;
//! then the broker does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::sys::process::{duplicate, is_terminal};

/// Standard input and output, which that character device uses.
const STANDARD: [RawFd; 2] = [0, 1];

/// All special characters that the kernel keeps (`c_cc`, termios(3)).
const SPECIAL: [SpecialCodeIndex; 17] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VTIME,
    SpecialCodeIndex::VMIN,
    SpecialCodeIndex::VSWTC,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

/// The terminal as it was before the emulator.
#[derive(Debug)]
pub struct CallerTerminal {
    modes: Termios,
    /// Duplicates of the standard descriptors that are this terminal or another one, with the flags that their file
    /// descriptions had. The first is standard input.
    streams: Vec<(OwnedFd, OFlags)>,
}

impl CallerTerminal {
    /// Notes how the terminal is that standard input leads to. None if it leads to something else, or nothing is to be
    /// found out of it.
    #[must_use]
    pub fn keep() -> Option<Self> {
        let input = STANDARD.first().filter(|number| is_terminal(**number))?;
        let modes = tcgetattr(duplicate(*input).ok()?).ok()?;
        let terminals = STANDARD.into_iter().filter(|number| is_terminal(*number));
        let streams = terminals.filter_map(|number| {
            let stream = duplicate(number).ok()?;
            let flags = rustix::fs::fcntl_getfl(&stream).ok()?;
            Some((stream, flags))
        });
        Some(Self { modes, streams: streams.collect() })
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.streams.iter().map(|(stream, _)| stream.as_fd())
    }

    /// Undoes what the emulator has left, and nothing else: if the modes are not those that it sets, somebody else has
    /// set them since, and they stay. The terminal is not this process's own, so the kernel does not ask who is in its
    /// foreground (`tty_check_change`, tcsetattr(3)).
    pub fn give_back(&self) {
        for (stream, before) in &self.streams {
            let now = rustix::fs::fcntl_getfl(stream);
            if !before.contains(OFlags::NONBLOCK) && now == Ok(*before | OFlags::NONBLOCK) {
                // Nobody is left to be told.
                let _ = rustix::fs::fcntl_setfl(stream, *before);
            }
        }
        let Some((input, _)) = self.streams.first() else { return };
        let Ok(now) = tcgetattr(input) else { return };
        let by_stdio = [(true, true), (false, true), (false, false), (true, false)]
            .map(|(echo, signals)| set_by_qemu(&self.modes, echo, signals));
        // Character devices are there before displays.
        if by_stdio.iter().any(|modes| same(&now, modes) || same(&now, &set_by_curses(modes))) {
            let _ = tcsetattr(input, OptionalActions::Now, &self.modes);
        }
    }
}

/// The modes that QEMU makes of `before` (`qemu_chr_set_echo_stdio` in `chardev/char-stdio.c`, the same in 7.2 and 10.0).
/// With neither change they are those before.
fn set_by_qemu(before: &Termios, echo: bool, signals: bool) -> Termios {
    let mut modes = before.clone();
    if !echo {
        modes.input_modes -= InputModes::IGNBRK | InputModes::BRKINT | InputModes::PARMRK | InputModes::ISTRIP;
        modes.input_modes -= InputModes::INLCR | InputModes::IGNCR | InputModes::ICRNL | InputModes::IXON;
        modes.output_modes |= OutputModes::OPOST;
        modes.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN;
        modes.control_modes -= ControlModes::CSIZE | ControlModes::PARENB;
        modes.control_modes |= ControlModes::CS8;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    }
    if !signals {
        modes.local_modes -= LocalModes::ISIG;
    }
    modes
}

/// The modes that ncurses makes of `before` for QEMU's display (`curses_setup` in its `ui/curses.c`, the same in 7.2 and
/// 10.0): `initscr` (`newterm` in ncurses' `lib_newterm.c`), then `intrflush` and `raw` (`lib_raw.c`).
fn set_by_curses(before: &Termios) -> Termios {
    let mut modes = before.clone();
    modes.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR;
    modes.input_modes -= InputModes::IXON | InputModes::BRKINT | InputModes::PARMRK;
    modes.output_modes -= OutputModes::ONLCR;
    modes.local_modes -= LocalModes::ECHO | LocalModes::ECHONL;
    modes.local_modes -= LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
    modes.local_modes |= LocalModes::NOFLSH;
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    modes
}

fn same(one: &Termios, other: &Termios) -> bool {
    one.input_modes == other.input_modes
        && one.output_modes == other.output_modes
        && one.control_modes == other.control_modes
        && one.local_modes == other.local_modes
        && one.line_discipline == other.line_discipline
        && (one.input_speed(), one.output_speed()) == (other.input_speed(), other.output_speed())
        && SPECIAL.into_iter().all(|code| one.special_codes[code] == other.special_codes[code])
}
