//! An access list for bridges, and the files that it includes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::read_access_list(input));
