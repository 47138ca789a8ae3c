//! `docs/reopens.md` has a row for each operation that is tested, and none for another.

use std::collections::BTreeSet;

use tests::parity::Operation;

/// The page, as it was when the tests were built.
const PAGE: &str = include_str!("../../../docs/reopens.md");

/// The head of the tables that count.
const HEAD: &str = "| operation | opens | option |";

/// The first and last column of all rows of the page.
fn rows() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut lines = PAGE.lines();
    while lines.any(|line| line == HEAD) {
        for line in lines.by_ref().skip(1).take_while(|line| line.starts_with('|')) {
            let cells = line.trim_matches('|').replace("\\|", "/");
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            rows.extend(cells.first().zip(cells.last()).map(|(row, option)| (row.to_string(), option.to_string())));
        }
    }
    rows
}

/// How an operation's options stand in the table.
fn written(operation: &Operation) -> String {
    if operation.options.is_empty() { "none".to_owned() } else { format!("`{}`", operation.options) }
}

#[test]
fn the_page_and_the_tests_have_the_same_operations_and_options() {
    let rows = rows();
    let on_page: BTreeSet<(String, String)> = rows.iter().cloned().collect();
    assert_eq!(on_page.len(), rows.len(), "a row stands there twice");
    let tested = crate::operations().map(|operation| (operation.row.to_owned(), written(operation))).collect();
    let only = |one: &BTreeSet<_>, other: &BTreeSet<_>| format!("{:#?}", one.difference(other).collect::<Vec<_>>());
    assert!(on_page == tested, "no test: {}; no row: {}", only(&on_page, &tested), only(&tested, &on_page));
}
