//! Who replaces whom: the names of one domain's limits, looked at before any of them is compiled.
//!
//! The reference service accepts `replaces` of a name that nobody has, and two limits that replace each other. Neither
//! can be meant, the second even switches both off, so both are warnings.

use std::collections::{HashMap, HashSet};

use super::file::{Elements, Located, RawDescriptor, RawFile, RawLimit};

/// For each name, the names that counting limits of that name replace.
#[derive(Debug, Default)]
pub(super) struct Names<'f> {
    replaced_by: HashMap<&'f str, HashSet<&'f str>>,
}

// === impl Names ===

impl<'f> Names<'f> {
    /// Adds the names of a file.
    pub(super) fn add_file(&mut self, file: &'f RawFile) {
        self.add_descriptors(&file.descriptors);
        for (_, subset) in file.subsets.iter() {
            self.add_limit(subset.counted.rate_limit.value());
        }
    }

    fn add_descriptors(&mut self, descriptors: &'f Elements<RawDescriptor>) {
        for (_, descriptor) in descriptors.iter() {
            self.add_limit(descriptor.counted.rate_limit.value());
            self.add_descriptors(&descriptor.descriptors);
        }
    }

    fn add_limit(&mut self, limit: Option<&'f RawLimit>) {
        let Some(limit) = limit else { return };
        let Some(name) = limit.name.value() else { return };
        let replaced = self.replaced_by.entry(name).or_default();
        // An unlimited one is never dropped, so it is no party to a mutual replacement.
        if !limit.unlimited.is_true() {
            replaced.extend(limit.replaces.iter().map(|(_, other)| other.value.as_str()));
        }
    }

    /// What is doubtful about `limit` replacing `other`, as a sentence.
    pub(super) fn doubt(&self, limit: &RawLimit, other: &Located<String>) -> Option<String> {
        let other = other.value.as_str();
        let Some(replaced) = self.replaced_by.get(other) else {
            return Some(format!("no rate_limit of this domain has the name '{}'", super::error::quoted(other)));
        };
        let name = limit.name.value().filter(|_| !limit.unlimited.is_true())?;
        replaced.contains(name.as_str()).then(|| {
            let (name, other) = (super::error::quoted(name), super::error::quoted(other));
            format!("'{name}' and '{other}' replace each other: a request to which both apply is limited by neither")
        })
    }
}
