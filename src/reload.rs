//! Rule files into the table of rules: at start, and whenever they change.
//!
//! The files are read whole every half second or so and compared by content. Inode watches would be faster and wrong:
//! editors replace files, Kubernetes swaps a symlink two directories up, network disks tell nobody. A change counts
//! once two readings in a row agree, so that a file caught half written is not taken for a shorter one. A set with a
//! mistake in it never replaces a good one: it is reported once, with all its mistakes, and the good one goes on.

use std::fmt;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::rules::{Options, RuleErrors, RuleSet, SourceFile, Sources, Warning, read_sources};
use crate::table::{Generation, TableWriter};

/// What errors and explanations call rules that are part of the program.
pub const BUILT_IN: &str = "the built-in example rules";

/// Loads the rules, and loads them again.
#[derive(Debug)]
pub struct Reloader {
    paths: Vec<PathBuf>,
    /// What stands in for the first path while there is nothing at it.
    built_in: Option<&'static str>,
    options: Options,
    writer: TableWriter,
    metrics: Metrics,
    fingerprints: foldhash::fast::RandomState,
    /// What the last look saw; only what two looks in a row see counts.
    seen: Option<u64>,
    /// What was last dealt with, be it published or rejected.
    settled: Option<u64>,
    /// What is in force, and from how many files.
    in_force: Option<(u64, usize)>,
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
    /// They are part of the program: no file was found.
    pub is_built_in: bool,
}

/// What a reading of the files came to.
struct Compiled {
    rules: RuleSet,
    warnings: Vec<Warning>,
    files: usize,
    is_built_in: bool,
}

// === impl Reloader ===

impl Reloader {
    /// A loader of the files and directories `paths`. Where there is nothing at the first of them, the rules
    /// `built_in` are used, if there are such. Nothing is read yet.
    #[must_use]
    pub fn new(
        paths: Vec<PathBuf>,
        built_in: Option<&'static str>,
        options: Options,
        writer: TableWriter,
        metrics: Metrics,
    ) -> Reloader {
        let fingerprints = foldhash::fast::RandomState::default();
        Reloader { paths, built_in, options, writer, metrics, fingerprints, seen: None, settled: None, in_force: None }
    }

    /// Loads the rules for the first time.
    ///
    /// # Errors
    /// All mistakes in all files, or why they can't be read.
    pub fn load_first(&mut self) -> Result<Loaded, RuleErrors> {
        let sources = self.read();
        let seen = self.fingerprints.hash_one(&sources);
        let compiled = Compiled::of(&sources, &self.options)?;
        Ok(self.publish(compiled, seen))
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
            let looking = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            let looked = tokio::select! {
                // A disk that hangs must not hold the end of the process.
                () = stop.cancelled() => return,
                looked = looking => looked,
            };
            match looked {
                Ok(reloader) => self = reloader,
                Err(error) => return tracing::error!(%error, "rules are no longer reloaded"),
            }
        }
    }

    fn look(&mut self) {
        let sources = self.read();
        let seen = self.fingerprints.hash_one(&sources);
        if self.seen.replace(seen) != Some(seen) || self.settled.replace(seen) == Some(seen) {
            return;
        }
        if self.in_force.is_some_and(|(in_force, _)| in_force == seen) {
            self.metrics.totals().config_rejected.set(0);
            tracing::info!("the rule files are again those in force");
            return;
        }
        match Compiled::of(&sources, &self.options) {
            Err(errors) => self.reject(&errors),
            Ok(compiled) if compiled.files == 0 && self.in_force.is_some_and(|(_, files)| files > 0) => {
                // An unmounted volume, or files that are copied one by one. To unload all rules on purpose, leave a
                // file that has a domain and no descriptors.
                self.reject(&"there is no rule file any more (.yaml or .yml) where the rules are read from");
            }
            Ok(compiled) => {
                let Loaded { generation, files, domains, rules, .. } = self.publish(compiled, seen);
                tracing::info!(generation = generation.0, files, domains, rules, "rules reloaded");
            }
        }
    }

    fn read(&self) -> Sources {
        match (self.built_in, self.paths.first()) {
            (Some(text), Some(path)) if !path.exists() => {
                SourceFile { name: BUILT_IN.to_owned(), text: text.to_owned() }.into()
            }
            _ => read_sources(&self.paths),
        }
    }

    fn publish(&mut self, compiled: Compiled, seen: u64) -> Loaded {
        for warning in &compiled.warnings {
            tracing::warn!("{warning}");
        }
        let domains = compiled.rules.domains().count();
        let rules = compiled.rules.rules().len();
        let generation = self.writer.publish(compiled.rules);
        self.metrics.totals().config_load_success.increment();
        self.metrics.totals().config_rejected.set(0);
        (self.seen, self.settled, self.in_force) = (Some(seen), Some(seen), Some((seen, compiled.files)));
        Loaded { generation, files: compiled.files, domains, rules, is_built_in: compiled.is_built_in }
    }

    fn reject(&self, mistakes: &dyn fmt::Display) {
        self.metrics.totals().config_load_error.increment();
        self.metrics.totals().config_rejected.set(1);
        tracing::error!("the rules were not reloaded, those in force stay: {mistakes}");
    }
}

// === impl Compiled ===

impl Compiled {
    fn of(sources: &Sources, options: &Options) -> Result<Compiled, RuleErrors> {
        let (rules, warnings) = sources.load(options)?;
        let is_built_in = sources.files.iter().any(|file| file.name == BUILT_IN);
        Ok(Compiled { rules, warnings, files: sources.files.len(), is_built_in })
    }
}
