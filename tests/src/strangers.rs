//! Who comes to a port and does not speak its language.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::processes::PATIENCE;

/// The port of an address.
///
/// # Panics
/// If it has none.
pub fn port_of(url: &str) -> u16 {
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    port.expect("an address with a port")
}

/// Bytes of no language, always the same.
pub fn garbage() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut bytes = |n: usize| -> Vec<u8> {
        let draw = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(draw).collect()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    vec![
        bytes(10_000),
        bytes(1),
        Vec::new(),
        [preface.clone(), bytes(10_000)].concat(),
        // A frame of 16 MB that never comes.
        [preface, vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
    ]
}

/// Says something to a port and hears what it answers until it hangs up.
///
/// # Panics
/// If nobody listens, or it does not hang up.
pub fn say(port: u16, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    // It may hang up in the middle.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let hangs = matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        );
        assert!(!hangs, "the port does not hang up");
    }
    String::from_utf8_lossy(&answer).into_owned()
}
