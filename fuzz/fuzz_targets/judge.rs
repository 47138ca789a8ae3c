//! What a prober says that an image has taken over.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::judge_answer(input));
