//! Programs that stand beside QEMU and speak to it over sockets, each the real one: an emulated TPM, daemons that serve
//! folders, disks and random numbers, servers and clients of NBD and of TLS; and the kernel's huge pages.

mod datagrams;
mod disks;
mod folders;
mod huge_pages;
mod keys;
mod nbd;
mod random;
mod scene;
mod tpm;
