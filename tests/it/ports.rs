//! The HTTP and debug ports against what the reference service says on its own, over real sockets.

mod debug;
mod http;
mod unix_socket;
