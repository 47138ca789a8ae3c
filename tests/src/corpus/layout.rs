//! Bytes put where a format wants them.

/// An image that is being written; what nobody has put there is zero.
#[derive(Debug, Clone, Default)]
pub struct Layout(Vec<u8>);

impl Layout {
    /// Puts `bytes` at byte `offset`; the image grows as needed.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        self.grow(end);
        self.0.splice(offset..end, bytes.iter().copied());
    }

    /// Makes the image at least `length` bytes long.
    pub fn grow(&mut self, length: usize) {
        self.0.resize(self.0.len().max(length), 0);
    }

    /// What has been put together.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The length of a name as a header's 32-bit field states it.
pub(super) fn length_of(name: &[u8]) -> u32 {
    u32::try_from(name.len()).unwrap_or(u32::MAX)
}
