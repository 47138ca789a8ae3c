//! Wall time of a start: from exec to QMP's greeting, and to the end after `quit`; or to the first line that is printed, and
//! to the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, succeeded};
use crate::figures::{middle, sorted};
use crate::folder::Folder;
use crate::quiet;

/// Rounds; each starts every variant once, in turn.
const ROUNDS: usize = 40;

/// The same namespaces and as much of the host as the broker shows; the images writable, since nobody brokers them.
const BWRAP: &[&str] = &[
    "bwrap",
    "--unshare-user",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--symlink",
    "usr/bin",
    "/bin",
    "--ro-bind",
    "/etc/ld.so.cache",
    "/etc/ld.so.cache",
    "--dev",
    "/dev",
    "--tmpfs",
    "/var/tmp",
];

/// What is started.
struct Case {
    name: &'static str,
    words: &'static [&'static str],
    /// It greets over QMP and is told to quit; others print something and end.
    greets: bool,
}

const CASES: [Case; 5] = [
    Case { name: "-machine none", words: &["-machine", "none"], greets: true },
    Case { name: "-machine q35", words: &["-machine", "q35"], greets: true },
    Case {
        name: "-machine q35, qcow2 over qcow2",
        words: &["-machine", "q35", "-drive", "file=top.qcow2,if=virtio,format=qcow2"],
        greets: true,
    },
    Case { name: "-version", words: &["-version"], greets: false },
    Case { name: "-device help", words: &["-device", "help"], greets: false },
];

#[derive(Clone, Copy, Default)]
struct Times {
    greeting: Duration,
    end: Duration,
}

/// The variants; all others are compared with the first.
const VARIANTS: [&str; 3] = ["bare", "bwrap", "broker"];

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder) -> Result<()> {
    for case in CASES {
        let (rounds, quiet) = measure(broker, folder, &case)?;
        println!(
            "\n{}: milliseconds from exec, median of {ROUNDS} (quickest), and median of the differences from bare \
             QEMU in the same round; the machine was quiet before {quiet} of {} starts",
            case.name,
            ROUNDS * VARIANTS.len(),
        );
        let [first, last] = if case.greets { ["greeting", "quit"] } else { ["first line", "end"] };
        for (variant, name) in VARIANTS.iter().enumerate() {
            let greeting = Summary::of(&rounds, variant, |times| times.greeting);
            let end = Summary::of(&rounds, variant, |times| times.end);
            println!("  {name:<8} {first} {greeting}   {last} {end}");
        }
    }
    Ok(())
}

/// The times of every variant in each round, and before how many starts the machine was quiet.
fn measure(broker: &Path, folder: &Folder, case: &Case) -> Result<(Vec<Vec<Times>>, usize)> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut quiet = 0;
    for round in 0..=ROUNDS {
        let mut times = vec![Times::default(); VARIANTS.len()];
        for turn in 0..VARIANTS.len() {
            // Another one is first in each round, so that none always follows the same.
            let index = (turn + round) % VARIANTS.len();
            let was_quiet = quiet::wait();
            let (Some(variant), Some(time)) = (VARIANTS.get(index), times.get_mut(index)) else { continue };
            *time = start(variant, broker, folder, case)?;
            quiet += usize::from(was_quiet && round > 0);
        }
        // The first round warms the page cache.
        if round > 0 {
            rounds.push(times);
        }
    }
    Ok((rounds, quiet))
}

/// Milliseconds.
struct Summary {
    median: f64,
    quickest: f64,
    /// Beside the first variant: the median of the differences, and the ratio of the medians.
    difference: f64,
    ratio: f64,
}

impl Summary {
    fn of(rounds: &[Vec<Times>], variant: usize, part: fn(&Times) -> Duration) -> Self {
        let milliseconds = |times: &Times| part(times).as_secs_f64() * 1000.0;
        let of_variant = |index: usize| sorted(rounds.iter().filter_map(|times| times.get(index)).map(milliseconds));
        let pairs = rounds.iter().filter_map(|times| Some((times.get(variant)?, times.first()?)));
        let differences = sorted(pairs.map(|(own, first)| milliseconds(own) - milliseconds(first)));
        let own = of_variant(variant);
        Self {
            median: middle(&own),
            quickest: own.first().copied().unwrap_or(f64::NAN),
            difference: middle(&differences),
            ratio: middle(&own) / middle(&of_variant(0)),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, quickest, difference, ratio } = self;
        write!(formatter, "{median:6.1} ({quickest:5.1}) {difference:+5.1} x{ratio:.2}")
    }
}

fn start(variant: &str, broker: &Path, folder: &Folder, case: &Case) -> Result<Times> {
    let mut command = match variant {
        "broker" => {
            let mut command = folder.command(broker);
            command.args(["--", "qemu-system-x86_64"]);
            command
        }
        "bwrap" => bubblewrapped(folder),
        _ => folder.command("qemu-system-x86_64"),
    };
    command.args(case.words).args(["-display", "none", "-nic", "none"]);
    if case.greets {
        command.args(["-qmp", "stdio"]);
    }
    time(&mut command, case.greets)
}

fn bubblewrapped(folder: &Folder) -> Command {
    let (program, options) = BWRAP.split_first().unwrap_or((&"bwrap", &[]));
    let mut command = folder.command(program);
    command.args(options).arg("--bind").args([folder.path(), folder.path()]);
    command.arg("--chdir").arg(folder.path()).args(["--", "qemu-system-x86_64"]);
    command
}

fn time(command: &mut Command, greets: bool) -> Result<Times> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| Error::Start { program: program.clone(), source };
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::Figures { program, text: String::new() });
    };
    let mut output = BufReader::new(output);
    let mut greeting = String::new();
    output.read_line(&mut greeting).map_err(failed)?;
    let greeted = start.elapsed();
    if greets {
        let quit = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}";
        input.write_all(quit).map_err(failed)?;
    }
    output.read_to_end(&mut Vec::new()).map_err(failed)?;
    let status = child.wait();
    let end = start.elapsed();
    succeeded(&program, status)?;
    if greeting.is_empty() || (greets && !greeting.starts_with("{\"QMP\"")) {
        return Err(Error::Figures { program, text: greeting });
    }
    Ok(Times { greeting: greeted, end })
}
