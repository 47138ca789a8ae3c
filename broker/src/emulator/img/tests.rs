use super::super::resource::{Backing, Image};
use super::super::testing::{image, images, names, ro, rw, tool_line};
use super::super::{CommandLine, Program};
use super::*;

fn img(words: &[&str]) -> Result<CommandLine, Error> {
    tool_line("qemu-img", words)
}

/// What a command line reads, makes and writes, sorted: `r:NAME`, `t:NAME`, `w:NAME`; `+` behind an image whose header is
/// followed, `?` where it is only printed.
fn found(words: &[&str]) -> String {
    let line = img(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert_eq!(line.program, Program::Img);
    let shown = |(name, kind): (&str, &Kind)| match kind {
        Kind::Image(Image { access, backing, format, .. }) => {
            let access = if *access == Access::ReadOnly { "r" } else { "w" };
            let below = match backing {
                Backing::Header => "+",
                Backing::Shown => "?",
                Backing::Ignored => "",
            };
            format!("{access}:{name}:{}{below}", format.as_deref().unwrap_or("-"))
        }
        Kind::Target => format!("t:{name}"),
        other => format!("{other:?}:{name}"),
    };
    let mut all: Vec<String> = names(&line).into_iter().map(shown).collect();
    all.sort();
    all.join(" ")
}

#[test]
fn every_command_and_what_it_does_with_its_operands() {
    for (words, expected) in [
        ("info a", "r:a:-?"),
        ("info -f qcow2 a --output=json -U", "r:a:qcow2?"),
        ("info --backing-chain -f qcow2 a", "r:a:qcow2+"),
        ("info -f raw a", "r:a:raw"),
        ("check -q -f qcow2 a", "r:a:qcow2+"),
        ("check -r all -f qcow2 a", "w:a:qcow2+"),
        ("check --repair=leaks a", "w:a:-+"),
        ("map -f raw -s 1k -l 2k a", "r:a:raw"),
        ("compare -f raw -F qcow2 a b", "r:a:raw r:b:qcow2+"),
        ("compare -f qcow2 a b", "r:a:qcow2+ r:b:-+"),
        ("measure -O qcow2 -o backing_file=/x --size 1G", ""),
        ("measure -O qcow2 -f raw a", "r:a:raw"),
        ("bench -c 10 -f raw a", "r:a:raw"),
        ("bench -wf raw a", "w:a:raw"),
        ("amend -f qcow2 -o compat=v3,backing_file=x a", "w:a:qcow2+"),
        ("resize -f raw a -1G", "w:a:raw"),
        ("resize --shrink a -f", "w:a:-+"),
        ("snapshot -l a", "r:a:-+"),
        ("snapshot -c -l a", "w:a:-+"),
        ("snapshot a", "w:a:-+"),
        ("commit -f qcow2 -b base a", "w:a:qcow2+"),
        ("bitmap -f qcow2 --add a name", "w:a:qcow2"),
        ("bitmap --merge x -F qcow2 -b s -f qcow2 a name", "w:a:qcow2 r:s:qcow2"),
        ("rebase -f qcow2 -b d/new -F raw d/a", "w:d/a:qcow2+ r:d/d/new:raw"),
        ("rebase -u -f qcow2 -b /etc/shadow -F raw a", "w:a:qcow2"),
        ("create a 1G", "t:a"),
        ("create -f qcow2 -F raw -b base d/a", "t:d/a r:d/base:raw"),
        ("create -f qcow2 -o backing_fmt=raw -o backing_file=/b a", "t:a r:/b:raw"),
        ("create -f qcow2 -u -F raw -b nbd://x a 1G", "t:a"),
        ("create -f qcow2 -o data_file=d.raw,size=1G a", "t:d.raw t:a"),
        ("convert -f qcow2 -O raw a b", "r:a:qcow2+ t:b"),
        ("convert -pO raw a b c", "r:a:-+ r:b:-+ t:c"),
        ("convert -f raw -O qcow2 -B base -F qcow2 a out", "r:a:raw t:out r:base:qcow2+"),
        ("convert -n -f raw a b", "r:a:raw w:b:raw"),
        ("convert -n -f raw -O qcow2 a b", "r:a:raw w:b:qcow2+"),
        ("dd -f qcow2 -O raw bs=1M count=1 if=a of=b", "r:a:qcow2+ t:b"),
        ("dd of=b", ""),
        ("convert a", ""),
        ("info a b", ""),
        ("resize a", ""),
        ("resize", ""),
        ("info -- -f", "r:-f:-?"),
        ("info file:a:b", "NoFile:file:a:b r:a:b:-?"),
        ("create file:a 1M", "NoFile:file:a t:a"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let mut expected: Vec<&str> = expected.split_terminator(' ').collect();
        expected.sort_unstable();
        assert_eq!(found(&words), expected.join(" "), "{words:?}");
    }
}

#[test]
fn a_trace_is_written_before_the_command_is_read() {
    let line = img(&["-T", "enable=x,file=log", "info", "-f", "raw", "a"]).unwrap();
    assert_eq!(names(&line)[0], ("log", &Kind::OutputFile { append: false }));
    assert_eq!(line.resources.len(), 2);
}

#[test]
fn operands_may_be_options_of_nodes() {
    let words = ["convert", "--image-opts", "--target-image-opts", "-n"];
    let source = "driver=qcow2,file.driver=file,file.filename=a,,b";
    let target = "driver=raw,file.filename=t";
    assert_eq!(found(&[&words[..], &[source, target]].concat()), "r:a,b:qcow2+ w:t:raw");
    let line = img(&["map", "--image-opts", "driver=raw,file.filename=x,file.aio=io_uring"]).unwrap();
    assert!(line.io_uring);
    let line = img(&["info", "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"a\"}}"]).unwrap();
    assert_eq!(images(&line), [image("a", Some("qcow2"), ro(), Backing::Shown)]);
}

#[test]
fn a_commit_writes_one_backing_file() {
    let commit = |words: &[&str]| match &img(words).unwrap().resources[0].kind {
        Kind::Image(image) => (image.access, image.commit.clone()),
        kind => panic!("{kind:?}"),
    };
    assert_eq!(commit(&["commit", "-f", "qcow2", "a"]), (rw(), Some(CommitInto::Nearest)));
    assert_eq!(commit(&["commit", "-b", "x", "a"]), (rw(), Some(CommitInto::Named("x".into()))));
    assert_eq!(commit(&["commit", "-f", "raw", "a"]), (rw(), None));
}

#[test]
fn what_only_prints_names_nothing() {
    for words in [
        &[][..],
        &["-V"],
        &["--help"],
        &["--version", "info", "rbd:x"],
        &["info", "--help"],
        &["convert", "-h", "rbd:x", "y"],
        &["create", "-f", "qcow2", "-o", "help"],
        &["convert", "-O", "qcow2", "-o", "?"],
    ] {
        let line = img(words).unwrap();
        assert!(line.informational && line.resources.is_empty(), "{words:?}");
    }
}

#[test]
fn what_is_unknown_or_elsewhere_is_refused_by_name() {
    for (words, text) in [
        (&["info", "-x", "a"][..], "info -x: unknown option"),
        (&["-x"], "qemu-img -x: unknown option"),
        (&["frob", "a"], "qemu-img frob: unknown command"),
        (&["convert", "--object"], "convert --object: its argument is missing"),
        (&["convert", "a", "ssh://h/x"], "convert ssh://h/x: the protocol ssh: is not served"),
        (&["convert", "a", "json:{}"], "convert json:{}: the protocol json: is not served"),
        (&["info", "-f", "nfs", "a"], "info a: the block driver nfs is not served"),
        (&["map", "--image-opts", "driver=ssh,path=/x"], "map driver=ssh,path=/x: the block driver ssh"),
        (&["create", "-f", "qcow2", "-b", "nbd://x", "a"], "create -b nbd://x: the backing file nbd://x is not served"),
        (
            &["create", "-f", "qcow2", "-o", "backing_file=/proc/1/x", "a"],
            "create -o backing_file=/proc/1/x: the backing",
        ),
        (&["rebase", "-b", "/dev/fdset/0", "a"], "rebase -b /dev/fdset/0: the backing file"),
        (
            &["create", "-f", "vmdk", "-o", "subformat=monolithicFlat", "a", "1M"],
            "create -o subformat=monolithicFlat: the layout subformat=monolithicFlat",
        ),
        (&["info", "--object", "secret_keyring,id=t", "a"], "info --object secret_keyring,id=t: the object type"),
    ] {
        let error = img(words).unwrap_err().to_string();
        assert!(error.starts_with(text), "{words:?}: {error}");
    }
}
