//! Real processes, confined as in production, that misbehave.

use std::fs::File;
use std::io::Write;

use rustix::fs::{CWD, Mode, OFlags, openat};
use sandbox_profiles::{Profile, Variant};

use super::*;
use crate::confine::seccomp::compile;

type Confined<'a> = Result<BorrowedFd<'a>, NotConfined>;

/// Runs `task` on a file with known bytes.
fn ask(
    patience: Duration,
    task: impl FnOnce(Confined<'_>, &mut [u8; ANSWER_LIMIT]) -> usize,
) -> Result<Vec<u8>, Error> {
    let filter = compile(Profile::Prober, &Variant::default()).unwrap();
    let image = File::open("/proc/self/exe").unwrap();
    ask_confined(image.as_fd(), &filter, patience, task)
}

const LONG: Duration = Duration::from_secs(20);

fn killed_by_filter(task: impl FnOnce(BorrowedFd<'_>)) {
    let result = ask(LONG, |image, buffer| {
        let Ok(image) = image else {
            return 0;
        };
        task(image);
        // Reached only if the filter has a hole.
        buffer[0] = 1;
        1
    });
    assert!(matches!(result, Err(Error::Died(End::Killed(libc::SIGSYS)))), "{result:?}");
}

#[test]
fn it_reads_its_image_and_answers() {
    let answer =
        ask(LONG, |image, buffer| image.map_or(0, |image| rustix::io::pread(image, &mut buffer[..4], 0).unwrap_or(0)));
    assert_eq!(answer.unwrap(), b"\x7fELF");
}

#[test]
fn an_answer_may_be_as_long_as_a_pipe_takes_at_once() {
    let answer = ask(LONG, |_, buffer| {
        buffer.fill(7);
        ANSWER_LIMIT
    });
    assert_eq!(answer.unwrap(), [7; ANSWER_LIMIT]);
}

#[test]
fn every_other_call_kills_it() {
    killed_by_filter(|_| _ = openat(CWD, "/etc/passwd", OFlags::RDONLY, Mode::empty()));
    killed_by_filter(|image| _ = openat(image, "x", OFlags::RDONLY, Mode::empty()));
    killed_by_filter(|image| _ = rustix::io::dup(image));
    killed_by_filter(|image| _ = rustix::io::read(image, &mut [0; 1]));
    killed_by_filter(|_| _ = rustix::pipe::pipe());
    killed_by_filter(|_| _ = rustix::process::kill_current_process_group(Signal::CONT));
    killed_by_filter(|_| _ = rustix::process::getppid());
    killed_by_filter(|_| std::thread::sleep(Duration::from_millis(1)));
}

#[test]
fn it_holds_its_image_and_its_pipe_and_nothing_else() {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let image = File::open("/proc/self/exe").unwrap();
    match fork().unwrap() {
        Fork::Child => {
            let closed = close_all_but(image.as_raw_fd(), writer.as_raw_fd());
            let held = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.flatten().count());
            // The listing holds one itself.
            let answer = [u8::from(closed.is_ok()), u8::try_from(held).unwrap_or(u8::MAX)];
            let _ = rustix::io::write(&writer, &answer);
            exit_now(0)
        }
        Fork::Parent(child) => {
            drop(writer);
            let child = Child::of(child.as_raw()).unwrap();
            let answer = receive(reader.as_fd(), LONG);
            child.end().unwrap();
            assert_eq!(answer.unwrap(), [1, 3]);
        }
    }
}

#[test]
fn a_process_that_hangs_is_given_up_and_killed() {
    let begun = Instant::now();
    let result = ask(Duration::from_millis(100), |_, _| {
        loop {
            std::hint::spin_loop();
        }
    });
    assert!(matches!(result, Err(Error::Late(_))), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "it was not killed at once");
}

#[test]
fn a_process_that_burns_time_meets_its_limit() {
    let result = ask(LONG, |_, _| {
        loop {
            std::hint::spin_loop();
        }
    });
    assert!(matches!(result, Err(Error::Died(End::Killed(libc::SIGXCPU | libc::SIGKILL)))), "{result:?}");
}

#[test]
fn silence_is_an_error() {
    let result = ask(LONG, |_, _| 0);
    assert!(matches!(result, Err(Error::Died(End::Exited(0)))), "{result:?}");
    let result = ask(LONG, |_, _| ANSWER_LIMIT + 1);
    assert!(matches!(result, Err(Error::Died(End::Exited(0)))), "{result:?}");
}

#[test]
fn an_answer_without_end_is_an_error() {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut writer = File::from(writer);
    writer.write_all(&[0; ANSWER_LIMIT + 2]).unwrap();
    assert!(matches!(receive(reader.as_fd(), LONG), Err(Error::TooLong)));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut writer = File::from(writer);
    writer.write_all(b"half").unwrap();
    assert!(matches!(receive(reader.as_fd(), Duration::from_millis(50)), Err(Error::Late(_))));
}

#[test]
fn a_filter_that_cannot_be_installed_gives_no_image() {
    let image = File::open("/proc/self/exe").unwrap();
    let empty = Program { instructions: Vec::new(), notifies: false };
    let answer = ask_confined(image.as_fd(), &empty, LONG, |image, buffer| match image {
        Ok(_) => 0,
        Err(error) => {
            buffer[0] = u8::from(error.step == Step::Filter);
            1
        }
    });
    assert_eq!(answer.unwrap(), [1]);
}
