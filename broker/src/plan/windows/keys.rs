//! The keys to X servers, as `xauth` keeps them in a file (libXau's `AuRead.c`).

/// What a list of keys may have in all: it has some hundred bytes a server.
pub(super) const LARGEST: usize = 64 << 10;

/// The records of `list` that are for the server with this number, or for all. None if any of it is no record.
///
/// A record is two bytes for the family of the address, then four fields, each with its length before it: address, number
/// of the server as text (empty: any), name of the protocol, key. All numbers are of 16 bits, the high byte first.
pub(super) fn of_server(list: &[u8], number: u16) -> Option<Vec<u8>> {
    let number = number.to_string();
    let mut kept = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (_address, after) = field(rest.get(2..)?)?;
        let (of, after) = field(after)?;
        let (_protocol, after) = field(after)?;
        let (_key, after) = field(after)?;
        let (record, after) = rest.split_at_checked(rest.len().checked_sub(after.len())?)?;
        if of.is_empty() || of == number.as_bytes() {
            kept.extend_from_slice(record);
        }
        rest = after;
    }
    Some(kept)
}

/// The field that `bytes` begin with, and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: &[u8], key: &[u8]) -> Vec<u8> {
        let field = |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat();
        [vec![1, 0], field(b"host"), field(number), field(b"MIT-MAGIC-COOKIE-1"), field(key)].concat()
    }

    #[test]
    fn other_servers_keys_are_left_out() {
        let (first, tenth, all) = (record(b"1", b"one"), record(b"10", b"ten"), record(b"", b""));
        let list = [&first[..], &tenth, &all].concat();
        assert_eq!(of_server(&list, 1), Some([first, all.clone()].concat()));
        assert_eq!(of_server(&list, 10), Some([tenth, all.clone()].concat()));
        assert_eq!(of_server(&list, 0), Some(all));
        assert_eq!(of_server(b"", 0), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_list_as_a_whole_is_none() {
        let list = [record(b"1", b"one"), record(b"2", b"two")].concat();
        for end in 1..list.len() {
            let whole = end == list.len() / 2;
            assert_eq!(of_server(&list[..end], 1).is_some(), whole, "{end}");
        }
        assert_eq!(of_server(b"root:*:19000:0:99999:7:::\n", 1), None);
        assert_eq!(of_server(&[list, b"\n".to_vec()].concat(), 1), None);
    }
}
