//! An Envoy v3 static bootstrap: what may stand in it, and its reader.
//!
//! ```text
//! rules/yaml   text            -> located tree    every value knows its line
//! value        a value         -> Rust            as protobuf's JSON form has it: durations, enumerations, wrappers
//! object       a message       -> its fields      by both of their names; what nobody asked for is refused
//! reader/      the messages    -> model/          Envoy's defaults and ranges, and what must hold between parts
//! ```
//!
//! All mistakes are told at once, each with its line and its path of keys. A field that Envoy knows and the proxy
//! doesn't is a mistake too: nothing is ignored in silence.

pub mod model;
mod object;
mod reader;
mod report;
mod value;

#[cfg(test)]
mod tests;

pub use report::{Errors, MISTAKES_MAX};

use self::model::Bootstrap;
use self::report::Report;
use self::value::Value;
use crate::rules::{Place, yaml};

/// Reads a bootstrap in YAML, or in JSON, which YAML contains. `name` is what messages call the file.
///
/// # Errors
/// Every mistake in it.
pub fn read(text: &str, name: &str) -> Result<Bootstrap, Errors> {
    let report = Report::new(name);
    let document = match yaml::parse(text) {
        Ok(document) => document,
        Err(error) => {
            report.mistake("", error.place, error.text);
            return Err(report.failed());
        }
    };
    if let Some(place) = document.second {
        report.mistake("", place, "a second document begins here; a bootstrap is one");
    }
    let Some(root) = &document.root else {
        report.mistake("", Place { line: 1, column: 1 }, "the file is empty; a bootstrap has static_resources");
        return Err(report.failed());
    };
    let bootstrap = reader::bootstrap(&Value { node: root, path: String::new(), report: &report });
    match bootstrap.filter(|_| report.is_clean()) {
        Some(bootstrap) => Ok(Bootstrap { warnings: report.warnings(), ..bootstrap }),
        None => Err(report.failed()),
    }
}
