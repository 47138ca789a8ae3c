//! Ways to give an image to a program.

use tests::corpus::Case;
use tests::{BrokerCommand, Finished, PLAIN_QEMU, Result, Workdir};

/// What an image is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `qemu-system-x86_64 -drive`.
    Guest,
    /// `qemu-img info`.
    Info,
    /// `qemu-img convert`, to a new image.
    Convert,
    /// `qemu-img resize`.
    Resize,
}

impl Way {
    /// The program and its arguments.
    pub fn words(self, case: &Case) -> (&'static str, Vec<String>) {
        let top = case.top.clone();
        let format = case.format.map(|format| vec!["-f".to_owned(), format.to_owned()]).unwrap_or_default();
        let tool = |command: &str, rest: &[&str]| {
            let words = [vec![command.to_owned()], format.clone()].concat();
            ("qemu-img", words.into_iter().chain(rest.iter().map(|&word| word.to_owned())).collect())
        };
        match self {
            Self::Guest => {
                let format = case.format.map(|format| format!(",format={format}")).unwrap_or_default();
                let read_only = if case.read_only { ",readonly=on" } else { "" };
                let drive = format!("file={top}{format},if=none,id=disk{read_only}");
                let words = PLAIN_QEMU.iter().copied().chain(["-accel", "tcg", "-S", "-drive", &drive]);
                ("qemu-system-x86_64", words.map(str::to_owned).collect())
            }
            Self::Info => tool("info", &[&top]),
            Self::Convert => tool("convert", &["-O", "raw", &top, "out.raw"]),
            Self::Resize => tool("resize", &[&top, "4M"]),
        }
    }

    /// Expects a refusal: exit status 125, and one line.
    pub fn attack(self, workdir: &Workdir, case: &Case) -> Result<Finished> {
        let (program, words) = self.words(case);
        BrokerCommand::new(workdir).program(program).args(words).run()
    }

    /// Expects that the image can be used.
    pub fn use_honestly(self, workdir: &Workdir, case: &Case) -> Result<()> {
        let (program, words) = self.words(case);
        let command = BrokerCommand::new(workdir).program(program).args(words);
        if self == Self::Guest {
            let (mut emulator, mut qmp) = command.start_with_monitor()?;
            qmp.quit()?;
            let finished = emulator.wait()?;
            assert!(finished.status.success(), "{}: {}", case.name, finished.stderr);
        } else {
            let finished = command.run()?;
            assert!(finished.status.success(), "{self:?}, {}: {}", case.name, finished.stderr);
        }
        Ok(())
    }
}
