//! How a plant works: five numbers that are within their ranges, and one more for who serves by it.
//!
//! They are read from JSON objects in which every field may be left out, so that one request can change one number;
//! whatever is wrong with one is told at once, all of it.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// How a plant works. All numbers are within the ranges that [`PlantSettings::changed`] names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlantSettings {
    workers: usize,
    service_time_ms: u64,
    queue_max: usize,
    slow_above: usize,
    slowdown_max: f64,
    error_ratio: f64,
}

/// What is wrong with settings, one sentence for each mistake; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

/// Names and ranges of the whole numbers.
const WHOLE: [(&str, u64, u64); 4] =
    [("workers", 1, 1_000), ("service_time_ms", 1, 60_000), ("queue_max", 0, 100_000), ("slow_above", 0, 100_000)];

/// Names and ranges of the others.
const REAL: [(&str, f64, f64); 2] = [("slowdown_max", 1.0, 100.0), ("error_ratio", 0.0, 1.0)];

// === impl PlantSettings ===

impl PlantSettings {
    /// These settings with the fields of a JSON object in the place of their own.
    ///
    /// | field | range | meaning |
    /// |---|---|---|
    /// | `workers` | 1 to 1,000 | customers in service at once |
    /// | `service_time_ms` | 1 to 60,000 | what a service takes while few wait |
    /// | `queue_max` | 0 to 100,000 | most that wait; who comes then is refused |
    /// | `slow_above` | 0 to 100,000 | more than so many waiting slow the service down |
    /// | `slowdown_max` | 1 to 100 | how many times longer it takes with a full queue |
    /// | `error_ratio` | 0 to 1 | share of services that end in an error; the arithmetic doesn't look at it |
    ///
    /// # Errors
    /// Every mistake: what is no object, unknown fields, values of another kind or out of their range.
    pub fn changed(&self, fields: &Value) -> Result<PlantSettings, Mistakes> {
        let Value::Object(fields) = fields else {
            return Err(Mistakes(vec![format!("{} should be an object of settings", shortened(fields))]));
        };
        let mut mistakes = Vec::new();
        let names = || WHOLE.iter().map(|(name, ..)| *name).chain(REAL.iter().map(|(name, ..)| *name));
        for name in fields.keys().filter(|name| !names().any(|known| known == *name)) {
            let known: Vec<&str> = names().collect();
            mistakes.push(format!("{name:?} is no setting; there are {}", known.join(", ")));
        }
        let mut whole = |index: usize, own: u64| whole_number(fields, WHOLE[index], own, &mut mistakes);
        let workers = whole(0, self.workers as u64);
        let service_time_ms = whole(1, self.service_time_ms);
        let queue_max = whole(2, self.queue_max as u64);
        let slow_above = whole(3, self.slow_above as u64);
        let slowdown_max = real_number(fields, REAL[0], self.slowdown_max, &mut mistakes);
        let error_ratio = real_number(fields, REAL[1], self.error_ratio, &mut mistakes);
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        // The ranges above fit any machine's word.
        let [workers, queue_max, slow_above] = [workers, queue_max, slow_above].map(|number| number as usize);
        Ok(PlantSettings { workers, service_time_ms, queue_max, slow_above, slowdown_max, error_ratio })
    }

    /// All fields, as [`PlantSettings::changed`] reads them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "workers": self.workers,
            "service_time_ms": self.service_time_ms,
            "queue_max": self.queue_max,
            "slow_above": self.slow_above,
            "slowdown_max": self.slowdown_max,
            "error_ratio": self.error_ratio,
        })
    }

    /// Customers in service at once.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Most customers that wait.
    #[must_use]
    pub fn queue_max(&self) -> usize {
        self.queue_max
    }

    /// Share of services that end in an error, for who serves by the plant.
    #[must_use]
    pub fn error_ratio(&self) -> f64 {
        self.error_ratio
    }

    /// What a service takes that begins while so many wait.
    #[must_use]
    pub fn service_time(&self, waiting: usize) -> Duration {
        Duration::from_millis(self.service_time_ms).mul_f64(self.slowdown(waiting))
    }

    /// Services that the plant completes a second while few wait, with never a worker idle.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.workers as f64 * 1_000.0 / self.service_time_ms as f64
    }

    /// How many times longer a service takes that begins while so many wait.
    fn slowdown(&self, waiting: usize) -> f64 {
        if waiting <= self.slow_above || self.queue_max <= self.slow_above {
            return 1.0;
        }
        let share = (waiting - self.slow_above) as f64 / (self.queue_max - self.slow_above) as f64;
        1.0 + (self.slowdown_max - 1.0) * share.min(1.0)
    }
}

impl Default for PlantSettings {
    /// 4 workers of 20 ms, so 200 a second; up to four times slower when more than 20 wait; 60 may wait.
    fn default() -> PlantSettings {
        PlantSettings {
            workers: 4,
            service_time_ms: 20,
            queue_max: 60,
            slow_above: 20,
            slowdown_max: 4.0,
            error_ratio: 0.0,
        }
    }
}

fn whole_number(
    fields: &Map<String, Value>,
    (name, min, max): (&str, u64, u64),
    own: u64,
    mistakes: &mut Vec<String>,
) -> u64 {
    let Some(value) = fields.get(name) else { return own };
    match value.as_u64().filter(|number| (min..=max).contains(number)) {
        Some(number) => number,
        None => {
            mistakes.push(format!("{name}: {} should be a whole number from {min} to {max}", shortened(value)));
            own
        }
    }
}

fn real_number(
    fields: &Map<String, Value>,
    (name, min, max): (&str, f64, f64),
    own: f64,
    mistakes: &mut Vec<String>,
) -> f64 {
    let Some(value) = fields.get(name) else { return own };
    match value.as_f64().filter(|number| (min..=max).contains(number)) {
        Some(number) => number,
        None => {
            mistakes.push(format!("{name}: {} should be a number from {min} to {max}", shortened(value)));
            own
        }
    }
}

/// A value as it can stand in a sentence.
fn shortened(value: &Value) -> String {
    const LETTERS_MAX: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(LETTERS_MAX) {
        None => text,
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

// === impl Mistakes ===

impl Mistakes {
    /// One mistake.
    #[must_use]
    pub fn one(sentence: String) -> Mistakes {
        Mistakes(vec![sentence])
    }

    /// The sentences.
    #[must_use]
    pub fn sentences(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Mistakes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let settings = PlantSettings::default();
        let changed = settings.changed(&json!({ "workers": 2, "error_ratio": 0.25 })).unwrap();
        assert_eq!((changed.workers(), changed.error_ratio(), changed.queue_max()), (2, 0.25, 60));
        assert_eq!(settings.changed(&changed.to_json()), Ok(changed));
        assert_eq!(settings.changed(&json!({})), Ok(settings));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let fields = json!({
            "workers": 0, "service_time_ms": "20", "queue_max": -1, "slow_above": 1.5, "slowdown_max": 0.5,
            "error_ratio": 1.01, "wrokers": 4,
        });
        let mistakes = PlantSettings::default().changed(&fields).unwrap_err();
        insta::assert_snapshot!(mistakes.sentences().join("\n"), @r#"
        "wrokers" is no setting; there are workers, service_time_ms, queue_max, slow_above, slowdown_max, error_ratio
        workers: 0 should be a whole number from 1 to 1000
        service_time_ms: "20" should be a whole number from 1 to 60000
        queue_max: -1 should be a whole number from 0 to 100000
        slow_above: 1.5 should be a whole number from 0 to 100000
        slowdown_max: 0.5 should be a number from 1 to 100
        error_ratio: 1.01 should be a number from 0 to 1
        "#);
        let no_object = PlantSettings::default().changed(&json!("x".repeat(1_000))).unwrap_err();
        assert!(no_object.to_string().len() < 100, "{no_object}");
    }

    #[test]
    fn the_slowdown_grows_in_a_straight_line_from_its_threshold_to_the_full_queue() {
        let settings = PlantSettings::default();
        let times = [0, 20, 40, 60, 61].map(|waiting| settings.service_time(waiting).as_millis());
        assert_eq!(times, [20, 20, 50, 80, 80]);
        let never = settings.changed(&json!({ "slow_above": 60 })).unwrap();
        assert_eq!(never.service_time(60).as_millis(), 20);
        assert_eq!(settings.capacity(), 200.0);
    }
}
