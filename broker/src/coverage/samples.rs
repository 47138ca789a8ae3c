//! Command lines that use one name of a list, as little else as it can be used with.

use std::ffi::OsString;

/// What some names cannot do without. A trailing star stands for all names that begin so. Where `broker` serves some forms
/// of a name and refuses others, this is one that it serves.
const NEEDS: &[(&str, &str, &str)] = &[
    ("-blockdev", "blkdebug", "image.driver=null-co"),
    ("-blockdev", "blklogwrites", "file.driver=null-co,log.driver=null-co"),
    ("-blockdev", "blkreplay", "image.driver=null-co"),
    ("-blockdev", "blkverify", "test.driver=null-co,raw.driver=null-co"),
    ("-blockdev", "copy-before-write", "file.driver=null-co,target.driver=null-co"),
    ("-blockdev", "file", "filename=x"),
    ("-blockdev", "host_cdrom", "filename=/dev/sr0"),
    ("-blockdev", "host_device", "filename=/dev/sda"),
    ("-blockdev", "nbd", "server.type=inet,server.host=127.0.0.1,server.port=10809"),
    ("-blockdev", "null-*", ""),
    ("-blockdev", "quorum", "children.0.driver=null-co,vote-threshold=1"),
    ("-blockdev", "*", "file.driver=null-co"),
    ("-chardev", "file", "path=x"),
    ("-chardev", "parallel", "path=/dev/parport0"),
    ("-chardev", "pipe", "path=x"),
    ("-chardev", "serial", "path=/dev/ttyS0"),
    ("-chardev", "socket", "fd=3"),
    ("-chardev", "udp", "host=127.0.0.1,port=4555"),
    ("-device", "vfio-pci*", "host=0000:00:1f.0"),
    ("-device", "vhost-scsi*", "vhostfd=3"),
    ("-device", "vhost-vsock*", "vhostfd=3"),
    ("-netdev", "dgram", "local.type=fd,local.str=3"),
    ("-netdev", "hubport", "hubid=0"),
    ("-netdev", "socket", "fd=3"),
    ("-netdev", "stream", "addr.type=fd,addr.str=3"),
    ("-netdev", "vhost-user", "chardev=c"),
    ("-netdev", "vhost-vdpa", "vhostfd=3"),
    ("-object", "iommufd", "fd=3"),
    ("-object", "tls-creds-*", "dir=x"),
    ("-tpmdev", "emulator", "chardev=c"),
];

/// The words of a start with `name` as the value of `option`.
pub(super) fn words(option: &str, name: &str) -> Vec<OsString> {
    let first = match option {
        "-blockdev" => format!("driver={name},node-name=n"),
        "-accel" | "-device" | "-display" => name.to_owned(),
        _ => format!("{name},id=i"),
    };
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let needs = NEEDS.iter().find(|(of, pattern, _)| *of == option && matches(pattern));
    let rest = needs.map(|(.., rest)| *rest).filter(|rest| !rest.is_empty());
    [option.to_owned(), rest.map_or(first.clone(), |rest| format!("{first},{rest}"))].map(OsString::from).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_need_that_matches_counts() {
        let line = |option, name| words(option, name).join(" ".as_ref()).into_string().unwrap();
        assert_eq!(line("-blockdev", "file"), "-blockdev driver=file,node-name=n,filename=x");
        assert_eq!(line("-blockdev", "qcow2"), "-blockdev driver=qcow2,node-name=n,file.driver=null-co");
        assert_eq!(line("-blockdev", "null-aio"), "-blockdev driver=null-aio,node-name=n");
        assert_eq!(line("-object", "iothread"), "-object iothread,id=i");
        assert_eq!(line("-device", "vhost-vsock-pci"), "-device vhost-vsock-pci,vhostfd=3");
    }
}
