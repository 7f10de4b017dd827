//! A question that many have at once is asked once: who comes while it is under way waits for the same answer.
//!
//! It is asked by a task of its own. If the first who needs the answer asked, his deadline would end the question for all
//! others, each of whom would begin anew in his turn, and where an answer takes longer than their deadlines there would
//! never be one. The task ends by itself: every question has a time of its own.
//!
//! An answer holds for a moment, also one that says why there is none: that bounds how often is asked, however many doubt
//! what they were told.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::Instant;

/// The question, with its latest answer.
pub(super) struct SingleFlight<T> {
    /// How long an answer holds.
    fresh: Duration,
    latest: Mutex<Option<Flight<T>>>,
}

type Flight<T> = Shared<BoxFuture<'static, Answered<T>>>;

/// What came of asking once.
#[derive(Clone)]
struct Answered<T> {
    /// `None` if the task that asked has ended without an answer: that holds for nobody else.
    at: Option<Instant>,
    answer: Result<T, String>,
}

// === impl SingleFlight ===

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Nothing was asked yet.
    pub(super) fn new(fresh: Duration) -> SingleFlight<T> {
        SingleFlight { fresh, latest: Mutex::default() }
    }

    /// The answer of the question under way, else the latest if it still holds, else that of `question`. The error is a
    /// sentence.
    pub(super) async fn answer<Q>(&self, question: impl FnOnce() -> Q) -> Result<T, String>
    where
        Q: Future<Output = Result<T, String>> + Send + 'static,
    {
        let flight = self.join(question);
        flight.await.answer
    }

    fn join<Q>(&self, question: impl FnOnce() -> Q) -> Flight<T>
    where
        Q: Future<Output = Result<T, String>> + Send + 'static,
    {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = latest.as_ref().filter(|flight| self.holds(flight)) {
            return flight.clone();
        }
        let question = question();
        let asked = tokio::spawn(async move {
            let answer = question.await;
            Answered { at: Some(Instant::now()), answer }
        });
        let flight = asked.map(|asked| asked.unwrap_or_else(|_| Answered::ended())).boxed().shared();
        latest.insert(flight).clone()
    }

    /// Whether whoever comes now needn't ask.
    fn holds(&self, flight: &Flight<T>) -> bool {
        flight.peek().is_none_or(|answered| answered.at.is_some_and(|at| at.elapsed() < self.fresh))
    }
}

// === impl Answered ===

impl<T> Answered<T> {
    fn ended() -> Answered<T> {
        Answered { at: None, answer: Err("the task that asked has ended".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::time::{advance, timeout};

    use super::*;

    const FRESH: Duration = Duration::from_millis(500);

    /// A question that waits to be let go, and is answered by how often it was asked.
    #[derive(Clone)]
    struct Asking {
        flight: Arc<SingleFlight<u32>>,
        asked: Arc<AtomicU32>,
        gate: Arc<Semaphore>,
    }

    impl Asking {
        fn new() -> Asking {
            Asking {
                flight: Arc::new(SingleFlight::new(FRESH)),
                asked: Arc::default(),
                gate: Arc::new(Semaphore::new(0)),
            }
        }

        async fn ask(&self) -> Result<u32, String> {
            let question = || {
                let Asking { asked, gate, .. } = self.clone();
                async move {
                    let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
                    gate.acquire().await.map_err(|error| error.to_string())?.forget();
                    Ok(number)
                }
            };
            self.flight.answer(question).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_ask_once_although_those_who_came_first_have_left() {
        let asking = Asking::new();
        for _ in 0..10 {
            assert!(timeout(Duration::from_millis(100), asking.ask()).await.is_err(), "it isn't answered yet");
        }
        let (answers, ()) =
            tokio::join!(join_all((0..1_000).map(|_| asking.ask())), async { asking.gate.add_permits(1) });
        assert_eq!(answers, vec![Ok(1); 1_000]);
        assert_eq!(asking.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_its_time_and_no_longer() {
        let asking = Asking::new();
        asking.gate.add_permits(2);
        assert_eq!(asking.ask().await, Ok(1));
        advance(FRESH - Duration::from_millis(1)).await;
        assert_eq!(asking.ask().await, Ok(1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(asking.ask().await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_holds_for_the_same_time() {
        let asking = Asking::new();
        asking.gate.close();
        for _ in 0..10 {
            assert!(asking.ask().await.is_err());
        }
        assert_eq!(asking.asked.load(Ordering::Relaxed), 1);
        advance(FRESH).await;
        assert!(asking.ask().await.is_err());
        assert_eq!(asking.asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_question_whose_runtime_has_ended_is_asked_again_by_another() {
        let asking = Asking::new();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let first = runtime();
        assert!(first.block_on(async { timeout(Duration::from_millis(1), asking.ask()).await }).is_err());
        drop(first);
        asking.gate.add_permits(2);
        let second = runtime();
        // Who comes next may still be told of that end; nobody after him.
        let (told, next) = second.block_on(async { (asking.ask().await, asking.ask().await) });
        assert!(told.is_err_and(|reason| reason.contains("has ended")), "nobody had heard of it");
        assert!(next.is_ok(), "{next:?}");
    }
}
