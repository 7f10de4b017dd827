//! Sentinels: who they are, and which server they name as the master.
//!
//! All are asked at once, and the answer of the highest configuration epoch holds, as among themselves: a sentinel that
//! was cut off names the master of before. As soon as a majority agrees nobody is waited for. What they name is asked
//! for its role before it is used (`link`), because they may be a moment behind.
//!
//! Where no majority is left, as of two sentinels when one has died, the others are not waited for either if they gave no
//! answer the time before: each look would last as long as the dead are waited for. They are asked all the same, and as
//! soon as one has answered it counts again.
//!
//! A master that was deposed keeps its connections, and takes writes as long as it is cut off from its sentinels. So
//! a connection is watched ([`Watch::moved`]): once a second the sentinels are asked, and when they name another server
//! the connection is given up. What all cores need is asked once for all of them.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::{sleep, timeout};

use super::greeting::{Credentials, Greeted, greet, send};
use super::link::Address;
use super::single_flight::SingleFlight;
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
    /// Where they say that the master is.
    master: Arc<SingleFlight<(String, u16)>>,
    /// The sentinels one by one, in their order.
    each: Arc<[Single]>,
}

/// One of the sentinels. A question that it doesn't answer goes on when nobody waits for it any more.
struct Single {
    says: SingleFlight<Named>,
    /// It gave no answer the last time.
    is_away: AtomicBool,
}

/// Whether the answers of the others are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It answered the last time, or was never asked.
    Needed,
    /// It did not.
    Spared,
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
        // What one says is asked anew each time, unless it is being asked already.
        let single = |_| Single { says: SingleFlight::new(Duration::ZERO), is_away: AtomicBool::new(false) };
        let each = sentinels.addresses.iter().map(single).collect();
        Watch { sentinels: Arc::new(sentinels), tls, patience, master: Arc::new(SingleFlight::new(FRESH)), each }
    }

    /// Where the master is. The error is a sentence that names the sentinels.
    pub(super) async fn master(&self) -> Result<(String, u16), String> {
        self.master.answer(|| self.clone().ask_all()).await
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

    async fn ask_all(self) -> Result<(String, u16), String> {
        let watch = &self;
        let asked = watch.each.iter().enumerate().map(|(index, single)| {
            let waiting = if single.is_away.load(Ordering::Relaxed) { Waiting::Spared } else { Waiting::Needed };
            (waiting, single.says.answer(move || watch.clone().ask(index)))
        });
        hear(asked, watch.sentinels.addresses.len()).await
    }

    async fn ask(self, index: usize) -> Result<Named, String> {
        let (host, port) = &self.sentinels.addresses[index];
        let asked = timeout(self.patience, self.exchange(host, *port)).await;
        self.each[index].is_away.store(!matches!(asked, Ok(Ok(_))), Ordering::Relaxed);
        let after = self.patience.as_millis();
        asked.unwrap_or_else(|_| Err(format!("no answer within {after} ms"))).map_err(|reason| {
            let address = Address::Tcp(host.clone(), *port);
            format!("sentinel {address}: {reason}")
        })
    }

    async fn exchange(&self, host: &str, port: u16) -> Result<Named, String> {
        let sentinels = &self.sentinels;
        let socket =
            socket::open_tcp(host, port, self.tls.as_ref(), self.patience).await.map_err(|error| error.to_string())?;
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

/// Waits for answers until a majority of so many sentinels agrees, or all have answered that are needed and one has said
/// where the master is.
async fn hear<A>(asked: impl Iterator<Item = (Waiting, A)>, sentinels: usize) -> Result<(String, u16), String>
where
    A: Future<Output = Result<Named, String>>,
{
    let mut needed = 0;
    let mut asked: FuturesUnordered<_> = asked
        .map(|(waiting, answer)| {
            needed += usize::from(waiting == Waiting::Needed);
            async move { (waiting, answer.await) }
        })
        .collect();
    let (mut answers, mut reasons) = (Vec::new(), Vec::new());
    while let Some((waiting, answer)) = asked.next().await {
        needed -= usize::from(waiting == Waiting::Needed);
        match answer {
            Ok(named) => answers.push(named),
            Err(reason) => reasons.push(reason),
        }
        if let Some(agreed) = agreed(&answers, sentinels) {
            return Ok(agreed);
        }
        if needed == 0 && !answers.is_empty() {
            break;
        }
    }
    latest(answers).ok_or_else(|| reasons.join("; "))
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
    use tokio::time::Instant;

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

    /// What comes of answers after so many milliseconds, and when: `None` stands for a sentinel that has none to give.
    async fn heard(asked: &[(Waiting, u64, Option<Named>)]) -> (Option<u16>, Duration) {
        let began = Instant::now();
        let each = asked.iter().map(|(waiting, after, named)| {
            let answer = async move {
                sleep(Duration::from_millis(*after)).await;
                named.clone().ok_or_else(|| "away".to_owned())
            };
            (*waiting, answer)
        });
        let heard = hear(each, asked.len()).await;
        (heard.ok().map(|(_, port)| port), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_gave_no_answer_the_time_before_is_not_waited_for_while_another_has_one() {
        use Waiting::{Needed, Spared};
        let ms = Duration::from_millis;
        // All are waited for, as long as nothing is known of them and no majority agrees.
        assert_eq!(heard(&[(Needed, 300, None), (Needed, 5, Some(named(1, 1)))]).await, (Some(1), ms(300)));
        assert_eq!(heard(&[(Spared, 300, None), (Needed, 5, Some(named(1, 1)))]).await, (Some(1), ms(5)));
        // What it says in time counts.
        assert_eq!(heard(&[(Spared, 3, Some(named(2, 2))), (Needed, 5, Some(named(1, 1)))]).await, (Some(2), ms(5)));
        // A majority is enough whoever is in it; where nobody else says anything the spared are waited for.
        let two = [(Needed, 300, None), (Spared, 5, Some(named(1, 1))), (Spared, 7, Some(named(1, 1)))];
        assert_eq!(heard(&two).await, (Some(1), ms(7)));
        assert_eq!(heard(&[(Needed, 5, None), (Spared, 300, Some(named(1, 1)))]).await, (Some(1), ms(300)));
        assert_eq!(heard(&[(Spared, 300, None), (Spared, 5, Some(named(1, 1)))]).await, (Some(1), ms(5)));
        assert_eq!(heard(&[(Needed, 5, None), (Spared, 300, None)]).await, (None, ms(300)));
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
