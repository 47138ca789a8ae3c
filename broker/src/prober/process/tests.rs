//! Real processes, confined as in production, that misbehave.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::Signal;
use rustix::stdio::stdin;
use sandbox_profiles::{Profile, Variant};

use super::*;
use crate::confine::seccomp::compile;
use crate::sys::process::exit_now;

const LONG: Duration = Duration::from_secs(20);

fn start(task: impl FnMut(BorrowedFd<'_>, &[u8], &mut [u8; ANSWER_LIMIT]) -> usize) -> Process {
    Process::start(&compile(Profile::Prober, &Variant::default()).unwrap(), LONG, task).unwrap()
}

/// Asks about a file with known bytes.
fn ask(process: &mut Process, patience: Duration) -> Result<Vec<u8>, Error> {
    let image = File::open("/proc/self/exe").unwrap();
    let mut buffer = vec![0; ANSWER_LIMIT];
    process.ask(b"question", image.as_fd(), patience, &mut buffer).map(<[u8]>::to_vec)
}

fn killed_by_filter(mut task: impl FnMut(BorrowedFd<'_>)) {
    let mut process = start(|image, _, buffer| {
        task(image);
        // Reached only if the filter has a hole.
        buffer[0] = 1;
        1
    });
    let result = ask(&mut process, LONG);
    assert!(matches!(result, Err(Error::Died(End::Killed(libc::SIGSYS)))), "{result:?}");
}

#[test]
fn it_reads_its_images_and_answers() {
    let mut count = 0;
    let mut process = start(|image, question, buffer| {
        assert_eq!(question, b"question");
        count += 1;
        buffer[4] = count;
        rustix::io::pread(image, &mut buffer[..4], 0).map_or(0, |_| 5)
    });
    for number in 1..=3 {
        assert_eq!(ask(&mut process, LONG).unwrap(), [0x7f, b'E', b'L', b'F', number]);
    }
}

#[test]
fn an_answer_may_be_as_long_as_all_names() {
    let mut process = start(|_, _, buffer| {
        buffer.fill(7);
        ANSWER_LIMIT
    });
    assert_eq!(ask(&mut process, LONG).unwrap(), [7; ANSWER_LIMIT]);
    assert_eq!(ask(&mut process, LONG).unwrap(), [7; ANSWER_LIMIT]);
}

#[test]
fn every_other_call_kills_it() {
    killed_by_filter(|_| _ = openat(CWD, "/etc/passwd", OFlags::RDONLY, Mode::empty()));
    killed_by_filter(|image| _ = openat(image, "x", OFlags::RDONLY, Mode::empty()));
    killed_by_filter(|image| _ = rustix::io::dup(image));
    killed_by_filter(|image| _ = rustix::io::read(image, &mut [0; 1]));
    killed_by_filter(|_| _ = rustix::pipe::pipe());
    killed_by_filter(|_| _ = pair());
    killed_by_filter(|image| {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let images = [image];
        control.push(SendAncillaryMessage::ScmRights(&images));
        let _ = sendmsg(stdin(), &[IoSlice::new(b"x")], &mut control, SendFlags::empty());
    });
    killed_by_filter(|_| _ = rustix::process::kill_current_process_group(Signal::CONT));
    killed_by_filter(|_| _ = rustix::process::getppid());
    killed_by_filter(|_| std::thread::sleep(Duration::from_millis(1)));
}

#[test]
fn it_holds_its_socket_and_nothing_else() {
    let (socket, other) = pair().unwrap();
    match fork().unwrap() {
        Fork::Child => {
            let closed = child::keep_only(&other);
            let held = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.flatten().count());
            // The listing holds one itself.
            let _ = rustix::io::write(stdin(), &[u8::from(closed.is_ok()), u8::try_from(held).unwrap_or(u8::MAX)]);
            exit_now(0)
        }
        Fork::Parent(child) => {
            drop(other);
            let mut process = Process { child: Child::of(child.as_raw()).unwrap(), socket };
            assert_eq!(process.receive(&mut [0; 3], LONG).unwrap(), [1, 2]);
        }
    }
}

#[test]
fn there_is_no_room_for_a_second_image() {
    // One that asks for the next image while it has the first.
    let mut process = start(|_, _, buffer| {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        buffer[0] = b'?';
        let _ = rustix::io::write(stdin(), &buffer[..1]);
        let received = recvmsg(stdin(), &mut [IoSliceMut::new(&mut buffer[1..9])], &mut control, RecvFlags::empty());
        buffer[0] = u8::from(received.is_ok_and(|received| received.flags.contains(ReturnFlags::CTRUNC)));
        1
    });
    assert_eq!(ask(&mut process, LONG).unwrap(), b"?");
    assert_eq!(ask(&mut process, LONG).unwrap(), [1]);
}

fn id(process: &Process) -> String {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.child.0.as_raw_fd())).unwrap();
    info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap().trim().to_owned()
}

#[test]
fn a_process_that_hangs_is_given_up_and_killed() {
    let mut process = start(|_, _, _| {
        loop {
            std::hint::spin_loop();
        }
    });
    let id = id(&process);
    let result = ask(&mut process, Duration::from_millis(100));
    assert!(matches!(result, Err(Error::Late(_))), "{result:?}");
    drop(process);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "it was not killed and reaped");
}

#[test]
fn a_process_that_burns_time_meets_its_limit() {
    let mut process = start(|_, _, _| {
        loop {
            std::hint::spin_loop();
        }
    });
    let result = ask(&mut process, 3 * LONG);
    assert!(matches!(result, Err(Error::Died(End::Killed(libc::SIGXCPU | libc::SIGKILL)))), "{result:?}");
}

#[test]
fn silence_is_an_error() {
    // An empty packet is as good as an end.
    let result = ask(&mut start(|_, _, _| 0), LONG);
    assert!(matches!(result, Err(Error::Died(_))), "{result:?}");
    let result = ask(&mut start(|_, _, _| exit_now(3)), LONG);
    assert!(matches!(result, Err(Error::Died(End::Exited(3)))), "{result:?}");
}

#[test]
fn who_speaks_before_it_is_asked_is_given_up() {
    let mut process = start(|_, _, buffer| {
        buffer[0] = 1;
        let _ = rustix::io::write(stdin(), &buffer[..1]);
        1
    });
    assert_eq!(ask(&mut process, LONG).unwrap(), [1]);
    // The second packet may be on its way still.
    poll(&mut [PollFd::new(&process.socket, PollFlags::IN)], None).unwrap();
    assert!(matches!(ask(&mut process, LONG), Err(Error::Irregular)));
}

#[test]
fn who_has_ended_is_not_asked() {
    let mut process = start(|_, _, _| 1);
    process.child.end().unwrap();
    assert!(matches!(ask(&mut process, LONG), Err(Error::Died(_))));
}

/// A process whose place the test takes.
fn impostor() -> (Process, OwnedFd) {
    let mut process = start(|_, _, _| 1);
    let (socket, other) = pair().unwrap();
    process.socket = socket;
    (process, other)
}

#[test]
fn an_answer_that_is_too_long_or_carries_a_descriptor_is_an_error() {
    let mut buffer = vec![0; ANSWER_LIMIT];
    let (mut process, other) = impostor();
    File::from(other).write_all(&[0; ANSWER_LIMIT + 1]).unwrap();
    assert!(matches!(process.receive(&mut buffer, LONG), Err(Error::Irregular)));
    let (mut process, other) = impostor();
    let image = File::open("/proc/self/exe").unwrap();
    send(other.as_fd(), b"x", image.as_fd()).unwrap();
    assert!(matches!(process.receive(&mut buffer, LONG), Err(Error::Irregular)));
}

#[test]
fn a_process_that_cannot_be_confined_is_sent_no_image() {
    let empty = Program { instructions: Vec::new(), notifies: false };
    let result = Process::start(&empty, LONG, |_, _, _| 1);
    assert!(matches!(result, Err(Error::NotConfined(NotConfined { step: Step::Filter, .. }))), "{result:?}");
}
