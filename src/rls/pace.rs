//! A client's socket, held to a pace that leaves others theirs.
//!
//! The HTTP/2 server reads whatever is there before it does anything else, and goes on reading while what it has to say
//! finds no room in the socket. So one client that sends without pause keeps a core from all others, and one that
//! asks and never reads makes it store answers. Here a reader pauses after every [`QUANTUM_BYTES`], so that the
//! core's other connections and the calls that were read come first; and **who does not read is not read**: while a
//! write waits for the client, so does every read. What an unread connection can hold is thereby what its last read
//! brought.
//!
//! A pause must last until the executor comes round again: the HTTP/2 server asks for more after each stream that it
//! hands out, within one turn. So whoever polls the connection says when a turn begins ([`Turns`]).
//!
//! Whoever has had a quantum waits in the [`Line`] of his core, from which one is called each time that nothing else is
//! left to do and the sockets were looked at. If all were called at once, a call of a client that asks now and then would
//! wait behind a quantum of everybody who sends without pause; so it waits behind one.
//!
//! Who waits in line grows old there: how old what it reads next is, [`Turns::age`] says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::backlog::Backlog;
use super::unread::Unread;

/// Bytes after which a reader pauses: eighty ordinary calls.
pub const QUANTUM_BYTES: usize = 8 * 1024;

/// Where the connections of one core wait that have had their quantum: each at most once. Clones are the same line.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<InLine>);

#[derive(Debug, Default)]
struct InLine {
    waiting: Mutex<VecDeque<Arc<Turns>>>,
    caller: AtomicWaker,
}

/// The turns of a connection: bytes read in the present one, and whether it has had enough.
#[derive(Debug)]
pub struct Turns {
    line: Line,
    read: AtomicUsize,
    waits: AtomicBool,
    heard: AtomicBool,
    /// Microseconds that what was read last had waited to be read.
    age_us: AtomicU64,
    reader: AtomicWaker,
}

pin_project! {
    /// A stream that pauses. `heard` is called after each read that brought something.
    #[derive(Debug)]
    pub struct PacedIo<T, F> {
        #[pin]
        inner: T,
        turns: Arc<Turns>,
        heard: F,
        backlog: Backlog,
        // The reader waits for its turn.
        waits: bool,
        // The last write found no room.
        write_waits: bool,
        // Who wanted to read meanwhile.
        reader: Option<Waker>,
    }
}

// === impl Line ===

impl Line {
    /// Calls those who wait, one after another. It never ends: a task of the core polls it for as long as there are
    /// connections.
    ///
    /// Each is called when nothing else is left to do and the sockets were looked at: to yield is to come after that.
    pub async fn call(self) -> Infallible {
        loop {
            poll_fn(|context| {
                self.0.caller.register(context.waker());
                if self.waiting().is_empty() { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            yield_now().await;
            let next = self.waiting().pop_front();
            if let Some(turns) = next {
                turns.begin();
            }
        }
    }

    fn join(&self, turns: Arc<Turns>) {
        let mut waiting = self.waiting();
        waiting.push_back(turns);
        // While others wait it yields, and to wake it would end that.
        if waiting.len() == 1 {
            self.0.caller.wake();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Turns>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Turns ===

impl Turns {
    /// Those of a connection of that core.
    #[must_use]
    pub fn new(line: &Line) -> Arc<Turns> {
        let (read, waits, heard) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let (age_us, reader) = (AtomicU64::new(0), AtomicWaker::new());
        Arc::new(Turns { line: line.clone(), read, waits, heard, age_us, reader })
    }

    /// Polls the connection in turns: each poll is one, but for those while it waits in line.
    pub fn of<C: Future>(&self, mut connection: Pin<&mut C>) -> impl Future<Output = C::Output> {
        poll_fn(move |context| {
            if !self.waits.load(Ordering::Relaxed) {
                self.read.store(0, Ordering::Relaxed);
            }
            connection.as_mut().poll(context)
        })
    }

    /// Whether the client was heard since this was last asked.
    pub fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// How long what was read last had waited to be read, as far as is known ([`Backlog`]).
    pub fn age(&self) -> Duration {
        Duration::from_micros(self.age_us.load(Ordering::Relaxed))
    }

    /// It was called.
    fn begin(&self) {
        self.read.store(0, Ordering::Relaxed);
        self.waits.store(false, Ordering::Relaxed);
        self.reader.wake();
    }

    /// Whether the turn is over; who asks comes round again.
    fn is_over(self: &Arc<Turns>, context: &Context<'_>) -> bool {
        let is_over = self.read() >= QUANTUM_BYTES;
        if is_over {
            self.reader.register(context.waker());
            if !self.waits.swap(true, Ordering::Relaxed) {
                self.line.join(Arc::clone(self));
            }
        }
        is_over
    }

    /// Bytes that were read in this turn.
    fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.hear();
    }

    pub(super) fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_age(&self, age: Duration) {
        self.age_us.store(u64::try_from(age.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

// === impl PacedIo ===

impl<T, F: FnMut()> PacedIo<T, F> {
    /// Holds `inner` to the pace of `turns`.
    pub fn new(inner: T, turns: &Arc<Turns>, heard: F) -> Self {
        let (turns, backlog) = (Arc::clone(turns), Backlog::default());
        Self { inner, turns, heard, backlog, waits: false, write_waits: false, reader: None }
    }
}

/// Remembers whether a write found room, and lets the reader go on once it did.
fn note_write<R>(write_waits: &mut bool, reader: &mut Option<Waker>, written: Poll<R>) -> Poll<R> {
    *write_waits = written.is_pending();
    if !*write_waits && let Some(reader) = reader.take() {
        reader.wake();
    }
    written
}

impl<T: AsyncRead + Unread, F: FnMut()> AsyncRead for PacedIo<T, F> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if *this.write_waits {
            *this.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let is_over = this.turns.is_over(context);
        if *this.waits != is_over {
            // What waits now will have waited, and when it is over it has.
            *this.waits = is_over;
            this.backlog.look(Instant::now(), this.inner.unread());
        }
        if is_over {
            return Poll::Pending;
        }
        let room = QUANTUM_BYTES - this.turns.read();
        let (read, bytes) = if buffer.remaining() <= room {
            let before = buffer.filled().len();
            (this.inner.as_mut().poll_read(context, buffer), buffer.filled().len() - before)
        } else {
            let mut less = ReadBuf::new(buffer.initialize_unfilled_to(room));
            let read = this.inner.as_mut().poll_read(context, &mut less);
            let bytes = less.filled().len();
            buffer.advance(bytes);
            (read, bytes)
        };
        if read.is_pending() {
            // It may pend with bytes waiting, too: half a record of TLS, or a task that has used up its turn.
            if this.backlog.is_known() && this.inner.unread() == 0 {
                this.backlog.pause();
            }
            return Poll::Pending;
        }
        this.turns.count(bytes);
        this.turns.note_age(this.backlog.read(bytes, Instant::now));
        (this.heard)();
        read
    }
}

impl<T: AsyncWrite, F> AsyncWrite for PacedIo<T, F> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        note_write(this.write_waits, this.reader, this.inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        note_write(this.write_waits, this.reader, this.inner.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Reads to the end; how many bytes there were.
    async fn read_all(mut from: impl AsyncRead + Unpin) -> usize {
        let (mut buffer, mut all) = (vec![0; QUANTUM_BYTES], 0);
        loop {
            match from.read(&mut buffer).await.unwrap() {
                0 => break all,
                more => all += more,
            }
        }
    }

    /// Bytes of so many quanta, to be read.
    async fn sent(quanta: usize) -> tokio::io::DuplexStream {
        let (near, mut far) = duplex(10 * QUANTUM_BYTES);
        far.write_all(&vec![7; quanta * QUANTUM_BYTES]).await.unwrap();
        near
    }

    #[tokio::test]
    async fn a_reader_pauses_after_each_quantum_until_it_is_called() {
        let (line, near) = (Line::default(), sent(3).await);
        let turns = Turns::new(&line);
        let mut calls = pin!(line.clone().call());
        let mut reading = pin!(read_all(PacedIo::new(near, &turns, || {})));
        for _ in 0..3 {
            assert!(turns.of(reading.as_mut()).now_or_never().is_none(), "it pauses");
            let read = turns.read.load(Ordering::Relaxed);
            assert!(turns.of(reading.as_mut()).now_or_never().is_none(), "whoever asks again while it waits in line");
            assert_eq!((turns.read.load(Ordering::Relaxed), read), (QUANTUM_BYTES, QUANTUM_BYTES));
            assert_eq!(line.waiting().len(), 1, "once");
            assert!(calls.as_mut().now_or_never().is_none(), "it lets others go first");
            assert_eq!(line.waiting().len(), 1);
            assert!(calls.as_mut().now_or_never().is_none());
            assert_eq!(line.waiting().len(), 0);
        }
        // And it comes round by itself.
        let caller = tokio::spawn(line.call());
        assert_eq!(turns.of(reading.as_mut()).await, 3 * QUANTUM_BYTES);
        caller.abort();
    }

    #[tokio::test]
    async fn of_many_who_send_without_pause_one_is_called_at_a_time() {
        let line = Line::default();
        let mut calls = pin!(line.clone().call());
        let mut greedy = Vec::new();
        for _ in 0..5 {
            let turns = Turns::new(&line);
            greedy.push((Arc::clone(&turns), Box::pin(read_all(PacedIo::new(sent(9).await, &turns, || {})))));
        }
        for round in 0..10 {
            for (turns, reading) in &mut greedy {
                assert!(turns.of(reading.as_mut()).now_or_never().is_none());
            }
            assert_eq!(line.waiting().len(), 5, "all have had their quantum");
            if round == 0 {
                assert!(calls.as_mut().now_or_never().is_none());
                assert_eq!(line.waiting().len(), 5, "others go first");
            }
            assert!(calls.as_mut().now_or_never().is_none());
            assert_eq!(line.waiting().len(), 4, "one was called");
            // Somebody who asks now and then is read at once meanwhile.
            let honest = Turns::new(&line);
            let (near, mut far) = duplex(64);
            far.write_all(b"question").await.unwrap();
            let mut paced = PacedIo::new(near, &honest, || {});
            let mut buffer = [0; 8];
            let mut reading = pin!(paced.read_exact(&mut buffer));
            assert!(honest.of(reading.as_mut()).now_or_never().is_some());
        }
    }

    #[tokio::test]
    async fn who_has_left_the_line_is_passed_over() {
        let line = Line::default();
        for _ in 0..3 {
            let turns = Turns::new(&line);
            let mut reading = Box::pin(read_all(PacedIo::new(sent(2).await, &turns, || {})));
            assert!(turns.of(reading.as_mut()).now_or_never().is_none());
        }
        let mut calls = pin!(line.clone().call());
        (0..4).for_each(|_| assert!(calls.as_mut().now_or_never().is_none()));
        assert!(line.waiting().is_empty());
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_read() {
        let (near, mut far) = duplex(8);
        let turns = Turns::new(&Line::default());
        let mut paced = PacedIo::new(near, &turns, || {});
        far.write_all(b"question").await.unwrap();
        assert_eq!(paced.write(b"answers!").await.unwrap(), 8);
        let no_room = poll_fn(|context| Poll::Ready(Pin::new(&mut paced).poll_write(context, b"more").is_pending()));
        assert!(no_room.await);
        let mut buffer = [0; 8];
        assert!(paced.read(&mut buffer).now_or_never().is_none(), "nothing is read while a write waits");
        far.read_exact(&mut buffer).await.unwrap();
        assert_eq!(paced.write(b"more").await.unwrap(), 4);
        assert_eq!(paced.read(&mut buffer).await.unwrap(), 8);
        assert_eq!(&buffer, b"question");
    }

    #[tokio::test]
    async fn a_reader_that_waited_for_a_write_is_woken_by_it() {
        let (near, mut far) = duplex(8);
        let turns = Turns::new(&Line::default());
        let (mut reading, mut writing) = tokio::io::split(PacedIo::new(near, &turns, || {}));
        far.write_all(b"question").await.unwrap();
        let writer = tokio::spawn(async move { writing.write_all(b"answers! and more").await.map(|()| writing) });
        // The writer is stuck after its first eight bytes.
        tokio::task::yield_now().await;
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 8];
            reading.read_exact(&mut buffer).await.map(|_| reading)
        });
        tokio::task::yield_now().await;
        assert!(!reader.is_finished());
        let mut answers = [0; 17];
        far.read_exact(&mut answers).await.unwrap();
        writer.await.unwrap().unwrap();
        reader.await.unwrap().unwrap();
    }
}
