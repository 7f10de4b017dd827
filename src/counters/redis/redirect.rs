//! What a node of a Redis Cluster answers to a call that is not for it (redis.io/docs/reference/cluster-spec).
//!
//! Such a call was not executed, so it may be made again: nothing is charged twice.

use super::cluster::NAMELESS;
use super::lanes::Lane;

/// Host and port of a node.
pub(super) type Node = (String, u16);

/// Longest name of a host that a node may send us to, in bytes.
pub(super) const HOST_BYTES_MAX: usize = 255;

/// Where a lane's connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneEnd {
    pub(super) lane: Lane,
    pub(super) node: Node,
}

/// Where a call should have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot is that node's now.
    Moved(Node),
    /// The slot is on its way to that node, and the counters of this call are not here any more, or not yet.
    Ask(Node),
    /// The slot is on its way, and some of the call's counters are on either side.
    TryAgain,
}

// === impl Redirect ===

impl Redirect {
    /// Reads an error of the node at the host `asked`, which may mean itself by no name at all; `None` if it is
    /// another error.
    pub(super) fn read(error: &[u8], asked: &str) -> Option<Redirect> {
        let text = std::str::from_utf8(error).ok()?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "MOVED" => node(rest, asked).map(Redirect::Moved),
            "ASK" => node(rest, asked).map(Redirect::Ask),
            "TRYAGAIN" => Some(Redirect::TryAgain),
            _ => None,
        }
    }
}

/// A slot, a host and a port, of which an IPv6 address has no brackets.
fn node(text: &str, asked: &str) -> Option<Node> {
    let (_, address) = text.trim().split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = if host.is_empty() { asked } else { host };
    (host.len() <= HOST_BYTES_MAX && host != NAMELESS).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Redirect> {
        Redirect::read(text.as_bytes(), "asked")
    }

    #[test]
    fn the_words_of_the_specification_are_understood() {
        let node = |host: &str, port| (host.to_owned(), port);
        assert_eq!(read("MOVED 3999 127.0.0.1:6381"), Some(Redirect::Moved(node("127.0.0.1", 6_381))));
        assert_eq!(read("MOVED 3999 :6381"), Some(Redirect::Moved(node("asked", 6_381))));
        assert_eq!(read("ASK 3999 redis-2.svc:6381"), Some(Redirect::Ask(node("redis-2.svc", 6_381))));
        assert_eq!(read("ASK 1 fd00::1:6381"), Some(Redirect::Ask(node("fd00::1", 6_381))));
        assert_eq!(read("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Redirect::TryAgain));
    }

    #[test]
    fn what_names_no_node_is_no_redirect() {
        let long = format!("MOVED 1 {}:1", "x".repeat(HOST_BYTES_MAX + 1));
        for text in ["ERR MOVED", "MOVED", "MOVED 1", "MOVED 1 a", "MOVED 1 a:0", "ASK 1 a:70000", "ASK 1 ?:1", &long] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_error_is_too_odd_to_be_looked_at(word in "(MOVED|ASK|TRYAGAIN|) ?", rest: Vec<u8>) {
            let _: Option<Redirect> = Redirect::read(&[word.as_bytes(), &rest].concat(), "asked");
        }
    }
}
