//! Records in a real folder, of real files.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::record::journal::{Created, Journal, Listed};
use crate::record::testing::{Folder, identity, record, reference};
use crate::record::{Role, text};

/// A folder with a store in `chains`, and files beside it.
fn scene() -> Result<(Folder, Store), Error> {
    let folder = Folder::new();
    let store = Store::open(&folder.path("chains"), place::Purpose::Write)?;
    Ok((folder, store))
}

/// What a start would record of a file that names nothing.
fn seen(path: &Path) -> io::Result<Record> {
    let (image, file) = (path.to_owned(), Identity::at(path)?);
    Ok(Record { image, file, format: "qcow2".into(), references: Vec::new() })
}

/// Whether the file system of the tests tells births; on one that does not, files are known by their paths only.
fn tells_births(folder: &Folder) -> bool {
    Identity::at(&folder.path("")).is_ok_and(|file| file.born.is_some())
}

fn reopened(folder: &Folder) -> Result<Store, Error> {
    Store::open(&folder.path("chains"), place::Purpose::Write)
}

#[test]
fn what_was_written_is_found_by_another_start() {
    let (folder, mut store) = scene().unwrap();
    fs::write(folder.path("top"), b"").unwrap();
    let mut written = seen(&folder.path("top")).unwrap();
    written.references.push(reference(Role::Backing, "/srv/base", 6, "raw"));
    assert_eq!(store.find(&written.image, written.file).unwrap(), Finding::Unknown);
    store.write(std::slice::from_ref(&written)).unwrap();
    for store in [store, reopened(&folder).unwrap(), Store::open(&folder.path("chains"), place::Purpose::Show).unwrap()]
    {
        let found = store.find(&written.image, written.file).unwrap();
        assert_eq!(found, Finding::Recorded(written.clone(), How::Same));
        assert_eq!(store.all().unwrap(), [written.clone()]);
    }
    let names = folder.names("chains");
    let hash = format!("{:016x}", fingerprint(written.image.as_os_str().as_bytes()));
    assert_eq!(names, [format!("{hash}-{}.chain", written.file)]);
    let mode = fs::metadata(folder.path("chains").join(&names[0])).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_folder_that_is_not_there_holds_nothing_and_is_not_made_for_looking() {
    let folder = Folder::new();
    let mut store = Store::open(&folder.path("chains"), place::Purpose::Show).unwrap();
    assert!(store.is_empty() && store.all().unwrap().is_empty());
    assert_eq!(store.find(Path::new("/a"), identity(1)).unwrap(), Finding::Unknown);
    assert!(matches!(store.write(&[record("/a", 1, "raw")]), Err(Error::Write { .. })));
    assert!(folder.names("").is_empty());
}

#[test]
fn one_path_has_one_record() {
    let (folder, mut store) = scene().unwrap();
    let path = folder.path("image");
    fs::write(&path, b"").unwrap();
    let first = seen(&path).unwrap();
    store.write(std::slice::from_ref(&first)).unwrap();
    // Restored from a copy: another file under the same name.
    fs::write(folder.path("copy"), b"").unwrap();
    fs::rename(folder.path("copy"), &path).unwrap();
    let second = seen(&path).unwrap();
    assert_eq!(store.find(&path, second.file).unwrap(), Finding::Recorded(first, How::Replaced));
    store.write(std::slice::from_ref(&second)).unwrap();
    for store in [store, reopened(&folder).unwrap()] {
        assert_eq!(store.find(&path, second.file).unwrap(), Finding::Recorded(second.clone(), How::Same));
        assert_eq!(store.all().unwrap().len(), 1);
    }
    assert_eq!(folder.names("chains").len(), 1);
}

#[test]
fn a_renamed_file_is_known_and_a_linked_one_too() {
    let (folder, mut store) = scene().unwrap();
    if !tells_births(&folder) {
        return;
    }
    let (old, new) = (folder.path("old"), folder.path("new"));
    fs::write(&old, b"").unwrap();
    let written = seen(&old).unwrap();
    store.write(std::slice::from_ref(&written)).unwrap();
    fs::hard_link(&old, &new).unwrap();
    assert_eq!(store.find(&new, written.file).unwrap(), Finding::Recorded(written.clone(), How::Linked));
    fs::remove_file(&old).unwrap();
    assert_eq!(store.find(&new, written.file).unwrap(), Finding::Recorded(written.clone(), How::Moved));
    // Something else lies where it was.
    fs::write(&old, b"").unwrap();
    assert_eq!(store.find(&new, written.file).unwrap(), Finding::Recorded(written.clone(), How::Moved));
    // A renamed file is known as itself, also where it takes the place of another one that is recorded.
    let renamed = seen(&new).unwrap();
    store.write(&[renamed.clone(), seen(&old).unwrap()]).unwrap();
    fs::rename(&new, &old).unwrap();
    assert_eq!(store.find(&old, renamed.file).unwrap(), Finding::Recorded(renamed, How::Moved));
}

#[test]
fn a_copy_or_a_used_number_is_unknown() {
    let (_folder, mut store) = scene().unwrap();
    let mut written = record("/nowhere/image", 7, "qcow2");
    store.write(std::slice::from_ref(&written)).unwrap();
    let elsewhere = Path::new("/nowhere/copy");
    let reborn = Identity { inode: 7, born: Some((8, 0)) };
    let nameless = Identity { inode: 7, born: None };
    for file in [identity(8), reborn, nameless] {
        assert_eq!(store.find(elsewhere, file).unwrap(), Finding::Unknown, "{file}");
    }
    assert_eq!(store.find(&written.image, nameless).unwrap(), Finding::Recorded(written.clone(), How::Same));
    assert_eq!(store.find(&written.image, reborn).unwrap(), Finding::Recorded(written.clone(), How::Replaced));
    // Where no birth is known, a file is itself by its path only.
    written.file = nameless;
    store.write(std::slice::from_ref(&written)).unwrap();
    for file in [identity(7), nameless] {
        assert_eq!(store.find(elsewhere, file).unwrap(), Finding::Unknown, "{file}");
        assert_eq!(store.find(&written.image, file).unwrap(), Finding::Recorded(written.clone(), How::Same));
    }
}

#[test]
fn the_path_inside_decides_where_two_hashes_are_the_same() {
    let (folder, mut store) = scene().unwrap();
    store.write(&[record("/a", 1, "qcow2")]).unwrap();
    let name = &folder.names("chains")[0];
    let other = text::write(&record("/b", 2, "raw")).unwrap();
    let forged = format!("{}{}{RECORD}", path_part(Path::new("/a")), identity(2));
    fs::write(folder.path("chains").join(&forged), other).unwrap();
    let mut store = reopened(&folder).unwrap();
    assert_eq!(store.of_path(Path::new("/a")).unwrap(), [record("/a", 1, "qcow2")]);
    assert_eq!(store.all().unwrap().len(), 2);
    store.write(&[record("/a", 3, "qcow2")]).unwrap();
    let names = folder.names("chains");
    assert!(names.contains(&forged) && !names.contains(name), "{names:?}");
}

#[test]
fn forgetting_removes_a_record_and_nothing_else() {
    let (folder, mut store) = scene().unwrap();
    fs::write(folder.path("there"), b"").unwrap();
    let there = seen(&folder.path("there")).unwrap();
    store.write(&[there.clone(), record("/nowhere/a", 1, "raw"), record("/nowhere/b", 2, "raw")]).unwrap();
    assert!(store.forget(Path::new("/nowhere/a")).unwrap());
    assert!(!store.forget(Path::new("/nowhere/a")).unwrap());
    assert_eq!(store.forget_missing().unwrap(), [PathBuf::from("/nowhere/b")]);
    assert_eq!(reopened(&folder).unwrap().all().unwrap(), [there]);
}

#[test]
fn a_verdict_is_carried_out_only_without_refusals() {
    let (folder, mut store) = scene().unwrap();
    let old = record("/nowhere/old", 1, "raw");
    store.write(std::slice::from_ref(&old)).unwrap();
    let renewals = vec![record("/nowhere/new", 1, "raw")];
    let mut verdict = Verdict { renewals: renewals.clone(), removals: vec![old.clone()], ..Verdict::default() };
    let command = crate::record::change::Accept::default();
    let what = crate::record::change::What::Format { old: "raw".into(), new: "qcow2".into() };
    verdict.refusals.push(crate::record::Change { image: old.image.clone(), what, command });
    store.renew(&verdict).unwrap();
    assert_eq!(reopened(&folder).unwrap().all().unwrap(), [old]);
    verdict.refusals.clear();
    store.renew(&verdict).unwrap();
    assert_eq!(reopened(&folder).unwrap().all().unwrap(), renewals);
}

#[test]
fn a_damaged_record_is_named_and_harms_no_other_image() {
    let (folder, mut store) = scene().unwrap();
    store.write(&[record("/nowhere/a", 1, "raw"), record("/nowhere/b", 2, "raw")]).unwrap();
    let name = file_name(&record("/nowhere/a", 1, "raw"));
    for bytes in [&b"version = 7"[..], b"", b"\xff", &vec![b'#'; text::LIMIT + 1]] {
        fs::write(folder.path("chains").join(&name), bytes).unwrap();
        let store = reopened(&folder).unwrap();
        assert!(matches!(store.find(Path::new("/nowhere/b"), identity(2)), Ok(Finding::Recorded(..))));
        let error = store.find(Path::new("/nowhere/a"), identity(1)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }) && error.to_string().contains(&name), "{error}");
    }
}

#[test]
fn only_regular_files_are_read() {
    let (folder, _) = scene().unwrap();
    let name = file_name(&record("/nowhere/a", 1, "raw"));
    let secret = text::write(&record("/nowhere/a", 1, "raw")).unwrap();
    fs::write(folder.path("elsewhere"), secret).unwrap();
    symlink(folder.path("elsewhere"), folder.path("chains").join(&name)).unwrap();
    let find = || reopened(&folder).unwrap().find(Path::new("/nowhere/a"), identity(1));
    assert!(matches!(find(), Err(Error::Read { .. })));
    fs::remove_file(folder.path("chains").join(&name)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("chains").join(&name), rustix::fs::Mode::RUSR).unwrap();
    assert!(matches!(find(), Err(Error::Read { .. })));
}

#[test]
fn what_crashes_leave_behind_is_removed_when_it_is_old() {
    let (folder, _) = scene().unwrap();
    let (old, young) = (folder.path("chains/1.new"), folder.path("chains/2.new"));
    fs::write(&young, b"").unwrap();
    let file = File::create(&old).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200)).unwrap();
    fs::write(folder.path("chains/README"), b"").unwrap();
    Store::open(&folder.path("chains"), place::Purpose::Show).unwrap();
    assert!(old.exists());
    reopened(&folder).unwrap();
    assert_eq!(folder.names("chains"), ["2.new", "README"]);
}

#[test]
fn a_created_file_is_known_until_it_is_recorded() {
    let (folder, store) = scene().unwrap();
    let top = Listed { path: "/srv/top".into(), file: identity(1), format: "qcow2".into() };
    let journal = Journal::start(&store, std::slice::from_ref(&top), &[folder.path("")]).unwrap();
    let path = folder.path("snap");
    fs::write(&path, b"").unwrap();
    let snap = seen(&path).unwrap();
    assert_eq!(reopened(&folder).unwrap().find(&path, snap.file).unwrap(), Finding::Unknown);
    journal.add(&path, snap.file).unwrap();
    // While the guest runs, after it, and under a new name.
    for (found_at, journal) in [(path.clone(), Some(journal)), (path.clone(), None), (folder.path("moved"), None)] {
        let store = reopened(&folder).unwrap();
        if found_at != path && !tells_births(&folder) {
            continue;
        }
        let Ok(Finding::Created(told)) = store.find(&found_at, snap.file) else { panic!("{found_at:?}") };
        assert_eq!(
            (told.images, told.created),
            (vec![top.clone()], vec![Created { path: path.clone(), file: snap.file }])
        );
        drop(journal);
    }
    let mut store = reopened(&folder).unwrap();
    store.write(std::slice::from_ref(&snap)).unwrap();
    assert_eq!(folder.names("chains").len(), 2);
    let store = reopened(&folder).unwrap();
    assert_eq!(store.find(&path, snap.file).unwrap(), Finding::Recorded(snap, How::Same));
    assert_eq!(folder.names("chains").len(), 1, "the journal has nothing more to tell");
}

#[test]
fn an_empty_journal_stays_while_its_guest_lives() {
    let (folder, store) = scene().unwrap();
    let journal = Journal::start(&store, &[], &[]).unwrap();
    // As a fork has it.
    let copy = journal.as_fd().try_clone_to_owned().unwrap();
    drop(journal);
    reopened(&folder).unwrap();
    assert_eq!(folder.names("chains").len(), 1);
    drop(copy);
    Store::open(&folder.path("chains"), place::Purpose::Show).unwrap();
    assert_eq!(folder.names("chains").len(), 1);
    reopened(&folder).unwrap();
    assert!(folder.names("chains").is_empty());
}

#[test]
fn a_journal_of_files_that_are_gone_is_forgotten_with_them() {
    let (folder, store) = scene().unwrap();
    let journal = Journal::start(&store, &[], &["/nowhere".into()]).unwrap();
    journal.add(Path::new("/nowhere/snap"), identity(9)).unwrap();
    let mut store = reopened(&folder).unwrap();
    store.forget_missing().unwrap();
    assert_eq!(folder.names("chains").len(), 1, "its guest lives");
    drop(journal);
    // The file may only have been moved.
    reopened(&folder).unwrap();
    assert_eq!(folder.names("chains").len(), 1);
    reopened(&folder).unwrap().forget_missing().unwrap();
    assert!(folder.names("chains").is_empty());
}
