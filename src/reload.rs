//! Rule files into the table of rules: at start, and whenever they change.
//!
//! The files are read whole every half second or so and compared by content. Inode watches would be faster and wrong:
//! editors replace files, Kubernetes swaps a symlink two directories up, network disks tell nobody. A change counts
//! once two readings in a row agree, so that a file caught half written is not taken for a shorter one. A set with a
//! mistake in it never replaces a good one: it is reported once, with all its mistakes, and the good one goes on.

use std::hash::{BuildHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::rules::{Options, RuleErrors, RuleSet, Sources, Warning, load, read_sources};
use crate::table::{Generation, TableWriter};

/// Loads the rules, and loads them again.
#[derive(Debug)]
pub struct Reloader {
    paths: Vec<PathBuf>,
    options: Options,
    writer: TableWriter,
    metrics: Metrics,
    fingerprints: foldhash::fast::RandomState,
    /// Content of the set that was last published or rejected.
    settled: Option<u64>,
    /// Content that was read once and must be read again.
    candidate: Option<u64>,
    unreadable: bool,
}

/// What was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its generation.
    pub generation: Generation,
    /// Files read.
    pub files: usize,
    /// Domains in them.
    pub domains: usize,
    /// Rules in them.
    pub rules: usize,
}

/// What a reading of the files came to.
struct Compiled {
    rules: RuleSet,
    warnings: Vec<Warning>,
    files: usize,
}

// === impl Reloader ===

impl Reloader {
    /// A loader of the files and directories `paths`. Nothing is read yet.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, options: Options, writer: TableWriter, metrics: Metrics) -> Reloader {
        let fingerprints = foldhash::fast::RandomState::default();
        Reloader { paths, options, writer, metrics, fingerprints, settled: None, candidate: None, unreadable: false }
    }

    /// Loads the rules for the first time.
    ///
    /// # Errors
    /// All mistakes in all files, or why they can't be read.
    pub fn load_first(&mut self) -> Result<Loaded, RuleErrors> {
        let sources = read_sources(&self.paths)?;
        self.settled = Some(self.fingerprint(&sources));
        let compiled = Compiled::of(&sources, &self.options)
            .inspect_err(|_| self.metrics.totals().config_load_error.increment())?;
        Ok(self.publish(compiled))
    }

    /// Looks for changes every `every` until `stop` is cancelled.
    pub async fn run(mut self, every: Duration, stop: CancellationToken) {
        let mut looks = interval(every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = looks.tick() => {}
            }
            // Reading and compiling a large set takes long enough for a health check to notice.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(reloader) => self = reloader,
                Err(error) => return tracing::error!(%error, "rules are no longer reloaded"),
            }
        }
    }

    fn look(&mut self) {
        let sources = match read_sources(&self.paths) {
            Ok(sources) => sources,
            Err(errors) => {
                // Between the two steps of a rename a file may be missing; only what lasts is worth a line.
                if !std::mem::replace(&mut self.unreadable, true) {
                    self.reject(&errors);
                }
                return;
            }
        };
        self.unreadable = false;
        let fingerprint = Some(self.fingerprint(&sources));
        if fingerprint == self.settled {
            self.candidate = None;
        } else if fingerprint == self.candidate {
            self.candidate = None;
            self.settled = fingerprint;
            match Compiled::of(&sources, &self.options) {
                Ok(compiled) => {
                    let loaded = self.publish(compiled);
                    let Loaded { files, domains, rules, .. } = loaded;
                    tracing::info!(generation = loaded.generation.0, files, domains, rules, "rules reloaded");
                }
                Err(errors) => self.reject(&errors),
            }
        } else {
            self.candidate = fingerprint;
        }
    }

    fn publish(&mut self, compiled: Compiled) -> Loaded {
        for warning in &compiled.warnings {
            tracing::warn!("{warning}");
        }
        let domains = compiled.rules.domains().count();
        let rules = compiled.rules.rules().len();
        let generation = self.writer.publish(compiled.rules);
        self.metrics.totals().config_load_success.increment();
        Loaded { generation, files: compiled.files, domains, rules }
    }

    fn reject(&self, errors: &RuleErrors) {
        self.metrics.totals().config_load_error.increment();
        tracing::error!("the rules were not reloaded, those in force stay:\n{errors}");
    }

    fn fingerprint(&self, sources: &Sources) -> u64 {
        let mut hasher = self.fingerprints.build_hasher();
        for source in &sources.files {
            source.name.hash(&mut hasher);
            source.text.hash(&mut hasher);
        }
        hasher.finish()
    }
}

// === impl Compiled ===

impl Compiled {
    fn of(sources: &Sources, options: &Options) -> Result<Compiled, RuleErrors> {
        let (rules, warnings) = load(&sources.files, options)?;
        let warnings = sources.warnings.iter().cloned().chain(warnings).collect();
        Ok(Compiled { rules, warnings, files: sources.files.len() })
    }
}
