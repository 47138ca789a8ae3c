//! Chains without an end.

use std::path::PathBuf;

use super::super::{Case, Entry, Group, Qcow2};
use super::{disk, qcow2};

/// Images in the longest chain that is tried.
const DEEP: usize = 300;
/// Backing files that a chain may have.
const DEPTH: usize = 200;

/// Loops, and chains that are too deep.
#[must_use]
pub fn chains() -> Group {
    let over = |name: &str| Qcow2::new().over(name, "qcow2");
    let in_itself = "its own";
    let hostile = vec![
        qcow2("over itself", &over("top.qcow2")).says([in_itself]),
        qcow2("two", &over("mid.qcow2"))
            .file("mid.qcow2", over("top.qcow2").bytes())
            .blames("mid.qcow2")
            .says([in_itself]),
        qcow2("by another spelling", &over("././/top.qcow2")).says([in_itself]),
        qcow2("by a link", &over("link.qcow2"))
            .with("link.qcow2", Entry::Link(PathBuf::from("top.qcow2")))
            .says([in_itself]),
        qcow2("by a data file", &Qcow2::new().data_file("top.qcow2")).says(["data file"]),
        deep("300 deep", DEEP).blames("200.qcow2").says(["more than 200"]),
    ];
    let honest = vec![deep("200 deep", DEPTH)];
    Group { honest, hostile }
}

/// A chain of this many backing files, the last one raw.
fn deep(name: &str, depth: usize) -> Case {
    let member = |number: usize| match number {
        _ if number == depth => Qcow2::new().over("base.raw", "raw").bytes(),
        _ => Qcow2::new().over(format!("{number}.qcow2"), "qcow2").bytes(),
    };
    let case = Case::new(name, "top.qcow2", "qcow2", member(1)).file("base.raw", disk());
    (1..depth).fold(case, |case, number| case.file(format!("{number}.qcow2"), member(number + 1)))
}
