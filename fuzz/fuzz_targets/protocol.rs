//! Packets between the agent and the broker.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::decode_packet(input));
