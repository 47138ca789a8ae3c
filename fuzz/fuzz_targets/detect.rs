//! An image whose format nobody states.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::read_header(None, input));
