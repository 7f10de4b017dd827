//! What an operator asks of the controller: from the admin listener's tasks to the one that decides.
//!
//! The controller carries a [`Command`] out and looks at the service at once, instead of at its next poll. Few operators
//! ask at a time; who finds the queue full is told so.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::hand::{OperatorsHand, Order, Signature};
use super::record::{RecordError, RecordStore};

/// One wish, and where its outcome is waited for.
#[derive(Debug)]
pub struct Command {
    service: Arc<str>,
    wish: Wish,
}

#[derive(Debug)]
enum Wish {
    Lay(Order, Answer<OperatorsHand>),
    Lift(Signature, Answer<bool>),
    Reset(Signature, Answer<bool>),
}

type Answer<T> = oneshot::Sender<Result<T, RecordError>>;

/// The operators' side. Clones ask the same controller.
#[derive(Clone, Debug)]
pub struct Commands {
    queue: mpsc::Sender<Command>,
}

/// Why a wish was not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Too many ask at once.
    #[error("{QUEUE_MAX} wishes wait already; ask again in a moment")]
    Busy,
    /// There is no controller: the process ends, or it has no adaptive services.
    #[error("nobody is there to fulfil it: the process is ending")]
    Gone,
    /// There was no answer in time; it may still be fulfilled.
    #[error("it was not fulfilled within {} s; it may still be", PATIENCE.as_secs())]
    TimedOut,
    /// The store didn't take it.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Wishes that may wait.
const QUEUE_MAX: usize = 16;

/// How long an operator waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// A queue, and who asks through it.
#[must_use]
pub fn commands() -> (Commands, mpsc::Receiver<Command>) {
    let (queue, received) = mpsc::channel(QUEUE_MAX);
    (Commands { queue }, received)
}

// === impl Commands ===

impl Commands {
    /// Lays a hand on a service.
    ///
    /// # Errors
    /// When it can't be, or nobody says so in time.
    pub async fn lay(&self, service: Arc<str>, order: Order) -> Result<OperatorsHand, CommandError> {
        self.ask(service, |answer| Wish::Lay(order, answer)).await
    }

    /// Takes the hand off and says whether there was one.
    ///
    /// # Errors
    /// When it can't be, or nobody says so in time.
    pub async fn lift(&self, service: Arc<str>, by: Signature) -> Result<bool, CommandError> {
        self.ask(service, |answer| Wish::Lift(by, answer)).await
    }

    /// Lets a service begin anew and says whether anything was known of it.
    ///
    /// # Errors
    /// When it can't be, or nobody says so in time.
    pub async fn reset(&self, service: Arc<str>, by: Signature) -> Result<bool, CommandError> {
        self.ask(service, |answer| Wish::Reset(by, answer)).await
    }

    async fn ask<T>(&self, service: Arc<str>, wish: impl FnOnce(Answer<T>) -> Wish) -> Result<T, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Command { service, wish: wish(answer) }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Gone,
        })?;
        match timeout(PATIENCE, answered).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(_)) => Err(CommandError::Gone),
            Err(_) => Err(CommandError::TimedOut),
        }
    }
}

// === impl Command ===

impl Command {
    /// Which service it is about.
    #[must_use]
    pub fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// Does what is wished, and answers.
    pub async fn carry_out(self, records: &impl RecordStore) {
        // Nobody waits any more if the send fails, and what was wished is done all the same.
        match self.wish {
            Wish::Lay(order, answer) => drop(answer.send(records.lay(&self.service, &order).await)),
            Wish::Lift(by, answer) => drop(answer.send(records.lift(&self.service, &by).await)),
            Wish::Reset(by, answer) => drop(answer.send(records.reset(&self.service, &by).await)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature::try_new("a test", "").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_that_nobody_looks_at_ends_in_time_and_more_than_the_queue_holds_are_told() {
        let (commands, _received) = commands();
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..QUEUE_MAX + 3 {
            let commands = commands.clone();
            asked.spawn(async move { commands.lift("a".into(), signature()).await.unwrap_err() });
        }
        let errors = asked.join_all().await;
        assert_eq!(errors.iter().filter(|error| **error == CommandError::Busy).count(), 3);
        assert_eq!(errors.iter().filter(|error| **error == CommandError::TimedOut).count(), QUEUE_MAX);
    }

    #[tokio::test]
    async fn without_a_controller_a_wish_says_so() {
        let (commands, received) = commands();
        drop(received);
        assert_eq!(commands.reset("a".into(), signature()).await, Err(CommandError::Gone));
    }
}
