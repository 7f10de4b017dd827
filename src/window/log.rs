//! The strict sliding window: a run-length log of hits. In no interval of the window's length, wherever it begins,
//! are more hits admitted than the limit.
//!
//! Time is cut into ticks, and hits of one tick share one pair (tick, hits). The log is packed, in memory as in Redis,
//! because there a byte costs more than a comparison:
//!
//! ```text
//! bytes    field
//! 4        sum of all hits in the log
//! 6        newest tick, counted from the epoch
//! 4        hits of the newest tick
//! 4        length of a tick, ms
//! 1        pair format, 1 to 4
//! 3 to 7   each older pair, oldest first:   tick modulo the offset's range | hits
//!
//! format   1      2      3      4
//! offset   1      1      3      3 bytes
//! hits     2      4      2      4 bytes
//! ```
//!
//! **Leave rule.** A pair leaves when its tick is below `floor((now - window) / tick)`, so when all of its tick is
//! older than the window. Rounding is always against the caller: a hit's room comes back at most one tick late.
//!
//! **Tick.** A limit of at most `precision` hits is counted exactly, by the millisecond (windows over 2.3 hours by
//! window / 2^23, so that an offset fits in 3 bytes): there are then never more pairs than hits. A larger limit gets
//! window / precision: never more than `precision` + 1 pairs.
//!
//! **The form is data.** Tick and pair format stand in the header, so that a rule's limit or precision can change
//! without losing the count: such a log is written anew, each pair's end rounded up, but never beyond the present.
//! The hits of a pair are never narrowed, so that a limit that goes up and down rewrites once.
//!
//! The alternatives were measured: two weighted buckets cost the same and let twice the limit through within a
//! window; sorted sets, hashes and lists hold every hit and cost two to six times as much.

mod layout;

use smallvec::SmallVec;

pub(super) use self::layout::{HEADER, Header, Pair, header, left};
use self::layout::{PairFormat, read_pair};
use super::{Algorithm, write_number};
use crate::clock::Timestamp;
use crate::limit::Window;

/// Ticks per window where limits are too large to be counted by the millisecond: 1 to 1 024. A window's room comes
/// back at most `1 / precision` of a window late; a counter takes at most `precision` + 1 pairs of 3 to 7 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precision(u16);

/// At most `limit` hits in any interval of the window's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    limit: u32,
    window: Window,
    /// Milliseconds.
    tick: u32,
    format: PairFormat,
}

/// Hits by tick, packed. Empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Nothing, or a header and the older pairs.
    bytes: SmallVec<[u8; LOG_INLINE]>,
}

/// Bytes that are held without an allocation: a full log of the default precision.
const LOG_INLINE: usize = HEADER + 66 * 3;

/// More bytes than any log of ours has: 1 024 ticks and a margin, 7 bytes each. Bounds the work on a foreign value.
const LOG_BYTES_MAX: usize = 8 * 1_024;

/// Ticks per window at most, so that offsets of three bytes do.
const TICKS_MAX: u64 = 1 << 23;

/// The latest instant that a log may name, ms since the epoch: 2^53 µs.
const INSTANT_MAX_MS: u64 = (1 << 53) / 1_000;

// === impl Precision ===

impl Precision {
    /// 64: room comes back at most 1.6 % of the window late, a full counter takes 211 bytes.
    pub const DEFAULT: Precision = Precision(64);

    /// Most ticks.
    pub const MAX: u32 = 1_024;

    /// So many ticks per window, if that is 1 to [`Precision::MAX`].
    #[must_use]
    pub fn try_new(ticks: u32) -> Option<Precision> {
        u16::try_from(ticks).ok().filter(|ticks| (1..=Precision::MAX).contains(&u32::from(*ticks))).map(Precision)
    }

    /// Ticks per window.
    #[must_use]
    pub fn ticks(self) -> u32 {
        u32::from(self.0)
    }
}

impl Default for Precision {
    fn default() -> Precision {
        Precision::DEFAULT
    }
}

// === impl SlidingWindow ===

impl SlidingWindow {
    /// At most `limit` hits in any interval of length `window`; 0 blocks.
    #[must_use]
    pub fn new(limit: u32, window: Window, precision: Precision) -> SlidingWindow {
        let ticks = if limit <= precision.ticks() { TICKS_MAX } else { u64::from(precision.ticks()) };
        // A window of five years in one tick wouldn't fit: 37 ticks are better than asked for.
        let tick = u32::try_from(window.millis().div_ceil(ticks)).unwrap_or(u32::MAX);
        let format = PairFormat::for_ticks(window, tick, limit > u32::from(u16::MAX));
        SlidingWindow { limit, window, tick, format }
    }

    /// This policy with a lower limit, in the same form: a limit that moves with every decision rewrites no log.
    #[must_use]
    pub(super) fn lowered(self, limit: u32) -> SlidingWindow {
        SlidingWindow { limit: limit.min(self.limit), ..self }
    }

    /// Hits per window.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The window's length.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Length of a tick, ms, at least 1.
    #[must_use]
    pub fn tick_ms(&self) -> u32 {
        self.tick
    }

    /// The number of the pair format that new logs get, 1 to 4.
    #[must_use]
    pub fn pair_format(&self) -> u8 {
        self.format.code()
    }

    /// This policy with a form that `other` can use as well: the longer tick, the wider hits.
    #[must_use]
    pub(super) fn sharing_form_with(self, other: &SlidingWindow) -> SlidingWindow {
        let tick = self.tick.max(other.tick);
        let format = PairFormat::for_ticks(self.window, tick, self.format.wide_hits || other.format.wide_hits);
        SlidingWindow { tick, format, ..self }
    }

    /// Whether a log that begins anew gets the form that this one has.
    pub(super) fn begins_in_form_of(&self, header: &Header) -> bool {
        header.tick == u64::from(self.tick) && header.format == self.format
    }

    /// Whether this policy charges a log without writing it anew.
    pub(super) fn keeps_form_of(&self, header: &Header) -> bool {
        header.tick == u64::from(self.tick) && header.format == self.format_beside(header.format)
    }

    /// The format of pairs that a log gets that has `format`: hits are never narrowed.
    fn format_beside(&self, format: PairFormat) -> PairFormat {
        PairFormat { wide_hits: self.format.wide_hits || format.wide_hits, ..self.format }
    }

    /// The oldest tick that is still in the window, for ticks of that length. Negative in the first window of time.
    pub(super) fn edge(&self, tick: u64, now: Timestamp) -> i64 {
        (now.as_millis() as i64 - self.window.millis() as i64).div_euclid(tick as i64)
    }

    /// Milliseconds until hits of that tick have left.
    pub(super) fn leaves_after_ms(&self, tick: u64, now: Timestamp) -> u64 {
        self.leaves_at_ms(tick, u64::from(self.tick)).saturating_sub(now.as_millis())
    }

    pub(super) fn leaves_at_ms(&self, tick: u64, tick_length: u64) -> u64 {
        (tick + 1) * tick_length + self.window.millis()
    }
}

impl Algorithm for SlidingWindow {
    type State = Log;

    fn capacity(&self) -> u64 {
        u64::from(self.limit)
    }

    fn settle(&self, log: &mut Log, now: Timestamp) {
        let Some(header) = log.header() else { return };
        if (header.newest as i64) < self.edge(header.tick, now) {
            log.bytes.clear();
            return;
        }
        if !self.keeps_form_of(&header) {
            *log = log.rewritten(self, self.format_beside(header.format), now);
        }
        log.drop_older_than(self.edge(u64::from(self.tick), now));
    }

    fn used(&self, log: &Log) -> u64 {
        log.sum()
    }

    fn fits(&self, log: &Log, hits: u64) -> bool {
        log.sum() + hits <= u64::from(self.limit)
    }

    fn add(&self, log: &mut Log, hits: u64, now: Timestamp) {
        let tick = now.as_millis() / u64::from(self.tick);
        let Some(mut header) = log.header() else {
            let header =
                Header { sum: hits, newest: tick, newest_hits: hits, tick: u64::from(self.tick), format: self.format };
            log.set_header(header);
            return;
        };
        header.sum += hits;
        // A clock that was set back adds to the newest tick; no pair ever gets an earlier date than the one before.
        if tick <= header.newest {
            header.newest_hits += hits;
        } else {
            log.push(header.format, header.newest, header.newest_hits);
            (header.newest, header.newest_hits) = (tick, hits);
        }
        log.set_header(header);
    }

    fn give_back(&self, log: &mut Log, mut hits: u64, _now: Timestamp) {
        let Some(mut header) = log.header() else { return };
        if hits >= header.sum {
            log.bytes.clear();
            return;
        }
        header.sum -= hits;
        while hits >= header.newest_hits {
            hits -= header.newest_hits;
            let Some((tick, pair_hits)) = log.pop(&header) else { break };
            (header.newest, header.newest_hits) = (tick, pair_hits);
        }
        header.newest_hits = header.newest_hits.saturating_sub(hits);
        log.set_header(header);
    }

    fn fits_after_ms(&self, log: &Log, hits: u64, now: Timestamp) -> u64 {
        let mut needed = log.sum() + hits - u64::from(self.limit);
        for (tick, hits) in log.pairs() {
            if needed <= hits {
                return self.leaves_after_ms(tick, now);
            }
            needed -= hits;
        }
        self.empty_after_ms(log, now)
    }

    fn room_after_ms(&self, log: &Log, now: Timestamp) -> u64 {
        log.pairs().next().map_or(0, |(tick, _)| self.leaves_after_ms(tick, now))
    }

    fn empty_after_ms(&self, log: &Log, now: Timestamp) -> u64 {
        log.header().map_or(0, |header| self.leaves_after_ms(header.newest, now))
    }
}

// === impl Log ===

impl Log {
    /// Whether there are no hits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All hits in the log.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.header().map_or(0, |header| header.sum)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Log> {
        let log = Log { bytes: SmallVec::from_slice(bytes) };
        let header = log.header()?;
        let whole_pairs = (bytes.len() - HEADER).is_multiple_of(header.format.pair_bytes());
        let sound = header.tick > 0
            && header.newest_hits > 0
            && header.newest_hits <= header.sum
            && header.newest.saturating_mul(header.tick) <= INSTANT_MAX_MS;
        (whole_pairs && sound && bytes.len() <= LOG_BYTES_MAX).then_some(log)
    }

    pub(super) fn empty_from_ms(&self, policy: &SlidingWindow) -> u64 {
        self.header().map_or(0, |header| policy.leaves_at_ms(header.newest, header.tick))
    }

    fn header(&self) -> Option<Header> {
        header(&self.bytes)
    }

    fn set_header(&mut self, header: Header) {
        if self.bytes.is_empty() {
            self.bytes.resize(HEADER, 0);
        }
        write_number(&mut self.bytes[0..4], header.sum);
        write_number(&mut self.bytes[4..10], header.newest);
        write_number(&mut self.bytes[10..14], header.newest_hits);
        write_number(&mut self.bytes[14..18], header.tick);
        self.bytes[18] = header.format.code();
    }

    /// All pairs, oldest first, the newest included.
    fn pairs(&self) -> impl Iterator<Item = (u64, u64)> {
        self.header().into_iter().flat_map(|header| {
            let older = self.bytes[HEADER..].chunks_exact(header.format.pair_bytes());
            older.map(move |pair| read_pair(pair, &header)).chain([(header.newest, header.newest_hits)])
        })
    }

    /// Appends a pair behind the older ones.
    fn push(&mut self, format: PairFormat, tick: u64, hits: u64) {
        self.bytes.extend_from_slice(Pair::new(format, tick, hits).as_bytes());
    }

    /// Removes the youngest of the older pairs.
    fn pop(&mut self, header: &Header) -> Option<(u64, u64)> {
        let start = self.bytes.len().checked_sub(header.format.pair_bytes()).filter(|start| *start >= HEADER)?;
        let pair = read_pair(&self.bytes[start..], header);
        self.bytes.truncate(start);
        Some(pair)
    }

    fn drop_older_than(&mut self, edge: i64) {
        let Some(mut header) = self.header() else { return };
        let left = left(&self.bytes, &header, edge);
        if left.bytes > 0 {
            self.bytes.drain(HEADER..HEADER + left.bytes);
            header.sum = header.sum.saturating_sub(left.hits);
            self.set_header(header);
        }
    }

    /// The same hits in another form, for a log whose newest hits are in the window.
    ///
    /// A pair gets the new tick in which its old one ended: late, never early. It need not get a later one than the
    /// present tick, since all its hits are past, nor than the newest; and none so early that an offset can't say it.
    fn rewritten(&self, policy: &SlidingWindow, format: PairFormat, now: Timestamp) -> Log {
        let Some(old) = self.header() else { return Log::default() };
        let tick = u64::from(policy.tick);
        let end_of = |old_tick: u64| ((old_tick + 1) * old.tick - 1) / tick;
        let newest = end_of(old.newest).min((now.as_millis() / tick).max(old.newest * old.tick / tick));
        let earliest = (newest + 1).saturating_sub(format.offsets());
        let edge = policy.edge(tick, now);

        let mut log = Log::default();
        let mut header = Header { sum: 0, newest, newest_hits: 0, tick, format };
        log.set_header(header);
        let mut last: Option<(u64, u64)> = None;
        for (old_tick, hits) in self.pairs() {
            let at = end_of(old_tick).min(newest).max(earliest);
            if (at as i64) < edge {
                continue;
            }
            header.sum += hits;
            match &mut last {
                Some((last_at, last_hits)) if *last_at == at => *last_hits += hits,
                last => {
                    if let Some((last_at, last_hits)) = last.replace((at, hits)) {
                        log.push(format, last_at, last_hits);
                    }
                }
            }
        }
        // The newest pair came last and was given the tick `newest`.
        header.newest_hits = last.map_or(0, |(_, hits)| hits);
        log.set_header(header);
        log
    }
}
