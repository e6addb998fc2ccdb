//! The `coordinator` program.

fn main() -> std::process::ExitCode {
    common::pem::install_provider();
    coordinator::cli::main()
}
