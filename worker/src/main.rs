//! The program `worker`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::pem::install_provider();
    worker::cli::main()
}
