//! The runs that a page is about, kept in a file: each as soon as it is there, because a run of many minutes may be ended.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs so far, in the order in which they were made.
#[derive(Debug)]
pub struct Runs<T> {
    file: PathBuf,
    all: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Runs<T> {
    /// The runs in a file; none if it isn't there yet.
    ///
    /// # Errors
    /// When it can't be read, or holds something else.
    pub fn open(file: &Path) -> anyhow::Result<Runs<T>> {
        let cannot = || format!("cannot read {} (--data)", file.display());
        let all = match std::fs::read_to_string(file) {
            Ok(text) => serde_json::from_str(&text).with_context(cannot)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(cannot),
        };
        Ok(Runs { file: file.to_owned(), all })
    }

    /// Keeps one more.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add(&mut self, run: T) -> anyhow::Result<()> {
        self.all.push(run);
        write(&self.file, &serde_json::to_string_pretty(&self.all)?)
    }

    /// Writes the page of all runs, and tells where it is.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn publish(&self, output: &Path, page: impl FnOnce(&[T]) -> String) -> anyhow::Result<()> {
        write(output, &page(&self.all))?;
        eprintln!("wrote {}", output.display());
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
