//! The one message of a call and the one message of its answer, as gRPC puts them into HTTP/2 bodies: a flag for
//! compression, four bytes of length, the message; at the end of an answer its status as a trailer.
//! [gRPC over HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
//!
//! A request that is there as a whole at the first look, in one piece, as nearly all are, is handed on as it lies in the
//! connection's buffer. Everything else is collected ([`BoundedBody`] has the limits).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tonic::Status;

use super::body::{BoundedBody, Budget};

/// Bytes in front of each message: the flag and the length.
pub const PREFIX: usize = 5;

/// What a request may take.
#[derive(Debug)]
pub struct Bounds {
    /// Largest message.
    pub bytes_max: usize,
    /// Bytes of unfinished requests on a core.
    pub budget: Budget,
}

/// A message as it was received.
#[derive(Debug)]
pub struct Received {
    /// The message without its prefix.
    pub message: Bytes,
    /// Whether it wasn't there at the first look.
    pub waited: bool,
}

/// Receives a call's message. `time` is how long it may take where it isn't there at once.
///
/// # Errors
/// INTERNAL for what is no message, OUT_OF_RANGE for one that is too long, DEADLINE_EXCEEDED for one that does not
/// arrive in time, RESOURCE_EXHAUSTED when too many others are unfinished.
pub async fn receive<B>(mut body: B, time: Duration, bounds: &Bounds) -> Result<Received, Status>
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let first = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await;
    let received = match first {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        Poll::Ready(Some(Err(error))) => return Err(Status::from_error(error.into())),
        Poll::Ready(None) => return Err(Status::internal("the request has no message")),
        Poll::Pending => Bytes::new(),
    };
    if let Some(length) = length(&received, bounds.bytes_max)?
        && received.len() - PREFIX >= length
    {
        return Ok(Received { message: received.slice(PREFIX..PREFIX + length), waited: false });
    }
    // Rare and large: kept out of the calls that don't need it.
    let body = BoundedBody::new(body, time, &bounds.budget);
    let message = Box::pin(collect(received, body, bounds.bytes_max)).await?;
    Ok(Received { message, waited: true })
}

/// Takes a request to its end and keeps nothing of it; `time` is how long it may take where it isn't there at once.
pub async fn discard<B>(mut body: B, time: Duration, bounds: &Bounds)
where
    B: Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let is_whole = poll_fn(|context| {
        loop {
            match Pin::new(&mut body).poll_frame(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(true),
                Poll::Pending => return Poll::Ready(false),
            }
        }
    });
    if !is_whole.await {
        let mut body = Box::pin(BoundedBody::new(body, time, &bounds.budget));
        while let Some(Ok(_)) = body.frame().await {}
    }
}

async fn collect<B>(received: Bytes, body: BoundedBody<B>, bytes_max: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let mut message = BytesMut::from(received);
    loop {
        if let Some(length) = length(&message, bytes_max)?
            && message.len() - PREFIX >= length
        {
            message.advance(PREFIX);
            message.truncate(length);
            return Ok(message.freeze());
        }
        match body.frame().await {
            Some(Ok(frame)) => message.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(status)) => return Err(status),
            None => return Err(Status::internal("the request ended before its message did")),
        }
    }
}

/// The length of the message that begins here, once its prefix is whole.
fn length(received: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some((&[compressed, ref length @ ..], _)) = received.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    if compressed != 0 {
        let text = "the message is compressed, or says so: it must have a zero as its first byte";
        return Err(Status::internal(text));
    }
    if length > bytes_max {
        let text = format!("the message has {length} bytes, at most {bytes_max} are read");
        return Err(Status::out_of_range(text));
    }
    Ok(Some(length))
}

/// A message of a generated type with its prefix.
#[must_use]
pub fn encode(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).expect("an answer to a request of bounded size is far shorter"));
    message.encode_raw(&mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    const BYTES_MAX: usize = 100;

    fn bounds() -> Bounds {
        Bounds { bytes_max: BYTES_MAX, budget: Budget::default() }
    }

    async fn received(pieces: Vec<Vec<u8>>) -> Result<Bytes, Status> {
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        receive(StreamBody::new(stream::iter(frames)), Duration::from_secs(10), &bounds())
            .await
            .map(|received| received.message)
    }

    fn prefixed(message: &[u8]) -> Vec<u8> {
        [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    proptest! {
        #[test]
        fn a_message_is_the_same_in_however_many_pieces(
            message in prop::collection::vec(any::<u8>(), 0..BYTES_MAX),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            behind in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let whole = [prefixed(&message), behind].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| whole[cut[0]..cut[1]].to_vec()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
            prop_assert_eq!(&runtime.block_on(received(pieces)).expect("a whole message")[..], &message[..]);
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_told_apart() {
        let code = async |pieces| received(pieces).await.unwrap_err().code();
        assert_eq!(code(vec![]).await, Code::Internal, "nothing at all");
        assert_eq!(code(vec![vec![0, 0]]).await, Code::Internal, "half a prefix");
        assert_eq!(code(vec![prefixed(b"whole")[..7].to_vec()]).await, Code::Internal, "half a message");
        assert_eq!(code(vec![vec![1, 0, 0, 0, 0]]).await, Code::Internal, "compressed");
        let long = vec![prefixed(&[0; BYTES_MAX + 1])[..PREFIX].to_vec()];
        assert_eq!(code(long).await, Code::OutOfRange, "too long, which is seen before the rest is there");
        assert_eq!(received(vec![prefixed(&[0; BYTES_MAX])]).await.unwrap().len(), BYTES_MAX);
    }

    #[tokio::test]
    async fn what_lies_there_in_one_piece_is_not_copied() {
        let body = Bytes::from(prefixed(b"message"));
        let place = body.as_ptr() as usize + PREFIX;
        let received = receive(Full::new(body), Duration::ZERO, &bounds()).await.unwrap();
        assert!(!received.waited);
        assert_eq!((received.message.as_ptr() as usize, &received.message[..]), (place, &b"message"[..]));
    }
}
