//! The downstream side: listeners, the filters that a request passes, the router, the answer.
//!
//! | File | What |
//! |---|---|
//! | `listener`, `connection`, `activity`, `drain` | sockets, HTTP on them, how long they may say nothing, when they end |
//! | `handle` | one request from head to answer |
//! | `exchange`, `progress` | what is known of it meanwhile; its end |
//! | `heads` | headers that proxies add and remove |
//! | `filters`, `fault`, `health_check`, `local_limit`, `local_buckets`, `token_bucket`, `rate_limit`, `service_call` | the filters |
//! | `router`, `retry`, `replay` | to a host and back, more than once if need be |
//! | `reply`, `redirect`, `answer` | answers of the proxy's own; bodies on their way to the client |
//! | `log_sink` | where access log lines go |

pub mod activity;
pub mod answer;
pub mod connection;
pub mod context;
pub mod drain;
pub mod exchange;
pub mod fault;
pub mod filters;
mod grpc_answer;
pub mod handle;
pub mod heads;
pub mod health_check;
pub mod listener;
pub mod local_buckets;
pub mod local_limit;
pub mod log_sink;
pub mod progress;
pub mod rate_limit;
pub mod redirect;
pub mod replay;
pub mod reply;
pub mod retry;
pub mod router;
pub mod service_call;
pub mod token_bucket;

use std::time::Duration;

pub use context::Context;
pub use drain::{DrainSettings, DrainStrategy};
pub use listener::HttpListener;

/// Longer than anything lasts.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
