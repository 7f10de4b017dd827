//! A request's body, whole, within a number of bytes and a time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use thiserror::Error;
use tokio::time::timeout;

/// Why there is no body to read a request from.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    #[error("the body is longer than {max} bytes")]
    TooLarge { max: usize },
    #[error("the body did not arrive within {} ms", waited.as_millis())]
    TooSlow { waited: Duration },
    #[error("the body broke off: {0}")]
    Broken(axum::Error),
}

/// How much of a body that is too large is read and thrown away, so that its sender, who writes before reading, gets
/// to see the answer instead of a reset connection.
const DISCARDED_BYTES_MAX: usize = 1 << 20;

/// Reads a body that has at most so many bytes and arrives in time.
///
/// # Errors
/// When it doesn't.
pub(crate) async fn read_body(body: Body, bytes_max: usize, patience: Duration) -> Result<Bytes, BodyError> {
    timeout(patience, collect(body, bytes_max)).await.map_err(|_| BodyError::TooSlow { waited: patience })?
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { max: bytes_max };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max.saturating_add(DISCARDED_BYTES_MAX) {
        return Err(too_large);
    }
    let mut collected = BytesMut::new();
    let mut length: usize = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= bytes_max {
            collected.extend_from_slice(&data);
        } else if length > bytes_max.saturating_add(DISCARDED_BYTES_MAX) {
            return Err(too_large);
        } else {
            collected = BytesMut::new();
        }
    }
    if length > bytes_max { Err(too_large) } else { Ok(collected.freeze()) }
}
