//! Messages on a pipe: four little-endian bytes of length, then the message.

use std::io::{self, Read, Write};

use common::pb::MESSAGE_LIMIT;
use prost::Message;

/// A message as one frame.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(4 + length);
    // Far below 4 GiB: batches and results are bounded.
    frame.extend_from_slice(&(length as u32).to_le_bytes());
    message.encode_raw(&mut frame);
    frame
}

/// The length that a frame's first four bytes announce.
///
/// # Errors
/// `InvalidData` when it is larger than any message may be.
pub fn length(head: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(head) as usize;
    if length > MESSAGE_LIMIT {
        let text = format!("a frame of {length} bytes; at most {MESSAGE_LIMIT} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(length)
}

/// The message in a frame's bytes.
///
/// # Errors
/// `InvalidData` when they are none.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    M::decode(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Writes one message.
///
/// # Errors
/// Those of the pipe.
pub fn write(pipe: &mut impl Write, message: &impl Message) -> io::Result<()> {
    pipe.write_all(&encode(message))?;
    pipe.flush()
}

/// Reads one message; `None` at the end of the pipe.
///
/// # Errors
/// Those of the pipe, and `InvalidData` for what is no message.
pub fn read<M: Message + Default>(pipe: &mut impl Read) -> io::Result<Option<M>> {
    let mut head = [0; 4];
    match pipe.read_exact(&mut head) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut bytes = vec![0; length(head)?];
    pipe.read_exact(&mut bytes)?;
    decode(&bytes).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::pb::wire::SlotReady;

    fn ready() -> SlotReady {
        SlotReady {
            program_version: "1.2.3".into(),
            numerics_version: 7,
        }
    }

    #[test]
    fn what_is_written_is_read_and_the_end_is_no_error() {
        let mut pipe = Vec::new();
        write(&mut pipe, &ready()).unwrap();
        write(&mut pipe, &ready()).unwrap();
        let mut reader = pipe.as_slice();
        for _ in 0..2 {
            assert_eq!(read::<SlotReady>(&mut reader).unwrap(), Some(ready()));
        }
        assert_eq!(read::<SlotReady>(&mut reader).unwrap(), None);
    }

    #[test]
    fn broken_frames_are_errors() {
        let whole = encode(&ready());
        let mut cut = &whole[..whole.len() - 1];
        assert!(read::<SlotReady>(&mut cut).is_err());
        let mut huge = &u32::MAX.to_le_bytes()[..];
        let error = read::<SlotReady>(&mut huge).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
