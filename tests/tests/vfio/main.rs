//! Devices of the host that a guest is given by VFIO. They are those of a test machine (see `tests/vm/devices`), so that no
//! disk of anybody is written.

mod boot;
mod denied;
mod missing;
mod scene;
