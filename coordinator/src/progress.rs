//! What is shown while a sweep runs.
//!
//! A display is a function of [`Moment`]s: it asks nobody anything, and what it costs depends on
//! no number of tasks. See [`crate::pace`] for rate and time left.

mod screen;
mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use common::protocol::SweepNumber;
use common::summary::{Summary, VerdictCounts};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::core::Core;
use crate::pace::Estimate;
use crate::sweep::GridSweep;
use screen::Screen;
use text::{Paint, View};
pub use text::{count, duration, range, time_left};

/// How progress is shown, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Display {
    /// A bar on a terminal, else lines.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// Lines, ever rarer.
    Plain,
    /// A JSON object a line, for programs.
    Json,
    /// Nothing.
    None,
}

/// A moment of a sweep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moment {
    /// Tasks of the grid that are different from each other, as far as met.
    pub planned: u64,
    /// With a durable result.
    pub recorded: u64,
    /// Given up.
    pub failed: u64,
    /// In workers' hands.
    pub leased: u64,
    /// Workers connected.
    pub workers: u64,
    /// Tasks that they compute at a time.
    pub slots: u64,
    /// Recorded runs by verdict.
    pub verdicts: VerdictCounts,
    /// Certified runs.
    pub certified: u64,
    /// Certified runs above their baseline.
    pub violations: u64,
    /// Those of them in cells inside the assumptions.
    pub violations_inside: u64,
    /// Largest excess of a certified run inside the assumptions.
    pub worst_excess: Option<f64>,
    /// Runs computed in this life of the coordinator.
    pub computed: u64,
    /// Seconds that they took.
    pub computed_seconds: f64,
    /// Seconds of computing that the other runs will take.
    pub work_left: Option<Estimate>,
    /// Tasks done a second, lately; see [`crate::pace::Paces`].
    pub rate: Option<f64>,
    /// Seconds to the end.
    pub left: Option<Estimate>,
}

impl Moment {
    /// Of an active sweep; `None` when it is over.
    pub fn of(core: &Core, sweep: SweepNumber) -> Option<Self> {
        let own = core.glance(sweep)?;
        let grid = core.workload(sweep)?.as_any().downcast_ref::<GridSweep>();
        let counts = grid.map(GridSweep::counts);
        let verdicts = counts.map_or(VerdictCounts::default(), |counts| counts.verdicts);
        Some(Self {
            planned: own.planned,
            recorded: own.recorded,
            failed: own.failed,
            leased: own.leased,
            workers: own.workers,
            slots: own.slots,
            verdicts,
            certified: verdicts.certified(),
            violations: verdicts.violation,
            violations_inside: counts.map_or(0, |counts| counts.violations_inside),
            worst_excess: counts.and_then(|counts| counts.worst_excess),
            computed: own.computed,
            computed_seconds: own.computed_seconds,
            work_left: own.work_left,
            rate: None,
            left: None,
        })
    }

    /// Of a sweep that is over.
    pub fn of_summary(summary: &Summary) -> Self {
        let totals = &summary.totals;
        Self {
            planned: totals.planned,
            recorded: totals.recorded,
            failed: totals.failed,
            verdicts: totals.verdicts,
            certified: totals.verdicts.certified(),
            violations: totals.verdicts.violation,
            violations_inside: violations_inside(summary),
            worst_excess: summary.overall.worst_excess.map(|x| x.0),
            ..Self::default()
        }
    }

    /// Recorded or given up.
    pub fn done(&self) -> u64 {
        self.recorded + self.failed
    }
}

/// Certified runs above their baseline in cells inside the theorem's assumptions.
pub fn violations_inside(summary: &Summary) -> u64 {
    let cells = summary.cells.iter();
    let inside = cells.filter(|cell| cell.assumptions_broken.is_empty());
    let counts = inside.map(|cell| {
        let searched = cell.search.map_or(0, |search| search.verdicts.violation);
        cell.verdicts.violation + searched
    });
    counts.sum()
}

/// A line of `--progress json`: documented in docs/terminal.md, only ever extended.
#[derive(Debug, Serialize)]
struct Line<'a> {
    schema: &'static str,
    elapsed_seconds: f64,
    planned: u64,
    recorded: u64,
    failed: u64,
    leased: u64,
    workers: u64,
    slots: u64,
    certified: u64,
    violations: u64,
    violations_inside: u64,
    verdicts: &'a VerdictCounts,
    worst_excess: Option<f64>,
    tasks_per_second: Option<f64>,
    seconds_left: Option<f64>,
    seconds_left_low95: Option<f64>,
    seconds_left_high95: Option<f64>,
}

/// What the lines of `--progress json` follow.
const SCHEMA: &str = "progress/1";
/// Time between two plain lines at first, and at most.
const LINES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Shows moments.
#[derive(Debug)]
pub struct Progress {
    display: Display,
    bar: Option<ProgressBar>,
    began: Instant,
    last_line: Option<Instant>,
    last: Moment,
}

impl Progress {
    /// A display that has shown nothing.
    pub fn new(display: Display) -> Self {
        let display = match display {
            Display::Auto if is_drawable() => Display::Bar,
            Display::Auto => Display::Plain,
            other => other,
        };
        let bar = (display == Display::Bar).then(|| {
            let screen = Box::new(Screen::default());
            let target = ProgressDrawTarget::term_like_with_hz(screen, 8);
            let bar = ProgressBar::with_draw_target(None, target);
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            display,
            bar,
            began: Instant::now(),
            last_line: None,
            last: Moment::default(),
        }
    }

    /// Shows a moment.
    pub fn show(&mut self, moment: &Moment) {
        let now = Instant::now();
        let changed = self.last != *moment;
        self.last = moment.clone();
        let view = View {
            moment,
            elapsed: now - self.began,
        };
        match self.display {
            Display::Bar => {
                if let Some(bar) = &self.bar {
                    if self.last_line.is_none() {
                        *drawn() = Some(bar.clone());
                    }
                    self.last_line = Some(now);
                    bar.set_message(view.bar(columns(), Paint::on_stderr()));
                }
            }
            Display::Plain => {
                let pause = (view.elapsed / 12).clamp(LINES.0, LINES.1);
                let due = match self.last_line {
                    Some(at) => now - at >= pause,
                    // Workers that are about to connect are worth no line.
                    None => moment.done() > 0 || view.elapsed >= pause,
                };
                if due && changed {
                    self.last_line = Some(now);
                    line(&view.line());
                }
            }
            Display::Json if changed => {
                let left = moment.left.filter(|left| left.seconds.is_finite());
                let interval = left.and_then(|left| left.interval);
                let object = Line {
                    schema: SCHEMA,
                    elapsed_seconds: view.elapsed.as_secs_f64(),
                    planned: moment.planned,
                    recorded: moment.recorded,
                    failed: moment.failed,
                    leased: moment.leased,
                    workers: moment.workers,
                    slots: moment.slots,
                    certified: moment.certified,
                    violations: moment.violations,
                    violations_inside: moment.violations_inside,
                    verdicts: &moment.verdicts,
                    worst_excess: moment.worst_excess,
                    tasks_per_second: moment.rate,
                    seconds_left: left.map(|left| left.seconds),
                    seconds_left_low95: interval.map(|(low, _)| low),
                    seconds_left_high95: interval.map(|(_, high)| high),
                };
                if let Ok(text) = serde_json::to_string(&object) {
                    line(&text);
                }
            }
            Display::Json | Display::None | Display::Auto => {}
        }
    }

    /// Says something beside the progress.
    pub fn say(&self, text: &str) {
        match (&self.bar, self.display) {
            (Some(bar), _) => bar.suspend(|| line(text)),
            (None, Display::None) => {}
            (None, Display::Json) => {
                line(&serde_json::json!({"schema": SCHEMA, "message": text}).to_string());
            }
            (None, _) => line(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            *drawn() = None;
        }
    }
}

/// Says what must not be overheard, however progress is shown.
pub fn warn(display: Display, text: &str) {
    match display {
        Display::Json => {
            let object = serde_json::json!({"schema": SCHEMA, "message": text, "warning": true});
            line(&object.to_string());
        }
        _ => line(&format!("WARNING: {text}")),
    }
}

fn line(text: &str) {
    // Standard error may be closed; the sweep goes on all the same.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether standard error is a terminal that lines can be taken back from.
pub fn is_drawable() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !dumb
}

/// Columns and lines of the terminal.
fn size() -> (u16, u16) {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let known = size.map(|size| (size.ws_col, size.ws_row)).ok();
    known
        .filter(|(columns, lines)| *columns > 0 && *lines > 0)
        .unwrap_or((80, 24))
}

/// Columns that are used of them.
fn columns() -> usize {
    usize::from(size().0).clamp(40, 160)
}

/// The bar on the terminal, which the log has to go around.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn drawn() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    // A bar is there or not; no panic elsewhere can leave it half changed.
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error for the log: a line of it never runs into the bar.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let bar = drawn().clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(text)),
            None => io::stderr().write(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
