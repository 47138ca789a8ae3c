//! Graphics libraries: the device that they draw with, and the data that they read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use protocol::Errno;

use super::{Error, Plan};
use crate::emulator::{Kind, RenderNode, Resource};
use crate::open::pin::Pin;
use crate::open::render_node;

/// What Mesa, and the library that finds Mesa, read at each start.
const DATA: [&str; 5] = [
    "/usr/share/drirc.d",            // what single programs need of a driver
    "/etc/drirc",                    // the administrator's own such list
    "/etc/glvnd/egl_vendor.d",       // which libraries provide EGL
    "/usr/share/glvnd/egl_vendor.d", // the same, as installed
    "/usr/share/libdrm",             // names of graphics cards
];

/// The user's own list, beneath `HOME`, which is not shown: a link may lead from there to any file.
const OWN_DATA: &str = ".drirc";

impl Plan {
    /// Plans for devices that draw. One that is missing is for the emulator to complain of.
    pub(super) fn plan_render_nodes(&mut self, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<(), Error> {
        let asked = self.command.render_nodes.clone();
        if asked.is_empty() {
            return Ok(());
        }
        self.show_graphics_data(environment);
        asked.iter().try_for_each(|node| self.plan_render_node(node))
    }

    /// Shows what graphics libraries read besides devices.
    pub(super) fn show_graphics_data(&mut self, environment: &dyn Fn(&str) -> Option<OsString>) {
        let own = environment("HOME").map(|home| Path::new(&home).join(OWN_DATA)).filter(|own| own.is_absolute());
        let missing = DATA.iter().map(PathBuf::from).filter(|path| !self.shown.add(path)).collect::<Vec<_>>();
        for path in missing.into_iter().chain(own) {
            self.miss(path.into_os_string().into_encoded_bytes());
        }
    }

    fn plan_render_node(&mut self, asked: &RenderNode) -> Result<(), Error> {
        let Some(path) = asked.path.as_ref().map(PathBuf::from).or_else(render_node::first) else {
            self.miss(render_node::NODES.into());
            return Ok(());
        };
        let device = |path: &Path| Pin::take(path).ok().and_then(|pin| pin.character_device());
        let described = device(&path).and_then(|numbers| render_node::describe(Path::new("/sys"), numbers));
        // One that is named is among the resources already.
        let mut granted = asked.path.as_ref().map(|_| self.absolute(path.as_os_str()));
        if granted.is_none() {
            self.grant_node(asked, &path)?;
            granted = Some(path.clone());
        }
        let Some(described) = described else { return Ok(()) };
        // Libraries go from the open device to its own name, whatever name it was opened by.
        if granted.as_ref() != Some(&described.node) && device(&described.node) == device(&path) {
            self.grant_node(asked, &described.node)?;
        }
        self.shown.add_folder(Path::new(render_node::NODES));
        self.shown.add_folder(&described.siblings);
        described.links.iter().for_each(|(at, target)| self.shown.add_link(at, target));
        for file in &described.files {
            self.shown.add(file);
        }
        Ok(())
    }

    /// Answers for a name that leads nowhere.
    fn miss(&mut self, name: Vec<u8>) {
        self.absent.push((name, Errno::from_io(&std::io::Error::from_raw_os_error(libc::ENOENT))));
    }

    fn grant_node(&mut self, asked: &RenderNode, path: &Path) -> Result<(), Error> {
        let name = path.as_os_str().to_owned();
        self.plan_file(&Resource { option: asked.option.clone(), name, kind: Kind::Device })
    }
}
