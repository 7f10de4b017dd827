//! A host that takes no connection and refuses none either.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::config::{bootstrap, cluster, listener, route, with};
use super::stage::{Places, same};

/// A listener whose queue is full and which never accepts: the system drops whatever else wants to connect.
#[derive(Debug)]
struct Full {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Full {
    /// Fills the queue until a connection hangs.
    async fn start() -> Full {
        const QUEUE_MAX: usize = 64;
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queued.push(connected.unwrap());
            assert!(queued.len() < QUEUE_MAX, "a queue of length 0 takes {QUEUE_MAX} connections");
        }
        Full { address, _listener: listener, _queued: queued }
    }
}

#[tokio::test]
async fn a_connect_that_takes_too_long_is_given_up() {
    let full = Full::start().await;
    let config = |places: &Places<'_>| {
        let hanging = with(cluster("hanging", &[full.address]), &json!({ "connect_timeout": "0.2s" }));
        let retried = json!({ "route": { "timeout": "5s", "retry_policy": { "retry_on": "connect-failure", "num_retries": 1 } } });
        let routes = [
            with(route("/retried", "hanging"), &retried),
            // The request's own limit is over first.
            with(route("/short", "slowly"), &json!({ "route": { "timeout": "0.2s" } })),
            with(route("/", "hanging"), &json!({ "route": { "timeout": "5s" } })),
        ];
        let slowly = with(cluster("slowly", &[full.address]), &json!({ "connect_timeout": "5s" }));
        bootstrap(&[listener("main", places.folder, &[], &routes)], &[hanging, slowly])
    };
    same(config, async |stage| {
        for path in ["/hello", "/retried/hello", "/short/hello"] {
            stage.get(path).await;
        }
        for name in ["upstream_cx_connect_timeout", "upstream_cx_connect_fail", "upstream_rq_pending_failure_eject"] {
            let count = stage.subject.statistic(&format!("cluster.hanging.{name}")).await;
            stage.note(format!("{name}: {count}"));
        }
    })
    .await;
}
