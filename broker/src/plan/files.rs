//! Everything on the command line that is no image.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use protocol::Errno;
use rustix::fs::FileType;

use super::{Error, FirmwareFolder, Named, Output, Plan, Private};
use crate::emulator::{Kind, Resource};
use crate::open::pin::{Pin, check_access};
use crate::open::terminal::{self, Multiplexer};
use crate::serve::grants::{Access, Role};

/// Permissions of files that QEMU makes: 0666 for logs (fopen), 0600 for the pid file (`qemu_create_pidfile`), 0644 for
/// guest memory (`file_ram_open`), each before the umask.
const LOG_MODE: u32 = 0o666;
const PID_FILE_MODE: u32 = 0o600;
const MEMORY_MODE: u32 = 0o644;

impl Plan {
    /// Plans for one resource that is no image.
    pub(super) fn plan_file(&mut self, resource: &Resource) -> Result<(), Error> {
        match &resource.kind {
            // Planned before, all together.
            Kind::Image(_) => Ok(()),
            Kind::ReadOnlyFile => self.plan_read_only(resource),
            // Of a name of firmware that is missing, the emulator looks into its own folders, which are there.
            Kind::FirmwareName | Kind::OptionalFile => self.plan_read_only(resource),
            Kind::FirmwareDirectory => self.plan_firmware_folder(resource),
            Kind::OutputFile { append: true } => self.plan_output(resource, Role::Output, Access::AppendOnly, LOG_MODE),
            // The process that makes a plan and does not start would have this number.
            Kind::OutputFile { append: false } | Kind::NumberedLog => {
                self.plan_output(resource, Role::Output, Access::WriteOnly, LOG_MODE)
            }
            Kind::Target => self.as_image_user(|plan| plan.plan_target(resource)),
            Kind::NoFile => {
                self.set_absent(resource, &io::Error::from_raw_os_error(libc::ENOENT));
                Ok(())
            }
            Kind::PidFile => self.plan_output(resource, Role::PidFile, Access::ReadWrite, PID_FILE_MODE),
            Kind::MemoryFile { read_only } => self.plan_memory(resource, *read_only),
            Kind::Stream => self.plan_stream(resource),
            Kind::Device => self.plan_device(resource),
        }
    }

    fn plan_read_only(&mut self, resource: &Resource) -> Result<(), Error> {
        let granted = self.pin(resource).and_then(|pin| match pin.file_type() {
            FileType::RegularFile | FileType::CharacterDevice => {
                self.grant(Role::File, Access::ReadOnly, Named::by(resource), pin)
            }
            FileType::Directory => Err(Error::open(resource, io::Error::from_raw_os_error(libc::EISDIR))),
            _ => Err(wrong_type(resource, "no regular file", "give a regular file")),
        });
        granted.or_else(|error| self.leave_to_emulator(resource, error))
    }

    /// A folder that is missing, or is none, is one in which the emulator finds nothing.
    fn plan_firmware_folder(&mut self, resource: &Resource) -> Result<(), Error> {
        let pin = match self.pin(resource) {
            Ok(pin) if pin.file_type() == FileType::Directory => pin,
            _ => return Ok(()),
        };
        if pin.path() == Path::new("/") {
            return Err(wrong_type(resource, "all of the host", "-L takes a folder of firmware files"));
        }
        let folder = self.absolute(&resource.name);
        self.firmware_folders.push(FirmwareFolder { name: resource.name.as_bytes().to_vec(), path: folder });
        Ok(())
    }

    fn plan_output(&mut self, resource: &Resource, role: Role, access: Access, mode: u32) -> Result<(), Error> {
        if let Ok(existing) = Pin::take(Path::new(&resource.name)) {
            match existing.file_type() {
                FileType::RegularFile => {}
                // A log may go to a terminal or a printer, and to whoever reads a FIFO.
                FileType::CharacterDevice if role == Role::Output => {}
                FileType::Fifo if role == Role::Output => return self.plan_fifo(resource, access, existing),
                FileType::Directory => {
                    self.set_absent(resource, &io::Error::from_raw_os_error(libc::EISDIR));
                    return Ok(());
                }
                _ => {
                    return Err(wrong_type(resource, "no regular file", "give a regular file, or a name that is free"));
                }
            }
        }
        let (option, name) = (resource.option.clone(), resource.name.clone());
        self.outputs.push(Output { role, option, name, access, mode });
        Ok(())
    }

    /// An output that somebody reads meanwhile. QEMU waits for a reader when it opens it; nothing is to be made or removed.
    fn plan_fifo(&mut self, resource: &Resource, access: Access, pin: Pin) -> Result<(), Error> {
        match check_access(pin.as_fd(), true) {
            Ok(()) => self.grant(Role::Output, access, Named::by(resource), pin),
            Err(error) => {
                self.set_absent(resource, &error);
                Ok(())
            }
        }
    }

    fn plan_memory(&mut self, resource: &Resource, read_only: bool) -> Result<(), Error> {
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let pin = match Pin::take(Path::new(&resource.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !read_only => {
                // Where no file can be made, QEMU says so.
                if !self.absolute(&resource.name).parent().is_some_and(Path::is_dir) {
                    self.set_absent(resource, &error);
                    return Ok(());
                }
                return self.plan_output(resource, Role::Memory, Access::ReadWrite, MEMORY_MODE);
            }
            Err(error) => return self.leave_to_emulator(resource, Error::open(resource, error)),
            Ok(pin) => pin,
        };
        if pin.file_type() == FileType::Directory {
            // QEMU makes an unnamed file in it: hugetlbfs, /dev/shm.
            let at = self.absolute(&resource.name);
            self.private.retain(|folder| folder.at != at);
            let name = Some(resource.name.as_bytes().to_vec());
            self.private.push(Private { on_disk_in: Some(at.clone()), name, at });
            return Ok(());
        }
        let granted = self.grant(Role::Memory, access, Named::by(resource), pin);
        granted.or_else(|error| self.leave_to_emulator(resource, error))
    }

    /// What a character device is connected to. What cannot be opened is for the emulator to complain of: of the three
    /// names that a pipe may have, it does without one or two.
    fn plan_stream(&mut self, resource: &Resource) -> Result<(), Error> {
        let usable = Pin::take(Path::new(&resource.name)).and_then(|pin| check_access(pin.as_fd(), true).map(|()| pin));
        let unusable = match usable {
            Ok(pin) => match pin.file_type() {
                FileType::Directory => io::Error::from_raw_os_error(libc::EISDIR),
                // open(2) of a socket.
                FileType::Socket => io::Error::from_raw_os_error(libc::ENXIO),
                FileType::BlockDevice => {
                    return Err(wrong_type(resource, "a block device", "give a FIFO, or a serial or parallel port"));
                }
                _ => return self.grant(Role::Stream, Access::ReadWrite, Named::by(resource), pin),
            },
            Err(error) => error,
        };
        self.set_absent(resource, &unusable);
        Ok(())
    }

    /// What new pseudo-terminals are made of, if the emulator is to make some; it complains itself if that is missing.
    pub(super) fn plan_terminals(&mut self) {
        if !self.command.terminals {
            return;
        }
        match Multiplexer::take() {
            Ok(multiplexer) => self.terminals = Some(multiplexer),
            Err(error) => self.absent.push((terminal::MULTIPLEXER.into(), Errno::from_io(&error))),
        }
    }

    /// A device that is missing, or that the caller may not use, is for the emulator to do without or to complain of; it
    /// gets the errno that it would get outside.
    fn plan_device(&mut self, resource: &Resource) -> Result<(), Error> {
        let usable = Pin::take(Path::new(&resource.name)).and_then(|pin| check_access(pin.as_fd(), true).map(|()| pin));
        match usable {
            Ok(pin) => self.grant(Role::Device, Access::ReadWrite, Named::by(resource), pin),
            Err(error) => {
                self.absent.push((resource.name.as_bytes().to_vec(), Errno::from_io(&error)));
                Ok(())
            }
        }
    }
}

pub(super) fn wrong_type(resource: &Resource, found: &'static str, wanted: &'static str) -> Error {
    Error::WrongType { option: resource.option.clone(), name: resource.name.clone(), found, wanted }
}
