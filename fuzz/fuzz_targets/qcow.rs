//! The reader of qcow headers.
#![no_main]

use broker::prober::header::Format;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::read_header(Some(Format::Qcow), input));
