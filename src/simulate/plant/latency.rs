//! How long an answer takes: waiting in the queue, waiting for a worker although the queue is empty, and the work.

/// The time that the work takes: log-normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceTime {
    /// Half of the requests take longer, in seconds.
    pub median: f64,
    /// Standard deviation of its logarithm.
    pub sigma: f64,
}

/// How an answer's time is made up in one second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The same for all, in seconds: the queue.
    pub queued: f64,
    /// Exponential with this mean, in seconds: the wait for a worker.
    pub waited: f64,
    /// The work.
    pub work: ServiceTime,
}

/// Into so many parts of equal weight the exponential wait is divided.
const PARTS: u32 = 8;

/// Beyond this utilisation the queue does the waiting.
const UTILISATION_MAX: f64 = 0.98;

// === impl ServiceTime ===

impl ServiceTime {
    /// The mean, in seconds.
    #[must_use]
    pub fn mean(self) -> f64 {
        self.median * (self.sigma * self.sigma / 2.0).exp()
    }

    /// The share of requests whose work takes longer.
    fn longer_than(self, seconds: f64) -> f64 {
        if seconds <= 0.0 { 1.0 } else { upper_tail((seconds / self.median).ln() / self.sigma) }
    }

    /// Mean wait for a worker of a service that does `capacity` requests a second and is asked for `load`: Sakasegawa's
    /// approximation for many workers, with Allen's and Cunneen's factor for how much arrivals and work vary. Requests
    /// that come by themselves vary like Poisson's; those that a token bucket holds back come evenly, as its tokens do.
    #[must_use]
    pub fn wait(self, load: f64, capacity: f64, is_paced: bool) -> f64 {
        if capacity <= 0.0 {
            return 0.0;
        }
        let workers = (capacity * self.mean()).max(1.0);
        let utilisation = (load / capacity).min(UTILISATION_MAX);
        let power = (2.0 * (workers + 1.0)).sqrt() - 1.0;
        let (of_arrivals, of_work) = (if is_paced { 0.0 } else { 1.0 }, (self.sigma * self.sigma).exp_m1());
        (of_arrivals + of_work) / 2.0 * self.mean() * utilisation.powf(power) / (workers * (1.0 - utilisation))
    }
}

// === impl Latency ===

impl Latency {
    /// The mean, in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.queued + self.waited + self.work.mean()
    }

    /// The share of answers that take longer.
    #[must_use]
    pub fn longer_than(&self, seconds: f64) -> f64 {
        let part = |number: u32| {
            let middle = (f64::from(number) + 0.5) / f64::from(PARTS);
            self.work.longer_than(seconds - self.queued + self.waited * (1.0 - middle).ln())
        };
        (0..PARTS).map(part).sum::<f64>() / f64::from(PARTS)
    }
}

/// The share of a standard normal distribution above `z`, after Abramowitz and Stegun 26.2.17, to seven digits.
fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = series.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: ServiceTime = ServiceTime { median: 0.05, sigma: 0.5 };

    #[test]
    fn tails_are_those_of_the_tables() {
        for (z, right) in [(0.0, 0.5), (1.0, 0.158_655), (1.644_85, 0.05), (3.0, 0.001_350), (-1.0, 0.841_345)] {
            assert!((upper_tail(z) - right).abs() < 1e-5, "{z}");
        }
        assert!((WORK.longer_than(0.05) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn waiting_grows_towards_full_use_and_makes_answers_slow() {
        let share = |load: f64, is_paced: bool| {
            Latency { queued: 0.0, waited: WORK.wait(load, 100.0, is_paced), work: WORK }.longer_than(0.25)
        };
        assert!(share(50.0, false) < 0.002 && share(90.0, false) < 0.05 && share(98.0, false) > 0.2);
        assert!(share(98.0, true) < 0.05, "tokens come evenly");
        let queued = Latency { queued: 0.3, waited: 0.0, work: WORK };
        assert_eq!(queued.longer_than(0.25), 1.0);
    }
}
