//! From the texts of rule files to rules: pure, so that a reload, a check on the command line, a configuration that
//! arrives over the network and a test are the same call.

use super::compile::compile;
use super::error::{KeyPath, Report, RuleErrors, Warning};
use super::set::RuleSet;
use super::{Defaults, bind, yaml};

/// One rule file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceFile {
    /// What errors and explanations call it.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// How files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What applies where a file or a rule says nothing.
    pub defaults: Defaults,
    /// Whether several files may have one domain. Their root lists are joined then, nothing below; the defaults that
    /// they give for the domain must agree, and hold for all of them.
    pub merge_domains: bool,
}

/// Compiles rule files, in the order given, into one rule set. No file at all is a valid, empty configuration.
///
/// # Errors
/// Every mistake in every file, if there is one.
pub fn load(sources: &[SourceFile], options: &Options) -> Result<(RuleSet, Vec<Warning>), RuleErrors> {
    load_into(Report::default(), sources, options)
}

/// The same with what was found before the files were looked into.
pub(super) fn load_into(
    mut report: Report,
    sources: &[SourceFile],
    options: &Options,
) -> Result<(RuleSet, Vec<Warning>), RuleErrors> {
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        match yaml::parse(&source.text) {
            Ok(document) => files.push(bind::file(&document, &source.name, &mut report)),
            Err(error) => {
                let text = format!("error loading config file: yaml: {}", error.text);
                report.mistake(&KeyPath::file(&source.name), error.place, text);
            }
        }
    }
    let rules = compile(&files, options, &mut report);
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    report.finish(&names).map(|warnings| (rules, warnings))
}
