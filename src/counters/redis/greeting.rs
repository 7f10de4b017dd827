//! The first words on a new socket: user, password, database.
//!
//! The redis package says them. What it hands back is a connection on which commands can be sent, and its work as a
//! future of the caller's: polled beside what is asked, or spawned.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, Value};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// Who we are.
#[derive(Clone, Copy)]
pub(super) struct Credentials<'a> {
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    /// A file with the password, in place of the password.
    pub(super) password_file: Option<&'a Path>,
}

/// A connection on which we are known.
pub(super) struct Greeted {
    pub(super) connection: MultiplexedConnection,
    /// The connection's work: nothing is asked without it. It ends with the connection.
    pub(super) task: BoxFuture<'static, ()>,
}

/// Why we are not known.
#[derive(Debug, Error)]
pub(super) enum GreetingError {
    #[error("the password file {} cannot be read: {reason}", path.display())]
    PasswordFile { path: PathBuf, reason: String },
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Tells the server on a new socket who we are, and which database we want. Each answer must come within `patience`.
pub(super) async fn greet(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    credentials: Credentials<'_>,
    database: u32,
    patience: Duration,
) -> Result<Greeted, GreetingError> {
    let settings = credentials.settings(database).await?;
    let times = AsyncConnectionConfig::new().set_response_timeout(Some(patience));
    let (connection, task) = MultiplexedConnection::new_with_config(&settings, socket, times).await?;
    Ok(Greeted { connection, task: Box::pin(task) })
}

/// Sends one command; what Redis answers as an error is one.
pub(super) fn send<'c>(
    connection: &'c mut impl ConnectionLike,
    command: &'c Cmd,
) -> impl Future<Output = Result<Value, RedisError>> + Send + 'c {
    let answer = connection.req_packed_command(command);
    async { answer.await?.extract_error() }
}

// === impl Credentials ===

impl Credentials<'_> {
    /// What is said to the server. A password in a file is read now.
    pub(super) async fn settings(&self, database: u32) -> Result<RedisConnectionInfo, GreetingError> {
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(database));
        if let Some(username) = self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = self.password().await? {
            settings = settings.set_password(password);
        }
        Ok(settings)
    }

    async fn password(&self) -> Result<Option<String>, GreetingError> {
        let Some(path) = self.password_file.map(Path::to_owned) else {
            return Ok(self.password.map(str::to_owned));
        };
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
        let text = read.map_err(|error| error.to_string()).and_then(|text| text.map_err(|error| error.to_string()));
        let text = text.map_err(|reason| GreetingError::PasswordFile { path, reason })?;
        // Editors and `echo` end a file with a line break that is no part of the password.
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
