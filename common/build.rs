//! Compiles `proto/` without a system protoc (feature `rpc`).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "rpc")]
    rpc::compile()?;
    Ok(())
}

#[cfg(feature = "rpc")]
mod rpc {
    use std::error::Error;
    use std::path::Path;

    use prost::Message;

    pub(crate) fn compile() -> Result<(), Box<dyn Error>> {
        let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../proto");
        println!("cargo::rerun-if-changed={}", root.display());
        let files = ["sweep", "result", "slot", "admin"]
            .map(|name| root.join(format!("sweep/v1/{name}.proto")));
        let descriptors = protox::compile(files, [&root])?;
        let out = std::env::var("OUT_DIR")?;
        // For gRPC reflection.
        std::fs::write(
            Path::new(&out).join("descriptors.bin"),
            descriptors.encode_to_vec(),
        )?;
        tonic_prost_build::configure()
            // Cheap to clone and sliced out of the received buffer.
            .bytes(".")
            .compile_fds(descriptors)?;
        Ok(())
    }
}
