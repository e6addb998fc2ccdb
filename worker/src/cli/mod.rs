//! What people type: options, commands, exit codes.

use std::process::ExitCode;
pub fn main() -> ExitCode { ExitCode::SUCCESS }
