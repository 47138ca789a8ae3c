//! The same under `strace`, which also sees opens with `O_PATH`: nobody gets any kind of descriptor of the canary.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::corpus::{Case, cases};
use tests::{Canary, During, Result, Workdir, broker_binary, need};

use crate::run::Way;

/// Runs the broker under `strace`; returns its exit status, and every call that a descriptor came from, with what that
/// stands for.
fn trace(workdir: &Workdir, options: &[&str], way: Way, case: &Case) -> Result<(Option<i32>, String)> {
    let log = workdir.aside().join("trace");
    let records = workdir.aside().join("chains");
    let (program, words) = way.words(case);
    let status = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=open,openat,openat2,open_tree,execve", "-s", "4096", "-o"])
        .arg(&log)
        .arg(broker_binary()?)
        .args(options)
        .arg("--chain-dir")
        .arg(records)
        .args(["--", program])
        .args(words)
        .current_dir(workdir.files())
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .during("start strace")?
        .status;
    Ok((status.code(), fs::read_to_string(&log).during("read the trace")?))
}

/// The lines of a trace in which a call returns a descriptor of `path`.
fn opens_of<'t>(trace: &'t str, path: &Path) -> Vec<&'t str> {
    let descriptor = format!("<{}>", path.display());
    trace
        .lines()
        .filter(|line| line.rsplit_once(" = ").is_some_and(|(_, result)| result.ends_with(&descriptor)))
        .collect()
}

#[test]
fn nobody_gets_a_descriptor_of_the_canary() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, Strace);
    let workdir = Workdir::new()?;
    let canary = Canary::put(&workdir)?;
    for group in cases::all(canary.path()) {
        for case in group.hostile.iter().take(2) {
            case.make(&workdir)?;
            for way in [Way::Guest, Way::Convert] {
                let (status, trace) = trace(&workdir, &[], way, case)?;
                assert_eq!(status, Some(125), "{way:?}, {}", case.name);
                assert!(trace.contains(&case.top), "the trace shows how the image itself is opened: {trace}");
                assert_eq!(opens_of(&trace, canary.path()), [""; 0], "{way:?}, {}", case.name);
                assert_eq!(trace.matches("execve(").count(), 1, "no emulator ran: {trace}");
            }
            case.remove(&workdir)?;
        }
    }
    Ok(())
}

/// The trace would show it.
#[test]
fn a_trace_shows_a_pin_of_the_canary() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, Strace);
    let workdir = Workdir::new()?;
    let canary = Canary::put(&workdir)?;
    let group = cases::backing_names(canary.path());
    let case = &group.hostile[0];
    case.make(&workdir)?;
    let root = workdir.aside().to_string_lossy().into_owned();
    let (_, trace) = trace(&workdir, &["plan", "--image-root", &root], Way::Guest, case)?;
    assert!(opens_of(&trace, canary.path()).iter().any(|line| line.contains("O_PATH")), "{trace}");
    Ok(())
}
