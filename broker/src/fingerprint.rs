//! A number that stands for bytes where they cannot stand themselves: in the names of files.

/// FNV-1a of 64 bits (Fowler, Noll, Vo): the same in every build. Who wants two inputs to collide can have that, so a
/// file that is found by it says itself what it is about.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of the FNV reference page (isthe.com/chongo/tech/comp/fnv).
    #[test]
    fn it_is_fnv_1a() {
        assert_eq!(fingerprint(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fingerprint(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
