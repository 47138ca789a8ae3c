//! Command lines of the kind that people and tools write give the same under the broker as without it: up to QMP's
//! greeting, and what QEMU says of itself then, or up to QEMU's own error.
//!
//! The lines are data, in `lines`; [`line`] says how to read them.

mod compare;
mod fixtures;
mod line;
mod normal;
mod observe;
mod words;

use tests::{Result, need};

/// A test for each file of lines, and all files in `FILES`.
macro_rules! corpus {
    ($($test:ident: $file:literal;)+) => {
        const FILES: &[(&str, &str)] = &[$(($file, include_str!(concat!("lines/", $file)))),+];

        $(
            #[test]
            fn $test() -> Result<()> {
                need!(Broker, Qemu, Landlock);
                compare::file($file, include_str!(concat!("lines/", $file)))
            }
        )+
    };
}

corpus! {
    absent: "absent.txt";
    block: "block.txt";
    cloud: "cloud.txt";
    desktop: "desktop.txt";
    documentation: "documentation.txt";
    guests: "guests.txt";
    kernel: "kernel.txt";
    libvirt: "libvirt.txt";
    proxmox: "proxmox.txt";
    sockets: "sockets.txt";
    tools: "tools.txt";
    user_networking: "user-networking.txt";
    wrong: "wrong.txt";
}

#[test]
fn the_corpus_is_as_large_as_it_says() -> Result<()> {
    let mut names = std::collections::BTreeSet::new();
    let (mut alike, mut wrong) = (0, 0);
    for (file, text) in FILES {
        for line in line::read(file, text)? {
            match line.expected {
                line::Expected::Alike => alike += 1,
                line::Expected::Wrong | line::Expected::Named(_) => wrong += 1,
                line::Expected::Refused(_) => {}
            }
            assert!(names.insert(line.name.clone()), "two lines are called {}", line.name);
        }
    }
    assert!(alike >= 150 && wrong >= 40, "{alike} lines that are alike and {wrong} wrong ones");
    Ok(())
}
