//! Messages to bytes and back, with exactly one encoding for each message.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Violation;
use crate::limits::{MAGIC, MAX_MESSAGE, VERSION};
use crate::message::{Hello, Outcome, Reply, Request, Welcome};

/// What a [`Channel`](crate::Channel) carries: the four messages of the protocol, and those that the broker's programs
/// exchange among themselves over channels of their own.
pub trait Message: Serialize + DeserializeOwned {
    /// Whether the packet carries a descriptor (exactly one) or none.
    fn carries_descriptor(&self) -> bool {
        false
    }

    /// Judges what has to be known before the rest of the packet can be understood.
    ///
    /// # Errors
    /// [`Violation::NotThisProtocol`] or [`Violation::Version`] from a greeting.
    fn check_prefix(_packet: &[u8]) -> Result<(), Violation> {
        Ok(())
    }
}

impl Message for Hello {
    fn check_prefix(packet: &[u8]) -> Result<(), Violation> {
        check_greeting(packet)
    }
}

impl Message for Welcome {
    fn check_prefix(packet: &[u8]) -> Result<(), Violation> {
        check_greeting(packet)
    }
}

impl Message for Request {}

impl Message for Reply {
    fn carries_descriptor(&self) -> bool {
        matches!(self.outcome, Outcome::Descriptor | Outcome::Connecting)
    }
}

/// Another version's greeting may be longer than ours, so magic and version come first, and are
/// judged before anything is said about the rest.
fn check_greeting(packet: &[u8]) -> Result<(), Violation> {
    let (magic, rest) = postcard::take_from_bytes::<[u8; 4]>(packet)?;
    if magic != MAGIC {
        return Err(Violation::NotThisProtocol);
    }
    let (theirs, _) = postcard::take_from_bytes::<u16>(rest)?;
    if theirs != VERSION {
        return Err(Violation::Version { theirs });
    }
    Ok(())
}

/// Writes `message` into `buffer` and returns the bytes to send.
///
/// # Errors
/// Whatever postcard reports; with the bounds of this crate's types every message fits.
pub fn encode<'buffer>(
    message: &impl Serialize,
    buffer: &'buffer mut [u8; MAX_MESSAGE],
) -> Result<&'buffer [u8], postcard::Error> {
    postcard::to_slice(message, buffer).map(|bytes| &*bytes)
}

/// Reads the whole of `packet` as one message.
///
/// # Errors
/// A [`Violation`] when the packet is too long, malformed, has a value out of bounds, goes on
/// behind the message, or spells the message in another way than [`encode`] does.
pub fn decode<M: Message>(packet: &[u8]) -> Result<M, Violation> {
    if packet.len() > MAX_MESSAGE {
        return Err(Violation::Oversize);
    }
    M::check_prefix(packet)?;
    let (message, rest) = postcard::take_from_bytes::<M>(packet)?;
    if !rest.is_empty() {
        return Err(Violation::TrailingBytes { count: rest.len() });
    }
    // Variable-length integers can be padded; whoever pads them is not one of our clients.
    match postcard::serialize_with_flavor(&message, Comparison { expected: packet }) {
        Ok(true) => Ok(message),
        Ok(false) | Err(_) => Err(Violation::NotCanonical),
    }
}

/// Where an encoding is compared with the bytes that arrived, without a buffer of its own.
struct Comparison<'packet> {
    expected: &'packet [u8],
}

impl Flavor for Comparison<'_> {
    /// Whether all expected bytes were seen.
    type Output = bool;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        let rest = self.expected.strip_prefix(data);
        self.expected = rest.ok_or(postcard::Error::DeserializeBadEncoding)?;
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.expected.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{RequestBody, RequestId};
    use crate::name::Name;

    fn unlink() -> Vec<u8> {
        let body = RequestBody::Unlink { name: Name::new(*b"a").unwrap() };
        let request = Request { id: RequestId(1), body };
        let mut buffer = [0; MAX_MESSAGE];
        encode(&request, &mut buffer).unwrap().to_vec()
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = unlink();
        assert!(decode::<Request>(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(decode::<Request>(&whole[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn trailing_bytes_are_counted() {
        let mut longer = unlink();
        longer.extend([0, 0]);
        assert_eq!(decode::<Request>(&longer), Err(Violation::TrailingBytes { count: 2 }));
    }

    #[test]
    fn a_padded_integer_is_not_canonical() {
        let canonical = unlink();
        assert_eq!(canonical, [1, 1, 1, b'a']);
        let padded = [0x81, 0, 1, 1, b'a'];
        assert_eq!(decode::<Request>(&padded), Err(Violation::NotCanonical));
    }

    #[test]
    fn a_greeting_of_another_version_is_told_from_a_stranger() {
        let longer = [b'B', b'R', b'K', b'R', 1, 9, 9, 9];
        assert_eq!(decode::<Hello>(&longer), Err(Violation::Version { theirs: 1 }));
        assert_eq!(decode::<Hello>(b"GET / HTTP/1.1"), Err(Violation::NotThisProtocol));
    }
}
