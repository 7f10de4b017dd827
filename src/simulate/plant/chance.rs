//! Chance from a seed: SplitMix64, and the three distributions that the plant needs.
//!
//! SplitMix64 (Steele, Lea and Flood 2014) is a counter and a mixing function. It passes the usual test batteries, which
//! is more than enough here, and is short enough to be ours: a package's generator may change with its version, and
//! with it every figure.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance {
    counter: u64,
}

/// Means above which a normal distribution takes the place of counting: the difference is below what a test can see.
const COUNTED_MAX: f64 = 50.0;

// === impl Chance ===

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Chance {
        // Neighbouring seeds must not give neighbouring streams.
        let mut chance = Chance { counter: seed };
        chance.counter = chance.bits();
        chance
    }

    fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.counter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0 and below 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// Mean 0, standard deviation 1, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// How many of what happens `mean` times on average.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean > COUNTED_MAX {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        // Knuth's: so many shares multiplied until they fall below e to the power of −mean.
        let (least, mut product, mut count) = ((-mean).exp(), self.share(), 0.0);
        while product > least {
            product *= self.share();
            count += 1.0;
        }
        count
    }

    /// How many of `n`, each with this probability; `n` need not be whole.
    pub fn binomial(&mut self, n: f64, probability: f64) -> f64 {
        let probability = probability.clamp(0.0, 1.0);
        if probability == 0.0 || n <= 0.0 {
            return 0.0;
        }
        if n > COUNTED_MAX {
            // Few of many are Poisson's; else the normal is near enough.
            let mean = n * probability;
            let drawn = if mean < 10.0 {
                self.poisson(mean)
            } else {
                (mean + (mean * (1.0 - probability)).sqrt() * self.normal()).round()
            };
            return drawn.clamp(0.0, n);
        }
        let whole = n.floor();
        let counted = (0..whole as u32).filter(|_| self.share() < probability).count() as f64;
        counted + (n - whole) * probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of 20,000 draws.
    fn moments(mut draw: impl FnMut(&mut Chance) -> f64) -> (f64, f64) {
        let mut chance = Chance::new(7);
        let draws: Vec<f64> = (0..20_000).map(|_| draw(&mut chance)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        (mean, draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64)
    }

    #[test]
    fn the_distributions_have_their_means_and_variances() {
        let near = |(mean, variance): (f64, f64), (right_mean, right_variance): (f64, f64)| {
            assert!((mean - right_mean).abs() < 0.03 * right_mean.max(1.0), "mean {mean}, not {right_mean}");
            assert!((variance - right_variance).abs() < 0.05 * right_variance.max(1.0), "{variance}, {right_variance}");
        };
        near(moments(Chance::share), (0.5, 1.0 / 12.0));
        near(moments(Chance::normal), (0.0, 1.0));
        near(moments(|chance| chance.poisson(3.0)), (3.0, 3.0));
        near(moments(|chance| chance.poisson(400.0)), (400.0, 400.0));
        near(moments(|chance| chance.binomial(20.0, 0.3)), (6.0, 4.2));
        near(moments(|chance| chance.binomial(400.0, 0.002)), (0.8, 0.8));
        near(moments(|chance| chance.binomial(400.0, 0.3)), (120.0, 84.0));
    }

    #[test]
    fn a_seed_gives_one_stream_for_ever() {
        // The generator's published outputs for this seed.
        let mut chance = Chance { counter: 1_234_567 };
        assert_eq!([chance.bits(), chance.bits()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
        assert_ne!(Chance::new(2).bits(), Chance::new(3).bits());
    }
}
