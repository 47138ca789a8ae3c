//! The cards that are connected to a network: `-device ...,netdev=`, `-nic`'s own, and those of `-net nic`.
//!
//! A hub joins its ports: those of `-netdev hubport`, and all of `-net` without `netdev=`, which are on hub 0
//! (`net_client_init1` in QEMU's `net/net.c`).

use std::ffi::OsStr;

use super::super::draft::{Draft, Group};
use super::super::error::Error;
use super::{Card, kind, tap};

/// Finds the cards of every network that the broker opens.
///
/// # Errors
/// [`Error::Malformed`] for an id that two networks have, and for an address that is none.
pub(in super::super) fn connect(draft: &mut Draft<'_>, groups: &[Group]) -> Result<(), Error> {
    for network in &mut draft.line.networks {
        let own = groups.iter().find(|group| group.word == Some(network.word));
        let Some(own) = own else { continue };
        check_id(own, groups)?;
        let ends = Ends::of(own, groups);
        for group in groups.iter().filter(|group| ends.have(group, own)) {
            network.cards.push(Card { option: group.option.clone(), address: address(group)? });
        }
    }
    Ok(())
}

/// The id; of several, QEMU takes the first (`opts_parse_id` in `util/qemu-option.c`).
fn id(group: &Group) -> Option<&OsStr> {
    group.pairs.iter().find(|(key, _)| *key == "id").map(|(_, id)| id)
}

fn check_id(own: &Group, groups: &[Group]) -> Result<(), Error> {
    let Some(id) = id(own).filter(|_| own.name != "net") else { return Ok(()) };
    let same = |group: &&Group| matches!(group.name, "netdev" | "nic") && self::id(group) == Some(id);
    if groups.iter().filter(same).count() > 1 {
        let problem = format!("Duplicate ID '{}' for netdev; choose another", id.to_string_lossy());
        return Err(Error::malformed(&own.option, problem));
    }
    Ok(())
}

/// What a card may be connected to, to be on the network.
struct Ends<'g> {
    ids: Vec<&'g OsStr>,
    hubs: Vec<i64>,
}

impl<'g> Ends<'g> {
    fn of(own: &'g Group, groups: &'g [Group]) -> Self {
        let mut ids = Vec::new();
        let mut hubs = Vec::new();
        if own.name == "net" {
            hubs.push(0);
        } else if let Some(id) = id(own) {
            ids.push(id);
            let to_own = |group: &&Group| group.pairs.get("netdev") == Some(id);
            hubs.extend(groups.iter().filter(to_own).filter_map(hub));
        }
        let on_them = |group: &&Group| hub(group).is_some_and(|number| hubs.contains(&number));
        ids.extend(groups.iter().filter(|group| group.name == "netdev").filter(on_them).filter_map(id));
        Self { ids, hubs }
    }

    /// Whether `group` makes a card that is on the network.
    fn have(&self, group: &Group, own: &Group) -> bool {
        let connected = group.pairs.name("netdev").map(|netdev| self.ids.contains(&netdev));
        match group.name {
            "device" => connected.unwrap_or(false),
            "nic" => std::ptr::eq(group, own) || hub(group).is_some_and(|number| self.hubs.contains(&number)),
            "net" => kind(&group.pairs) == "nic" && connected.unwrap_or_else(|| self.hubs.contains(&0)),
            _ => false,
        }
    }
}

/// The hub on which a `hubport` is.
fn hub(group: &Group) -> Option<i64> {
    let is_port = matches!(group.name, "netdev" | "nic") && kind(&group.pairs) == "hubport";
    group.pairs.text("hubid").filter(|_| is_port)?.parse().ok()
}

/// The address that a card is given; `None` stands for QEMU's default one, as zeros do
/// (`qemu_macaddr_default_if_unset`).
fn address(group: &Group) -> Result<Option<[u8; 6]>, Error> {
    let key = if group.name == "net" { "macaddr" } else { "mac" };
    let Some(text) = group.pairs.get(key) else { return Ok(None) };
    let option = &group.option;
    let read = text.to_str().and_then(|text| octets(text).or_else(|| short(text).filter(|_| group.name != "device")));
    let address = read.ok_or_else(|| {
        let problem = format!("invalid syntax for ethernet address: {key}={}", text.to_string_lossy());
        Error::malformed(option, format!("{problem}; write it as 52:54:00:12:34:56"))
    })?;
    if address.first().is_some_and(|first| first & 1 == 1) && group.name != "device" {
        let problem = format!("NIC cannot have multicast MAC address; make the first byte of {key}= even");
        return Err(Error::malformed(option, problem));
    }
    Ok((address != [0; 6]).then_some(address))
}

/// Six bytes in hexadecimal, with colons or dashes between them.
fn octets(text: &str) -> Option<[u8; 6]> {
    let is_octet = |digits: &&str| (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let list: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|digits| Some(digits).filter(is_octet).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect();
    list?.try_into().ok()
}

/// The last three bytes as one number, the others being zero; nothing is 0 (`net_parse_macaddr` in `net/util.c`).
fn short(text: &str) -> Option<[u8; 6]> {
    let number = if text.is_empty() { 0 } else { tap::number(OsStr::new(text))? };
    let number = u32::try_from(number).ok().filter(|number| *number <= 0x00ff_ffff)?;
    let [_, a, b, c] = number.to_be_bytes();
    Some([0, 0, 0, a, b, c])
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::line;
    use super::*;

    /// The cards of the first network: where their option begins, and the last byte of their address.
    fn cards(words: &[&str]) -> Result<Vec<(String, Option<u8>)>, Error> {
        let found = line(words)?;
        let cards = found.networks.first().map_or(&[][..], |network| &network.cards);
        Ok(cards.iter().map(|card| (card.option.clone(), card.address.map(|[.., last]| last))).collect())
    }

    fn assert_cards(words: &[&str], expected: &[(&str, Option<u8>)]) {
        let found = cards(words).unwrap();
        let expected: Vec<(String, Option<u8>)> = expected.iter().map(|(o, a)| ((*o).to_owned(), *a)).collect();
        assert_eq!(found, expected, "{words:?}");
    }

    #[test]
    fn devices_are_found_before_and_behind_their_network() {
        let before = ["-device", "e1000,netdev=n,mac=52:54:00:12:34:01", "-netdev", "tap,id=n"];
        assert_cards(&before, &[("-device e1000,netdev=n,mac=52:54:00:12:34:01", Some(1))]);
        let json = r#"{"driver":"virtio-net-pci","mac":"52-54-00-12-34-FE","netdev":"n"}"#;
        let others =
            ["-device", "e1000,netdev=m", "-device", "e1000", "-nic", "none", "-netdev", "hubport,id=m,hubid=1"];
        let words = ["-netdev", "{'type':'tap','id':'n'}", "-device", json, "-device", "e1000,netdev=n"];
        let expected = [(&*format!("-device {json}"), Some(0xfe)), ("-device e1000,netdev=n", None)];
        assert_cards(&[&words[..], &others[..]].concat(), &expected);
        let set = ["-netdev", "tap,id=n", "-device", "e1000,id=d,netdev=n", "-set", "device.d.mac=2:0:0:0:0:9"];
        assert_eq!(cards(&set).unwrap()[0].1, Some(9));
        assert_cards(&["-netdev", "bridge,id=n"], &[]);
    }

    #[test]
    fn nic_has_a_card_of_its_own() {
        assert_cards(&["-nic", "tap,mac=52:54:00:12:34:02"], &[("-nic tap,mac=52:54:00:12:34:02", Some(2))]);
        assert_cards(&["-nic", "bridge,model=e1000"], &[("-nic bridge,model=e1000", None)]);
        assert_cards(&["-nic", "tap,mac=0:0:0:0:0:0", "-nic", "none"], &[("-nic tap,mac=0:0:0:0:0:0", None)]);
        assert_cards(&["-nic", "tap,mac=5"], &[("-nic tap,mac=5", Some(5))]);
        assert_cards(&["-nic", "tap,mac=0x10"], &[("-nic tap,mac=0x10", Some(16))]);
        assert_cards(&["-nic", "tap,mac="], &[("-nic tap,mac=", None)]);
    }

    #[test]
    fn net_joins_all_on_one_hub() {
        let words =
            ["-net", "nic,macaddr=2:0:0:0:0:7,model=e1000", "-net", "tap", "-net", "nic,netdev=x", "-net", "none"];
        assert_cards(&words, &[("-net nic,macaddr=2:0:0:0:0:7,model=e1000", Some(7))]);
        let words = ["-netdev", "tap,id=n", "-net", "nic,netdev=n", "-net", "nic"];
        assert_cards(&words, &[("-net nic,netdev=n", None)]);
        let words = ["-net", "tap", "-netdev", "hubport,id=h,hubid=0", "-device", "e1000,netdev=h"];
        assert_cards(&words, &[("-device e1000,netdev=h", None)]);
    }

    #[test]
    fn hubs_are_followed() {
        let hub =
            ["-netdev", "tap,id=n", "-netdev", "hubport,id=a,hubid=3,netdev=n", "-netdev", "hubport,id=b,hubid=3"];
        let cards = ["-device", "e1000,netdev=b", "-nic", "hubport,hubid=3", "-nic", "hubport,hubid=4", "-net", "nic"];
        assert_cards(
            &[&hub[..], &cards[..]].concat(),
            &[("-device e1000,netdev=b", None), ("-nic hubport,hubid=3", None)],
        );
    }

    #[test]
    fn what_qemu_would_refuse_is_refused() {
        for (words, text) in [
            (&["-nic", "tap,mac=zz"][..], "invalid syntax for ethernet address"),
            (&["-nic", "tap,mac=0x1000000"], "invalid syntax for ethernet address"),
            (&["-netdev", "tap,id=n", "-device", "e1000,netdev=n,mac="], "invalid syntax for ethernet address"),
            (&["-nic", "tap,mac=52:54:00:12:34"], "invalid syntax for ethernet address"),
            (&["-nic", "tap,mac=01:00:00:00:00:00"], "NIC cannot have multicast MAC address"),
            (&["-net", "tap", "-net", "nic,macaddr=03:0:0:0:0:0"], "NIC cannot have multicast MAC address"),
            (&["-netdev", "tap,id=n", "-device", "e1000,netdev=n,mac=5"], "invalid syntax for ethernet address"),
            (&["-netdev", "tap,id=n", "-netdev", "hubport,id=n,hubid=0"], "Duplicate ID 'n' for netdev"),
            (&["-nic", "tap,id=n", "-netdev", "{'type':'tap','id':'n'}"], "Duplicate ID 'n' for netdev"),
        ] {
            let error = cards(words).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
