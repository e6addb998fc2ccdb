//! What a coordinator stands on, whether it carries out one sweep or many: its
//! doors, the server behind them, and the store that it leads.

use std::sync::Arc;

use common::ids::to_hex;
use common::traces::Traces;
use tonic::service::interceptor::InterceptedService;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

use crate::admin::{self, Desk};
use crate::cli::{Settings, code};
use crate::door::{self, Doors};
use crate::driver::Handle;
use crate::guard::{AdminGuard, AnyGuard, Guard};
use crate::http::{self, Window};
use crate::launch::{self, Invitation};
use crate::leadership;
use crate::local::{self, LocalWorkers};
use crate::progress::Progress;
use crate::rpc;
use crate::run::{Failure, host_name, interrupted, store_failure};
use crate::store::{AnyStore, Identity};

type Cluster = common::pb::wire::cluster_server::ClusterServer<rpc::Service<AnyStore>>;

/// Open doors and an open store.
#[derive(Debug)]
pub struct Ground {
    /// The store; this process leads it.
    pub store: Arc<AnyStore>,
    /// What calls of workers are passed on to.
    pub stage: Arc<rpc::Stage<AnyStore>>,
    /// What calls of administrators are passed on to.
    pub desk: Arc<Desk<AnyStore>>,
    /// What `--http` shows.
    pub window: Arc<Window>,
    server: tokio::task::JoinHandle<()>,
    site: Option<tokio::task::JoinHandle<()>>,
    pub(crate) local_url: String,
    pub(crate) local_token: String,
    /// For workers that are launched; `None` if none are.
    invitation: Option<Invitation>,
    /// Where spans go; nowhere if `None`.
    pub(crate) traces: Option<Arc<Traces>>,
}

impl Ground {
    /// Opens the doors, then the store; a store that another coordinator leads
    /// is waited for if its kind allows for that, with the doors open.
    ///
    /// # Errors
    /// What cannot be had, with the exit code that fits.
    pub async fn open(settings: &Settings) -> Result<Self, Failure> {
        raise_descriptors();
        if settings.local_workers > 0 {
            local::program().map_err(|message| (code::BAD_INPUT, message))?;
        }
        let doors = Doors::bind(settings.listen, settings.tls.clone())
            .await
            .map_err(|message| (code::BAD_INPUT, message))?;
        let web = match &settings.http {
            None => None,
            Some(http) => Some(
                http::Listener::bind(http.address, settings.tls.clone())
                    .await
                    .map_err(|message| (code::BAD_INPUT, message))?,
            ),
        };
        let internal = |error: std::io::Error| (code::INTERNAL, error.to_string());
        let mut token = settings.token.as_ref().map(|t| t.0.clone());
        if token.is_none() && settings.launch.is_some() {
            // Nobody else need know it.
            token = Some(random_token().map_err(internal)?);
        }
        if settings.listen.is_some() && token.is_none() {
            return Err((
                code::BAD_INPUT,
                "remote workers need a token: put one of at least 16 characters into SWEEP_TOKEN \
                 or a file for --token-file, here and at the workers"
                    .to_owned(),
            ));
        }
        let local_token = random_token().map_err(internal)?;
        let local_url = doors.local_url().map_err(internal)?;
        let network_url = doors.network_url();
        let bound = doors.network_address();
        let guard = Guard::new(&local_token, token.as_deref());
        let admin = settings.admin_token.as_ref().map(|t| AdminGuard::new(&t.0));
        let stage = Arc::new(rpc::Stage::default());
        let desk = Arc::new(Desk::default());
        let server = serve(doors, Arc::clone(&stage), guard, Arc::clone(&desk), admin);
        let own = bound.map(|a| leadership::advertised(a, &host_name()));
        let listen = settings.advertise.clone().filter(|_| own.is_some()).or(own);
        let scheme = if settings.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let invited = settings.launch.as_ref().and(listen.as_ref()).zip(token);
        let invitation = invited.map(|(address, token)| Invitation {
            url: format!("{scheme}://{address}"),
            token,
            purpose: settings.store.to_string(),
        });
        let identity = Identity {
            host: host_name(),
            listen,
            at_rest: false,
            program_version: env!("SWEEP_VERSION").to_owned(),
        };
        let say = |text: &str| Progress::new(settings.progress).say(text);
        if let Some(url) = network_url {
            say(&format!("listening for workers: worker --connect {url}"));
        }
        let window = Arc::new(Window::default());
        let site = match web {
            None => None,
            Some(listener) => {
                let drawn = random_token().map_err(internal)?;
                let (stage, window) = (Arc::clone(&stage), Arc::clone(&window));
                let site = http::site(settings, &listener, stage, window, drawn);
                say(&site.words);
                Some(tokio::spawn(site.serve(listener)))
            }
        };
        let traces = settings
            .otlp
            .as_deref()
            .map(|url| Traces::start(url, "depth-sweep-coordinator", &host_name()).map(Arc::new));
        let traces = traces
            .transpose()
            .map_err(|message| (code::BAD_INPUT, message))?;
        let store = tokio::select! {
            opened = leadership::lead(&settings.store, &identity, &stage, say) => opened,
            () = interrupted() => {
                let message = "interrupted before the store was open".to_owned();
                return Err((code::INTERRUPTED, message));
            }
        };
        let store = store.map_err(|e| store_failure(&e))?;
        Ok(Self {
            store: Arc::new(store),
            stage,
            desk,
            window,
            server,
            site,
            local_url,
            local_token,
            invitation,
            traces,
        })
    }

    /// Begins to launch workers elsewhere, if any are wanted.
    pub fn launch(
        &self,
        settings: &Settings,
        handle: &Handle,
        say: &launch::Say,
    ) -> Option<launch::Running> {
        let (plan, invitation) = (settings.launch.as_ref()?, self.invitation.as_ref()?);
        Some(launch::start(plan, invitation, handle, say))
    }

    /// Starts the local workers, if any are wanted.
    pub fn start_local(&self, settings: &Settings) -> Option<local::Running> {
        if settings.local_workers == 0 {
            return None;
        }
        // It was looked for before the doors were opened.
        let program = local::program().ok()?;
        Some(local::start(&LocalWorkers {
            program,
            url: self.local_url.clone(),
            token: self.local_token.clone(),
            count: settings.local_workers,
            variables: settings.for_workers(),
        }))
    }

    /// Closes the doors.
    pub fn close(&self) {
        self.server.abort();
        if let Some(site) = &self.site {
            site.abort();
        }
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

fn serve(
    doors: Doors,
    stage: Arc<rpc::Stage<AnyStore>>,
    guard: Guard,
    desk: Arc<Desk<AnyStore>>,
    admin: Option<AdminGuard>,
) -> tokio::task::JoinHandle<()> {
    let reflection = reflection(AnyGuard::new(guard.clone(), admin.clone()));
    let cluster = rpc::service(Arc::clone(&stage), guard);
    let admin = admin.map(|guard| admin::service(desk, guard));
    tokio::spawn(async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        // A standby is alive and not ready.
        reporter.set_not_serving::<Cluster>().await;
        tokio::spawn(async move {
            stage.leads().await;
            reporter.set_serving::<Cluster>().await;
        });
        let served = door::server()
            .add_service(cluster)
            .add_service(health)
            .add_optional_service(reflection)
            .add_optional_service(admin)
            .serve_with_incoming(doors.open())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the server ended");
        }
    })
}

/// As many connections as the system allows: a thousand workers are more than the 1024 descriptors
/// that many systems begin with.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open connections stays as it is");
    }
}

/// The protocol for tools such as grpcurl.
fn reflection(
    guard: AnyGuard,
) -> Option<InterceptedService<ServerReflectionServer<impl ServerReflection>, AnyGuard>> {
    let service = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(common::pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    match service {
        Ok(service) => Some(InterceptedService::new(service, guard)),
        Err(error) => {
            tracing::error!(%error, "the descriptors of the protocol are of no use");
            None
        }
    }
}

/// 256 bits that nobody can guess, in hexadecimal.
pub(crate) fn random_token() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(to_hex(&bytes))
}
