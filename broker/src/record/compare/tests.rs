//! What a hostile guest writes into its headers, and what honest ones come to look like.

use std::cell::Cell;

use super::*;
use crate::record::journal::{Created, Listed};
use crate::record::testing::{identity, record, reference};

/// What is known, without files: paths lead nowhere.
#[derive(Default)]
struct Known {
    records: Vec<Record>,
    journals: Vec<Told>,
    looked: Cell<usize>,
}

impl Memory for Known {
    fn find(&self, image: &Path, file: Identity) -> Result<Finding, Error> {
        self.looked.set(self.looked.get() + 1);
        let at_path = self.records.iter().find(|record| record.image == image);
        if let Some(record) = at_path.filter(|record| record.file.may_be(file)) {
            return Ok(Finding::Recorded(record.clone(), How::Same));
        }
        if let Some(record) = self.records.iter().find(|record| record.file.is_surely(file)) {
            return Ok(Finding::Recorded(record.clone(), How::Moved));
        }
        if let Some(told) = self.journals.iter().find(|told| told.has_created(image, file)) {
            return Ok(Finding::Created(told.clone()));
        }
        Ok(at_path.map_or(Finding::Unknown, |record| Finding::Recorded(record.clone(), How::Replaced)))
    }
}

/// A chain of backing files, the top first: path, inode number and format of each.
fn chain(images: &[(&str, u32, &str)]) -> Vec<Node> {
    let mut nodes: Vec<Node> = images
        .iter()
        .map(|(path, inode, format)| Node {
            path: path.into(),
            identity: identity(*inode),
            format: (*format).into(),
            follows_header: true,
            references: Vec::new(),
        })
        .collect();
    for (number, (_, _, format)) in images.iter().enumerate().skip(1) {
        let backing = NodeReference { role: Role::Backing, target: number, format: (*format).into() };
        nodes.get_mut(number - 1).into_iter().for_each(|overlay| overlay.references.push(backing.clone()));
    }
    nodes
}

const TOP: (&str, u32, &str) = ("/vm/top", 1, "qcow2");
const MID: (&str, u32, &str) = ("/vm/mid", 2, "qcow2");
const BASE: (&str, u32, &str) = ("/vm/base", 3, "raw");
const NEIGHBOUR: (&str, u32, &str) = ("/vm/neighbour", 9, "qcow2");

/// What is known after a start with `nodes`.
fn after(nodes: &[Node]) -> Known {
    Known { records: nodes.iter().map(|node| record_of(nodes, node)).collect(), ..Known::default() }
}

/// What is known after a start with the whole chain.
fn after_three() -> Known {
    after(&chain(&[TOP, MID, BASE]))
}

fn judged(nodes: &[Node], known: &Known) -> Verdict {
    compare(nodes, known, None).unwrap_or_else(|error| panic!("{error}"))
}

/// The one refusal, in words.
fn refusal(nodes: &[Node], known: &Known) -> String {
    let verdict = judged(nodes, known);
    assert!(verdict.renewals.is_empty() && verdict.removals.is_empty(), "{verdict:?}");
    assert_eq!(verdict.refusals.len(), 1, "{verdict:?}");
    verdict.refusals.iter().map(Change::to_string).collect()
}

#[test]
fn the_first_start_is_recorded_as_it_is_and_the_second_changes_nothing() {
    let nodes = chain(&[TOP, MID, BASE]);
    let verdict = judged(&nodes, &Known::default());
    assert_eq!(verdict.renewals, after_three().records);
    let [top, mid, base] = &verdict.renewals[..] else { panic!("{verdict:?}") };
    assert_eq!(top.references, [reference(Role::Backing, "/vm/mid", 2, "qcow2")]);
    assert_eq!(mid.references, [reference(Role::Backing, "/vm/base", 3, "raw")]);
    assert_eq!(*base, record("/vm/base", 3, "raw"));
    assert_eq!(judged(&nodes, &after_three()), Verdict::default());
}

#[test]
fn a_neighbour_named_in_a_rewritten_header_is_refused() {
    for nodes in [
        chain(&[TOP, NEIGHBOUR]),
        chain(&[TOP, NEIGHBOUR, BASE]),
        // The same format, a base in use elsewhere.
        chain(&[TOP, ("/vm/other-base", 8, "raw")]),
    ] {
        // Whether or not the neighbour is known.
        let mut known = after_three();
        assert!(!judged(&nodes, &known).refusals.is_empty());
        known.records.push(record("/vm/neighbour", 9, "qcow2"));
        assert!(!judged(&nodes, &known).refusals.is_empty());
    }
    assert_eq!(
        refusal(&chain(&[TOP, NEIGHBOUR]), &after_three()),
        "image /vm/top: its header names the backing file /vm/neighbour (qcow2) now, and /vm/mid (qcow2) when it was \
         recorded: the guest may have written that; if it was you: broker chain accept /vm/top"
    );
}

#[test]
fn a_header_below_the_top_counts_as_much() {
    // A guest that may commit writes the base, too.
    let text = refusal(&chain(&[TOP, MID, BASE, NEIGHBOUR]), &after_three());
    assert!(text.starts_with("image /vm/base: ") && text.contains("and none is recorded"), "{text}");
    let text = refusal(&chain(&[TOP, MID, NEIGHBOUR]), &after_three());
    assert!(text.starts_with("image /vm/mid: "), "{text}");
}

#[test]
fn a_raw_disk_that_has_grown_a_header_is_refused() {
    let known = after(&chain(&[("/vm/disk", 1, "raw")]));
    for nodes in [chain(&[("/vm/disk", 1, "qcow2")]), chain(&[("/vm/disk", 1, "qcow2"), NEIGHBOUR])] {
        assert_eq!(
            refusal(&nodes, &known),
            "image /vm/disk: it was raw when it was recorded and is taken for qcow2 now: a guest can write such a header \
             into its raw disk; have it opened as raw (format=raw), or if it was you who made it qcow2: broker chain accept /vm/disk"
        );
    }
    let text = refusal(&chain(&[("/vm/top", 1, "raw")]), &after_three());
    assert!(text.contains("it was qcow2") && text.ends_with("broker chain accept --format raw /vm/top"), "{text}");
}

#[test]
fn the_format_of_a_reference_counts() {
    // As raw, mid would show its clusters; as qcow2, base would be read for what a guest has written into it.
    let known = after_three();
    assert!(!judged(&chain(&[TOP, ("/vm/mid", 2, "raw")]), &known).refusals.is_empty());
    assert!(!judged(&chain(&[TOP, MID, ("/vm/base", 3, "qcow2")]), &known).refusals.is_empty());
    assert!(!judged(&chain(&[TOP, ("/vm/base", 3, "qcow2")]), &known).refusals.is_empty());
    // Also where nothing else is known of the file that is named.
    let mut forgotten = known;
    forgotten.records.truncate(1);
    let text = refusal(&chain(&[TOP, ("/vm/mid", 2, "raw")]), &forgotten);
    assert!(text.contains("names the backing file /vm/mid (raw) now, and /vm/mid (qcow2) when"), "{text}");
}

#[test]
fn commit_and_stream_shorten_chains() {
    let known = after_three();
    for shorter in [&[TOP, BASE][..], &[TOP], &[MID, BASE], &[MID], &[BASE]] {
        let nodes = chain(shorter);
        let verdict = judged(&nodes, &known);
        assert!(verdict.refusals.is_empty() && verdict.notices.is_empty(), "{verdict:?}");
        // What is known of the others stays.
        let mut later = known.records.clone();
        for renewed in &verdict.renewals {
            later.iter_mut().filter(|old| old.image == renewed.image).for_each(|old| *old = renewed.clone());
        }
        assert_eq!(later.len(), 3);
        assert_eq!(judged(&nodes, &Known { records: later, ..Known::default() }), Verdict::default());
    }
    let verdict = judged(&chain(&[TOP, BASE]), &known);
    assert_eq!(verdict.renewals[0].references, [reference(Role::Backing, "/vm/base", 3, "raw")]);
    // The other way round: nothing that lies above was to be read through the base.
    assert!(!judged(&chain(&[MID, ("/vm/top", 1, "qcow2")]), &known).refusals.is_empty());
}

#[test]
fn a_shorter_chain_does_not_grow_back_by_itself() {
    let known = after(&chain(&[TOP, BASE]));
    assert!(!judged(&chain(&[TOP, MID, BASE]), &known).refusals.is_empty());
}

#[test]
fn what_a_raw_member_would_name_as_qcow2_is_not_below_it() {
    // Mid is the raw backing file of top, and somebody else's qcow2 image.
    let mut known = after(&chain(&[TOP, ("/vm/mid", 2, "raw")]));
    known.records.retain(|record| record.image == Path::new("/vm/top"));
    known.records.extend(after(&chain(&[MID, BASE])).records);
    assert!(!judged(&chain(&[TOP, BASE]), &known).refusals.is_empty());
}

#[test]
fn only_backing_files_are_inherited() {
    // Mid has a data file. As its own, top would write it.
    let mut known = after_three();
    let data = reference(Role::DataFile, "/vm/data", 4, "raw");
    known.records[1].references.push(data.clone());
    let mut nodes = chain(&[TOP, MID, BASE, ("/vm/data", 4, "raw")]);
    nodes[2].references.clear();
    nodes[1].references.push(NodeReference { role: Role::DataFile, target: 3, format: "raw".into() });
    assert!(judged(&nodes, &known).refusals.is_empty());
    for role in [Role::DataFile, Role::Extent, Role::Backing] {
        let mut stolen = nodes.clone();
        stolen[0].references = vec![NodeReference { role, target: 3, format: "raw".into() }];
        let text = refusal(&stolen, &known);
        assert!(text.starts_with("image /vm/top: ") && text.contains("/vm/data (raw)"), "{text}");
    }
    // Nor does its own become something else.
    nodes[1].references[1].role = Role::Extent;
    assert!(refusal(&nodes, &known).contains("names the extent /vm/data"));
}

#[test]
fn an_exchanged_file_that_names_the_same_is_recorded_in_its_place() {
    let known = after_three();
    let nodes = chain(&[TOP, ("/vm/mid", 22, "qcow2"), BASE]);
    let verdict = judged(&nodes, &known);
    assert_eq!(verdict.renewals, [record_of(&nodes, &nodes[0]), record_of(&nodes, &nodes[1])]);
    assert_eq!(verdict.refusals, []);
    assert!(verdict.notices[0].starts_with("/vm/mid is another file"), "{verdict:?}");
    // One that names something else is not.
    assert!(refusal(&chain(&[TOP, ("/vm/mid", 22, "qcow2"), NEIGHBOUR]), &known).starts_with("image /vm/mid: "));
    assert!(!judged(&chain(&[("/vm/top", 11, "raw")]), &known).refusals.is_empty());
}

#[test]
fn renamed_images_take_their_records_along() {
    let known = after_three();
    let nodes = chain(&[("/new/top", 1, "qcow2"), ("/new/mid", 2, "qcow2"), ("/new/base", 3, "raw")]);
    let verdict = judged(&nodes, &known);
    assert_eq!(verdict.refusals, []);
    assert_eq!(verdict.removals, known.records);
    assert_eq!(verdict.renewals, after(&nodes).records);
    assert_eq!(verdict.notices[0], "/new/top was /vm/top when it was recorded; its record goes with it");
    // A neighbour is no less refused.
    let text = refusal(&chain(&[("/new/top", 1, "qcow2"), NEIGHBOUR]), &known);
    assert!(text.ends_with("broker chain accept --image-root /vm /new/top"), "{text}");
}

#[test]
fn a_used_inode_number_is_not_trusted() {
    let known = after_three();
    let mut nodes = chain(&[TOP, ("/vm/neighbour", 2, "qcow2")]);
    nodes[1].identity.born = Some((99, 0));
    assert!(!judged(&nodes, &known).refusals.is_empty());
    nodes[1].identity.born = None;
    assert!(!judged(&nodes, &known).refusals.is_empty());
}

#[test]
fn births_that_only_one_host_sees_are_kept() {
    let known = after_three();
    let mut nodes = chain(&[TOP, MID, BASE]);
    nodes.iter_mut().for_each(|node| node.identity.born = None);
    assert_eq!(judged(&nodes, &known), Verdict::default());
    let seen = judged(&chain(&[TOP, MID, BASE]), &after(&nodes));
    assert_eq!((seen.refusals, seen.renewals), (vec![], known.records));
}

#[test]
fn what_the_operator_names_is_not_compared() {
    let known = after_three();
    let mut nodes = chain(&[TOP, NEIGHBOUR]);
    nodes[0].follows_header = false;
    let verdict = judged(&nodes, &known);
    assert_eq!(verdict.refusals, []);
    // What the header says stays recorded.
    assert_eq!(verdict.renewals, [record("/vm/neighbour", 9, "qcow2")]);
    // Its format is no less its own.
    nodes[0].format = "raw".into();
    assert!(!judged(&nodes, &known).refusals.is_empty());
    // At a first start what is named is what may be named.
    nodes[0].format = "qcow2".into();
    let first = judged(&nodes, &Known::default());
    let known = Known { records: first.renewals, ..Known::default() };
    assert_eq!(judged(&chain(&[TOP, NEIGHBOUR]), &known), Verdict::default());
    assert!(!judged(&chain(&[TOP, MID]), &known).refusals.is_empty());
}

/// What is known after a guest with the whole chain has created `/snap/s1` and `/snap/s2`.
fn after_snapshots() -> Known {
    let images = [TOP, MID, BASE];
    let listed =
        images.map(|(path, inode, format)| Listed { path: path.into(), file: identity(inode), format: format.into() });
    let created = [("/snap/s1", 21), ("/snap/s2", 22)];
    let created = created.map(|(path, inode)| Created { path: path.into(), file: identity(inode) });
    let told = Told { images: listed.to_vec(), created: created.to_vec(), ..Told::default() };
    Known { journals: vec![told], ..after_three() }
}

const S1: (&str, u32, &str) = ("/snap/s1", 21, "qcow2");
const S2: (&str, u32, &str) = ("/snap/s2", 22, "qcow2");

#[test]
fn a_created_overlay_names_what_its_guest_had() {
    let known = after_snapshots();
    for images in [
        &[S1, TOP, MID, BASE][..],
        &[S2, S1, TOP, MID, BASE],
        &[S2, TOP, MID, BASE],
        &[S2, S1, BASE],
        &[S1, ("/snap/s2", 22, "raw")],
        &[("/elsewhere/s1", 21, "qcow2"), TOP, MID, BASE],
    ] {
        let nodes = chain(images);
        let verdict = judged(&nodes, &known);
        assert_eq!(verdict.refusals, [], "{images:?}");
        // Then it is an image like any other.
        let later = after(&nodes);
        assert_eq!(judged(&nodes, &later), Verdict::default());
        let top = images[0];
        assert!(!judged(&chain(&[top, NEIGHBOUR]), &later).refusals.is_empty());
    }
}

#[test]
fn a_created_overlay_names_nothing_else() {
    let known = after_snapshots();
    assert_eq!(
        refusal(&chain(&[S1, NEIGHBOUR]), &known),
        "image /snap/s1: a guest created it, and its header names the backing file /vm/neighbour (qcow2), which that \
         guest was not granted; if it may have it: broker chain accept --image-root /vm /snap/s1"
    );
    for images in [
        &[S2, S1, NEIGHBOUR][..],
        &[S1, ("/vm/mid", 2, "raw")],
        &[S1, ("/vm/neighbour", 3, "qcow2")],
        // What a guest created is read by that guest alone: a base that several may commit into does not bring it in.
        &[TOP, S1],
        &[BASE, S1],
        &[NEIGHBOUR, S1],
    ] {
        let mut known = after_snapshots();
        known.records.push(record("/vm/neighbour", 9, "qcow2"));
        assert!(!judged(&chain(images), &known).refusals.is_empty(), "{images:?}");
    }
}

#[test]
fn a_created_overlay_may_not_write_what_its_guest_could_read() {
    let known = after_snapshots();
    let mut nodes = chain(&[S1, BASE, S2]);
    nodes[1].references.clear();
    for role in [Role::DataFile, Role::Extent] {
        nodes[0].references = vec![NodeReference { role, target: 1, format: "raw".into() }];
        assert!(!judged(&nodes, &known).refusals.is_empty());
        // A data file that it created as well.
        nodes[0].references = vec![NodeReference { role, target: 2, format: "qcow2".into() }];
        assert_eq!(judged(&nodes, &known).refusals, []);
    }
}

#[test]
fn one_refusal_keeps_all_from_being_written() {
    let mut nodes = chain(&[TOP, NEIGHBOUR]);
    nodes.push(Node { path: "/vm/new".into(), identity: identity(50), ..nodes[1].clone() });
    let verdict = judged(&nodes, &after_three());
    assert_eq!((verdict.refusals.len(), verdict.renewals.len()), (1, 0));
}

#[test]
fn the_command_names_all_that_it_needs_and_moves_no_cursor() {
    let mut nodes =
        chain(&[("/vm/it's top\n", 1, "qcow2"), ("/pool/a b/mid", 7, "qcow2"), ("/pool/a b/c/base", 8, "raw")]);
    let known = Known { records: vec![record("/vm/it's top\n", 1, "qcow2")], ..Known::default() };
    let verdict = compare(&nodes, &known, Some(Path::new("/mnt/our chains"))).unwrap();
    let text = verdict.refusals[0].to_string();
    let command = r"broker chain accept --chain-dir '/mnt/our chains' --image-root '/pool/a b' $'/vm/it\'s top\012'";
    assert!(text.ends_with(command) && !text.contains(char::is_control), "{text}");
    // A reference to nothing is none.
    nodes[0].references[0].target = 99;
    assert_eq!(judged(&nodes, &known).refusals, []);
}

#[test]
fn long_and_looping_records_are_looked_at_a_bounded_number_of_times() {
    let names: Vec<String> = (1..2000).map(|number| format!("/vm/{number}")).collect();
    let images: Vec<(&str, u32, &str)> =
        names.iter().zip(1..).map(|(name, inode)| (name.as_str(), inode, "qcow2")).collect();
    let mut known = after(&chain(&images));
    assert!(!judged(&chain(&[images[0], ("/elsewhere", 5000, "qcow2")]), &known).refusals.is_empty());
    assert!(known.looked.get() <= CLOSURE_LIMIT + 2, "{}", known.looked.get());
    // The last one names the first.
    known = after(&chain(&[TOP, MID]));
    known.records[1].references.push(reference(Role::Backing, "/vm/top", 1, "qcow2"));
    assert!(!judged(&chain(&[TOP, NEIGHBOUR]), &known).refusals.is_empty());
}

#[test]
fn whole_chains_of_one_direct_look_cost_one_look_each() {
    let names: Vec<String> = (1..=200).map(|number| format!("/vm/{number}")).collect();
    let images: Vec<(&str, u32, &str)> =
        names.iter().zip(1..).map(|(name, inode)| (name.as_str(), inode, "qcow2")).collect();
    let nodes = chain(&images);
    let known = after(&nodes);
    assert_eq!(judged(&nodes, &known), Verdict::default());
    assert_eq!(known.looked.get(), 200);
}
