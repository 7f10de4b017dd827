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

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes after which a reader pauses: with the read that passes them, a hundred ordinary calls at most.
pub const QUANTUM_BYTES: usize = 4 * 1024;

/// Bytes read in the present turn of a connection; `PAUSED` once it has had enough.
#[derive(Debug, Default)]
pub struct Turns(AtomicUsize);

const PAUSED: usize = usize::MAX;

pin_project! {
    /// A stream that pauses. `heard` is called after each read that brought something.
    #[derive(Debug)]
    pub struct PacedIo<'t, T, F> {
        #[pin]
        inner: T,
        turns: &'t Turns,
        heard: F,
        // The last write found no room.
        write_waits: bool,
        // Who wanted to read meanwhile.
        reader: Option<Waker>,
    }
}

// === impl Turns ===

impl Turns {
    /// Polls the connection in turns: each poll is one.
    pub fn of<C: Future>(&self, mut connection: Pin<&mut C>) -> impl Future<Output = C::Output> {
        poll_fn(move |context| {
            self.0.store(0, Ordering::Relaxed);
            connection.as_mut().poll(context)
        })
    }

    /// Whether the turn is over; who asks first comes round again.
    fn is_over(&self, context: &Context<'_>) -> bool {
        let read = self.0.load(Ordering::Relaxed);
        if (QUANTUM_BYTES..PAUSED).contains(&read) {
            self.0.store(PAUSED, Ordering::Relaxed);
            context.waker().wake_by_ref();
        }
        read >= QUANTUM_BYTES
    }

    fn count(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

// === impl PacedIo ===

impl<'t, T, F: FnMut()> PacedIo<'t, T, F> {
    /// Holds `inner` to the pace of `turns`.
    pub fn new(inner: T, turns: &'t Turns, heard: F) -> Self {
        Self { inner, turns, heard, write_waits: false, reader: None }
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

impl<T: AsyncRead, F: FnMut()> AsyncRead for PacedIo<'_, T, F> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.write_waits {
            *this.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if this.turns.is_over(context) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let Poll::Ready(read) = this.inner.poll_read(context, buffer) else { return Poll::Pending };
        this.turns.count(buffer.filled().len() - before);
        (this.heard)();
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite, F> AsyncWrite for PacedIo<'_, T, F> {
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

    #[tokio::test]
    async fn a_reader_pauses_after_each_quantum_until_its_next_turn() {
        let (near, mut far) = duplex(10 * QUANTUM_BYTES);
        far.write_all(&vec![7; 3 * QUANTUM_BYTES]).await.unwrap();
        drop(far);
        let turns = Turns::default();
        let mut paced = PacedIo::new(near, &turns, || {});
        let mut buffer = vec![0; QUANTUM_BYTES];
        let mut reading = pin!(async {
            let mut all = 0;
            loop {
                match paced.read(&mut buffer).await.unwrap() {
                    0 => break all,
                    more => all += more,
                }
            }
        });
        for _ in 0..3 {
            assert!(turns.of(reading.as_mut()).now_or_never().is_none(), "it pauses");
            assert!(reading.as_mut().now_or_never().is_none(), "whoever asks again within the turn");
        }
        // And it comes round by itself.
        assert_eq!(turns.of(reading.as_mut()).await, 3 * QUANTUM_BYTES);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_read() {
        let (near, mut far) = duplex(8);
        let turns = Turns::default();
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
        let turns: &'static Turns = Box::leak(Box::default());
        let (mut reading, mut writing) = tokio::io::split(PacedIo::new(near, turns, || {}));
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
