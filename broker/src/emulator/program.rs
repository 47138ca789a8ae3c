//! Which of QEMU's programs a command line starts.

use std::ffi::OsStr;
use std::path::Path;

/// One of QEMU's programs. Each has options, and a list of system calls, of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Program {
    /// `qemu-system-*`, and whatever has none of the names below.
    #[default]
    System,
    /// `qemu-img`: does one thing to images, and ends.
    Img,
    /// `qemu-io`: reads and writes an image by commands, and ends.
    Io,
    /// `qemu-nbd`: serves one image to others.
    Nbd,
    /// `qemu-storage-daemon`: serves images to others.
    StorageDaemon,
}

impl Program {
    /// The program that a shell's word names, by its last component.
    #[must_use]
    pub fn of(word: &OsStr) -> Self {
        match Path::new(word).file_name().and_then(OsStr::to_str) {
            Some("qemu-img") => Self::Img,
            Some("qemu-io") => Self::Io,
            Some("qemu-nbd") => Self::Nbd,
            Some("qemu-storage-daemon") => Self::StorageDaemon,
            _ => Self::System,
        }
    }

    /// Whether it is over so soon that nobody would speak to its broker meanwhile.
    #[must_use]
    pub fn is_brief(self) -> bool {
        matches!(self, Self::Img | Self::Io)
    }

    /// How the format of an image is stated on its command line.
    #[must_use]
    pub fn stating(self, format: &str) -> String {
        match self {
            Self::System => format!("-drive file=...,format={format}"),
            Self::Img | Self::Io | Self::Nbd => format!("-f {format}"),
            Self::StorageDaemon => format!("--blockdev driver={format},..."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_by_the_last_component_of_its_name() {
        for (word, program) in [
            ("qemu-img", Program::Img),
            ("/usr/bin/qemu-img", Program::Img),
            ("./qemu-io", Program::Io),
            ("../x/qemu-nbd", Program::Nbd),
            ("qemu-storage-daemon", Program::StorageDaemon),
            ("qemu-system-x86_64", Program::System),
            ("/opt/qemu-img/qemu-kvm", Program::System),
            ("qemu-img2", Program::System),
            ("", Program::System),
        ] {
            assert_eq!(Program::of(OsStr::new(word)), program, "{word}");
        }
    }
}
