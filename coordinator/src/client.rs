//! The administration's side of a connection to a standing coordinator.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use common::pb::wire::admin_client::AdminClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use crate::cli::code;
use crate::run::Failure;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an answer: the summary of many cells.
const ANSWER: usize = 1 << 30;

/// How a live coordinator is reached.
#[derive(Args, Clone, Debug, Default)]
pub struct Access {
    /// A live coordinator, for example https://sweeps.example.org:7878
    #[arg(long, value_name = "URL", env = "SWEEP_CONNECT")]
    pub connect: Option<String>,
    /// File with the administration token [default: the variable SWEEP_ADMIN_TOKEN]
    #[arg(long, value_name = "FILE", env = "SWEEP_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
    /// Authority (PEM) that vouches for the coordinator's certificate
    #[arg(long, value_name = "FILE", env = "SWEEP_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Own certificate (PEM), for mutual TLS
    #[arg(
        long,
        value_name = "FILE",
        env = "SWEEP_CERT_FILE",
        requires = "key_file"
    )]
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "SWEEP_KEY_FILE",
        requires = "cert_file"
    )]
    pub key_file: Option<PathBuf>,
    /// Name that the coordinator's certificate has, if it is not the URL's
    #[arg(long, value_name = "NAME", env = "SWEEP_SERVER_NAME")]
    pub server_name: Option<String>,
    /// Allow http:// beyond loopback: the token travels in the clear
    #[arg(long)]
    pub insecure: bool,
}

/// Puts the token into every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = self.0.clone();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// A connection.
pub type Client = AdminClient<InterceptedService<Channel, Bearer>>;

/// Connects to a coordinator.
///
/// # Errors
/// What is missing or wrong in `access`; why there is no connection.
pub async fn connect(url: &str, access: &Access) -> Result<Client, Failure> {
    let bad = |message: String| (code::BAD_INPUT, message);
    let bearer = token(access).map_err(bad)?;
    let endpoint = endpoint(url, access).map_err(bad)?;
    let channel = endpoint.connect().await.map_err(|error| {
        let mut text = format!("{url} cannot be reached: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        (code::INTERNAL, text)
    })?;
    Ok(AdminClient::with_interceptor(channel, bearer).max_decoding_message_size(ANSWER))
}

fn token(access: &Access) -> Result<Bearer, String> {
    let token = match &access.admin_token_file {
        Some(file) => common::secret::read(file)
            .map_err(|e| format!("--admin-token-file {}: {e}", file.display()))?,
        None => std::env::var("SWEEP_ADMIN_TOKEN").map_err(|_| {
            "the coordinator's administration token is needed: give it with --admin-token-file \
             or SWEEP_ADMIN_TOKEN"
                .to_owned()
        })?,
    };
    let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {}", token.trim()).parse();
    let mut value =
        value.map_err(|_| "the token has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(Bearer(value))
}

fn endpoint(url: &str, access: &Access) -> Result<Endpoint, String> {
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let endpoint =
        Endpoint::from_shared(url.clone()).map_err(|e| format!("`{url}` is no address: {e}"))?;
    let Some(host) = endpoint.uri().host().map(str::to_owned) else {
        return Err(format!("`{url}` is no address: it names no host"));
    };
    let read = |file: &PathBuf| {
        std::fs::read(file).map_err(|e| format!("{} cannot be read: {e}", file.display()))
    };
    let endpoint = endpoint.connect_timeout(CONNECT).tcp_nodelay(true);
    if !url.starts_with("https://") {
        let host = host.trim_matches(['[', ']']);
        let loopback = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|a| a.is_loopback());
        if loopback || access.insecure {
            return Ok(endpoint);
        }
        return Err(format!(
            "{url} would carry the token in the clear: use https:// or a tunnel, or say --insecure"
        ));
    }
    let mut tls = ClientTlsConfig::new();
    match &access.ca_file {
        Some(file) => tls = tls.ca_certificate(Certificate::from_pem(read(file)?)),
        None => return Err("https:// needs --ca-file: who vouches for the coordinator".to_owned()),
    }
    if let (Some(cert), Some(key)) = (&access.cert_file, &access.key_file) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    if let Some(name) = &access.server_name {
        tls = tls.domain_name(name);
    }
    endpoint.tls_config(tls).map_err(|e| format!("TLS: {e}"))
}

/// What a refused call means to whoever called.
pub fn failure(status: &Status) -> Failure {
    let code = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Unimplemented => code::BAD_INPUT,
        _ => code::INTERNAL,
    };
    let message = match status.code() {
        Code::Unimplemented => {
            "the coordinator has no administration: it was started without an administration token"
                .to_owned()
        }
        _ if status.message().is_empty() => status.to_string(),
        _ => status.message().to_owned(),
    };
    (code, message)
}
