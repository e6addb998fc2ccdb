//! What is shown while a sweep runs.
//!
//! A display is a function of [`Moment`]s: it asks nobody anything, and what it costs depends on
//! no number of tasks. See [`crate::pace`] for the time that is left.

mod text;

use std::collections::VecDeque;
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
use text::{Paint, View};
pub use text::{count, duration};

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
    /// Largest excess of a certified run inside the assumptions.
    pub worst_excess: Option<f64>,
    /// Runs computed in this life of the coordinator.
    pub computed: u64,
    /// Seconds that they took.
    pub computed_seconds: f64,
    /// Seconds of computing that the other runs will take.
    pub work_left: Option<Estimate>,
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
            worst_excess: counts.and_then(|counts| counts.worst_excess),
            computed: own.computed,
            computed_seconds: own.computed_seconds,
            work_left: own.work_left,
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
            worst_excess: summary.overall.worst_excess.map(|x| x.0),
            ..Self::default()
        }
    }

    /// Recorded or given up.
    pub fn done(&self) -> u64 {
        self.recorded + self.failed
    }
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
    verdicts: &'a VerdictCounts,
    worst_excess: Option<f64>,
    tasks_per_second: Option<f64>,
    seconds_left: Option<f64>,
    seconds_left_low95: Option<f64>,
    seconds_left_high95: Option<f64>,
}

/// What the lines of `--progress json` follow.
const SCHEMA: &str = "progress/1";
/// Time that a rate looks back.
const RECENT: Duration = Duration::from_secs(30);
/// Time between two plain lines at first, and at most.
const LINES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Shows moments.
#[derive(Debug)]
pub struct Progress {
    display: Display,
    bar: Option<ProgressBar>,
    clock: Clock,
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
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            let style = ProgressStyle::with_template("{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            display,
            bar,
            clock: Clock::new(Instant::now()),
            last_line: None,
            last: Moment::default(),
        }
    }

    /// Shows a moment.
    pub fn show(&mut self, moment: &Moment) {
        let now = Instant::now();
        self.clock.saw(now, moment);
        let changed = self.last != *moment;
        self.last = moment.clone();
        let view = View {
            moment,
            elapsed: now - self.clock.began,
            rate: self.clock.rate(),
            left: self.clock.left(moment),
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
                let left = view.left.filter(|left| left.seconds.is_finite());
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
                    verdicts: &moment.verdicts,
                    worst_excess: moment.worst_excess,
                    tasks_per_second: view.rate,
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

/// What rate and time left are computed from.
#[derive(Debug)]
struct Clock {
    began: Instant,
    /// When how many were recorded: the last [`RECENT`], a second apart.
    recent: VecDeque<(Instant, u64)>,
    newest: Option<(Instant, u64)>,
    /// Seconds that slots were there, and the seconds computed when that began.
    slot_seconds: f64,
    computed_before: Option<f64>,
}

/// Share of the slots' time that is spent computing, not below this.
const LEAST_USE: f64 = 0.02;

impl Clock {
    fn new(began: Instant) -> Self {
        Self {
            began,
            recent: VecDeque::new(),
            newest: None,
            slot_seconds: 0.0,
            computed_before: None,
        }
    }

    fn saw(&mut self, now: Instant, moment: &Moment) {
        self.computed_before.get_or_insert(moment.computed_seconds);
        if let Some((before, _)) = self.newest {
            self.slot_seconds += moment.slots as f64 * (now - before).as_secs_f64();
        }
        self.newest = Some((now, moment.recorded));
        let second = Duration::from_secs(1);
        if (self.recent.back()).is_none_or(|(at, _)| now - *at >= second) {
            self.recent.push_back((now, moment.recorded));
        }
        // One older than that stays, for a rate over all of it.
        while (self.recent.get(1)).is_some_and(|(at, _)| now - *at > RECENT) {
            self.recent.pop_front();
        }
    }

    /// Tasks recorded a second, lately.
    fn rate(&self) -> Option<f64> {
        let ((from, before), (to, now)) = (*self.recent.front()?, self.newest?);
        let seconds = (to - from).as_secs_f64();
        (seconds > 0.0).then(|| now.saturating_sub(before) as f64 / seconds)
    }

    /// Wall-clock time to the end.
    fn left(&self, moment: &Moment) -> Option<Estimate> {
        let left = moment.planned.saturating_sub(moment.done());
        let at_a_time = moment.slots.min(left);
        let work = moment.work_left?;
        (at_a_time > 0).then(|| work.times(1.0 / (at_a_time as f64 * self.utilisation(moment))))
    }

    /// Share of the slots' time that was spent computing; tasks that have begun are half done.
    fn utilisation(&self, moment: &Moment) -> f64 {
        let mean = moment.computed_seconds / moment.computed.max(1) as f64;
        let before = self.computed_before.unwrap_or(0.0);
        let begun = moment.leased.min(moment.slots) as f64 * mean / 2.0;
        let busy = (moment.computed_seconds - before + begun) / self.slot_seconds;
        // Little of it says nothing: the first tasks have hardly begun.
        if busy.is_finite() && self.slot_seconds > 20.0 * mean * moment.slots.max(1) as f64 {
            busy.clamp(LEAST_USE, 1.0)
        } else {
            1.0
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
fn is_drawable() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !dumb
}

/// Columns of the terminal.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.map_or(80, |size| usize::from(size.ws_col))
        .clamp(40, 160)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    fn moment(recorded: u64, computed_seconds: f64) -> Moment {
        Moment {
            planned: 1_000,
            recorded,
            leased: 2,
            workers: 2,
            slots: 2,
            computed: recorded,
            computed_seconds,
            work_left: Some(Estimate {
                seconds: 200.0,
                interval: Some((150.0, 260.0)),
            }),
            ..Moment::default()
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_half_minute() {
        let began = Instant::now();
        let mut clock = Clock::new(began);
        assert_eq!(clock.rate(), None);
        for second in 0..200 {
            // Slow at first, then ten a second.
            let recorded = if second < 100 {
                second
            } else {
                100 + (second - 100) * 10
            };
            clock.saw(at(began, second), &moment(recorded, 0.0));
        }
        assert!((clock.rate().unwrap() - 10.0).abs() < 1e-9);
        assert!(clock.recent.len() < 40, "{}", clock.recent.len());
    }

    #[test]
    fn the_time_left_is_work_over_slots_that_really_compute() {
        let began = Instant::now();
        let mut clock = Clock::new(began);
        // Results of an earlier life say nothing of this one's use of its slots.
        clock.saw(began, &moment(0, 5.0));
        let seen = moment(400, 55.0);
        clock.saw(at(began, 50), &seen);
        // 50 of 100 slot-seconds: half of the slots' time is lost between tasks.
        let left = clock.left(&seen).unwrap();
        assert!((left.seconds - 200.0).abs() < 1.0, "{left:?}");
        let (low, high) = left.interval.unwrap();
        assert!((low - 150.0).abs() < 1.0 && (high - 260.0).abs() < 1.0);
        let nobody = Moment { slots: 0, ..seen };
        assert_eq!(clock.left(&nobody), None);
    }
}
