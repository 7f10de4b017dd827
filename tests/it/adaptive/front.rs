//! A front before a real Prometheus that lets everything pass, answers wrongly in its place, or keeps questions waiting.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::client::Http;

/// A running front; it ends when dropped.
pub(super) struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

/// An answer in Prometheus's place: a status and a body.
pub(super) type Wrong = (u16, String);

struct Shared {
    target: Http,
    mode: watch::Sender<Mode>,
    waiting: watch::Sender<usize>,
}

/// What becomes of questions.
#[derive(Clone, Debug)]
enum Mode {
    Passed,
    Answered(Wrong),
    Kept,
}

// === impl Front ===

impl Front {
    /// A front before the Prometheus at that address.
    pub(super) async fn before(target: SocketAddr) -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, waiting) = (watch::Sender::new(Mode::Passed), watch::Sender::new(0));
        let shared = Arc::new(Shared { target: Http::new(target), mode, waiting });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Front { address, shared, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets questions pass from now on, also those that are kept waiting.
    pub(super) fn pass(&self) {
        self.shared.mode.send_replace(Mode::Passed);
    }

    /// Answers all questions itself from now on.
    pub(super) fn answer(&self, wrong: &Wrong) {
        self.shared.mode.send_replace(Mode::Answered(wrong.clone()));
    }

    /// Keeps questions waiting from now on.
    pub(super) fn keep(&self) {
        self.shared.mode.send_replace(Mode::Kept);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        *self.shared.waiting.borrow()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A question that waits; it is counted for as long.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Waiting<'_> {
    fn of(count: &watch::Sender<usize>) -> Waiting<'_> {
        count.send_modify(|count| *count += 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn answer(State(shared): State<Arc<Shared>>, question: Request) -> Response {
    let mut mode = shared.mode.subscribe();
    let waiting = Waiting::of(&shared.waiting);
    let mode = mode.wait_for(|mode| !matches!(mode, Mode::Kept)).await.unwrap().clone();
    drop(waiting);
    let (status, body) = match mode {
        Mode::Answered((status, body)) => (status, body.into()),
        Mode::Passed | Mode::Kept => asked(shared.target, question).await,
    };
    Response::builder().status(status).header(CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap()
}

/// What the Prometheus behind it answers.
async fn asked(target: Http, question: Request) -> (u16, Bytes) {
    let (mut head, body) = question.into_parts();
    head.headers.remove("host");
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    match target.send(Request::from_parts(head, body)).await {
        Ok(answer) => (answer.status.as_u16(), answer.body),
        Err(error) => (502, error.to_string().into()),
    }
}
