//! Frames of the pipes between a worker and its slots: a length as four
//! little-endian bytes, then one encoded message (`proto/sweep/v1/slot.proto`).

use std::io::{self, ErrorKind, Read, Write};

use common::pb::MESSAGE_LIMIT;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the length.
const HEAD: usize = 4;

/// A message with its length in front.
///
/// # Errors
/// `InvalidInput` if it is longer than [`MESSAGE_LIMIT`].
pub fn encode(message: &impl Message) -> io::Result<Vec<u8>> {
    let length = message.encoded_len();
    let head = u32::try_from(length)
        .ok()
        .filter(|_| length <= MESSAGE_LIMIT)
        .ok_or_else(|| {
            io::Error::new(
                ErrorKind::InvalidInput,
                format!("a frame of {length} bytes, more than {MESSAGE_LIMIT}"),
            )
        })?;
    let mut frame = Vec::with_capacity(HEAD + length);
    frame.extend_from_slice(&head.to_le_bytes());
    message.encode_raw(&mut frame);
    Ok(frame)
}

/// Writes one frame and flushes it.
///
/// # Errors
/// Those of the pipe, and of [`encode`].
pub fn write(to: &mut impl Write, message: &impl Message) -> io::Result<()> {
    to.write_all(&encode(message)?)?;
    to.flush()
}

fn length(head: [u8; HEAD]) -> io::Result<usize> {
    let length = u32::from_le_bytes(head) as usize;
    if length > MESSAGE_LIMIT {
        let message = format!("a frame of {length} bytes, more than {MESSAGE_LIMIT}");
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    Ok(length)
}

fn decode<M: Message + Default>(body: Vec<u8>) -> io::Result<M> {
    // As `Bytes`, so that the byte fields of the message share the buffer.
    M::decode(bytes::Bytes::from(body)).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
}

/// Reads one frame; nothing at the end of the pipe.
///
/// # Errors
/// Those of the pipe; `InvalidData` for a frame that is too long or no message.
pub fn read<M: Message + Default>(from: &mut impl Read) -> io::Result<Option<M>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut body = vec![0; length(head)?];
    from.read_exact(&mut body)?;
    decode(body).map(Some)
}

/// [`read`] for the worker's side.
///
/// # Errors
/// As [`read`].
pub async fn read_async<M: Message + Default>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head).await {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut body = vec![0; length(head)?];
    from.read_exact(&mut body).await?;
    decode(body).map(Some)
}

#[cfg(test)]
mod tests {
    use common::pb::wire::{SlotReady, SlotResponse, slot_response};

    use super::*;

    #[test]
    fn frames_come_back_one_by_one_and_the_end_is_no_error() {
        let ready = SlotReady {
            program_version: "1".into(),
            numerics_version: 7,
        };
        let message = SlotResponse {
            kind: Some(slot_response::Kind::Ready(ready)),
        };
        let mut pipe = Vec::new();
        write(&mut pipe, &message).unwrap();
        write(&mut pipe, &SlotResponse::default()).unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(read(&mut from).unwrap(), Some(message));
        assert_eq!(read(&mut from).unwrap(), Some(SlotResponse::default()));
        assert_eq!(read::<SlotResponse>(&mut from).unwrap(), None);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
        let error = read::<SlotResponse>(&mut &[0xff; 8][..]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
