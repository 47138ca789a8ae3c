//! Wall time of a start: from exec to QMP's greeting, and to the end after `quit`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result, succeeded};
use crate::folder::Folder;

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

const CASES: [(&str, &[&str]); 3] = [
    ("-machine none", &["-machine", "none"]),
    ("-machine q35", &["-machine", "q35"]),
    ("-machine q35, qcow2 over qcow2", &["-machine", "q35", "-drive", "file=top.qcow2,if=virtio,format=qcow2"]),
];

#[derive(Clone, Copy)]
struct Times {
    greeting: Duration,
    end: Duration,
}

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder) -> Result<()> {
    for (name, words) in CASES {
        println!("\n{name}: milliseconds from exec, medians of {ROUNDS} (quickest); beside bare QEMU");
        let mut all: [(&str, Vec<Times>); 3] = [("bare", vec![]), ("bwrap", vec![]), ("broker", vec![])];
        for round in 0..=ROUNDS {
            for (variant, times) in &mut all {
                let measured = start(variant, broker, folder, words)?;
                // The first round warms the page cache.
                if round > 0 {
                    times.push(measured);
                }
            }
        }
        let bare = all.first().map(|(_, times)| summary(times));
        for (variant, times) in &all {
            let own = summary(times);
            let bare = bare.unwrap_or(own);
            println!(
                "  {variant:<8} greeting {:6.1} ({:5.1}) {:+5.1}   quit {:6.1} ({:5.1}) {:+5.1}  x{:.2}",
                own.greeting,
                own.quickest_greeting,
                own.greeting - bare.greeting,
                own.end,
                own.quickest_end,
                own.end - bare.end,
                own.end / bare.end,
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Summary {
    greeting: f64,
    quickest_greeting: f64,
    end: f64,
    quickest_end: f64,
}

fn summary(times: &[Times]) -> Summary {
    let sorted = |part: fn(&Times) -> Duration| {
        let mut parts: Vec<f64> = times.iter().map(|times| part(times).as_secs_f64() * 1000.0).collect();
        parts.sort_by(f64::total_cmp);
        (parts.get(parts.len() / 2).copied().unwrap_or(f64::NAN), parts.first().copied().unwrap_or(f64::NAN))
    };
    let (greeting, quickest_greeting) = sorted(|times| times.greeting);
    let (end, quickest_end) = sorted(|times| times.end);
    Summary { greeting, quickest_greeting, end, quickest_end }
}

fn start(variant: &str, broker: &Path, folder: &Folder, words: &[&str]) -> Result<Times> {
    let mut command = match variant {
        "broker" => {
            let mut command = folder.command(broker);
            command.args(["--", "qemu-system-x86_64"]);
            command
        }
        "bwrap" => bubblewrapped(folder),
        _ => folder.command("qemu-system-x86_64"),
    };
    command.args(words).args(["-display", "none", "-nic", "none", "-qmp", "stdio"]);
    time(&mut command)
}

fn bubblewrapped(folder: &Folder) -> Command {
    let (program, options) = BWRAP.split_first().unwrap_or((&"bwrap", &[]));
    let mut command = folder.command(program);
    command.args(options).arg("--bind").args([folder.path(), folder.path()]);
    command.arg("--chdir").arg(folder.path()).args(["--", "qemu-system-x86_64"]);
    command
}

fn time(command: &mut Command) -> Result<Times> {
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
    let quit = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}";
    input.write_all(quit).map_err(failed)?;
    output.read_to_end(&mut Vec::new()).map_err(failed)?;
    let status = child.wait();
    let end = start.elapsed();
    succeeded(&program, status)?;
    if !greeting.starts_with("{\"QMP\"") {
        return Err(Error::Figures { program, text: greeting });
    }
    Ok(Times { greeting: greeted, end })
}
