//! One training, driven to a certified local minimum; one baseline, solved and proved.

pub mod activation;
mod formula;
pub mod kernels;
pub mod linalg;
pub mod loss;
pub mod objective;
pub mod program;
