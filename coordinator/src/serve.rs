//! `coordinator serve`: stays up, and carries out what is submitted.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::cli::{Settings, code, fail};
use crate::core::{Control, Core, Notice};
use crate::driver::{self, Handle};
use crate::ground::Ground;
use crate::http::View;
use crate::notify::Notices;
use crate::progress::Progress;
use crate::run::{Failure, config, interrupted, store_failure};
use crate::store::Store;
use crate::sweeps::Sweeps;

/// Time that workers have to hand back what they hold.
const HAND_BACK: Duration = Duration::from_secs(30);

/// Serves until it is told to end; returns the exit code.
pub async fn serve(settings: Settings) -> u8 {
    match carry_on(settings).await {
        Ok(code) => code,
        Err((code, message)) => fail(code, &message),
    }
}

async fn carry_on(settings: Settings) -> Result<u8, Failure> {
    check(&settings)?;
    let ground = Ground::open(&settings).await?;
    let store = Arc::clone(&ground.store);
    let (notices, inbox) = mpsc::unbounded_channel();
    let (handle, driver) = driver::start(
        config(store.as_ref()),
        Arc::clone(&store),
        notices,
        ground.traces.clone(),
    );
    let told = settings.notify.clone().map(Notices::new);
    let sweeps = Sweeps::new(
        handle.clone(),
        Arc::clone(&store),
        settings.store.clone(),
        settings.minima,
        told.clone(),
    );
    let violations = told.map(|told| tokio::spawn(told.watch(handle.clone())));
    let carried = sweeps.carry_on().await.map_err(|e| store_failure(&e))?;
    ground.stage.lead(handle.clone(), Arc::clone(&store));
    ground.desk.open(Arc::clone(&sweeps));
    ground.window.open(View {
        sweeps: Arc::clone(&sweeps),
        only: None,
    });
    let progress = Progress::new(settings.progress);
    progress.say(&format!(
        "serving {}; {carried} sweeps are carried on",
        settings.store
    ));
    let local = ground.start_local(&settings);
    let (say, said) = mpsc::unbounded_channel();
    let launched = ground.launch(&settings, &handle, &say);
    drop(say);
    tokio::spawn(repeat(said, Progress::new(settings.progress)));
    tokio::spawn(tell(inbox, Progress::new(settings.progress)));
    let outcome = tokio::select! {
        () = interrupted() => Ok(code::INTERRUPTED),
        error = store.lost() => Err(store_failure(&error)),
    };
    if outcome.is_ok() {
        progress.say("ending: workers hand back what they hold; once more stops at once");
        hand_back(&handle).await;
    }
    if let Some(local) = local {
        local.stop().await;
    }
    if let Some(launched) = launched {
        launched.stop().await;
    }
    ground.close();
    if let Some(violations) = violations {
        violations.abort();
    }
    driver.abort();
    let _ = driver.await;
    outcome
}

/// All that `serve` needs and `--grid` does not.
fn check(settings: &Settings) -> Result<(), Failure> {
    let mut mistakes = Vec::new();
    if settings.listen.is_none() {
        mistakes.push("serve needs --listen HOST:PORT: nobody could reach it");
    }
    if settings.admin_token.is_none() {
        mistakes.push(
            "serve needs an administration token: put one of at least 16 characters into \
             SWEEP_ADMIN_TOKEN or a file for --admin-token-file, here and at `submit`",
        );
    }
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err((code::BAD_INPUT, mistakes.join("\nerror: ")))
    }
}

async fn hand_back(handle: &Handle) {
    let stop = Control::Stop {
        reason: "the coordinator ends; it comes back".to_owned(),
        finished: false,
        waits: Some(HAND_BACK),
    };
    let quiet = async {
        handle.control(stop).await;
        while handle.look(Core::is_quiet).await == Some(false) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = quiet => {}
        () = tokio::time::sleep(HAND_BACK) => {}
        () = interrupted() => {}
    }
}

/// Says what happens, a line for each event that people care for.
async fn tell(mut notices: mpsc::UnboundedReceiver<Notice>, progress: Progress) {
    while let Some(notice) = notices.recv().await {
        if let Some(line) = crate::run::line_of(&notice) {
            progress.say(&line);
        }
    }
}

/// Says what becomes of launched workers.
async fn repeat(mut said: mpsc::UnboundedReceiver<String>, progress: Progress) {
    while let Some(text) = said.recv().await {
        progress.say(&text);
    }
}
