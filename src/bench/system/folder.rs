//! A folder of its own for what a run writes; removed when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::SystemError;

/// A new folder below the system's temporary one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

// === impl Folder ===

impl Folder {
    /// An empty folder that did not exist before.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new() -> Result<Folder, SystemError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-{}-{number}", std::process::id()));
        fs::create_dir(&path).map_err(SystemError::file(format!("make the folder {}", path.display())))?;
        Ok(Folder { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, SystemError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(SystemError::file(format!("write {}", path.display())))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed is left for the system's own tidying.
        drop(fs::remove_dir_all(&self.path));
    }
}
