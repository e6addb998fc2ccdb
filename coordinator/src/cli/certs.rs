//! `coordinator certs`: an authority of one's own, and certificates to begin with.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::ids::to_hex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::ServerName;

use super::{code, fail, print};

/// Names that the coordinator's certificate always has.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long the certificates are good.
const DAYS: u64 = 365;
/// Clocks of other machines may be behind by this.
const BEHIND: Duration = Duration::from_secs(86_400);

/// A file to be.
struct Part {
    name: &'static str,
    text: String,
    secret: bool,
}

/// Writes the files; returns the exit code.
pub(super) fn certs(out: &Path, hosts: &[String]) -> u8 {
    let names = match names(hosts) {
        Ok(names) => names,
        Err(message) => return fail(code::BAD_INPUT, &message),
    };
    let parts = match make(&names) {
        Ok(parts) => parts,
        Err(error) => return fail(code::INTERNAL, &format!("no certificates: {error}")),
    };
    match write(out, &parts) {
        Ok(()) => {
            print(&told(out, &names));
            code::DONE
        }
        Err(message) => fail(code::BAD_INPUT, &message),
    }
}

/// The names that the coordinator's certificate is good for.
fn names(hosts: &[String]) -> Result<BTreeSet<String>, String> {
    for host in hosts {
        let plain = host.strip_prefix("*.").unwrap_or(host);
        if ServerName::try_from(plain).is_err() {
            return Err(format!("--host {host}: neither a host name nor an address"));
        }
    }
    let own = OWN.into_iter().map(str::to_owned);
    Ok(own.chain(hosts.iter().cloned()).collect())
}

fn make(names: &BTreeSet<String>) -> Result<Vec<Part>, Box<dyn std::error::Error>> {
    let mut random = [0; 4];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    let authority_name = format!("sweep development CA {}", to_hex(&random));
    let mut params = params(&authority_name, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let names = names.iter().cloned().collect();
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let (server, server_key) = signed("sweep coordinator", names, server, &authority)?;
    let (worker, worker_key) = signed("sweep worker", Vec::new(), client, &authority)?;
    let part = |name, text, secret| Part { name, text, secret };
    Ok(vec![
        part("ca.pem", authority.pem(), false),
        part("ca-key.pem", authority.key().serialize_pem(), true),
        part("server.pem", server, false),
        part("server-key.pem", server_key, true),
        part("worker.pem", worker, false),
        part("worker-key.pem", worker_key, true),
    ])
}

/// A certificate and its key.
fn signed(
    name: &str,
    alternatives: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> Result<(String, String), Box<dyn std::error::Error>> {
    let mut params = params(name, alternatives)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok((
        params.signed_by(&key, authority)?.pem(),
        key.serialize_pem(),
    ))
}

fn params(
    name: &str,
    alternatives: Vec<String>,
) -> Result<CertificateParams, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(alternatives)?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BEHIND);
    params.not_after = epoch + now + Duration::from_secs(86_400 * DAYS);
    Ok(params)
}

/// Writes all files, or none if one is there already.
fn write(out: &Path, parts: &[Part]) -> Result<(), String> {
    let about = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let there: Vec<&str> = parts
        .iter()
        .map(|part| part.name)
        .filter(|name| out.join(name).symlink_metadata().is_ok())
        .collect();
    if !there.is_empty() {
        let (folder, there) = (out.display(), there.join(", "));
        return Err(format!(
            "{folder} has {there} already, and nothing is overwritten"
        ));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(out)
        .map_err(|e| about(out, e))?;
    for part in parts {
        let path = out.join(part.name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if part.secret { 0o600 } else { 0o644 })
            .open(&path)
            .map_err(|e| about(&path, e))?;
        file.write_all(part.text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|e| about(&path, e))?;
    }
    Ok(())
}

/// What was made, and how it is used.
fn told(out: &Path, names: &BTreeSet<String>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let host = names.iter().find(|n| !OWN.contains(n)).unwrap_or(&OWN[0]);
    format!(
        "wrote to {out}, good for {DAYS} days:
  ca.pem, ca-key.pem          the authority; its key is needed no more: put it away
  server.pem, server-key.pem  the coordinator's, for {names}
  worker.pem, worker-key.pem  the workers'

coordinator --grid grid.yaml --listen 0.0.0.0:7878 --token-file token \\
  --tls-cert {out}/server.pem --tls-key {out}/server-key.pem --tls-client-ca {out}/ca.pem
worker --connect https://{host}:7878 --token-file token \\
  --ca-file {out}/ca.pem --cert-file {out}/worker.pem --key-file {out}/worker-key.pem
",
        out = out.display(),
        names = names.join(", "),
    )
}
