//! Hostile images: headers that name what they must not, or lie about themselves. The bytes are written here and not by
//! `qemu-img`, which would not write them.
//!
//! [`cases`] has one [`Case`] for each attack, in groups, each with honest images of the same make: if those did not
//! start either, a refusal would prove nothing. The fuzz targets begin with the same bytes.

mod case;
pub mod cases;
mod layout;
mod qcow;
pub mod qcow2;
mod qed;
mod vhdx;
mod vmdk;
mod vpc;

pub use case::{Case, Entry, Group};
pub use qcow::qcow;
pub use qcow2::Qcow2;
pub use qed::qed;
pub use vhdx::vhdx;
pub use vmdk::Descriptor;
pub use vpc::vpc;
