//! What must be true of every input, target by target; a panic is a finding.

mod access_list;
mod packed;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

pub use access_list::read_access_list;

use broker::emulator::{self, CommandLine, Source, Vhost};
use broker::prober::answer::{ANSWER_LIMIT, QUESTION_LIMIT, Question, answer, judge};
use broker::prober::header::{FORMAT_LIMIT, Format, Found, NAME_LIMIT, REFERENCE_LIMIT, Scratch, parse};
use packed::Packed;
use protocol::codec::{decode, encode};
use protocol::{Hello, MAX_MESSAGE, Message, Reply, Request, Welcome};

/// What a prober has beforehand: used for all inputs one after the other, as it is for the images of a chain.
struct Room {
    scratch: Box<Scratch>,
    buffer: Vec<u8>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room { scratch: Box::default(), buffer: vec![0; ANSWER_LIMIT] });
}

/// Reads an image header, twice: the same is found, it is bounded, and the broker believes it when the prober sends it.
pub fn read_header(stated: Option<Format>, input: &[u8]) {
    ROOM.with_borrow_mut(|Room { scratch, buffer }| {
        let image = Packed::new(input);
        let found = parse(&image, stated, scratch).map(|header| header.to_found());
        if let Ok(found) = &found {
            assert_sound(found);
            assert!(stated.is_none_or(|stated| stated == found.format), "{found:?}");
        }
        let question = Question { number: 1, stated };
        let length = answer(&image, question.encode(&mut [0; QUESTION_LIMIT]), scratch, buffer);
        let judged = judge(buffer.get(..length).unwrap_or_default(), question);
        match (found, judged) {
            (Ok(found), Ok(judged)) => assert_eq!(found, judged),
            (Err(found), Err(broker::prober::Error::Header(judged))) => assert_eq!(found, judged),
            (found, judged) => panic!("found {found:?}, judged {judged:?}"),
        }
    });
}

/// Judges an answer; the first byte chooses what was asked.
pub fn judge_answer(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let stated = ["qcow2", "vmdk", "raw", "qed"].get(usize::from(*first)).and_then(|name| Format::of_name(name));
    if let Ok(found) = judge(bytes, Question { number: 1, stated }) {
        assert_sound(&found);
        assert!(stated.is_none_or(|stated| stated == found.format), "{found:?}");
    }
}

/// Whatever anybody says: names are bounded, and a name with a zero byte would be another name to the kernel.
fn assert_sound(found: &Found) {
    let is_text = |text: &[u8], limit| (1..=limit).contains(&text.len()) && !text.contains(&0);
    assert!(found.references.len() <= REFERENCE_LIMIT, "{} references", found.references.len());
    for reference in &found.references {
        assert!(is_text(&reference.name, NAME_LIMIT), "{reference:?}");
        assert!(reference.format.as_ref().is_none_or(|format| is_text(format, FORMAT_LIMIT)), "{reference:?}");
    }
}

/// Reads a command line, a word a line, the first of them the program; what stands behind the first zero byte is what
/// `-readconfig` finds. Understood twice, it says the same; with the networks' words rewritten, all of them are handed in.
pub fn read_command_line(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (words, file) = input.split_at(end);
    let argv: Vec<OsString> =
        words.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    let read = |argv: &[OsString]| emulator::parse(argv, &|_| Ok(file.get(1..).unwrap_or_default().to_vec()));
    match (read(&argv), read(&argv)) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            for with_vhost in [true, false] {
                let (rewritten, handed) = hand_in_networks(&argv, &first, with_vhost);
                let again = read(&rewritten).unwrap_or_else(|error| panic!("{rewritten:?}: {error}"));
                assert!(again.networks.is_empty(), "{rewritten:?}");
                assert_eq!(again.descriptors, handed, "{rewritten:?}");
                assert_eq!(again.resources, first.resources, "{rewritten:?}");
            }
        }
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        (first, second) => panic!("{first:?}, then {second:?}"),
    }
}

/// The words with those of networks rewritten, and the numbers of all descriptors that they then name.
fn hand_in_networks(argv: &[OsString], line: &CommandLine, with_vhost: bool) -> (Vec<OsString>, BTreeSet<RawFd>) {
    let (mut argv, mut handed) = (argv.to_vec(), line.descriptors.clone());
    for network in &line.networks {
        let numbers = |first: RawFd, wanted: bool| -> Vec<RawFd> {
            (first..).take(if wanted { usize::from(network.queues) } else { 0 }).collect()
        };
        let queues = numbers(100_000, network.source != Source::Handed);
        let vhosts = numbers(200_000, with_vhost && network.vhost != Vhost::Off);
        if let Some(word) = argv.get_mut(network.word) {
            *word = network.rewritten(&queues, &vhosts);
        }
        handed.extend(queues.into_iter().chain(vhosts));
    }
    (argv, handed)
}

/// Decodes a packet as each message; what is understood has exactly these bytes.
pub fn decode_packet(input: &[u8]) {
    decode_as::<Hello>(input);
    decode_as::<Welcome>(input);
    decode_as::<Request>(input);
    decode_as::<Reply>(input);
}

fn decode_as<M: Message>(input: &[u8]) {
    if let Ok(message) = decode::<M>(input) {
        assert_eq!(encode(&message, &mut [0; MAX_MESSAGE]).ok(), Some(input));
    }
}
