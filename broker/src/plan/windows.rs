//! Windows: the display server that the caller's environment names, and what GTK and SDL read (`--allow display`).

mod keys;
mod services;
mod x_display;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::environment_files::{self, Readers};
use super::{Plan, Private};
use sandbox_profiles::{SoughtIn, sought_by_windows};

use crate::emulator::{Address, Endpoint, EndpointUse, Window};
use crate::installation;

/// Modules of QEMU that open windows, in the order in which it tries them (`qemu_display_find_default`, `ui/console.c`).
const MODULES: [(&str, Library); 2] = [("ui-gtk.so", Library::Gtk), ("ui-sdl.so", Library::Sdl)];

/// What stands for them in messages.
const OPTION: &str = "--allow display";

/// The socket of Wayland where its name is not set (`connect_to_socket`, Wayland's `src/wayland-client.c`).
const WAYLAND: &str = "wayland-0";

type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Plan {
    /// Adds what a window takes to the sockets and files of the command line.
    pub(super) fn plan_windows(&mut self, environment: Environment<'_>) {
        let library = match self.command.window {
            None => return,
            Some(Window::Gtk) => Some(Library::Gtk),
            Some(Window::Sdl) => Some(Library::Sdl),
            Some(Window::Default) => self.default_library(),
        };
        let Some(library) = library else {
            // Its default without a window: vnc_parse("localhost:0,to=99") in qemu_create_default_displays of system/vl.c.
            let address =
                Address::Inet { host: "localhost".into(), first_port: 5900, last_port: 5999, ipv4: None, ipv6: None };
            self.add_endpoint(EndpointUse::Listen, "the default display", address);
            return;
        };
        self.shown.trees.extend(installation::window_trees(&self.installation.binary));
        self.shown.sought.extend(sought(environment));
        self.shown.unreached.extend(services::of(environment));
        // Where the module dconf of GLib keeps a byte that tells of changes (dconf_shm_open); without it, it complains often.
        self.private.extend(services::runtime_folder(environment).map(|folder| Private {
            at: folder.join("dconf"),
            name: None,
            on_disk_in: None,
        }));
        let servers = Servers::of(library, environment);
        if let Some(path) = servers.wayland {
            self.add_endpoint(EndpointUse::Connect, "Wayland", Address::Unix { path: path.into() });
        }
        if let Some(display) = servers.x {
            self.add_x(&display, environment);
        }
    }

    fn add_x(&mut self, display: &OsStr, environment: Environment<'_>) {
        let addresses = x_display::addresses(&display.to_string_lossy(), &is_socket);
        // That it names no server is for the library to say.
        if addresses.is_empty() {
            return;
        }
        for address in addresses {
            self.add_endpoint(EndpointUse::Connect, &format!("DISPLAY={}", display.display()), address);
        }
        self.add_authority(display, environment);
        self.notices.push(format!(
            "{OPTION}: who breaks out of the guest can see and type into all windows of the X server {}; use Wayland, or a \
             server of its own such as Xephyr",
            display.display()
        ));
    }

    /// The keys to this X server, in the place of the file in which `XauFileName` finds them (libXau's `AuFileName.c`).
    fn add_authority(&mut self, display: &OsStr, environment: Environment<'_>) {
        let Some(number) = x_display::number(&display.to_string_lossy()) else { return };
        let in_home = || Some(PathBuf::from(environment("HOME")?).join(".Xauthority").into_os_string());
        let Some(name) = environment("XAUTHORITY").filter(|name| !name.is_empty()).or_else(in_home) else { return };
        let name = PathBuf::from(name);
        // The server is granted, and so is its key, whoever the emulator is. Without one the X server says what is wrong.
        if let Some(list) = environment_files::read(&name, keys::LARGEST, Readers::Broker) {
            match keys::of_server(&list, number) {
                Some(keys) if keys.is_empty() => (),
                Some(keys) => self.show_text(&name, keys),
                None => self.notices.push(format!(
                    "{OPTION}: {} is no list of keys to X servers, so the emulator does not get it; make one with xauth",
                    name.display()
                )),
            }
        }
        self.shown.sought.push(name);
    }

    fn add_endpoint(&mut self, use_: EndpointUse, from: &str, address: Address) {
        self.command.internet |= matches!(address, Address::Inet { .. });
        self.command.endpoints.push(Endpoint { option: format!("{OPTION} ({from})"), use_, address });
    }

    /// The library that QEMU takes where none is named: the first whose module lies where this emulator looks for modules.
    fn default_library(&self) -> Option<Library> {
        let trees = &self.installation.trees;
        let is_there =
            |name: &str| trees.iter().any(|tree| tree.join(name).exists() || tree.join("qemu").join(name).exists());
        MODULES.iter().find(|(name, _)| is_there(name)).map(|(_, library)| *library)
    }
}

/// What draws a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Library {
    Gtk,
    Sdl,
}

/// Which servers are granted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Servers {
    /// Wayland's socket.
    wayland: Option<PathBuf>,
    /// `DISPLAY`.
    x: Option<OsString>,
}

impl Servers {
    /// What the library takes of what the environment names. An X server gives each of its clients all others, so it is
    /// granted only where it will be used.
    fn of(library: Library, environment: Environment<'_>) -> Self {
        let wayland = wayland(environment);
        let x = environment("DISPLAY").filter(|display| !display.is_empty());
        let (variable, default) = match library {
            Library::Gtk => {
                ("GDK_BACKEND", if wayland.as_deref().is_some_and(is_socket) { "wayland" } else { "wayland,x11" })
            }
            // sdl2_display_init, QEMU's ui/sdl2.c.
            Library::Sdl => ("SDL_VIDEODRIVER", "x11"),
        };
        // A list, separated by commas; GTK's may hold a `*` for its own.
        let list = environment(variable).filter(|list| !list.is_empty()).unwrap_or_else(|| default.into());
        let list = list.to_string_lossy().replace('*', default);
        let takes = |backend: &str| list.split(',').any(|listed| listed == backend);
        Self { wayland: wayland.filter(|_| takes("wayland")), x: x.filter(|_| takes("x11")) }
    }
}

/// Where GTK, SDL and their libraries look for what they do without.
fn sought(environment: Environment<'_>) -> Vec<PathBuf> {
    let folder = |name: &str| environment(name).filter(|folder| is_absolute(folder)).map(PathBuf::from);
    let home = folder("HOME");
    let in_home = |variable: &str, default: &str| folder(variable).or_else(|| Some(home.as_ref()?.join(default)));
    let (config, cache, data) = (
        in_home("XDG_CONFIG_HOME", ".config"),
        in_home("XDG_CACHE_HOME", ".cache"),
        in_home("XDG_DATA_HOME", ".local/share"),
    );
    let base = |base| match base {
        SoughtIn::System => Some(PathBuf::from("/")),
        SoughtIn::Home => home.clone(),
        SoughtIn::Config => config.clone(),
        SoughtIn::Cache => cache.clone(),
        SoughtIn::Data => data.clone(),
    };
    let listed = sought_by_windows().filter_map(|entry| Some(base(entry.base)?.join(entry.path)));
    // XrmGetFileDatabase's second name, with the host's (X(7), RESOURCES).
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let of_this_host = home.as_ref().map(|home| home.join(format!(".Xdefaults-{host}")));
    listed.chain(of_this_host).collect()
}

/// Where libwayland looks for its server: `WAYLAND_DISPLAY`, which may be a path, in `XDG_RUNTIME_DIR`.
fn wayland(environment: Environment<'_>) -> Option<PathBuf> {
    let name = environment("WAYLAND_DISPLAY").unwrap_or_else(|| WAYLAND.into());
    if is_absolute(&name) {
        return Some(name.into());
    }
    let folder = environment("XDG_RUNTIME_DIR").filter(|folder| is_absolute(folder))?;
    Some(Path::new(&folder).join(name))
}

fn is_absolute(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"/")
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn servers(library: Library, variables: &[(&str, &str)]) -> Servers {
        let of =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Servers::of(library, &of)
    }

    #[test]
    fn wayland_is_where_its_library_looks() {
        for (variables, path) in [
            (&[("XDG_RUNTIME_DIR", "/nowhere")][..], Some("/nowhere/wayland-0")),
            (&[("XDG_RUNTIME_DIR", "/nowhere"), ("WAYLAND_DISPLAY", "w")], Some("/nowhere/w")),
            (&[("WAYLAND_DISPLAY", "/nowhere/w")], Some("/nowhere/w")),
            (&[("XDG_RUNTIME_DIR", "nowhere")], None),
            (&[("WAYLAND_DISPLAY", "w")], None),
            (&[("XDG_RUNTIME_DIR", "/nowhere"), ("GDK_BACKEND", "x11")], None),
        ] {
            assert_eq!(servers(Library::Gtk, variables).wayland, path.map(PathBuf::from), "{variables:?}");
        }
    }

    #[test]
    fn the_server_is_the_one_that_the_library_takes() {
        let path = std::env::temp_dir().join(format!("windows-test-{}", std::process::id()));
        let _listening = UnixListener::bind(&path).unwrap();
        let both = [("WAYLAND_DISPLAY", path.to_str().unwrap()), ("DISPLAY", ":0")];
        let only_x = servers(Library::Gtk, &both[1..]);
        assert_eq!(only_x, Servers { wayland: None, x: Some(":0".into()) });
        assert_eq!(servers(Library::Sdl, &[("DISPLAY", "")]), Servers::default());
        for (library, variable, value, wayland, x) in [
            (Library::Gtk, "GDK_BACKEND", "", true, false),
            (Library::Gtk, "GDK_BACKEND", "x11", false, true),
            (Library::Gtk, "GDK_BACKEND", "wayland,x11", true, true),
            (Library::Gtk, "GDK_BACKEND", "*", true, false),
            (Library::Gtk, "GDK_BACKEND", "x11,*", true, true),
            (Library::Gtk, "SDL_VIDEODRIVER", "x11", true, false),
            (Library::Sdl, "GDK_BACKEND", "wayland", false, true),
            (Library::Sdl, "SDL_VIDEODRIVER", "x11", false, true),
            (Library::Sdl, "SDL_VIDEODRIVER", "wayland", true, false),
        ] {
            let found = servers(library, &[both[0], both[1], (variable, value)]);
            assert_eq!((found.wayland.is_some(), found.x.is_some()), (wayland, x), "{library:?} {variable}={value}");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_looked_for_follows_the_users_folders() {
        let of = |name: &str| match name {
            "HOME" => Some(OsString::from("/h")),
            "XDG_CACHE_HOME" => Some("/c".into()),
            "XDG_DATA_HOME" => Some("relative".into()),
            _ => None,
        };
        let found = sought(&of);
        for path in ["/h/.Xdefaults", "/h/.config/gtk-3.0", "/c/fontconfig", "/h/.local/share/icons", "/etc/drirc"] {
            assert!(found.iter().any(|known| known == Path::new(path)), "{path}");
        }
        let system = sought_by_windows().filter(|entry| entry.base == SoughtIn::System).count();
        assert_eq!(sought(&|_| None).len(), system);
    }
}
