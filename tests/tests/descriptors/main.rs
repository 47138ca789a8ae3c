//! Images that the caller opened: `fd:N` in image names, and QEMU's own descriptor sets.

mod handed;
mod refused;
mod reopened;
mod sets;
