//! New certificates in the place of old ones, without a restart.
//!
//! The files are looked at every few seconds, by their contents: a Kubernetes secret changes by a swap of symbolic links,
//! and tools that write two files write them one after the other. So what can't be used is complained of when it is
//! still so at the next look. Until it can be, the last good certificate is shown.
//!
//! The end of our certificate is told a week ahead: whoever forgot to renew it hears of it from us, not from Envoy.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Acceptor, Fingerprint, Loaded};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// How often the files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// How long before its end a certificate is spoken of.
const SOON_SECONDS: i64 = 7 * 24 * 3_600;

/// What a look at the files came to.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Unchanged,
    Renewed,
    /// They can't be used, for the reason that the sentence says.
    Refused {
        /// What they were; nothing if they couldn't be read.
        digest: Option<Fingerprint>,
        sentence: String,
    },
}

/// What was told of the files that can't be used.
#[derive(Debug, Default)]
struct Complaint {
    /// Seen at the last look, with its contents.
    seen: Option<(Option<Fingerprint>, String)>,
    is_told: bool,
}

/// What was told of the end of our certificate, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Far,
    Soon,
    Past,
}

/// Renews what `acceptor` shows whenever its files change, until `stop`.
pub async fn renew(acceptor: Acceptor, clock: impl Clock, every: Duration, metrics: Metrics, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut complaint, mut told_end) = (Complaint::default(), End::Far);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let looked = {
            let acceptor = acceptor.clone();
            tokio::task::spawn_blocking(move || acceptor.look()).await
        };
        match looked {
            Ok(Look::Unchanged) => complaint.resolve(&metrics),
            Ok(Look::Renewed) => {
                complaint.resolve(&metrics);
                told_end = End::Far;
                tracing::info!("the certificate of the gRPC port was renewed");
            }
            Ok(Look::Refused { digest, sentence }) => complaint.hear(digest, sentence, &metrics),
            Err(error) => tracing::warn!(%error, "the certificate of the gRPC port was not looked at"),
        }
        let now = i64::try_from(clock.now().as_millis() / 1_000).unwrap_or(i64::MAX);
        let ends_at = acceptor.current().ends_at;
        metrics.totals().tls_certificate_ends_at.set(ends_at.map_or(0, |at| u64::try_from(at).unwrap_or(0)));
        told_end = tell_end(ends_at, now, told_end);
    }
}

/// Tells the log of a certificate's end, once when it is near and once when it is past.
fn tell_end(ends_at: Option<i64>, now: i64, told: End) -> End {
    let Some(ends_at) = ends_at else { return told };
    let end = match ends_at - now {
        ..=0 => End::Past,
        1..SOON_SECONDS => End::Soon,
        _ => End::Far,
    };
    if end > told {
        let hours = (ends_at - now).abs() / 3_600;
        if end == End::Past {
            tracing::error!("the certificate of the gRPC port ended {hours} hours ago: clients will not accept it");
        } else {
            tracing::warn!("the certificate of the gRPC port ends in {hours} hours, and has not been renewed");
        }
    }
    end.max(told)
}

// === impl Acceptor ===

impl Acceptor {
    /// Reads the files, and takes what they hold if that is new and good.
    fn look(&self) -> Look {
        let contents = match self.files.read() {
            Ok(contents) => contents,
            Err(sentence) => return Look::Refused { digest: None, sentence },
        };
        let digest = contents.digest();
        if digest == self.current().digest {
            return Look::Unchanged;
        }
        match self.files.load(&contents) {
            Ok(loaded) => {
                self.replace(loaded);
                Look::Renewed
            }
            Err(sentence) => Look::Refused { digest: Some(digest), sentence },
        }
    }

    fn replace(&self, loaded: Loaded) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
    }
}

// === impl Complaint ===

impl Complaint {
    /// Complains of files that were no better at the look before, once.
    fn hear(&mut self, digest: Option<Fingerprint>, sentence: String, metrics: &Metrics) {
        let seen = Some((digest, sentence));
        if self.seen != seen {
            (self.seen, self.is_told) = (seen, false);
        } else if !std::mem::replace(&mut self.is_told, true)
            && let Some((_, sentence)) = &self.seen
        {
            metrics.totals().tls_certificate_rejected.set(1);
            tracing::warn!("{sentence}; the certificate that was good before stays");
        }
    }

    fn resolve(&mut self, metrics: &Metrics) {
        *self = Complaint::default();
        metrics.totals().tls_certificate_rejected.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_when_it_is_near_and_when_it_is_past() {
        let now = 1_000_000_000;
        assert_eq!(tell_end(None, now, End::Far), End::Far);
        assert_eq!(tell_end(Some(now + SOON_SECONDS), now, End::Far), End::Far);
        assert_eq!(tell_end(Some(now + SOON_SECONDS - 1), now, End::Far), End::Soon);
        assert_eq!(tell_end(Some(now), now, End::Soon), End::Past);
        assert_eq!(tell_end(Some(now + 1), now, End::Past), End::Past, "a clock that goes back tells nothing twice");
    }

    #[test]
    fn files_that_change_between_two_looks_are_no_reason_to_complain() {
        let metrics = Metrics::default();
        let rejected = || metrics.totals().tls_certificate_rejected.get();
        let mut complaint = Complaint::default();
        complaint.hear(Some([1; 32]), "a pair half written".to_owned(), &metrics);
        complaint.hear(Some([2; 32]), "and another".to_owned(), &metrics);
        assert_eq!(rejected(), 0);
        complaint.hear(Some([2; 32]), "and another".to_owned(), &metrics);
        assert_eq!(rejected(), 1);
        complaint.resolve(&metrics);
        assert_eq!(rejected(), 0);
    }
}
