//! An answer as it came: bytes, of which only the frame is looked at before its resources are known to be few enough.
//!
//! Two bytes on the wire are enough for an empty resource, and a decoded one has eighty: an answer within its bound of
//! bytes could still fill a machine. So the call hands over bytes, the version and the nonce are read where they stand, so
//! that whatever is refused can be named, and resources are counted before one is made.

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::protocol::Named;
use super::wire::{UNREADABLE, Unreadable, fields};
use crate::proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};

/// Most resources of an answer: one for each domain.
const RESOURCES_MAX: usize = 100_000;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) named: Named,
    resources: usize,
    bytes: Bytes,
}

/// Requests go out as messages; answers come as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerCodec;

// === impl Answer ===

impl Answer {
    /// Looks at the frame. What has none can't even be refused.
    pub(super) fn read(bytes: Bytes) -> Result<Answer, String> {
        let (named, resources) = frame(&bytes).map_err(|Unreadable| format!("of its answer: {UNREADABLE}"))?;
        Ok(Answer { named, resources, bytes })
    }

    /// The message, if it has few enough resources.
    pub(super) fn decode(&self) -> Result<DiscoveryResponse, String> {
        if self.resources > RESOURCES_MAX {
            return Err(format!("{} resources; at most {RESOURCES_MAX} are read", self.resources));
        }
        DiscoveryResponse::decode(self.bytes.clone()).map_err(|error| format!("the answer cannot be decoded: {error}"))
    }
}

/// Version and nonce, and how many resources there are.
fn frame(bytes: &[u8]) -> Result<(Named, usize), Unreadable> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Unreadable);
    let (mut version, mut nonce, mut resources): (&[u8], &[u8], _) = (&[], &[], 0);
    for field in fields(bytes) {
        let field = field?;
        let Some(inner) = field.inner else { continue };
        match field.number {
            1 => version = inner,
            2 => resources += 1,
            5 => nonce = inner,
            _ => {}
        }
    }
    Ok((Named { version: text(version)?, nonce: text(nonce)? }, resources))
}

// === impl AnswerCodec ===

impl Codec for AnswerCodec {
    type Encode = DiscoveryRequest;
    type Decode = Bytes;
    type Encoder = AnswerCodec;
    type Decoder = AnswerCodec;

    fn encoder(&mut self) -> AnswerCodec {
        AnswerCodec
    }

    fn decoder(&mut self) -> AnswerCodec {
        AnswerCodec
    }
}

impl Encoder for AnswerCodec {
    type Item = DiscoveryRequest;
    type Error = Status;

    fn encode(&mut self, request: DiscoveryRequest, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for AnswerCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
impl From<DiscoveryResponse> for Answer {
    fn from(answer: DiscoveryResponse) -> Answer {
        Answer::read(answer.encode_to_vec().into()).expect("an encoded message has a frame")
    }
}

#[cfg(test)]
mod tests {
    use pbjson_types::Any;
    use proptest::prelude::*;

    use super::*;

    fn of(resources: usize) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: "7".to_owned(),
            nonce: "n".to_owned(),
            resources: vec![Any::default(); resources],
            ..DiscoveryResponse::default()
        }
    }

    #[test]
    fn too_many_resources_are_refused_by_name_before_one_is_made() {
        assert_eq!(Answer::from(of(RESOURCES_MAX)).decode().map(|answer| answer.resources.len()), Ok(RESOURCES_MAX));
        let many = Answer::from(of(RESOURCES_MAX + 1));
        assert_eq!(many.named, Named { version: "7".to_owned(), nonce: "n".to_owned() });
        assert_eq!(many.decode(), Err("100001 resources; at most 100000 are read".to_owned()));
    }

    #[test]
    fn a_group_hides_no_resources() {
        let hidden: Vec<u8> = [0xa3, 0x06, 0xa4, 0x06].into_iter().chain([0x12, 0x00].repeat(3)).collect();
        assert!(DiscoveryResponse::decode(&*hidden).is_ok_and(|answer| answer.resources.len() == 3));
        assert!(Answer::read(hidden.into()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_decoded_was_counted_and_named(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let Ok(answer) = Answer::read(bytes.into()) else { return Ok(()) };
            let Ok(decoded) = answer.decode() else { return Ok(()) };
            prop_assert_eq!(decoded.resources.len(), answer.resources);
            prop_assert_eq!((decoded.version_info, decoded.nonce), (answer.named.version, answer.named.nonce));
        }
    }
}
