//! What the dashboard's pages cost on a large sweep: the time until an answer is there, and its
//! bytes, over a real connection. One run is missing, so that the sweep is a live one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Figure, cluster, internal, machine, store};
use crate::cli::{HttpSettings, Secret, bare_settings, runtime};
use crate::core::Core;
use crate::ground::Ground;
use crate::http::View;
use crate::progress::Moment;
use crate::run::{Failure, store_failure};
use crate::store::Store;
use crate::submission;
use crate::sweep::GridSweep;
use crate::sweeps::Sweeps;

/// Lets the measurement read.
const TOKEN: &str = "a token of the measurement";
/// Time between two looks at how far the walk is.
const LOOK: Duration = Duration::from_millis(20);
/// What a browser loads before it asks for anything of a sweep.
const PAGE: [&str; 4] = ["/", "/app.js", "/draw.js", "/app.css"];

/// Starts on a store that `restart` has prepared, and looks at it.
pub(super) fn measure(folder: &Path) -> Result<Vec<Figure>, Failure> {
    runtime().map_err(internal)?.block_on(async {
        let mut settings = bare_settings(&store(folder), 0).map_err(internal)?;
        let address = free_address().await.map_err(internal)?;
        settings.http = Some(HttpSettings {
            address,
            hosts: Vec::new(),
            token: Some(Secret(TOKEN.to_owned())),
        });
        let ground = Ground::open(&settings).await?;
        let sweeps = ground.store.sweeps().await.map_err(|e| store_failure(&e))?;
        let stored = sweeps.into_iter().next();
        let stored = stored.ok_or_else(|| internal("the store has no sweep"))?;
        let number = stored.number;
        let (grid, data) = submission::reopen(ground.store.as_ref(), &stored)
            .await
            .map_err(internal)?;
        let tasks = grid.len();
        let workload = GridSweep::new(grid, data, settings.minima);
        let (handle, _end) = cluster::begin(&ground, &stored, Box::new(workload));
        let (shown, at) = (Arc::clone(&ground.store), settings.store.clone());
        ground.window.open(View {
            sweeps: Sweeps::new(handle.clone(), shown, at, settings.minima, None),
            only: Some(number),
        });
        loop {
            let look = handle.look(move |core: &Core| Moment::of(core, number));
            let moment = look.await.ok_or_else(|| internal("no driver"))?;
            if moment.is_some_and(|m| m.recorded + 1 >= tasks) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let before = machine::peak_memory();
        let site = Site(address);
        let mut figures = site.figures(number.0).await?;
        let grown = machine::peak_memory() - before;
        figures.push(Figure::new("memory that the pages added", grown, "MB"));
        ground.close();
        Ok(figures)
    })
}

/// An address that was free a moment ago.
async fn free_address() -> std::io::Result<SocketAddr> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    tokio::net::TcpListener::bind(any).await?.local_addr()
}

struct Site(SocketAddr);

impl Site {
    async fn figures(&self, sweep: u32) -> Result<Vec<Figure>, Failure> {
        let mut figures = Vec::new();
        let mut bytes = 0;
        for path in PAGE {
            bytes += self.get(path).await?.bytes;
        }
        let kilobytes = |bytes: usize| bytes as f64 / 1e3;
        figures.push(Figure::new("page and script", kilobytes(bytes), "kB"));
        let event = self.event().await?;
        let mut add = |what: &str, answer: &Answer| {
            figures.push(Figure::new(what, answer.seconds, "s"));
            let size = kilobytes(answer.bytes);
            figures.push(Figure::new(&format!("… its size ({what})"), size, "kB"));
        };
        add("an event", &event);
        let path = format!("/api/sweeps/{sweep}");
        let first = self.get(&path).await?;
        add("a sweep's page, the first time", &first);
        add("a sweep's page, once more", &self.get(&path).await?);
        let cells = self.get(&format!("{path}/cells")).await?;
        add("its cells", &cells);
        let cell = cells.json()?["rows"][0]["cell"].clone();
        let path = format!("{path}/cells/{}", cell.as_str().unwrap_or_default());
        let cell = self.get(&path).await?;
        add("a cell with its runs", &cell);
        let run = cell.json()?["runs"]["rows"][0]["task"].clone();
        let path = format!("{path}/runs/{}", run.as_str().unwrap_or_default());
        add("a run", &self.get(&path).await?);
        Ok(figures)
    }

    async fn ask(&self, path: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.0).await?;
        let host = self.0;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(stream)
    }

    async fn get(&self, path: &str) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut stream = self.ask(path).await.map_err(internal)?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.map_err(internal)?;
        Answer::of(path, began, &text)
    }

    /// The first event of the stream that a page keeps open.
    async fn event(&self) -> Result<Answer, Failure> {
        let began = Instant::now();
        let path = "/api/events";
        let mut stream = self.ask(path).await.map_err(internal)?;
        let mut text = Vec::new();
        let mut part = [0; 4096];
        let is_whole = |text: &[u8]| {
            let data = text.windows(6).position(|w| w == b"data: ");
            data.is_some_and(|at| text[at..].windows(2).any(|w| w == b"\n\n"))
        };
        while !is_whole(&text) {
            let n = stream.read(&mut part).await.map_err(internal)?;
            if n == 0 {
                return Err(internal("the events ended before one had come"));
            }
            text.extend_from_slice(&part[..n]);
        }
        Answer::of(path, began, &text)
    }
}

#[derive(Debug)]
struct Answer {
    seconds: f64,
    /// With its head.
    bytes: usize,
    body: Vec<u8>,
}

impl Answer {
    fn of(path: &str, began: Instant, text: &[u8]) -> Result<Self, Failure> {
        let seconds = began.elapsed().as_secs_f64();
        let end = text.windows(4).position(|w| w == b"\r\n\r\n");
        match end {
            Some(end) if text.starts_with(b"HTTP/1.1 200") => Ok(Self {
                seconds,
                bytes: text.len(),
                body: text[end + 4..].to_vec(),
            }),
            _ => {
                let said = String::from_utf8_lossy(&text[..text.len().min(200)]);
                Err(internal(format!("GET {path} was answered by {said:?}")))
            }
        }
    }

    fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body).map_err(internal)
    }
}
