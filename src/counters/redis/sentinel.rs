//! Sentinels: who they are, and which server they name as the master.
//!
//! All are asked at once, and the answer of the highest configuration epoch holds, as among themselves: a sentinel that
//! was cut off names the master of before. As soon as a majority agrees nobody is waited for. What they name is asked
//! for its role before it is used (`link`), because they may be a moment behind.
//!
//! A master that was deposed keeps its connections, and takes writes as long as it is cut off from its sentinels. So
//! a connection is watched ([`Watch::moved`]): once a second the sentinels are asked, and when they name another server
//! the connection is given up. What all cores need is asked once for all of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::greeting::{Credentials, Greeted, greet, send};
use super::link::Address;
use super::socket;
use crate::tls::Tls;

/// A master by its name, and those who know where it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// The name that the sentinels watch it by.
    pub master: String,
    /// Host and port of each.
    pub addresses: Vec<(String, u16)>,
    /// The user of the sentinels' access lists; `None` for the default user.
    pub username: Option<String>,
    /// The sentinels' password; the servers have their own.
    pub password: Option<String>,
    /// A file with that password, read at each connect.
    pub password_file: Option<PathBuf>,
}

/// What is known of a master. Clones share it.
#[derive(Clone)]
pub(super) struct Watch {
    sentinels: Arc<Sentinels>,
    tls: Option<Tls>,
    /// Time in which a sentinel must answer.
    patience: Duration,
    latest: Arc<Mutex<Option<Found>>>,
}

/// Where the master was.
struct Found {
    at: Instant,
    address: (String, u16),
}

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    epoch: u64,
    address: (String, u16),
}

/// How often sentinels are asked while all is well.
const INTERVAL: Duration = Duration::from_secs(1);

/// An answer younger than this needn't be asked for again.
const FRESH: Duration = Duration::from_millis(500);

// === impl Watch ===

impl Watch {
    pub(super) fn new(sentinels: Sentinels, tls: Option<Tls>, connect_timeout: Duration) -> Watch {
        // A sentinel that is a black hole must leave time for the server.
        let patience = connect_timeout / 3;
        Watch { sentinels: Arc::new(sentinels), tls, patience, latest: Arc::default() }
    }

    /// Where the master is. The error is a sentence that names the sentinels.
    pub(super) async fn master(&self) -> Result<(String, u16), String> {
        let mut latest = self.latest.lock().await;
        if let Some(found) = latest.as_ref().filter(|found| found.at.elapsed() < FRESH) {
            return Ok(found.address.clone());
        }
        let address = self.ask_all().await?;
        *latest = Some(Found { at: Instant::now(), address: address.clone() });
        Ok(address)
    }

    /// Waits until the sentinels name another master than `present`, and says which.
    pub(super) async fn moved(self, present: (String, u16)) -> (String, u16) {
        loop {
            sleep(INTERVAL).await;
            // Sentinels that can't be reached say nothing against the master.
            if let Ok(master) = self.master().await
                && master != present
            {
                return master;
            }
        }
    }

    async fn ask_all(&self) -> Result<(String, u16), String> {
        let sentinels = &self.sentinels;
        let mut asked: FuturesUnordered<_> = sentinels.addresses.iter().map(|sentinel| self.ask(sentinel)).collect();
        let (mut answers, mut reasons) = (Vec::new(), Vec::new());
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(named) => answers.push(named),
                Err(reason) => reasons.push(reason),
            }
            if let Some(agreed) = agreed(&answers, sentinels.addresses.len()) {
                return Ok(agreed);
            }
        }
        latest(answers).ok_or_else(|| reasons.join("; "))
    }

    async fn ask(&self, (host, port): &(String, u16)) -> Result<Named, String> {
        let asked = timeout(self.patience, self.exchange(host, *port)).await;
        let after = self.patience.as_millis();
        asked.unwrap_or_else(|_| Err(format!("no answer within {after} ms"))).map_err(|reason| {
            let address = Address::Tcp(host.clone(), *port);
            format!("sentinel {address}: {reason}")
        })
    }

    async fn exchange(&self, host: &str, port: u16) -> Result<Named, String> {
        let sentinels = &self.sentinels;
        let socket = socket::open_tcp(host, port, self.tls.as_ref()).await.map_err(|error| error.to_string())?;
        let credentials = Credentials {
            username: sentinels.username.as_deref(),
            password: sentinels.password.as_deref(),
            password_file: sentinels.password_file.as_deref(),
        };
        let Greeted { mut connection, task } =
            greet(socket, credentials, 0, self.patience).await.map_err(|error| error.to_string())?;
        let asking = async {
            let mut where_is = redis::cmd("SENTINEL");
            where_is.arg("get-master-addr-by-name").arg(&sentinels.master);
            let mut about = redis::cmd("SENTINEL");
            about.arg("master").arg(&sentinels.master);
            let address = send(&mut connection, &where_is).await.map_err(|error| error.to_string())?;
            if address == Value::Nil {
                return Err(sentinels.not_known());
            }
            let about = send(&mut connection, &about).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((address, about))
        };
        let (address, about) = tokio::select! {
            asked = asking => asked?,
            () = task => return Err("the connection ended".to_owned()),
        };
        read(&address, &about).ok_or_else(|| sentinels.not_known())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sentinels.fmt(f)
    }
}

/// What more than half of so many sentinels say, and none contradicts in a later epoch: while a failover is being told
/// from sentinel to sentinel, the majority still names the master of before.
fn agreed(answers: &[Named], sentinels: usize) -> Option<(String, u16)> {
    let agrees = |named: &&Named| answers.iter().filter(|other| other == named).count() > sentinels / 2;
    let latest = answers.iter().map(|named| named.epoch).max()?;
    answers.iter().filter(|named| named.epoch == latest).find(agrees).map(|named| named.address.clone())
}

/// What was said in the highest epoch.
fn latest(answers: Vec<Named>) -> Option<(String, u16)> {
    answers.into_iter().max_by_key(|named| named.epoch).map(|named| named.address)
}

/// Reads the two answers of a sentinel: host and port, and names with values one behind the other.
fn read(address: &Value, about: &Value) -> Option<Named> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let (Value::Array(address), Value::Array(about)) = (address, about) else { return None };
    let [host, port] = &address[..] else { return None };
    let (host, port) = (text(host)?, text(port)?.parse().ok()?);
    let epoch = about.chunks_exact(2).find(|pair| text(&pair[0]).as_deref() == Some("config-epoch"));
    let epoch = epoch.and_then(|pair| text(&pair[1])?.parse().ok()).unwrap_or(0);
    Some(Named { epoch, address: (host, port) })
}

// === impl Sentinels ===

impl Sentinels {
    fn not_known(&self) -> String {
        format!("it knows no master called {:?}", self.master)
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> =
            self.addresses.iter().map(|(host, port)| Address::Tcp(host.clone(), *port).to_string()).collect();
        write!(f, "master {:?} of the sentinels {}", self.master, addresses.join(", "))
    }
}

impl fmt::Debug for Sentinels {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(epoch: u64, port: u16) -> Named {
        Named { epoch, address: ("redis".to_owned(), port) }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_majority_is_not_waited_past_and_a_minority_is() {
        assert_eq!(agreed(&[named(1, 1)], 3), None);
        assert_eq!(agreed(&[named(1, 1), named(2, 2)], 3), None);
        assert_eq!(agreed(&[named(1, 1), named(2, 2), named(2, 2)], 3), Some(("redis".to_owned(), 2)));
        assert_eq!(agreed(&[named(1, 1)], 1), Some(("redis".to_owned(), 1)));
        assert_eq!(agreed(&[named(1, 1), named(1, 1)], 4), None, "half is no majority");
        assert_eq!(agreed(&[named(2, 2), named(1, 1), named(1, 1)], 3), None, "one knows of a later master");
    }

    #[test]
    fn without_a_majority_the_latest_epoch_holds() {
        assert_eq!(latest(vec![named(7, 1), named(8, 2), named(3, 3)]), Some(("redis".to_owned(), 2)));
        assert_eq!(latest(Vec::new()), None);
    }

    #[test]
    fn an_answer_that_is_none_names_nobody() {
        let about = Value::Array(vec![bulk("name"), bulk("m"), bulk("config-epoch"), bulk("5")]);
        let address = Value::Array(vec![bulk("10.0.0.1"), bulk("6379")]);
        assert_eq!(read(&address, &about), Some(Named { epoch: 5, address: ("10.0.0.1".to_owned(), 6379) }));
        for wrong in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![bulk("10.0.0.1"), bulk("x")]),
            Value::Array(vec![bulk("10.0.0.1"), bulk("70000")]),
        ] {
            assert_eq!(read(&wrong, &about), None, "{wrong:?}");
        }
    }
}
