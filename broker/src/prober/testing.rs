//! What the readers' tests share: images that qemu-img makes, and images that are cut and forged everywhere.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::answer::is_possible;
use super::header::{Format, Found, HeaderError, Reference, ReferenceRole, Scratch, parse};

/// What `image` says.
pub(super) fn found(image: &[u8], stated: Option<Format>) -> Result<Found, HeaderError> {
    Ok(parse(&image, stated, &mut Scratch::default())?.to_found())
}

/// A reference as tests write it.
pub(super) fn reference(role: ReferenceRole, name: &str, format: Option<&str>) -> Reference {
    Reference { role, name: name.as_bytes().to_vec(), format: format.map(|format| format.as_bytes().to_vec()) }
}

/// Writes `bytes` at `offset`.
pub(super) fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image.iter_mut().skip(offset).zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Reads `image` cut short at every length, and with each byte replaced by others. Whatever is found must be possible;
/// returns at how many lengths it was read without an error.
pub(super) fn cut_and_forge(image: &[u8], stated: Option<Format>) -> usize {
    let mut scratch = Box::new(Scratch::default());
    let mut is_read = |image: &[u8]| match parse(&image, stated, &mut scratch) {
        Ok(header) => {
            let found = header.to_found();
            assert!(is_possible(&found), "{found:?}");
            true
        }
        Err(_) => false,
    };
    let read = (0..image.len()).filter(|length| is_read(image.get(..*length).unwrap_or_default())).count();
    let mut forged = image.to_vec();
    for position in 0..image.len() {
        for value in [0, 1, 0x22, 0x7f, 0x80, 0xff] {
            put(&mut forged, position, &[value]);
            is_read(&forged);
        }
        put(&mut forged, position, image.get(position..=position).unwrap_or_default());
    }
    read
}

/// A folder of this test's own.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("prober-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs `qemu-img create` with these words, and returns what the image `name` then holds.
    pub(super) fn create(&self, words: &str, name: &str) -> std::io::Result<Vec<u8>> {
        let mut tool = Command::new("qemu-img");
        let output = tool.args(["create", "-q"]).args(words.split(' ')).current_dir(&self.0).output()?;
        if !output.status.success() {
            return Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        std::fs::read(self.path(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
