//! Where signals come from, as far as the controller knows.

use std::future::Future;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::rules::service::Service;
use crate::signal::{Sample, Windows};

/// Something that tells how a service is doing.
pub trait SignalSource: Send + Sync + 'static {
    /// What the windows that end at `now` held, by the store's clock. Takes no longer than the service's interval, and
    /// never fails: what there is no answer to is absent, with a reason.
    fn sample(&self, service: &Service, windows: &Windows, now: Timestamp) -> impl Future<Output = Sample> + Send;

    /// The time between two samples of the service's metrics, 1 to 60 s, if it can be told.
    fn scrape_interval(&self, service: &Service) -> impl Future<Output = Option<Duration>> + Send;

    /// What the operator should know of what was answered, each in one sentence: it counts, and may not mean what it
    /// seems to. Nothing before the first answer.
    fn doubts(&self, _service: &Service) -> Vec<String> {
        Vec::new()
    }

    /// The questions that [`SignalSource::sample`] asks, as they are sent.
    fn questions(&self, service: &Service, windows: &Windows) -> Vec<String>;
}
