//! When a server is itself again after an overload: pure, from the stretches of an honest client's run.
//!
//! ```text
//! calm ─────────────│ load ─────────────│ afterwards ──────────────────────────
//! the usual p99     │ not judged        │ the first of two good stretches in a row: normal from its start
//! ```

use serde::Serialize;

use crate::bench::load::Slice;
use crate::bench::statistics::Spread;

/// A stretch is good when its p99 is below so many times the usual.
pub const SLOWER_MAX: f64 = 2.0;

/// The instants of a run, in milliseconds from the start of the honest client's measured time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instants {
    /// Length of a stretch.
    pub slice_ms: f64,
    /// When the load began.
    pub from_ms: f64,
    /// When it ended: no call was sent any more.
    pub to_ms: f64,
}

/// What an honest client noticed of an overload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Recovery {
    /// The usual p99 in microseconds: the median over the stretches before the load.
    pub calm_p99_us: f64,
    /// The median p99 of the stretches in the load.
    pub loaded_p99_us: f64,
    /// Share of the calls in the load that missed their deadline.
    pub loaded_missed: f64,
    /// Milliseconds from the load's end to the first of two good stretches; `None` if there were none.
    pub normal_after_ms: Option<f64>,
    /// Milliseconds after the load's end that were looked at.
    pub looked_ms: f64,
}

// === impl Recovery ===

impl Recovery {
    /// What the stretches tell.
    #[must_use]
    pub fn of(slices: &[Slice], instants: Instants) -> Recovery {
        let Instants { slice_ms, from_ms, to_ms } = instants;
        let middle = |p99s: Vec<f64>| Spread::of(p99s).map_or(0.0, |spread| spread.median);
        let p99s = |wanted: &dyn Fn(&Slice) -> bool| {
            slices.iter().filter(|slice| slice.due > 0 && wanted(slice)).map(|slice| slice.p99_us).collect::<Vec<_>>()
        };
        let is_calm = |slice: &Slice| slice.from_ms + slice_ms <= from_ms;
        let is_loaded = |slice: &Slice| slice.from_ms >= from_ms && slice.from_ms + slice_ms <= to_ms;
        let calm_p99_us = middle(p99s(&is_calm));
        let (due, missed) = slices
            .iter()
            .filter(|slice| is_loaded(slice))
            .fold((0, 0), |(due, missed), slice| (due + slice.due, missed + slice.missed));
        let after: Vec<&Slice> = slices.iter().filter(|slice| slice.from_ms >= to_ms && slice.due > 0).collect();
        let is_good = |slice: &Slice| slice.p99_us < SLOWER_MAX * calm_p99_us;
        let normal = after.windows(2).find(|pair| pair.iter().all(|slice| is_good(slice)));
        Recovery {
            calm_p99_us,
            loaded_p99_us: middle(p99s(&is_loaded)),
            loaded_missed: if due == 0 { 0.0 } else { missed as f64 / due as f64 },
            normal_after_ms: normal.map(|pair| pair[0].from_ms - to_ms),
            looked_ms: after.last().map_or(0.0, |slice| slice.from_ms + slice_ms - to_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(p99s: &[f64]) -> Vec<Slice> {
        let one = |(at, p99_us): (usize, &f64)| Slice {
            from_ms: at as f64 * 100.0,
            due: 200,
            missed: u64::from(*p99_us > 20_000.0) * 50,
            p50_us: 80.0,
            p99_us: *p99_us,
        };
        p99s.iter().enumerate().map(one).collect()
    }

    const INSTANTS: Instants = Instants { slice_ms: 100.0, from_ms: 310.0, to_ms: 580.0 };

    #[test]
    fn normal_is_the_first_of_two_good_stretches_after_the_load() {
        let found = Recovery::of(
            &slices(&[100.0, 90.0, 110.0, 9_000.0, 30_000.0, 9_000.0, 800.0, 150.0, 300.0, 199.0, 120.0]),
            INSTANTS,
        );
        assert_eq!((found.calm_p99_us, found.loaded_p99_us, found.loaded_missed), (100.0, 30_000.0, 0.25));
        // One good stretch alone may be chance.
        assert_eq!(found.normal_after_ms, Some(320.0));
        assert_eq!(found.looked_ms, 520.0);
    }

    #[test]
    fn who_never_recovers_has_no_time() {
        let found = Recovery::of(&slices(&[100.0, 100.0, 100.0, 9e3, 9e3, 9e3, 500.0, 500.0, 500.0]), INSTANTS);
        assert_eq!((found.normal_after_ms, found.looked_ms), (None, 320.0));
        assert_eq!(Recovery::of(&[], INSTANTS), Recovery::default());
    }
}
