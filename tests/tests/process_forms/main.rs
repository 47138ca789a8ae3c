//! The forms in which QEMU is started: as another user, reading a command's output, and in whatever surroundings its
//! caller has. What can be compared is compared with the same start without the broker.

mod daemon;
mod descriptors;
mod incoming;
mod options;
mod surroundings;
mod users;
