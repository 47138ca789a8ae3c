//! The smallest guest: 512 bytes that say they are alive on the first serial port, then write one sector of
//! their own disk over and over through the firmware, and say how each write went. It runs in real mode, so
//! it also runs where `/dev/kvm` can do no more than that.

/// What the guest prints first.
pub const ALIVE: &str = "BOOT-SECTOR: alive";
/// Printed after each sector written.
pub const WROTE: char = 'W';
/// Printed after each write that the disk refused.
pub const WRITE_FAILED: char = 'E';

/// Bytes in a sector, and where the boot signature stands in it (IBM PC boot convention).
const SECTOR: usize = 512;
const SIGNATURE_AT: usize = 510;
/// Size of the disk in bytes: one qcow2 cluster more than enough for two sectors.
const DISK: usize = 1 << 20;

/// The program, loaded at 0x7c00 with the drive's number in dl. BIOS interrupt 13h, function 3, writes a
/// sector; a `hlt` sleeps until the next tick of the timer (18 a second).
const PROGRAM: &[u8] = &[
    0xfa, //             cli
    0x31, 0xc0, //       xor ax, ax
    0x8e, 0xd8, //       mov ds, ax
    0x8e, 0xc0, //       mov es, ax
    0x8e, 0xd0, //       mov ss, ax
    0xbc, 0x00, 0x7c, // mov sp, 0x7c00
    0xfb, //             sti
    0x30, 0xf6, //       xor dh, dh           head 0
    0x89, 0xd7, //       mov di, dx           the drive
    0xbe, 0x41, 0x7c, // mov si, hello
    0xac, //      print: lodsb
    0x84, 0xc0, //       test al, al
    0x74, 0x05, //       je round
    0xe8, 0x20, 0x00, // call put
    0xeb, 0xf6, //       jmp print
    0xff, 0x06, 0x00, 0x80, // round: inc word [0x8000]
    0xb8, 0x01, 0x03, // mov ax, 0x0301       write one sector
    0xbb, 0x00, 0x80, // mov bx, 0x8000       from there
    0xb9, 0x02, 0x00, // mov cx, 2            to the second sector
    0x89, 0xfa, //       mov dx, di
    0xcd, 0x13, //       int 0x13
    0xb0, b'W', //       mov al, 'W'
    0x73, 0x02, //       jnc say
    0xb0, b'E', //       mov al, 'E'
    0xe8, 0x04, 0x00, // say: call put
    0xf4, //             hlt
    0xf4, //             hlt
    0xeb, 0xe2, //       jmp round
    0xba, 0xf8, 0x03, // put: mov dx, 0x3f8   the first serial port
    0xee, //             out dx, al
    0xc3, //             ret
];

/// A raw disk of 1 MiB that boots the guest. Its second sector starts as zeros and holds the number of
/// writes, little-endian in two bytes, once the guest ran.
#[must_use]
pub fn boot_disk() -> Vec<u8> {
    let mut disk = PROGRAM.to_vec();
    disk.extend_from_slice(ALIVE.as_bytes());
    disk.extend_from_slice(b"\r\n\0");
    disk.resize(SIGNATURE_AT, 0);
    disk.extend_from_slice(&[0x55, 0xaa]);
    debug_assert_eq!(disk.len(), SECTOR);
    disk.resize(DISK, 0);
    disk
}
