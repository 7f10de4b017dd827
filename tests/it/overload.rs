//! More than can be served, and clients that want it so. Whatever they do: memory has a bound, other clients are
//! answered and counted meanwhile, health says serving, and the log stays readable.

mod attacks;
mod crowd;
mod tenfold;
