//! What is shown while a sweep runs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use common::protocol::SweepNumber;
use common::summary::Summary;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::core::Core;
use crate::sweep::GridSweep;

/// How progress is shown, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Display {
    /// A bar on a terminal, else lines.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// A line every few seconds.
    Plain,
    /// A JSON object a line, for programs.
    Json,
    /// Nothing.
    None,
}

/// A moment of a sweep.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
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
    /// Certified runs.
    pub certified: u64,
    /// Certified runs above their baseline.
    pub violations: u64,
    /// Largest excess of a certified run inside the assumptions.
    pub worst_excess: Option<f64>,
}

impl Moment {
    /// Of an active sweep; `None` when it is over.
    pub fn of(core: &Core, sweep: SweepNumber) -> Option<Self> {
        let status = core.status();
        let own = status.sweeps.iter().find(|s| s.number == sweep)?;
        let grid = core.workload(sweep)?.as_any().downcast_ref::<GridSweep>();
        let counts = grid.map(|g| g.counts().clone()).unwrap_or_default();
        let count = |f: &dyn Fn(common::summary::Verdict) -> bool| {
            let matching = counts.verdicts.iter().filter(|(v, _)| f(**v));
            matching.map(|(_, n)| n).sum()
        };
        Some(Self {
            planned: own.planned - own.duplicates,
            recorded: own.recorded,
            failed: own.failed,
            leased: own.leased,
            workers: status.workers.iter().filter(|w| w.attached).count() as u64,
            certified: count(&|v| v.is_certified()),
            violations: count(&|v| v == common::summary::Verdict::Violation),
            worst_excess: counts.worst_excess,
        })
    }
}

impl Moment {
    /// Of a sweep that is over.
    pub fn of_summary(summary: &Summary) -> Self {
        let totals = &summary.totals;
        Self {
            planned: totals.planned,
            recorded: totals.recorded,
            failed: totals.failed,
            leased: 0,
            workers: 0,
            certified: totals.verdicts.certified_minimum + totals.verdicts.violation,
            violations: totals.verdicts.violation,
            worst_excess: summary.overall.worst_excess.map(|x| x.0),
        }
    }
}

/// Shows moments.
#[derive(Debug)]
pub struct Progress {
    display: Display,
    bar: Option<ProgressBar>,
    began: Instant,
    /// Recorded when it began: results of earlier runs say nothing of the rate.
    first: Option<u64>,
    last_line: Option<Instant>,
    last: Moment,
}

/// Time between two plain lines.
const LINES: Duration = Duration::from_secs(5);

impl Progress {
    /// A display that has shown nothing.
    pub fn new(display: Display) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let display = match display {
            Display::Auto if terminal => Display::Bar,
            Display::Auto => Display::Plain,
            other => other,
        };
        let bar = (display == Display::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            let style = ProgressStyle::with_template(
                "{elapsed_precise} {bar:30.cyan/blue} {pos}/{len} {msg}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            display,
            bar,
            began: Instant::now(),
            first: None,
            last_line: None,
            last: Moment::default(),
        }
    }

    /// Shows a moment.
    pub fn show(&mut self, moment: &Moment) {
        let first = *self.first.get_or_insert(moment.recorded);
        let changed = self.last != *moment;
        self.last = moment.clone();
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = (moment.recorded - first.min(moment.recorded)) as f64 / seconds.max(1e-3);
        match self.display {
            Display::Bar => {
                if let Some(bar) = &self.bar {
                    bar.set_length(moment.planned);
                    bar.set_position(moment.recorded + moment.failed);
                    bar.set_message(message(moment, rate));
                }
            }
            Display::Plain => {
                if self.last_line.is_none_or(|at| at.elapsed() >= LINES) {
                    self.last_line = Some(Instant::now());
                    line(&format!(
                        "{}/{} {}",
                        moment.recorded + moment.failed,
                        moment.planned,
                        message(moment, rate)
                    ));
                }
            }
            Display::Json => {
                if changed && let Ok(text) = serde_json::to_string(moment) {
                    line(&text);
                }
            }
            Display::None | Display::Auto => {}
        }
    }

    /// Says something beside the progress.
    pub fn say(&self, text: &str) {
        match (&self.bar, self.display) {
            (Some(bar), _) => bar.println(text),
            (None, Display::None) => {}
            (None, Display::Json) => line(&serde_json::json!({"message": text}).to_string()),
            (None, _) => line(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Says what must not be overheard, however progress is shown.
pub fn warn(display: Display, text: &str) {
    match display {
        Display::Json => line(&serde_json::json!({"message": text, "warning": true}).to_string()),
        _ => line(&format!("WARNING: {text}")),
    }
}

fn line(text: &str) {
    // Standard error may be closed; the sweep goes on all the same.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn message(m: &Moment, rate: f64) -> String {
    let mut text = format!("{rate:.1}/s");
    let left = m.planned.saturating_sub(m.recorded + m.failed);
    if left > 0 && rate > 0.0 {
        text.push_str(&format!(", {} left", duration(left as f64 / rate)));
    }
    text.push_str(&format!(", workers {}", m.workers));
    text.push_str(&format!(", certified {}", m.certified));
    let uncertified = m.recorded - m.certified.min(m.recorded);
    if uncertified > 0 {
        text.push_str(&format!(", uncertified {uncertified}"));
    }
    if m.failed > 0 {
        text.push_str(&format!(", failed {}", m.failed));
    }
    if m.violations > 0 {
        text.push_str(&format!(", VIOLATIONS {}", m.violations));
    }
    if let Some(excess) = m.worst_excess {
        text.push_str(&format!(", worst excess {excess:+.1e}"));
    }
    text
}

fn duration(seconds: f64) -> String {
    let s = seconds.ceil() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_matters_and_no_more() {
        let moment = Moment {
            planned: 100,
            recorded: 40,
            certified: 39,
            workers: 2,
            worst_excess: Some(-0.01),
            ..Moment::default()
        };
        assert_eq!(
            message(&moment, 4.0),
            "4.0/s, 15 s left, workers 2, certified 39, uncertified 1, worst excess -1.0e-2"
        );
        assert_eq!(duration(3_725.0), "1 h 2 min");
    }
}
