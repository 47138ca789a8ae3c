//! What QEMU's block layer does at run time gives the same under the broker as without it: the same answers and events,
//! the same bytes on the disk. `docs/reopens.md` has a row for each operation.

/// A test for each `NAME: OPERATION, VARIANT;`, and all these operations in `OPERATIONS`.
macro_rules! parity {
    ($($test:ident: $operation:expr, $variant:expr;)+) => {
        /// The operations that the tests of this file run.
        pub(crate) const OPERATIONS: &[tests::parity::Operation] = &[$($operation),+];

        $(
            #[test]
            fn $test() -> tests::Result<()> {
                tests::parity::compare(&$operation, &$variant)
            }
        )+
    };
}

mod backup;
mod commit;
mod dump;
mod media;
mod mirror;
mod overlay;
mod saved;
mod stream;
mod table;
mod within;

use tests::parity::{Guest, Operation, Variant};

/// An operation that needs no option of the broker and no further words for QEMU, and does nothing.
const PLAIN: Operation = Operation { row: "", options: "", arguments: &[], script: |_| Ok(()) };

/// The plain form with `-drive`, with a guest that writes.
const WRITING: Variant = Variant { guest: Guest::Writing, ..Variant::DRIVE };

/// All operations that are tested.
fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        backup::OPERATIONS,
        commit::OPERATIONS,
        dump::OPERATIONS,
        media::OPERATIONS,
        mirror::OPERATIONS,
        overlay::OPERATIONS,
        saved::OPERATIONS,
        stream::OPERATIONS,
        within::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}
