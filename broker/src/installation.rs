//! Where an emulator's program, loader, libraries, firmware and modules are, for a QEMU under `/usr` and for one unpacked
//! anywhere else.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use elf::ElfStream;
use elf::abi::{DT_RPATH, DT_RUNPATH, DT_STRTAB, PT_INTERP, PT_LOAD};
use elf::endian::AnyEndian;
use elf::segment::ProgramHeader;
use sandbox_profiles::Base;

/// What `PATH` is where it is not set: `execvp(3)`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Links that take the place of folders on systems with a merged `/usr`.
const TOP_LINKS: [&str; 6] = ["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"];

/// Variables of the caller's environment that name folders which the emulator loads code from.
const CODE_VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "QEMU_MODULE_DIR"];

/// An emulator and the files that came with it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Installation {
    /// Its program, with links resolved.
    pub binary: PathBuf,
    /// The loader that its program names.
    pub loader: Option<PathBuf>,
    /// Folders and files that it needs, as they are on the host.
    pub trees: Vec<PathBuf>,
    /// Links of the host's root folder.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Folders in which the loader looks for libraries, whether they are there or not.
    pub searched: Vec<PathBuf>,
}

impl Installation {
    /// `path` as it reads behind the links of the root folder.
    #[must_use]
    pub fn through_links(&self, path: &Path) -> PathBuf {
        through_links(path, &self.links)
    }
}

/// Finds the emulator that `name` stands for, as a shell would, and what belongs to it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::NotExecutable`], [`Error::NotAProgram`].
pub fn find(name: &OsStr, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Installation, Error> {
    let found = find_program(name, environment("PATH"))?;
    let binary = found.canonicalize().map_err(|source| Error::NotExecutable { path: found.clone(), source })?;
    let program = read_program(&binary)?;
    let prefix = prefix_of(&binary);
    let mut trees: Vec<PathBuf> = vec![binary.clone()];
    trees.extend(sandbox_profiles::mounts().flat_map(|mount| locate(mount, prefix.as_deref())));
    trees.extend(program.loader.clone());
    trees.extend(program.library_folders);
    let variables = CODE_VARIABLES.iter().filter_map(|variable| environment(variable));
    let searched: Vec<PathBuf> = variables.flat_map(|value| split_folders(&value)).collect();
    trees.extend(searched.iter().filter(|folder| is_readable_folder(folder)).cloned());
    // A build folder keeps firmware beside its programs.
    trees.extend(
        ["qemu-bundle", "pc-bios"].map(|name| binary.with_file_name(name)).into_iter().filter(|path| path.is_dir()),
    );
    let links = top_links();
    let trees = trees.iter().map(|path| through_links(path, &links)).collect();
    Ok(Installation { binary, loader: program.loader, trees: without_nested(trees), links, searched })
}

/// What an emulator that opens windows needs besides, as it is on the host.
#[must_use]
pub fn window_trees(binary: &Path) -> Vec<PathBuf> {
    let prefix = prefix_of(binary);
    let found = sandbox_profiles::window_mounts().flat_map(|mount| locate(mount, prefix.as_deref()));
    let links = top_links();
    without_nested(found.map(|path| through_links(&path, &links)).collect())
}

fn find_program(name: &OsStr, path: Option<OsString>) -> Result<PathBuf, Error> {
    let candidates: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
    };
    let mut denied = None;
    for candidate in candidates {
        // A folder of PATH that cannot be searched holds nothing for this user.
        let Ok(metadata) = candidate.metadata() else { continue };
        match check_executable(&candidate, &metadata) {
            Ok(()) => return Ok(candidate),
            Err(source) => denied = denied.or(Some(Error::NotExecutable { path: candidate, source })),
        }
    }
    Err(denied.unwrap_or_else(|| Error::NotFound { name: name.to_owned() }))
}

/// Whether a folder can be read without rights to all files, which end with the user namespace (libvirt starts its first
/// probes with `CAP_DAC_OVERRIDE`). One that cannot be is as good as absent.
fn is_readable_folder(path: &Path) -> bool {
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK;
    path.is_dir() && rustix::fs::access(path, access).is_ok()
}

fn check_executable(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS)?)
}

/// The prefix of `PREFIX/bin/NAME`; none for a program that does not lie in such a folder.
fn prefix_of(binary: &Path) -> Option<PathBuf> {
    let folder = binary.parent()?;
    let is_program_folder = ["bin", "sbin", "libexec"].iter().any(|name| folder.ends_with(name));
    is_program_folder.then(|| folder.parent().map(Path::to_owned)).flatten()
}

/// Where a mount of the profile is on this host. What belongs to a prefix is looked for under `/usr` too: a program that
/// was built for `/usr` and unpacked elsewhere still takes its firmware from there.
fn locate(mount: &sandbox_profiles::Mount, prefix: Option<&Path>) -> Vec<PathBuf> {
    let usr = Path::new("/usr");
    let own = prefix.filter(|prefix| *prefix != usr);
    let paths = match mount.base {
        Base::System => vec![PathBuf::from(mount.path)],
        Base::Prefix => own.into_iter().chain([usr]).map(|prefix| prefix.join(mount.path)).collect(),
        Base::OwnPrefix => own.map(|prefix| prefix.join(mount.path)).into_iter().collect(),
    };
    // What is not optional and missing is reported by name when it is to be shown.
    paths.into_iter().filter(|path| !mount.optional || path.exists()).collect()
}

struct Program {
    loader: Option<PathBuf>,
    library_folders: Vec<PathBuf>,
}

/// Reads what an ELF program says about its loader and libraries. The file is the operator's, like the kernel's own.
fn read_program(binary: &Path) -> Result<Program, Error> {
    let unreadable = |source| Error::NotExecutable { path: binary.to_owned(), source };
    let not_a_program = |_| Error::NotAProgram { path: binary.to_owned() };
    let file = File::open(binary).map_err(unreadable)?;
    let bytes = file.try_clone().map_err(unreadable)?;
    let mut elf = ElfStream::<AnyEndian, _>::open_stream(file).map_err(not_a_program)?;
    let interpreter = elf.segments().iter().find(|segment| segment.p_type == PT_INTERP).copied();
    let loader = interpreter.map(|segment| read_string(&bytes, segment.p_offset)).transpose().map_err(unreadable)?;
    let run_paths = run_paths(&mut elf, &bytes);
    Ok(Program {
        loader: loader.map(|bytes| PathBuf::from(OsString::from_vec(bytes))),
        library_folders: run_paths.iter().flat_map(|paths| run_path_folders(binary, paths)).collect(),
    })
}

/// `DT_RUNPATH` and `DT_RPATH`, as written; none for a program whose dynamic section makes no sense. The table of strings
/// is not read as a whole: QEMU's has half a megabyte.
fn run_paths(elf: &mut ElfStream<AnyEndian, File>, file: &File) -> Vec<Vec<u8>> {
    let loaded: Vec<_> = elf.segments().iter().filter(|segment| segment.p_type == PT_LOAD).copied().collect();
    let Ok(Some(dynamic)) = elf.dynamic() else { return Vec::new() };
    let value = |tag| dynamic.iter().find(|entry| entry.d_tag == tag).map(|entry| entry.d_val());
    let Some(strings) = value(DT_STRTAB).and_then(|address| file_offset(&loaded, address)) else { return Vec::new() };
    let offsets = [value(DT_RUNPATH), value(DT_RPATH)].into_iter().flatten();
    offsets.filter_map(|offset| read_string(file, strings.checked_add(offset)?).ok()).collect()
}

/// Where the byte that is loaded at `address` lies in the file.
fn file_offset(loaded: &[ProgramHeader], address: u64) -> Option<u64> {
    loaded.iter().find_map(|segment| {
        let distance = address.checked_sub(segment.p_vaddr).filter(|distance| *distance < segment.p_filesz)?;
        segment.p_offset.checked_add(distance)
    })
}

/// The NUL-terminated string at `offset`, as far as the kernel would take it for a path.
fn read_string(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    let read = file.read_at(&mut bytes, offset)?;
    let end = bytes.iter().take(read).position(|byte| *byte == 0).unwrap_or(read);
    bytes.truncate(end);
    Ok(bytes)
}

/// The folders of a run path that exist, with `$ORIGIN` replaced (ld.so(8)).
fn run_path_folders(binary: &Path, run_path: &[u8]) -> Vec<PathBuf> {
    let origin = binary.parent().unwrap_or(Path::new("/")).to_string_lossy();
    let run_path = String::from_utf8_lossy(run_path).replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
    split_folders(OsStr::new(&run_path)).into_iter().filter(|folder| folder.is_dir()).collect()
}

fn split_folders(list: &OsStr) -> Vec<PathBuf> {
    // Only absolute names: an empty part means the current folder, which is not to be shown.
    // And never all of the host.
    let is_everything = |folder: &PathBuf| folder.canonicalize().is_ok_and(|real| real == Path::new("/"));
    let is_folder = |folder: &PathBuf| folder.is_absolute() && !is_everything(folder);
    std::env::split_paths(list).filter(is_folder).collect()
}

/// `path` as it reads behind the links of the root folder, which the sandbox has too.
fn through_links(path: &Path, links: &[(PathBuf, PathBuf)]) -> PathBuf {
    let behind = |(at, target): &(PathBuf, PathBuf)| {
        let rest = path.strip_prefix(at).ok()?;
        Some(Path::new("/").join(target).components().chain(rest.components()).collect())
    };
    links.iter().find_map(behind).unwrap_or_else(|| path.to_owned())
}

/// Leaves out what another tree already shows, and puts outer folders before inner ones.
fn without_nested(mut trees: Vec<PathBuf>) -> Vec<PathBuf> {
    trees.sort();
    trees.dedup();
    let outer = |path: &PathBuf, all: &[PathBuf]| {
        !all.iter().any(|other| other != path && path.starts_with(other) && other.is_dir())
    };
    trees.iter().filter(|path| outer(path, &trees)).cloned().collect()
}

fn top_links() -> Vec<(PathBuf, PathBuf)> {
    let link = |path: &str| Some((PathBuf::from(path), std::fs::read_link(path).ok()?));
    TOP_LINKS.iter().filter_map(|path| link(path)).collect()
}

/// Why an emulator cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such program.
    #[error("emulator {} not found; install it, or give its full path", name.display())]
    NotFound {
        /// As typed.
        name: OsString,
    },
    /// Not allowed, or no file.
    #[error("cannot execute {}: {source}", path.display())]
    NotExecutable {
        /// The path that was found.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A script, most likely.
    #[error("{} is not an ELF program; if it is a script around an emulator, name the emulator itself", path.display())]
    NotAProgram {
        /// Its path.
        path: PathBuf,
    },
}
