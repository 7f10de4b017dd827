//! What a caller asks: a domain, and for each descriptor its entries and its hits.
//!
//! Everything borrows from the request as it was decoded: a decision builds no `String`. Whoever holds a
//! [`RateQuery`] knows that its domain is not empty and that it has at least one descriptor; a descriptor without
//! entries is legal (Envoy sends it when all its actions are skipped) and matches no rule.

use smallvec::SmallVec;
use thiserror::Error;

use crate::limit::Limit;

/// One (key, value) pair of a descriptor. An empty value is legal; so is an empty key, which no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a str,
}

/// What one descriptor adds to its counters (`hits_addend`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// So many are charged. Zero looks without charging.
    Add(u64),
    /// So many are given back (`is_negative_hits`); a counter never falls below zero.
    GiveBack(u64),
}

/// Ordered entries, and how to charge for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// The entries in the caller's order.
    pub entries: SmallVec<[Entry<'a>; 4]>,
    /// What the descriptor adds to its counters.
    pub hits: Hits,
    /// A limit that the caller brings along (`RateLimitOverride`); it takes the place of the configured one.
    pub limit_override: Option<Limit>,
}

/// One whole question: non-empty domain, at least one descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateQuery<'a> {
    domain: &'a str,
    descriptors: SmallVec<[Descriptor<'a>; 4]>,
}

/// Why a question is none. The first two texts are the reference service's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// The domain is empty.
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    /// There are no descriptors.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    /// There are more descriptors than one decision may hold.
    #[error("the request has {count} descriptors, at most {} are decided together", RateQuery::DESCRIPTORS_MAX)]
    TooManyDescriptors {
        /// How many there were.
        count: usize,
    },
    /// A descriptor has more entries than are matched.
    #[error("descriptor {index} has {count} entries, at most {} are matched", RateQuery::ENTRIES_MAX)]
    TooManyEntries {
        /// Which descriptor, from 0.
        index: usize,
        /// How many entries it had.
        count: usize,
    },
}

impl<'a> RateQuery<'a> {
    /// Most descriptors of one request. A gateway sends a handful; the bound keeps one request's script call short.
    pub const DESCRIPTORS_MAX: usize = 128;

    /// Most entries of one descriptor. It bounds the work of subset matching.
    pub const ENTRIES_MAX: usize = 32;

    /// A question with a non-empty domain and 1 to [`RateQuery::DESCRIPTORS_MAX`] descriptors of at most
    /// [`RateQuery::ENTRIES_MAX`] entries each.
    ///
    /// # Errors
    /// When one of those is not so; the domain is looked at first, as in the reference service.
    pub fn try_new(domain: &'a str, descriptors: SmallVec<[Descriptor<'a>; 4]>) -> Result<RateQuery<'a>, QueryError> {
        if domain.is_empty() {
            return Err(QueryError::EmptyDomain);
        }
        if descriptors.is_empty() {
            return Err(QueryError::NoDescriptors);
        }
        if descriptors.len() > RateQuery::DESCRIPTORS_MAX {
            return Err(QueryError::TooManyDescriptors { count: descriptors.len() });
        }
        for (index, descriptor) in descriptors.iter().enumerate() {
            if descriptor.entries.len() > RateQuery::ENTRIES_MAX {
                return Err(QueryError::TooManyEntries { index, count: descriptor.entries.len() });
            }
        }
        Ok(RateQuery { domain, descriptors })
    }

    /// The domain, never empty.
    #[must_use]
    pub fn domain(&self) -> &'a str {
        self.domain
    }

    /// The descriptors in the caller's order, never none.
    #[must_use]
    pub fn descriptors(&self) -> &[Descriptor<'a>] {
        &self.descriptors
    }
}
