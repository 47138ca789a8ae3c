//! Images that are mostly nothing, as a fuzzer can work on them.

use std::io;

use broker::prober::header::ReadAt;

/// Bytes in one part.
const PART: usize = 512;
/// Bytes in the number before each.
const NUMBER: usize = 2;

/// An image, packed as `tests/examples/fuzz_seeds.rs` does it: parts of 512 bytes, each behind its number (16 bits,
/// little-endian); the last one may be shorter. What is not there is zero, as far as the last part.
#[derive(Debug)]
pub struct Packed<'i> {
    input: &'i [u8],
    /// Where the image ends, in bytes.
    length: u64,
}

impl<'i> Packed<'i> {
    /// The image that `input` stands for.
    #[must_use]
    pub fn new(input: &'i [u8]) -> Self {
        let image = Self { input, length: 0 };
        let length = image.parts().map(|(offset, bytes)| offset + as_u64(bytes.len())).max().unwrap_or(0);
        Self { length, ..image }
    }

    /// Offset and content of each part.
    fn parts(&self) -> impl Iterator<Item = (u64, &'i [u8])> + use<'i> {
        self.input.chunks(NUMBER + PART).filter_map(|part| {
            let (number, bytes) = part.split_first_chunk::<NUMBER>()?;
            Some((u64::from(u16::from_le_bytes(*number)) * 512, bytes))
        })
    }
}

impl ReadAt for Packed<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = rest.min(buffer.len());
        let buffer = buffer.get_mut(..count).unwrap_or_default();
        buffer.fill(0);
        let end = offset.saturating_add(as_u64(count));
        for (start, bytes) in self.parts() {
            let (from, to) = (start.max(offset), (start + as_u64(bytes.len())).min(end));
            let range = |base: u64| as_usize(from - base)..as_usize(to - base);
            if from < to
                && let (Some(target), Some(source)) = (buffer.get_mut(range(offset)), bytes.get(range(start)))
            {
                target.copy_from_slice(source);
            }
        }
        Ok(count)
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
