//! What a journal says, and what nobody can make it say.

use super::*;
use crate::record::testing::identity;

fn listed(path: &str, inode: u32) -> Listed {
    Listed { path: path.into(), file: identity(inode), format: "qcow2".into() }
}

/// The head of a journal whose guest was started at second 50 and may create beneath `/snap`.
fn head() -> String {
    let text = header(&[listed("/srv/top 1\n%", 1), listed("/srv/base", 2)], &["/snap".into()]);
    let lines = text.lines().map(|line| if line.starts_with("started") { "started 50.000000000" } else { line });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn told(lines: &str) -> Told {
    Told::read(format!("{}{lines}", head()).as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_journal_reads_as_it_was_written() {
    let told = told("created 77 77.000000077 /snap/s 1\ncreated 78 0 /snap/a/s%0A2\n");
    assert_eq!(told.images, [listed("/srv/top 1\n%", 1), listed("/srv/base", 2)]);
    let nameless = Identity { inode: 78, born: None };
    let expected = [("/snap/s 1", identity(77)), ("/snap/a/s\n2", nameless)];
    assert_eq!(told.created, expected.map(|(path, file)| Created { path: path.into(), file }));
    assert_eq!((told.started, told.folders), ((50, 0), vec![PathBuf::from("/snap")]));
}

#[test]
fn a_line_cut_by_a_crash_is_left_out() {
    let whole = "created 77 77.000000077 /snap/s1\n";
    for cut in 0..whole.len() {
        assert_eq!(told(&format!("{whole}{}", &whole[..cut])).created.len(), 1);
    }
}

#[test]
fn the_confined_broker_can_neither_grant_nor_claim() {
    for line in [
        "image qcow2 9 9.000000009 /srv/neighbour",
        "folder /",
        "created 9 9.000000009 /srv/neighbour",
        "created 9 9.000000009 /snap",
        "created 9 9.000000009 /snap/../srv/neighbour",
        "created 9 9.000000009 snap/x",
        "created 9 /snap/x",
        "created 9 9.000000009 /snap/%0",
        "created x 9.000000009 /snap/x",
        "begin",
        "",
        "\u{ff}",
    ] {
        let told = told(&format!("{line}\ncreated 77 77.000000077 /snap/s1\n"));
        assert_eq!((told.images.len(), told.folders.len()), (2, 1), "{line}");
        assert_eq!(told.created, [Created { path: "/snap/s1".into(), file: identity(77) }], "{line}");
    }
}

#[test]
fn a_file_under_another_name_must_be_younger_than_the_guest() {
    let told = told("created 77 77.000000077 /snap/young\ncreated 9 9.000000009 /snap/old\ncreated 80 0 /snap/any\n");
    let nameless = Identity { inode: 80, born: None };
    for (path, file, is_created) in [
        ("/snap/young", identity(77), true),
        ("/elsewhere", identity(77), true),
        ("/snap/young", identity(78), false),
        // Whoever took the broker over wrote down what a neighbour's image is.
        ("/srv/neighbour", identity(9), false),
        ("/snap/old", identity(9), true),
        ("/snap/any", nameless, true),
        ("/snap/any", identity(80), true),
        ("/elsewhere", identity(80), false),
        ("/elsewhere", nameless, false),
    ] {
        assert_eq!(told.has_created(Path::new(path), file), is_created, "{path} {file}");
    }
}

#[test]
fn what_was_granted_is_known_by_its_path_or_by_itself() {
    let base = listed("/srv/base", 2);
    for (path, inode, is_at) in
        [("/srv/base", 2, true), ("/elsewhere", 2, true), ("/srv/base", 3, true), ("/elsewhere", 3, false)]
    {
        assert_eq!(base.is_at(Path::new(path), identity(inode)), is_at, "{path} {inode}");
    }
}

#[test]
fn a_head_that_makes_no_sense_is_an_error() {
    let good = head();
    for (bad, damage) in [
        (String::new(), Damage::Version),
        (good.replace("version 1", "version 2"), Damage::Version),
        (good.replace("begin\n", ""), Damage::Cut),
        (good.replace("begin", "beg"), Damage::Cut),
        (good.replace("folder ", "folders "), Damage::Cut),
        (good.replace("started 50.", "started 50"), Damage::Line("started")),
        (good.replace("folder /", "folder "), Damage::Line("folder")),
        (good.replace("image qcow2 2 ", "image q/2 2 "), Damage::Line("image")),
    ] {
        assert_eq!(Told::read(bad.as_bytes()), Err(damage), "{bad}");
    }
}

#[test]
fn a_flood_of_lines_is_read_no_further_than_the_limit() {
    let line = "created 77 77.000000077 /snap/s1\n";
    let bytes = [head().as_bytes(), &line.repeat(LIMIT / line.len() + 10).into_bytes()].concat();
    let told = Told::read(&bytes).unwrap();
    assert!(told.created.len() <= LIMIT / line.len() && told.created.len() > LIMIT / line.len() - 100);
}
