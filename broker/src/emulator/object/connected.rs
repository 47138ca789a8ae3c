//! Objects that read keys and lists of users, or that connect to a server.

use std::ffi::{OsStr, OsString};

use super::super::address::{self, Inet, Transport};
use super::super::draft::{Draft, Group, OpenedBy};
use super::super::endpoint::EndpointUse;
use super::super::error::Error;
use super::super::resource::Kind;

/// The files that a server and a client read (`crypto/tlscredsx509.c`, `include/crypto/tlscredsx509.h`).
const X509_SERVER: &[&str] = &["ca-cert.pem", "ca-crl.pem", "server-cert.pem", "server-key.pem", "dh-params.pem"];
const X509_CLIENT: &[&str] = &["ca-cert.pem", "ca-crl.pem", "client-cert.pem", "client-key.pem"];

/// The same of `crypto/tlscredspsk.c`.
const PSK_SERVER: &[&str] = &["keys.psk", "dh-params.pem"];
const PSK_CLIENT: &[&str] = &["keys.psk"];

/// The same of `crypto/tlscredsanon.c`.
const ANON_SERVER: &[&str] = &["dh-params.pem"];

/// `tls-creds-x509`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn x509(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    credentials(draft, group, X509_SERVER, X509_CLIENT)
}

/// `tls-creds-psk`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn psk(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    credentials(draft, group, PSK_SERVER, PSK_CLIENT)
}

/// `tls-creds-anon`.
///
/// # Errors
/// As [`Draft::file`].
pub(super) fn anonymous(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    credentials(draft, group, ANON_SERVER, &[])
}

/// QEMU says which of them it misses.
fn credentials(draft: &mut Draft<'_>, group: &Group, server: &[&str], client: &[&str]) -> Result<(), Error> {
    let Some(folder) = group.pairs.name("dir") else { return Ok(()) };
    let is_server = group.pairs.get("endpoint").is_some_and(|endpoint| endpoint == "server");
    for name in if is_server { server } else { client } {
        let path: OsString = [folder, OsStr::new("/"), OsStr::new(name)].into_iter().collect();
        draft.file(&group.option, &path, Kind::OptionalFile, OpenedBy::Plain)?;
    }
    Ok(())
}

/// `authz-list-file`, which watches the file's folder for changes unless it is told not to (`authz/listfile.c`).
///
/// # Errors
/// [`Error::NotServed`] without `refresh=off`; as [`Draft::file`].
pub(super) fn list_of_users(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let option = &group.option;
    if group.pairs.switch(option, "refresh")?.unwrap_or(true) {
        return Err(Error::not_served(option, "refresh=on", "add refresh=off: the file's folder cannot be watched"));
    }
    group.pairs.name("filename").map_or(Ok(()), |name| draft.read_only(option, name))
}

/// `pr-manager-helper` (`scsi/pr-manager-helper.c`).
///
/// # Errors
/// As [`address::unix`].
pub(super) fn reservations(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let Some(path) = group.pairs.get("path") else { return Ok(()) };
    let address = address::unix(&group.option, path, false, true)?;
    draft.endpoint(&group.option, EndpointUse::Connect, address);
    Ok(())
}

/// `input-barrier`, with the server that `input_barrier_instance_init` in `ui/input-barrier.c` takes. Until QEMU 9.2.
///
/// # Errors
/// As [`Inet::address`].
pub(super) fn barrier(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let host = address::utf8(option, pairs.get("server").unwrap_or(OsStr::new("localhost")))?;
    let port = address::utf8(option, pairs.get("port").unwrap_or(OsStr::new("24800")))?;
    let address = Inet { host, port, ..Inet::default() }.address(draft, option, Transport::Tcp)?;
    draft.endpoint(option, EndpointUse::Connect, address);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{assert_not_served, assert_sockets, line, names};
    use super::*;

    fn files(value: &str) -> Vec<String> {
        let found = line(&["-object", value]).unwrap();
        let names = names(&found);
        assert!(names.iter().all(|(_, kind)| **kind == Kind::OptionalFile), "{value}");
        names.into_iter().map(|(name, _)| name.strip_prefix("/p/").unwrap().to_owned()).collect()
    }

    #[test]
    fn keys_are_files_of_a_folder() {
        assert_eq!(files("tls-creds-x509,id=t,dir=/p,endpoint=server,verify-peer=on"), X509_SERVER);
        assert_eq!(files("tls-creds-x509,id=t,dir=/p,endpoint=client"), X509_CLIENT);
        assert_eq!(files(r#"{"qom-type":"tls-creds-x509","id":"t","dir":"/p"}"#), X509_CLIENT);
        assert_eq!(files("tls-creds-psk,id=t,dir=/p,endpoint=server"), PSK_SERVER);
        assert_eq!(files("tls-creds-psk,id=t,dir=/p,username=u"), PSK_CLIENT);
        assert_eq!(files("tls-creds-anon,id=t,dir=/p,endpoint=server"), ANON_SERVER);
        assert!(files("tls-creds-anon,id=t,endpoint=server").is_empty());
        assert!(files("tls-creds-x509,id=t").is_empty());
    }

    #[test]
    fn users_are_a_file_that_is_read_once() {
        let found = line(&["-object", "authz-list-file,id=a,filename=/u,refresh=off"]).unwrap();
        assert_eq!(names(&found), [("/u", &Kind::ReadOnlyFile)]);
        assert_not_served(&[&["-object", "authz-list-file,id=a,filename=/u"]]);
    }

    #[test]
    fn servers_are_connected_to() {
        assert_sockets(&[
            (&["-object", "pr-manager-helper,id=p,path=/run/pr.sock"], "connect /run/pr.sock"),
            (&["-object", "pr-manager-helper,id=p"], ""),
            (&["-object", "input-barrier,id=b,name=vm"], "connect localhost:24800"),
            (&["-object", "input-barrier,id=b,name=vm,server=h,port=1"], "connect h:1"),
        ]);
    }
}
