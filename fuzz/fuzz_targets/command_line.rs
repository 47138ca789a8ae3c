//! The emulator's command line: option names, `key=value` lists, JSON, `-drive`, `-blockdev`, `-readconfig`,
//! networks and what becomes of their words.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::read_command_line(input));
