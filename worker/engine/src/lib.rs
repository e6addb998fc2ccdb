//! One training, driven to a certified local minimum; one baseline, solved and proved.

pub mod activation;
pub mod baseline;
pub mod certificate;
mod formula;
pub mod kernels;
pub mod kink;
mod lanczos;
pub mod linalg;
pub mod linear;
pub mod loss;
pub mod objective;
pub mod optimize;
pub mod program;
pub mod run;
mod start;
pub mod task;

pub use start::StartError;
