//! `tidegate adaptive record`: a service's ticks, line by line, for as long as is asked.
//!
//! The store remembers the last twenty ticks of a service, so who looks each second misses none, whichever replica
//! decides. A listener that is away for a while is asked again, which is said; ticks that went meanwhile are missing,
//! which a replay tells.

use std::time::Duration;

use axum::http::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::cli::{Failure, asked};
use super::client::Address;
use crate::settings::text;

/// Between two looks: twenty ticks of the shortest interval take twenty times as long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shortest and longest recording: an hour of it at an interval of 5 s has about 2 MB.
const LASTING: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Where the ticks are.
pub(super) fn path(name: &str) -> String {
    format!("/adaptive/{name}/ticks")
}

/// Tells each tick of a service from now on until the time is over; and by `note` that nothing is recorded, and that it
/// is again.
///
/// # Errors
/// When it can't begin, a line can't be written, or the last look was in vain.
pub(super) async fn follow(
    address: &Address,
    name: &str,
    lasting: &str,
    mut line: impl FnMut(&str) -> std::io::Result<()>,
    mut note: impl FnMut(&str),
) -> Result<(), Failure> {
    let wrong = |right: String| Failure::Wrong(format!("--for is {lasting:?}, but must be {right}"));
    let lasting = text::duration(lasting, &LASTING).map_err(wrong)?;
    let (began, path) = (Instant::now(), path(name));
    // Ticks before the begin are not asked for.
    let mut told = asked(address, Method::GET, &path, None).await?;
    let mut last = newest(&told);
    let (mut look, mut away) = (began, None);
    while look < began + lasting {
        look += LOOK_EVERY;
        sleep_until(look).await;
        match asked(address, Method::GET, &path, None).await {
            Ok(ticks) => told = ticks,
            Err(Failure::Unavailable(why)) => {
                if away.is_none() {
                    note(&format!("nothing is recorded, it is asked again each second: {why}"));
                }
                away = Some(why);
                continue;
            }
            Err(wrong) => return Err(wrong),
        }
        if away.take().is_some() {
            note("it is recorded again");
        }
        for tick in told["ticks"].as_array().into_iter().flatten() {
            if instant(tick) > last {
                line(&tick.to_string()).map_err(Failure::Output)?;
            }
        }
        last = last.max(newest(&told));
    }
    away.map_or(Ok(()), |why| Err(Failure::Unavailable(why)))
}

fn newest(told: &Value) -> Option<u64> {
    told["ticks"].as_array().into_iter().flatten().filter_map(instant).max()
}

/// When a tick was decided.
fn instant(tick: &Value) -> Option<u64> {
    tick["made_of"]["now"].as_u64()
}
