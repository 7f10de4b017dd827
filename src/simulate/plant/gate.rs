//! The gate: a token bucket that holds one second's worth of the limit.

/// A token bucket, told of one second after the other.
#[derive(Clone, Debug)]
pub struct Gate {
    tokens: f64,
    limit: f64,
}

// === impl Gate ===

impl Gate {
    /// A full bucket.
    #[must_use]
    pub fn new(limit: f64) -> Gate {
        Gate { tokens: burst(limit), limit }
    }

    /// The limit is this from now on. A bucket that has become smaller loses what it can't hold.
    pub fn set_limit(&mut self, limit: f64) {
        self.limit = limit;
        self.tokens = self.tokens.min(burst(limit));
    }

    /// One second with so many requests, spread evenly: how many pass.
    pub fn admit(&mut self, offered: f64) -> f64 {
        // Requests are whole, tokens are not.
        let admitted = offered.min((self.tokens + self.limit).floor());
        self.tokens = (self.tokens + self.limit - admitted).min(burst(self.limit));
        admitted
    }
}

/// One second's worth, and at least one request.
fn burst(limit: f64) -> f64 {
    limit.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_passes_its_limit_and_once_a_second_more() {
        let mut gate = Gate::new(100.0);
        assert_eq!(
            [gate.admit(500.0), gate.admit(500.0), gate.admit(30.0), gate.admit(500.0)],
            [200.0, 100.0, 30.0, 170.0]
        );
        gate.set_limit(10.0);
        assert_eq!([gate.admit(500.0), gate.admit(500.0)], [10.0, 10.0]);
        let mut slow = Gate::new(0.5);
        assert_eq!((0..6).map(|_| slow.admit(5.0)).sum::<f64>(), 4.0, "one each two seconds, and the first at once");
    }
}
