//! Reading rule files from disk: the one part of the rules that does I/O.
//!
//! A directory is read with everything below it, in the order of names, so that the order of declaration, and with it
//! the precedence of wildcards over merged files, is the same on every replica. Only `.yaml` and `.yml` are rules; what
//! else lies there (a README, an editor's copy) is named in a warning. Names that begin with a dot are passed over:
//! a Kubernetes ConfigMap is mounted as links into `..data`, and its files must not be read twice. Links to files are
//! followed, links to directories are not, since they can lead in a circle. A file that is named itself is read
//! whatever its ending.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{KeyPath, Place, Report, RuleErrors, Warning};
use super::load::{Options, SourceFile, load_into};
use super::set::RuleSet;
use super::yaml::BYTES_MAX;

/// Most files, rules or not, that are looked at: a wrong path such as `/` ends in a sentence and not in a long walk.
pub(super) const FILES_MAX: usize = 10_000;

/// Most bytes of all files together.
pub(super) const TOTAL_BYTES_MAX: u64 = 64 << 20;

/// Deepest nesting of directories.
const DIRECTORIES_MAX: usize = 16;

/// The rule files that were found. Equal ones hash alike, what could not be read included.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The files, in order.
    pub files: Vec<SourceFile>,
    /// What lay there and was not read, and what could not be.
    pub(super) report: Report,
}

/// Reads the files at `paths`, each a file or a directory, in the order given. It blocks; call it where that is
/// allowed. What can't be read is a mistake like others, which [`Sources::load`] reports with them.
#[must_use]
pub fn read_sources(paths: &[PathBuf]) -> Sources {
    let mut reading = Reading::default();
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => reading.named_directory(path),
            Ok(metadata) if metadata.is_file() => reading.file(path),
            Ok(_) => reading.mistake(path, "neither a file nor a directory; name a rule file or a directory of them"),
            Err(error) => reading.mistake(path, cannot_read(&error)),
        }
    }
    let Reading { files, report, .. } = reading;
    Sources { files, report }
}

#[derive(Debug, Default)]
struct Reading {
    files: Vec<SourceFile>,
    report: Report,
    seen: usize,
    bytes: u64,
}

// === impl Sources ===

impl Sources {
    /// Compiles the files into one rule set, with warnings about all that was found.
    ///
    /// # Errors
    /// Everything that could not be read, and every mistake in every file that could.
    pub fn load(&self, options: &Options) -> Result<(RuleSet, Vec<Warning>), RuleErrors> {
        load_into(self.report.clone(), &self.files, options)
    }
}

impl From<SourceFile> for Sources {
    /// A file that was read by other means.
    fn from(file: SourceFile) -> Sources {
        Sources { files: vec![file], report: Report::default() }
    }
}

impl Hash for Sources {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.files.hash(state);
        self.report.mistakes().hash(state);
    }
}

fn cannot_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

// === impl Reading ===

impl Reading {
    fn mistake(&mut self, path: &Path, text: impl Into<String>) {
        self.report.mistake(&KeyPath::file(&path.display().to_string()), Place::default(), text);
    }

    fn warning(&mut self, path: &Path, text: impl Into<String>) {
        self.report.warning(&KeyPath::file(&path.display().to_string()), Place::default(), text);
    }

    fn named_directory(&mut self, directory: &Path) {
        let before = self.files.len();
        self.directory(directory, 0);
        if self.files.len() == before {
            self.warning(directory, "no rule files (.yaml, .yml) in this directory: nothing is limited by it");
        }
    }

    fn directory(&mut self, directory: &Path, depth: usize) {
        if depth == DIRECTORIES_MAX {
            self.mistake(
                directory,
                format!("directories nest more than {DIRECTORIES_MAX} deep; is this the right one?"),
            );
            return;
        }
        let names = match names(directory) {
            Ok(names) => names,
            Err(error) => return self.mistake(directory, cannot_read(&error)),
        };
        for name in names {
            let path = directory.join(name);
            self.seen += 1;
            if self.seen > FILES_MAX {
                if self.seen == FILES_MAX + 1 {
                    self.mistake(directory, format!("more than {FILES_MAX} files; is this the right directory?"));
                }
                return;
            }
            self.entry(&path, depth);
        }
    }

    fn entry(&mut self, path: &Path, depth: usize) {
        let kinds = fs::symlink_metadata(path).and_then(|link| Ok((link.is_symlink(), fs::metadata(path)?)));
        let is_rules = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        match kinds {
            // The target of a link that is no rule file may be missing.
            Err(error) if is_rules => self.mistake(path, cannot_read(&error)),
            Ok((false, metadata)) if metadata.is_dir() => self.directory(path, depth + 1),
            Ok((true, metadata)) if metadata.is_dir() => {
                self.warning(path, "a link to a directory is not followed; name the directory itself");
            }
            Ok((_, metadata)) if metadata.is_file() && is_rules => self.file(path),
            Ok(_) | Err(_) => self.warning(path, "not read: only files that end in .yaml or .yml are rules"),
        }
    }

    fn file(&mut self, path: &Path) {
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => return self.mistake(path, cannot_read(&error)),
        };
        let before = self.bytes;
        self.bytes += bytes.len() as u64;
        if self.bytes > TOTAL_BYTES_MAX {
            if before <= TOTAL_BYTES_MAX {
                self.mistake(path, format!("with this file the rules have more than {TOTAL_BYTES_MAX} bytes together"));
            }
            return;
        }
        let name = path.display().to_string();
        match String::from_utf8(bytes) {
            Ok(text) => self.files.push(SourceFile { name, text }),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
                let place = Place { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
                self.report.mistake(&KeyPath::file(&name), place, "a byte that is not UTF-8; save the file as UTF-8");
            }
        }
    }
}

/// The names in a directory that are not hidden, in order.
fn names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    // One more than allowed, so that the caller sees that there are more.
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && names.len() <= FILES_MAX {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a file, but never more than one past what a rule file may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
