//! Services of a desktop that GTK and SDL ask for and do without: they are not within reach.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Sockets of D-Bus for the whole system: libdbus's and GLib's default addresses.
const SYSTEM_BUS: [&[u8]; 2] = [b"/var/run/dbus/system_bus_socket", b"/run/dbus/system_bus_socket"];

/// Variables with addresses of D-Bus (Specification, "Server Addresses"; AT-SPI's `atspi-misc.c`).
const BUSES: [&str; 3] = ["DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "AT_SPI_BUS_ADDRESS"];

/// GTK's own display server, tried last, by an abstract name (`_gdk_broadway_server_new` in its `gdkbroadway-server.c`).
const BROADWAY: &[u8] = b"/broadway1.socket";

/// The addresses of UNIX sockets where these services are, an abstract one with its NUL.
pub(super) fn of(environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<Vec<u8>> {
    let mut found: Vec<Vec<u8>> = SYSTEM_BUS.iter().map(|path| path.to_vec()).collect();
    found.extend(BUSES.iter().filter_map(|name| environment(name)).flat_map(|list| buses(list.as_bytes())));
    if let Some(folder) = runtime_folder(environment) {
        let folder = folder.as_os_str().as_bytes();
        found.push([folder, &b"/bus"[..]].concat());
        found.push([folder, &b"/at-spi/bus"[..]].concat());
        found.push([&b"\0"[..], folder, BROADWAY].concat());
    }
    found
}

/// The folder of the session (`g_get_user_runtime_dir`): `XDG_RUNTIME_DIR`; where it is not set, that of caches.
pub(super) fn runtime_folder(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| environment(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let in_home = || folder("HOME").map(|home| home.join(".cache"));
    folder("XDG_RUNTIME_DIR").or_else(|| folder("XDG_CACHE_HOME")).or_else(in_home)
}

/// The UNIX sockets of a list of addresses such as `unix:path=/run/bus,guid=1;unix:abstract=/tmp/dbus`.
fn buses(list: &[u8]) -> Vec<Vec<u8>> {
    let unix = list.split(|byte| *byte == b';').filter_map(|address| address.strip_prefix(b"unix:"));
    unix.flat_map(|pairs| pairs.split(|byte| *byte == b','))
        .filter_map(|pair| match pair.strip_prefix(b"path=") {
            Some(path) => Some(unescaped(path)),
            None => Some([&b"\0"[..], &unescaped(pair.strip_prefix(b"abstract=")?)].concat()),
        })
        .collect()
}

/// A value with each `%2f` as its byte.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = value;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buses_are_where_the_environment_says() {
        let list = b"unix:path=/run/a%20b,guid=1;tcp:host=h;unix:abstract=/tmp/x";
        assert_eq!(buses(list), [b"/run/a b".to_vec(), b"\0/tmp/x".to_vec()]);
        assert_eq!(buses(b"unix:path=/a%2"), [b"/a%2".to_vec()]);
        assert_eq!(buses(b"disabled:"), [b""; 0]);
    }

    #[test]
    fn services_are_in_the_folder_of_the_session_or_in_the_cache() {
        let of = |name: &'static str, value: &'static str| of(&|asked| (asked == name).then(|| value.into()));
        let session = of("XDG_RUNTIME_DIR", "/run/user/0");
        assert!(session.contains(&b"/run/user/0/bus".to_vec()));
        assert!(session.contains(&b"\0/run/user/0/broadway1.socket".to_vec()));
        assert!(of("HOME", "/h").contains(&b"\0/h/.cache/broadway1.socket".to_vec()));
        assert_eq!(of("OTHER", "").len(), SYSTEM_BUS.len());
    }
}
