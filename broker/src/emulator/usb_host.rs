//! Devices of the host's USB buses: `-device usb-host`.
//!
//! Source: `usb_host_dev_properties`, `usb_host_realize` and `usb_host_auto_check` in `hw/usb/host-libusb.c` of QEMU 7.2 and
//! 10.0.

use std::ffi::OsString;

use super::draft::{Draft, Group};
use super::error::Error;
use super::value::Pairs;

/// The device's name.
pub(super) const DRIVER: &str = "usb-host";

/// The properties that say which device of the host it is. No other device has any of these names.
pub(super) const NAMES: &[&str] = &["hostdevice", "hostbus", "hostaddr", "hostport", "vendorid", "productid"];

/// A device of the host that is given to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbHost {
    /// The option that names it, as typed, for messages.
    pub option: String,
    /// Which one.
    pub name: UsbName,
}

/// How a device of the host is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsbName {
    /// By its node (`hostdevice=`), which is opened whatever else is said of it.
    Node(OsString),
    /// By what it is and where it is plugged in.
    Match(UsbMatch),
}

/// What a device must have to be the one that is meant; what is 0 or missing may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsbMatch {
    /// `hostbus=`, the bus's number.
    pub bus: u32,
    /// `hostaddr=`, the device's number on the bus, which changes when it is plugged in again.
    pub address: u32,
    /// `hostport=`, the ports that lead to it from the bus on, such as `2.1`.
    pub port: Option<String>,
    /// `vendorid=`
    pub vendor: u32,
    /// `productid=`
    pub product: u32,
}

/// Notes the device that `-device usb-host` takes. Numbers that are none are for QEMU to refuse.
///
/// # Errors
/// [`Error::NotServed`] for a node whose name differs for each process, and as [`shorten_port`].
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let name = match pairs.name("hostdevice") {
        Some(node) => {
            Draft::refuse_per_process(option, node)?;
            Some(UsbName::Node(node.to_owned()))
        }
        None => {
            shorten_port(draft, group)?;
            wanted(pairs).map(UsbName::Match)
        }
    };
    draft.line.usb_hosts.extend(name.map(|name| UsbHost { option: option.clone(), name }));
    Ok(())
}

/// Says `hostport=` once more, without the hubs that lead to the device: the sandbox does not show them, so that libusb
/// counts from the last one on. QEMU takes the last of several values.
///
/// # Errors
/// [`Error::NotServed`] where the port does not stand in a word of pairs.
fn shorten_port(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let option = &group.option;
    let Some((_, last)) = group.pairs.text("hostport").and_then(|port| port.rsplit_once('.')) else { return Ok(()) };
    let word = group.word.and_then(|at| draft.line.argv.get_mut(at)).filter(|word| {
        let typed = Pairs::parse(option, word, Some("driver")).ok();
        typed.is_some_and(|typed| typed.get("hostport") == group.pairs.get("hostport"))
    });
    let Some(word) = word else {
        let instead = "write it into -device usb-host,hostbus=...,hostport=... as a plain pair, or use hostaddr=";
        return Err(Error::not_served(option, "the port of a hub in JSON, in a file or in -set", instead));
    };
    word.push(format!(",hostport={last}"));
    Ok(())
}

/// What the properties ask for; `None` if one of them is no number.
fn wanted(pairs: &Pairs) -> Option<UsbMatch> {
    let field = |key| pairs.text(key).map_or(Some(0), number);
    Some(UsbMatch {
        bus: field("hostbus")?,
        address: field("hostaddr")?,
        port: pairs.text("hostport").map(str::to_owned),
        vendor: field("vendorid")?,
        product: field("productid")?,
    })
}

/// A number as QEMU reads that of a property: decimal, with `0x` before it hexadecimal, with `0` octal (`qemu_strtou64` with
/// base 0, strtoul(3)).
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    u32::from_str_radix(digits, radix).ok()
}

/// A device of the host is named where it is given to the guest, so that it is known before the start which one it is.
///
/// # Errors
/// [`Error::NotServed`] for a property that names one for all.
pub(super) fn refuse_global(option: &str, key: &str) -> Result<(), Error> {
    if NAMES.contains(&key) {
        return Err(Error::not_served(option, format!("{key}= for all devices"), "write it into -device usb-host"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::resource::Kind;
    use super::super::testing::{assert_not_served, line, names};
    use super::*;

    fn matching(bus: u32, address: u32, port: Option<&str>, (vendor, product): (u32, u32)) -> UsbName {
        UsbName::Match(UsbMatch { bus, address, port: port.map(str::to_owned), vendor, product })
    }

    #[test]
    fn a_device_is_named_in_several_ways() {
        for (words, name) in [
            ("hostbus=1,hostaddr=0x10", matching(1, 16, None, (0, 0))),
            ("hostbus=010,hostport=2.1", matching(8, 0, Some("2.1"), (0, 0))),
            ("vendorid=0x46f4,productid=1", matching(0, 0, None, (0x46f4, 1))),
            ("id=u", matching(0, 0, None, (0, 0))),
            ("hostdevice=/dev/bus/usb/001/004,hostbus=9", UsbName::Node("/dev/bus/usb/001/004".into())),
        ] {
            let device = format!("usb-host,{words}");
            let found = line(&["-device", &device]).unwrap();
            assert_eq!(found.usb_hosts, [UsbHost { option: format!("-device {device}"), name }], "{words}");
            assert!(found.resources.is_empty(), "{words}");
        }
        let json = r#"{"driver":"usb-host","id":"u","vendorid":18164,"productid":1}"#;
        assert_eq!(line(&["-device", json]).unwrap().usb_hosts[0].name, matching(0, 0, None, (0x46f4, 1)));
        let set = line(&["-device", "usb-host,id=u", "-set", "device.u.hostbus=3"]).unwrap();
        assert_eq!(set.usb_hosts[0].name, matching(3, 0, None, (0, 0)));
    }

    #[test]
    fn a_port_behind_hubs_is_counted_from_the_last_one() {
        let word = |words: &[&str]| line(words).map(|found| found.argv[2].clone().into_string().unwrap_or_default());
        let typed = "usb-host,hostbus=1,hostport=2.1.4";
        assert_eq!(word(&["-device", typed]).unwrap(), format!("{typed},hostport=4"));
        assert_eq!(word(&["-device", "usb-host,hostport=2"]).unwrap(), "usb-host,hostport=2");
        assert_not_served(&[
            &["-device", r#"{"driver":"usb-host","hostbus":1,"hostport":"2.1"}"#],
            &["-device", "usb-host,id=u", "-set", "device.u.hostport=2.1"],
        ]);
    }

    #[test]
    fn what_is_no_number_is_for_qemu_to_refuse() {
        for words in ["vendorid=46f4", "hostbus=08", "hostaddr=0x", "productid=-1"] {
            assert_eq!(line(&["-device", &format!("usb-host,{words}")]).unwrap().usb_hosts, [], "{words}");
        }
    }

    #[test]
    fn its_log_is_a_file_and_a_node_is_the_same_for_each_process() {
        let found = line(&["-device", "usb-host,vendorid=1,pcap=p"]).unwrap();
        assert_eq!(names(&found), [("p", &Kind::OutputFile { append: false })]);
        assert_not_served(&[&["-device", "usb-host,hostdevice=/dev/fd/3"]]);
    }
}
