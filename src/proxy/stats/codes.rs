//! Responses counted by status code and class, as `upstream_rq_503`, `upstream_rq_5xx` and `upstream_rq_completed`.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sample::{Sample, Scope, Value};

const FIRST: usize = 100;
const CODES: usize = 500;

/// Counts of responses by code. A code is listed once it has occurred, as in Envoy.
#[derive(Debug)]
pub struct CodeStats {
    codes: Box<[AtomicU64]>,
}

// === impl CodeStats ===

impl Default for CodeStats {
    fn default() -> CodeStats {
        CodeStats { codes: (0..CODES).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl CodeStats {
    /// One response with that status code. Codes outside 100 to 599 are none of HTTP's and are left out.
    pub fn count(&self, code: u16) {
        if let Some(count) = usize::from(code).checked_sub(FIRST).and_then(|index| self.codes.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Back to zero.
    pub fn reset(&self) {
        self.codes.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// How many responses had that code.
    #[must_use]
    pub fn get(&self, code: u16) -> u64 {
        let index = usize::from(code).checked_sub(FIRST);
        index.and_then(|index| self.codes.get(index)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Lists them under names that begin with `prefix`, such as `external.upstream_rq`.
    pub fn list<'s>(&self, scope: &'s Scope, prefix: &str, samples: &mut Vec<Sample<'s>>) {
        let family = prefix.replace('.', "_");
        let mut classes = [0_u64; 6];
        for (index, count) in self.codes.iter().enumerate() {
            let (code, count) = (FIRST + index, count.load(Ordering::Relaxed));
            if count > 0 {
                classes[code / 100] += count;
                samples.push(Sample {
                    scope,
                    name: format!("{prefix}_{code}"),
                    series: (family.clone(), vec![("envoy_response_code", code.to_string())]),
                    value: Value::Counter(count),
                });
            }
        }
        for (class, count) in classes.iter().enumerate().filter(|(_, count)| **count > 0) {
            samples.push(class_sample(scope, prefix, class, *count));
        }
        let completed = classes.iter().sum();
        samples.push(scope.sample(format!("{prefix}_completed"), Value::Counter(completed)));
        if let Some(last) = samples.last_mut() {
            last.series.0 = format!("{family}_completed");
        }
    }

    /// Lists the classes 1 to 5 only, those without responses too, and their sum.
    pub fn list_classes<'s>(&self, scope: &'s Scope, prefix: &str, samples: &mut Vec<Sample<'s>>) {
        let mut classes = [0_u64; 6];
        for (index, count) in self.codes.iter().enumerate() {
            classes[(FIRST + index) / 100] += count.load(Ordering::Relaxed);
        }
        for (class, count) in classes.iter().enumerate().skip(1) {
            samples.push(class_sample(scope, prefix, class, *count));
        }
        samples.push(scope.sample(format!("{prefix}_completed"), Value::Counter(classes.iter().sum())));
    }
}

fn class_sample<'s>(scope: &'s Scope, prefix: &str, class: usize, count: u64) -> Sample<'s> {
    Sample {
        scope,
        name: format!("{prefix}_{class}xx"),
        series: (format!("{}_xx", prefix.replace('.', "_")), vec![("envoy_response_code_class", class.to_string())]),
        value: Value::Counter(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_listed_once_it_occurred_and_its_class_sums_up() {
        let (codes, scope) = (CodeStats::default(), Scope::cluster("up"));
        for code in [200, 503, 503, 504, 99, 1000] {
            codes.count(code);
        }
        let mut samples = Vec::new();
        codes.list(&scope, "upstream_rq", &mut samples);
        let listed: Vec<(&str, &Value)> = samples.iter().map(|sample| (&*sample.name, &sample.value)).collect();
        assert_eq!(
            listed,
            [
                ("upstream_rq_200", &Value::Counter(1)),
                ("upstream_rq_503", &Value::Counter(2)),
                ("upstream_rq_504", &Value::Counter(1)),
                ("upstream_rq_2xx", &Value::Counter(1)),
                ("upstream_rq_5xx", &Value::Counter(3)),
                ("upstream_rq_completed", &Value::Counter(4)),
            ]
        );
    }
}
