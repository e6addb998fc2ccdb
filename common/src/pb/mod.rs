//! The encoded protocol: generated code and its conversions.
//!
//! Nothing outside this module handles generated types except the two `rpc`
//! modules and the slot pipes, which pass them to a socket. Conversions
//! outward are `From`; conversions inward are `TryFrom` (or a decoder, where a
//! message depends on earlier ones) and fail with a [`FieldError`] that names
//! the field. What a message means is said in `proto/`; what the checked
//! values are, in [`crate::protocol`].

mod error;
mod evidence;
mod leases;
mod messages;

#[cfg(test)]
mod tests;

pub use error::{FieldError, Problem};
pub use evidence::{decode_evidence, encode_evidence};
pub use leases::{KEPT, LeaseDecoder, LeaseEncoder};
pub use messages::{hello_of, reports_from_wire};

/// The generated types.
#[expect(missing_docs, reason = "generated; documented in proto/")]
#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    missing_debug_implementations,
    unused_qualifications
)]
pub mod wire {
    tonic::include_proto!("sweep.v1");
}

/// The compiled descriptors of `proto/`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest message either side accepts, bytes. A batch of leases or reports is
/// kept far below it; one result of a million parameters still fits.
pub const MESSAGE_LIMIT: usize = 64 << 20;

/// Largest checkpoint that is handed back, bytes: it travels alone, with room
/// for the rest of its report, and later for the cell and the baseline of its
/// lease.
pub const CHECKPOINT_LIMIT: usize = MESSAGE_LIMIT - (4 << 20);

/// Bytes of one message with many leases or reports, beyond which what follows
/// goes into the next one. One that is larger travels alone.
pub const BATCH_BYTES: usize = 4 << 20;
