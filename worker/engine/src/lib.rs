//! One training, driven to a certified local minimum; one baseline, solved and proved.

pub mod activation;
pub mod baseline;
mod formula;
pub mod kernels;
pub mod linalg;
pub mod linear;
pub mod loss;
pub mod objective;
pub mod optimize;
pub mod program;
