//! A corpus of lists, each with what it comes to.

use broker::bridge_acl::AccessList;
use tests::{Result, Workdir};

use crate::{check, write};

/// Files, the list first; bridges that user 1000 of group 1000 may use; bridges that they may not, with a part of what
/// is said.
type Accepted =
    (&'static [(&'static str, &'static str)], &'static [&'static str], &'static [(&'static str, &'static str)]);

/// Lists that are understood.
const ACCEPTED: &[Accepted] = &[
    (
        &[("list", "")],
        &[],
        &[("br0", "no rule of @/list allows it to user 1000; the administrator can add the line \"allow br0\"")],
    ),
    (&[("list", "# all comments\n\n \t\n\t# allow br0\n")], &[], &[("br0", "no rule of @/list")]),
    (&[("list", "allow br0\n")], &["br0"], &[("br1", "\"allow br1\""), ("br00", "no rule"), ("br", "no rule")]),
    (&[("list", "allow br0")], &["br0"], &[]),
    (&[("list", "allow br0\r\nallow br1\r\n\r\n")], &["br0", "br1"], &[("br2", "no rule")]),
    (&[("list", "  allow\t br0 \t\n\tallow\tbr1 \n")], &["br0", "br1"], &[]),
    (
        &[("list", "allow all\ndeny br1")],
        &["br0", "all"],
        &[("br1", "bridge br1 is denied by @/list line 2 (\"deny br1\")")],
    ),
    (&[("list", "deny br0\nallow br0")], &[], &[("br0", "is denied by @/list line 1 (\"deny br0\")")]),
    (&[("list", "allow br0\ndeny all")], &[], &[("br0", "is denied by @/list line 2 (\"deny all\")")]),
    (&[("list", "allow BR0")], &["BR0"], &[("br0", "no rule")]),
    (&[("list", "allow a-name-of-15-by\nallow fifteen-bytes-x")], &[], &[]),
    (&[("list", "allow br0.100\nallow #\nallow br\u{e9}")], &["br0.100", "#", "br\u{e9}"], &[]),
    (&[("list", "allow br0 user:1000\nallow br1 user:1001")], &["br0"], &[("br1", "to user 1000")]),
    (&[("list", "allow br0 user:root group:1000")], &["br0"], &[]),
    (
        &[("list", "allow all\ndeny br0 group:1000\ndeny br1 user:root")],
        &["br1"],
        &[("br0", "(\"deny br0 group:1000\")")],
    ),
    (
        &[("list", "include @/more\nallow br0"), ("more", "allow br1\ndeny br2\n")],
        &["br0", "br1"],
        &[("br2", "denied by @/more line 2")],
    ),
    (
        &[("list", "allow br0\n#\ninclude @/a b # c"), ("a b # c", "deny br0")],
        &[],
        &[("br0", "denied by @/a b # c line 1")],
    ),
    (&[("list", "include @/a\ninclude @/a"), ("a", "include @/b"), ("b", "allow br0")], &["br0"], &[]),
];

/// Files, the list first; a part of what is said.
const REFUSED: &[(&[(&str, &str)], &str)] = &[
    (&[("list", "allow")], "@/list line 1: the name of a bridge is missing"),
    (&[("list", "allow br0\ndeny \t\n")], "@/list line 2: the name of a bridge is missing"),
    (&[("list", "\n\nalow br0\n")], "@/list line 3: unknown word \"alow\"; lines begin with allow, deny, include or #"),
    (&[("list", "ALLOW br0")], "@/list line 1: unknown word \"ALLOW\""),
    (&[("list", "allow,br0")], "@/list line 1: unknown word"),
    (&[("list", "\u{feff}allow br0")], "@/list line 1: unknown word"),
    (&[("list", "allow br0 # mine")], "@/list line 1: a comment must stand on a line of its own"),
    (&[("list", "allow br0 br1")], "@/list line 1: \"br1\" is not understood; behind the bridge stand only user:NAME"),
    (&[("list", "allow br0 all")], "@/list line 1: \"all\" is not understood"),
    (&[("list", "allow br0 user:")], "@/list line 1: \"user:\" names nobody"),
    (&[("list", "allow br0 group:4294967295")], "@/list line 1: \"group:4294967295\" names nobody"),
    (&[("list", "allow br1 user:no-such-user")], "@/list line 1: there is no user \"no-such-user\" on this host"),
    (&[("list", "deny br1 group:no-such-group")], "@/list line 1: there is no group \"no-such-group\""),
    (&[("list", "allow a-name-of-16-byt\n#")], "@/list line 1: \"a-name-of-16-byt\" is no name of a network interface"),
    (&[("list", "allow br/0")], "@/list line 1: \"br/0\" is no name"),
    (&[("list", "deny br0\u{b}")], "is no name of a network interface"),
    (&[("list", "deny br0\0\nallow br0")], "@/list line 1: the line has a zero byte in it"),
    (&[("list", "# \0\nallow br0")], "@/list line 1: the line has a zero byte in it"),
    (&[("list", "include")], "@/list line 1: the file to include is missing"),
    (&[("list", "include more"), ("more", "")], "@/list line 1: the path to include is not absolute"),
    (&[("list", "include ../files/more"), ("more", "")], "@/list line 1: the path to include is not absolute"),
    (&[("list", "allow br0\ninclude @/none")], "@/list line 2: include @/none: No such file or directory"),
    (&[("list", "include @/list")], "@/list line 1: include @/list: it is being read already"),
    (&[("list", "include @/../files/list")], "@/list line 1: include @/../files/list: it is being read already"),
    (
        &[("list", "include @/a"), ("a", "\ninclude @/b"), ("b", "include @/a")],
        "@/b line 1: include @/a: it is being read already",
    ),
    (&[("list", "allow br0\ninclude @/a"), ("a", "allow br1\ndeny")], "@/a line 2: the name of a bridge is missing"),
    (&[("list", "include @")], "@/list line 1: include @: it is no regular file"),
    (&[("list", "include /dev/null")], "@/list line 1: include /dev/null: it is no regular file"),
];

#[test]
fn lists_that_are_understood() -> Result<()> {
    for (files, allowed, refused) in ACCEPTED {
        let workdir = Workdir::new()?;
        let folder = workdir.files();
        let list = AccessList::read(&write(&workdir, files)?);
        let list = list.unwrap_or_else(|error| panic!("{files:?}: {error}"));
        for bridge in *allowed {
            check(&list, &[bridge], 1000, 1000).unwrap_or_else(|error| panic!("{files:?}: {error}"));
        }
        for (bridge, part) in *refused {
            let message = check(&list, &[bridge], 1000, 1000).unwrap_err().to_string();
            let part = part.replace('@', &folder.to_string_lossy());
            assert!(message.contains(&part) && message.contains(&format!("bridge {bridge}")), "{files:?}: {message}");
        }
    }
    Ok(())
}

#[test]
fn lists_that_are_not() -> Result<()> {
    for (files, part) in REFUSED {
        let workdir = Workdir::new()?;
        let part = part.replace('@', &workdir.files().to_string_lossy());
        let message = AccessList::read(&write(&workdir, files)?).unwrap_err().to_string();
        assert!(message.contains(&part) && !message.contains('\n'), "{files:?}: {message}");
    }
    Ok(())
}

#[test]
fn lines_and_files_have_an_end() -> Result<()> {
    let (long, longer) = (format!("#{}\nallow br0", "x".repeat(4094)), format!("#{}allow br0", "x".repeat(4095)));
    let (many, more) = ("allow br0\n".repeat(6_553), "allow br0\n".repeat(6_554));
    let deep: Vec<(String, String)> =
        (0..9).map(|number| (format!("f{number}"), format!("include @/f{}", number + 1))).collect();
    let mut deep: Vec<(&str, &str)> = deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (wide, wider) = ("include @/a\n".repeat(63), "include @/a\n".repeat(64));
    for (files, part) in [
        (vec![("list", long.as_str())], None),
        (vec![("list", &longer)], Some("list line 1: the line has more than 4095 bytes")),
        (vec![("list", &many)], None),
        (vec![("list", &more)], Some("list: it has more than 65536 bytes")),
        (vec![("list", &wide), ("a", "allow br0")], None),
        (vec![("list", &wider), ("a", "allow br0")], Some("list line 64: include")),
        (std::mem::take(&mut deep), Some("f7 line 1: include")),
    ] {
        let workdir = Workdir::new()?;
        let list = AccessList::read(&write(&workdir, &files)?);
        match (list, part) {
            (Ok(list), None) => check(&list, &["br0"], 1000, 1000).unwrap(),
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (list, part) => panic!("{part:?}: {list:?}"),
        }
    }
    Ok(())
}
