//! From the settings of traces to what records calls and what exports them.

use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::trace::{self, Exporter, Store, Tracer};

/// The attribute that tells this process from the others of the same service.
const INSTANCE: &str = "service.instance.id";

/// What records calls and what exports them, if they are traced.
pub(super) fn start(settings: &Settings, store: Store, metrics: &Metrics) -> Option<(Tracer, Exporter)> {
    let mut options = settings.tracing.clone()?;
    if !options.resource.iter().any(|(key, _)| key == INSTANCE) {
        options.resource.push((INSTANCE.to_owned(), uuid(rand::random())));
    }
    Some(trace::start(options, store, metrics))
}

/// A version 4 UUID of these bytes of chance (RFC 9562).
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_of_chance_says_its_version_and_variant() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
    }
}
