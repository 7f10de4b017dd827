//! `tidegate-proxy`: a test and trial proxy that reads an Envoy v3 static bootstrap and behaves as Envoy does in what
//! matters for rate limiting.
//!
//! The pure half decides and formats, with time and randomness as arguments; nothing of it opens a socket:
//!
//! | Module | What |
//! |---|---|
//! | [`bootstrap`] | the file: what may stand in it ([`bootstrap::model`]) and its reader |
//! | [`request`] | a request's head as the other modules look at it |
//! | [`query`] | query strings |
//! | [`matching`] | texts, headers and query parameters against matchers |
//! | [`route`] | which virtual host, route and cluster a request goes to |
//! | [`rewrite`] | what an expression makes of a path |
//! | [`descriptors`] | what a rate limit service is asked of a request, and local limits count it by |
//! | [`ratelimit_headers`] | what a client is told of its limits |
//! | [`access_log`] | format strings with command operators, and the record of a request that they print |
//!
//! The other half moves bytes:
//!
//! | Module | What |
//! |---|---|
//! | [`stats`] | Envoy's statistics and the forms in which they are told |
//! | [`cluster`] | upstreams: hosts, their health, connections to them |
//! | [`body`] | what is streamed between the two sides |
//! | [`server`] | downstreams: listeners, filters, the router |
//! | [`admin`] | what operators and Prometheus ask |
//! | [`serve`] | all of it together |

pub mod access_log;
pub mod admin;
pub mod body;
pub mod bootstrap;
pub mod cluster;
pub mod descriptors;
pub mod matching;
pub mod query;
pub mod ratelimit_headers;
pub mod request;
pub mod rewrite;
pub mod route;
pub mod serve;
pub mod server;
pub mod stats;
