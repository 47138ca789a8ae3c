//! Access lists for bridges.

use std::path::Path;

use broker::bridge_acl::{AccessList, Caller, FileFault, Host, Text};

/// Between the files of an input: a record separator, which no list has.
const SEPARATOR: u8 = 0x1e;

/// Bridges, by all their names.
const BRIDGES: [&[&str]; 4] = [&["br0"], &["br1", "lan"], &["virbr0"], &["#"]];

/// `/0` is the list, and `/1`, `/2` ... are there to be included; user `alice` is 1, group `kvm` is 2.
struct Files(Vec<Vec<u8>>);

impl Files {
    fn new(input: &[u8], behind: &[u8]) -> Self {
        let mut files: Vec<Vec<u8>> = input.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec).collect();
        if let Some(list) = files.first_mut() {
            list.extend(behind);
        }
        Self(files)
    }

    fn read_list(&self) -> Result<AccessList, String> {
        AccessList::read_on(self, Path::new("/0")).map_err(|error| error.to_string())
    }
}

impl Host for Files {
    fn read(&self, path: &Path) -> Result<Text, FileFault> {
        let number = path.to_str().and_then(|path| path.strip_prefix('/')?.parse::<u32>().ok());
        let found = number.and_then(|number| Some((number, self.0.get(usize::try_from(number).ok()?)?)));
        let (number, bytes) = found.ok_or_else(|| FileFault::Missing(std::io::ErrorKind::NotFound.into()))?;
        Ok(Text { bytes: bytes.clone(), identity: (0, number.into()) })
    }

    fn user(&self, name: &str) -> std::io::Result<Option<u32>> {
        Ok((name == "alice").then_some(1))
    }

    fn group(&self, name: &str) -> std::io::Result<Option<u32>> {
        Ok((name == "kvm").then_some(2))
    }
}

/// Reads a list, twice: it says the same. A word that is not known spoils any list, a denial of all closes it, and what
/// is allowed is allowed by a word.
pub fn read_access_list(input: &[u8]) {
    let read = Files::new(input, b"").read_list();
    assert_eq!(read, Files::new(input, b"").read_list());
    assert!(Files::new(input, b"\nallows all").read_list().is_err());
    let closed = Files::new(input, b"\ndeny all").read_list();
    match (read, closed) {
        (Ok(list), Ok(closed)) => {
            let says_allow = input.windows(5).any(|word| word == b"allow");
            for names in BRIDGES {
                let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
                for caller in [Caller { uid: 1, groups: vec![1] }, Caller { uid: 3, groups: vec![3, 2] }] {
                    assert!(list.check(&names, &caller).is_err() || says_allow);
                    assert!(closed.check(&names, &caller).is_err());
                }
            }
        }
        (Err(error), Err(_)) => assert!(!error.contains('\n'), "{error}"),
        (read, closed) => panic!("{read:?}, with a denial of all {closed:?}"),
    }
}
