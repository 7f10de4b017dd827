//! The token buckets of a local rate limit, and which of them a request takes from.
//!
//! A descriptor of a request finds the bucket whose entries it has; one that leaves values open has a bucket for each
//! set of values, up to a bound, and drops the one that was not used for longest. The slowest bucket is asked first. One
//! that has too few tokens ends it, and what those before have given is gone; one in shadow mode is passed over.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::token_bucket::TokenBucket;
use crate::proxy::bootstrap::model::{self, LocalDescriptor, LocalRateLimit, XRateLimitOption};
use crate::proxy::descriptors::Descriptor;

/// Keys and values.
type Entries = Vec<(String, String)>;

/// Every bucket of one configured limit.
#[derive(Debug)]
pub struct LocalBuckets {
    default: Option<Arc<Bucket>>,
    always_takes_default: bool,
    exact: HashMap<Entries, Arc<Bucket>>,
    open: Vec<OpenDescriptor>,
}

/// What a request was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether there were tokens.
    pub verdict: Verdict,
    /// The bucket that speaks in `x-ratelimit-*`: the one that refused, else the slowest; `None` if there was none.
    pub speaker: Option<Speaker>,
}

/// Whether there were tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wherever it was asked for one.
    Allowed,
    /// Not in a bucket in shadow mode, and everywhere else.
    Shadowed,
    /// Not in the bucket that speaks.
    Refused,
}

/// What `x-ratelimit-*` say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// `max_tokens`
    pub max: u32,
    /// Whole tokens that are left.
    pub remaining: u32,
    /// Time until there is one; 0 if there is.
    pub reset: Duration,
    /// Whether they are sent, as the descriptor says.
    pub option: XRateLimitOption,
}

#[derive(Debug)]
struct Bucket {
    max: u32,
    shadow_mode: bool,
    /// Tokens that flow in; here too, as buckets are compared, and a request may find the same one twice.
    per_second: f64,
    tokens: Mutex<TokenBucket>,
}

/// A descriptor that leaves values open.
#[derive(Debug)]
struct OpenDescriptor {
    settings: LocalDescriptor,
    buckets_max: usize,
    recent: Mutex<Recent>,
}

/// Its buckets, and which was used when.
#[derive(Debug, Default)]
struct Recent {
    uses: u64,
    buckets: HashMap<Entries, (Arc<Bucket>, u64)>,
    by_use: BTreeMap<u64, Entries>,
}

// === impl LocalBuckets ===

impl LocalBuckets {
    /// Full buckets.
    #[must_use]
    pub fn new(settings: &LocalRateLimit, now: Instant) -> LocalBuckets {
        let buckets_max = usize::try_from(settings.max_dynamic_descriptors).unwrap_or(usize::MAX);
        let mut buckets = LocalBuckets {
            default: settings.token_bucket.as_ref().map(|bucket| Bucket::new(bucket, false, now)),
            always_takes_default: settings.always_consume_default_token_bucket,
            exact: HashMap::new(),
            open: Vec::new(),
        };
        for descriptor in &settings.descriptors {
            let closed = |(key, value): &(String, Option<String>)| Some((key.clone(), value.clone()?));
            match descriptor.entries.iter().map(closed).collect::<Option<Entries>>() {
                Some(entries) => {
                    let bucket = Bucket::new(&descriptor.token_bucket, descriptor.shadow_mode, now);
                    buckets.exact.insert(entries, bucket);
                }
                None => buckets.open.push(OpenDescriptor {
                    settings: descriptor.clone(),
                    buckets_max,
                    recent: Mutex::default(),
                }),
            }
        }
        buckets
    }

    /// Takes the tokens of a request with those descriptors.
    pub fn take(&self, descriptors: &[Descriptor], now: Instant) -> Taken {
        let found =
            descriptors.iter().filter_map(|descriptor| Some((self.find(&descriptor.entries, now)?, descriptor)));
        let mut found: Vec<(Arc<Bucket>, &Descriptor)> = found.collect();
        found.sort_by(|(one, _), (other, _)| one.per_second.total_cmp(&other.per_second));
        let mut shadowed = None;
        for (bucket, descriptor) in &found {
            if bucket.tokens().take(hits(descriptor), now) {
                continue;
            }
            let speaker = Some(bucket.speaker(descriptor.x_ratelimit_option, now));
            if !bucket.shadow_mode {
                return Taken { verdict: Verdict::Refused, speaker };
            }
            shadowed = shadowed.or(speaker);
        }
        let default = self.default.as_ref().filter(|_| found.is_empty() || self.always_takes_default);
        let unspecified = XRateLimitOption::Unspecified;
        if let Some(default) = default
            && !default.tokens().take(1.0, now)
        {
            return Taken { verdict: Verdict::Refused, speaker: Some(default.speaker(unspecified, now)) };
        }
        if shadowed.is_some() {
            return Taken { verdict: Verdict::Shadowed, speaker: shadowed };
        }
        let speaker = match found.first() {
            Some((bucket, descriptor)) => Some(bucket.speaker(descriptor.x_ratelimit_option, now)),
            None => default.map(|default| default.speaker(unspecified, now)),
        };
        Taken { verdict: Verdict::Allowed, speaker }
    }

    fn find(&self, entries: &Entries, now: Instant) -> Option<Arc<Bucket>> {
        if let Some(bucket) = self.exact.get(entries) {
            return Some(Arc::clone(bucket));
        }
        self.open.iter().find(|open| open.matches(entries)).map(|open| open.bucket(entries, now))
    }
}

/// How many tokens a descriptor costs; less than 0 gives some back.
#[allow(clippy::cast_precision_loss)] // at most a thousand million
fn hits(descriptor: &Descriptor) -> f64 {
    let hits = descriptor.hits_addend.unwrap_or(1) as f64;
    if descriptor.is_negative_hits { -hits } else { hits }
}

// === impl Bucket ===

impl Bucket {
    fn new(settings: &model::TokenBucket, shadow_mode: bool, now: Instant) -> Arc<Bucket> {
        let tokens = TokenBucket::new(settings, now);
        let per_second = tokens.per_second();
        Arc::new(Bucket { max: settings.max_tokens, shadow_mode, per_second, tokens: Mutex::new(tokens) })
    }

    fn tokens(&self) -> MutexGuard<'_, TokenBucket> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn speaker(&self, option: XRateLimitOption, now: Instant) -> Speaker {
        let (remaining, reset) = self.tokens().state(now);
        Speaker { max: self.max, remaining, reset, option }
    }
}

// === impl OpenDescriptor ===

impl OpenDescriptor {
    fn matches(&self, entries: &Entries) -> bool {
        let own = &self.settings.entries;
        own.len() == entries.len()
            && own.iter().zip(entries).all(|((own_key, own_value), (key, value))| {
                own_key == key && own_value.as_ref().is_none_or(|own_value| own_value == value)
            })
    }

    fn bucket(&self, entries: &Entries, now: Instant) -> Arc<Bucket> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = &mut *recent;
        recent.uses += 1;
        let this_use = recent.uses;
        recent.by_use.insert(this_use, entries.clone());
        if let Some((bucket, used)) = recent.buckets.get_mut(entries) {
            recent.by_use.remove(used);
            *used = this_use;
            return Arc::clone(bucket);
        }
        let bucket = Bucket::new(&self.settings.token_bucket, self.settings.shadow_mode, now);
        recent.buckets.insert(entries.clone(), (Arc::clone(&bucket), this_use));
        if recent.buckets.len() > self.buckets_max
            && let Some((_, oldest)) = recent.by_use.pop_first()
        {
            recent.buckets.remove(&oldest);
        }
        bucket
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::bootstrap::model::{FractionalPercent, VirtualHostRateLimits};

    const HOUR: Duration = Duration::from_secs(3600);

    fn bucket(tokens: u32) -> model::TokenBucket {
        model::TokenBucket { max_tokens: tokens, tokens_per_fill: tokens.max(1), fill_interval: HOUR }
    }

    fn of(key: &str, value: Option<&str>, tokens: u32) -> LocalDescriptor {
        LocalDescriptor {
            entries: vec![(key.to_owned(), value.map(str::to_owned))],
            token_bucket: bucket(tokens),
            shadow_mode: false,
        }
    }

    fn limit(default: Option<u32>, descriptors: Vec<LocalDescriptor>) -> LocalRateLimit {
        LocalRateLimit {
            stat_prefix: "test".to_owned(),
            status: StatusCode::TOO_MANY_REQUESTS,
            token_bucket: default.map(bucket),
            filter_enabled: FractionalPercent::ALL,
            filter_enforced: FractionalPercent::ALL,
            request_headers_to_add_when_not_enforced: Vec::new(),
            response_headers_to_add: Vec::new(),
            enable_x_ratelimit_headers: false,
            rate_limited_as_resource_exhausted: false,
            descriptors,
            rate_limits: Vec::new(),
            stage: 0,
            vh_rate_limits: VirtualHostRateLimits::Override,
            always_consume_default_token_bucket: true,
            max_dynamic_descriptors: 2,
        }
    }

    fn asked(key: &str, value: &str) -> Descriptor {
        Descriptor {
            entries: vec![(key.to_owned(), value.to_owned())],
            limit: None,
            hits_addend: None,
            is_negative_hits: false,
            x_ratelimit_option: XRateLimitOption::Unspecified,
        }
    }

    /// What requests with these descriptors are told, one after the other, at one instant.
    fn verdicts(settings: &LocalRateLimit, requests: &[&[Descriptor]]) -> Vec<Verdict> {
        let now = Instant::now();
        let buckets = LocalBuckets::new(settings, now);
        requests.iter().map(|descriptors| buckets.take(descriptors, now).verdict).collect()
    }

    use Verdict::{Allowed, Refused, Shadowed};

    #[test]
    fn the_slowest_bucket_is_asked_first_and_its_refusal_costs_the_others_nothing() {
        let settings = limit(None, vec![of("fast", Some("x"), 2), of("slow", Some("x"), 1)]);
        let both = [asked("fast", "x"), asked("slow", "x")];
        let fast = [asked("fast", "x")];
        assert_eq!(verdicts(&settings, &[&both, &both, &fast, &fast]), [Allowed, Refused, Allowed, Refused]);
    }

    #[test]
    fn who_has_no_bucket_of_its_own_takes_from_the_default() {
        let described = [asked("a", "1")];
        let settings = limit(Some(2), vec![of("a", Some("1"), 5)]);
        assert_eq!(verdicts(&settings, &[&described, &[], &[asked("a", "2")]]), [Allowed, Allowed, Refused]);
        let own_only = LocalRateLimit { always_consume_default_token_bucket: false, ..settings.clone() };
        assert_eq!(verdicts(&own_only, &[&described, &[], &[asked("a", "2")]]), [Allowed; 3]);
        let without_default = LocalRateLimit { token_bucket: None, ..settings };
        assert_eq!(verdicts(&without_default, &[&[], &[], &[]]), [Allowed; 3]);
    }

    #[test]
    fn hits_are_taken_all_or_not_and_given_back() {
        let hits =
            |hits, is_negative_hits| [Descriptor { hits_addend: Some(hits), is_negative_hits, ..asked("a", "1") }];
        let settings = limit(None, vec![of("a", Some("1"), 5)]);
        // No hits at all are refused, as in Envoy.
        let requests = [hits(2, false), hits(0, false), hits(4, false), hits(3, false), hits(9, true), hits(5, false)];
        let requests: Vec<&[Descriptor]> = requests.iter().map(|request| &request[..]).collect();
        assert_eq!(verdicts(&settings, &requests), [Allowed, Refused, Refused, Allowed, Allowed, Allowed]);
    }

    #[test]
    fn a_descriptor_that_comes_twice_takes_twice() {
        let settings = limit(None, vec![of("a", Some("1"), 3)]);
        let twice = &[asked("a", "1"), asked("a", "1")][..];
        assert_eq!(verdicts(&settings, &[twice, twice]), [Allowed, Refused]);
    }

    #[test]
    fn a_bucket_in_shadow_mode_refuses_nothing() {
        let shadow = LocalDescriptor { shadow_mode: true, ..of("a", Some("1"), 1) };
        let settings = limit(Some(3), vec![shadow]);
        let described = &[asked("a", "1")][..];
        assert_eq!(verdicts(&settings, &[described; 4]), [Allowed, Shadowed, Shadowed, Refused]);
    }

    #[test]
    fn the_bucket_that_refuses_speaks_and_else_the_slowest() {
        let now = Instant::now();
        let settings = limit(Some(9), vec![of("a", Some("1"), 1), of("b", Some("1"), 2)]);
        let buckets = LocalBuckets::new(&settings, now);
        let said = |descriptors: &[Descriptor]| {
            let Speaker { max, remaining, reset, .. } = buckets.take(descriptors, now).speaker.unwrap();
            (max, remaining, reset)
        };
        assert_eq!(said(&[asked("b", "1"), asked("a", "1")]), (1, 0, HOUR));
        assert_eq!(said(&[asked("b", "1")]), (2, 0, HOUR / 2));
        assert_eq!(said(&[]), (9, 6, Duration::ZERO));
    }

    #[test]
    fn each_value_of_an_open_entry_has_a_bucket_and_the_least_recently_used_one_goes() {
        let settings = limit(None, vec![of("a", None, 1), of("a", Some("own"), 2)]);
        let requests: Vec<[Descriptor; 1]> =
            ["1", "1", "2", "1", "3", "1", "2", "own", "own"].map(|value| [asked("a", value)]).into();
        let requests: Vec<&[Descriptor]> = requests.iter().map(|request| &request[..]).collect();
        // Two are kept: the 3 replaces the 2, as the 1 has been used since.
        let expected = [Allowed, Refused, Allowed, Refused, Allowed, Refused, Allowed, Allowed, Allowed];
        assert_eq!(verdicts(&settings, &requests), expected);
    }

    proptest! {
        #[test]
        fn no_values_make_an_open_descriptor_keep_more_than_its_bound(
            values in prop::collection::vec("[a-e]{1,2}", 0..60),
            max in 1..5_u32,
        ) {
            let now = Instant::now();
            let settings = LocalRateLimit { max_dynamic_descriptors: max, ..limit(None, vec![of("a", None, 1)]) };
            let buckets = LocalBuckets::new(&settings, now);
            for value in &values {
                buckets.take(&[asked("a", value)], now);
                let recent = buckets.open[0].recent.lock().unwrap();
                prop_assert!(recent.buckets.len() <= max as usize);
                prop_assert_eq!(recent.buckets.len(), recent.by_use.len());
            }
        }
    }
}
