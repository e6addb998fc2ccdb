//! A moment in words that fit.

use std::time::Duration;

use super::Moment;
use crate::pace::Estimate;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// Those of standard error.
    pub(super) fn on_stderr() -> Self {
        Self(crate::cli::colours_on_stderr())
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !code.is_empty() && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "1;31";
const CYAN: &str = "36";
const DIM: &str = "2";

/// What there is to say.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) moment: &'a Moment,
    pub(super) elapsed: Duration,
}

/// Something to say, and how much it matters.
struct Part {
    text: String,
    colour: &'static str,
    weight: u8,
}

impl View<'_> {
    /// Two lines of at most so many columns.
    pub(super) fn bar(&self, columns: usize, paint: Paint) -> String {
        let m = self.moment;
        let clock = clock(self.elapsed);
        let numbers = format!(
            "{}/{} {}",
            count(m.done()),
            count(m.planned),
            self.percent()
        );
        let ahead = self.ahead();
        // Two columns of margin: some terminals wrap at the last one.
        let rest = (columns.saturating_sub(2)).saturating_sub(width(&clock) + width(&numbers) + 6);
        let (ahead, room) = [ahead.as_slice(), ahead.get(..1).unwrap_or(&[])]
            .iter()
            .map(|parts| parts.join(", "))
            .map(|text| (rest.saturating_sub(width(&text)), text))
            .find(|(room, _)| *room >= 10)
            .map_or((String::new(), rest), |(room, text)| (text, room));
        let room = room.min(60);
        let share = m.done() as f64 / m.planned.max(1) as f64;
        let full = ((share * room as f64) as usize).min(room);
        let colour = if m.violations_inside > 0 { RED } else { CYAN };
        let line = format!(
            "{clock}  {}{}  {numbers}  {ahead}",
            paint.with(colour, &"━".repeat(full)),
            paint.with(DIM, &"─".repeat(room - full)),
        );
        let counts = fitting(self.counts(), columns.saturating_sub(4));
        let counts: Vec<String> = counts
            .iter()
            .map(|part| paint.with(part.colour, &part.text))
            .collect();
        format!("{}\n  {}", line.trim_end(), counts.join(" · "))
    }

    /// One line, for a file or a pipe.
    pub(super) fn line(&self) -> String {
        let m = self.moment;
        let mut parts = vec![format!("{}/{} {}", m.done(), m.planned, self.percent())];
        parts.extend(self.ahead());
        parts.extend(
            self.counts()
                .into_iter()
                .filter(|p| p.weight > 0)
                .map(|p| p.text),
        );
        parts.join(", ")
    }

    fn percent(&self) -> String {
        let m = self.moment;
        // 100 % are the end, not almost.
        format!("{} %", m.done() * 100 / m.planned.max(1))
    }

    /// Time left and rate.
    fn ahead(&self) -> Vec<String> {
        let m = self.moment;
        let mut parts = Vec::new();
        if m.done() < m.planned {
            match m.left {
                Some(left) => parts.push(time_left(left)),
                None if m.workers == 0 => parts.push("no worker".to_owned()),
                None => {}
            }
        }
        if let Some(rate) = m.rate.filter(|rate| *rate > 0.0) {
            parts.push(if rate < 0.95 {
                format!("{:.1}/min", rate * 60.0)
            } else if rate < 100.0 {
                format!("{rate:.1}/s")
            } else {
                format!("{}/s", count(rate as u64))
            });
        }
        parts
    }

    /// How it stands; what matters most weighs most, and what has weight 0 is a short form of what
    /// has weight 1.
    fn counts(&self) -> Vec<Part> {
        let m = self.moment;
        let part = |weight, colour, text: String| Part {
            text,
            colour,
            weight,
        };
        let many = |n: u64| if n == 1 { "" } else { "s" };
        let mut parts = Vec::new();
        if m.workers > 0 {
            let workers = format!("{} worker{}", count(m.workers), many(m.workers));
            parts.push(part(3, "", workers));
        }
        if m.slots > m.workers {
            parts.push(part(2, "", format!("{} slots", count(m.slots))));
        }
        parts.push(part(6, GREEN, format!("certified {}", count(m.certified))));
        let v = &m.verdicts;
        let mut others = 0;
        for (name, n) in [
            ("saddle", v.saddle),
            ("kink", v.kink),
            ("diverging", v.diverging),
            ("out of budget", v.budget_exhausted),
            ("not finite", v.non_finite),
        ] {
            others += n;
            if n > 0 {
                parts.push(part(1, YELLOW, format!("{name} {}", count(n))));
            }
        }
        if others > 0 {
            parts.push(part(0, YELLOW, format!("uncertified {}", count(others))));
        }
        if m.failed > 0 {
            parts.push(part(8, RED, format!("failed {}", count(m.failed))));
        }
        // Outside the assumptions they are what the controls look for.
        let outside = m.violations.saturating_sub(m.violations_inside);
        if outside > 0 {
            let text = format!("above baseline {}", count(outside));
            parts.push(part(7, "", text));
        }
        if m.violations_inside > 0 {
            let text = format!("VIOLATIONS {}", count(m.violations_inside));
            parts.push(part(9, RED, text));
        }
        if let Some(excess) = m.worst_excess {
            parts.push(part(5, "", format!("worst excess {excess:+.1e}")));
        }
        parts
    }
}

/// The parts that fit: the short form in place of the long one, then the lightest ones left out.
fn fitting(parts: Vec<Part>, columns: usize) -> Vec<Part> {
    let long = |parts: &[Part]| {
        let texts: usize = parts.iter().map(|p| width(&p.text)).sum();
        texts + 3 * parts.len().saturating_sub(1) > columns
    };
    let (mut detailed, mut brief) = (Vec::new(), Vec::new());
    for part in parts {
        if part.weight != 0 {
            detailed.push(part);
        } else {
            brief.push((detailed.len(), part));
        }
    }
    if !long(&detailed) {
        return detailed;
    }
    for (place, part) in brief.into_iter().rev() {
        detailed.insert(place, Part { weight: 4, ..part });
    }
    detailed.retain(|part| part.weight != 1);
    while long(&detailed)
        && let Some(lightest) = (detailed.iter().enumerate()).min_by_key(|(_, p)| p.weight)
    {
        let lightest = lightest.0;
        detailed.remove(lightest);
    }
    detailed
}

/// Columns that a text takes; it has no wide characters.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// `3 min left (2–5 min)`.
pub fn time_left(left: Estimate) -> String {
    let mut text = format!("{} left", duration(left.seconds));
    if let Some(range) = range(left) {
        text.push_str(&format!(" ({range})"));
    }
    text
}

/// `2–5 min`; `None` if there is no interval, or none that would show.
pub fn range(left: Estimate) -> Option<String> {
    let (low, high) = left.interval?;
    let (low, high) = (duration(low), duration(high));
    if low == high {
        return None;
    }
    // The unit once, if both have the same single one.
    let unit = |text: &str| text.split_once(' ').map(|(_, unit)| unit.to_owned());
    let short = match (unit(&low), unit(&high)) {
        (Some(one), Some(other)) if one == other => low.split(' ').next().map(str::to_owned),
        _ => None,
    };
    Some(format!("{}–{high}", short.unwrap_or(low)))
}

/// A duration with about two digits: `45 s`, `3 min`, `2 h 10 min`, `3 d 4 h`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).ceil() as u64;
    let two = |large: u64, a: &str, small: u64, b: &str| {
        if small == 0 {
            format!("{large} {a}")
        } else {
            format!("{large} {a} {small} {b}")
        }
    };
    match s {
        0..100 => format!("{s} s"),
        100..6_000 => format!("{} min", (s + 30) / 60),
        6_000..172_800 => {
            let minutes = (s + 300) / 600 * 10;
            two(minutes / 60, "h", minutes % 60, "min")
        }
        _ => {
            let hours = (s + 1_800) / 3_600;
            two(hours / 24, "d", hours % 24, "h")
        }
    }
}

/// `0:03:12`, so that it does not jump.
fn clock(elapsed: Duration) -> String {
    let s = elapsed.as_secs();
    format!("{}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

/// A count with commas from five digits on: `9999`, `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use common::summary::VerdictCounts;

    use super::*;

    fn busy() -> Moment {
        let verdicts = VerdictCounts {
            certified_minimum: 11_204,
            saddle: 120,
            kink: 41,
            diverging: 3,
            budget_exhausted: 17,
            ..VerdictCounts::default()
        };
        Moment {
            planned: 43_200,
            recorded: 11_385,
            failed: 2,
            leased: 16,
            workers: 3,
            slots: 16,
            verdicts,
            certified: 11_204,
            worst_excess: Some(-0.0123),
            rate: Some(59.3),
            left: Some(Estimate {
                seconds: 540.0,
                interval: Some((470.0, 640.0)),
                longest: 0.0,
            }),
            ..Moment::default()
        }
    }

    fn view(moment: &Moment) -> View<'_> {
        View {
            moment,
            elapsed: Duration::from_secs(192),
        }
    }

    #[test]
    fn two_lines_fit_a_narrow_terminal_and_say_more_on_a_wide_one() {
        let moment = busy();
        let narrow = view(&moment).bar(80, Paint(false));
        assert_eq!(
            narrow,
            "0:03:12  ━━━━──────────────  11,387/43,200 26 %  9 min left (8–11 min), 59.3/s\n  \
             certified 11,204 · uncertified 181 · failed 2 · worst excess -1.2e-2"
        );
        let wide = view(&moment).bar(140, Paint(false));
        assert!(
            wide.ends_with(
                "3 workers · 16 slots · certified 11,204 · saddle 120 · kink 41 · diverging 3 · \
                 out of budget 17 · failed 2 · worst excess -1.2e-2"
            ),
            "{wide}"
        );
        for (columns, text) in [(80, narrow), (140, wide)] {
            assert!(text.lines().all(|l| width(l) < columns), "{text}");
            assert_eq!(text.lines().count(), 2);
        }
    }

    #[test]
    fn any_width_is_kept_to() {
        let moment = Moment {
            violations: 12_000_000,
            violations_inside: 12_000_000,
            failed: 99_999_999,
            ..busy()
        };
        for columns in 40..160 {
            let text = view(&moment).bar(columns, Paint(false));
            assert!(
                text.lines().all(|l| width(l) <= columns),
                "{columns}: {text}"
            );
            assert!(text.contains("VIOLATIONS"), "{columns}: {text}");
        }
    }

    #[test]
    fn only_what_the_theorem_forbids_is_a_violation() {
        let mut moment = Moment {
            violations: 6,
            ..busy()
        };
        let text = view(&moment).bar(140, Paint(true));
        assert!(text.contains("above baseline 6"), "{text:?}");
        assert!(!text.contains("VIOLATIONS"), "{text:?}");
        moment.violations_inside = 2;
        let text = view(&moment).bar(140, Paint(true));
        assert!(text.contains("above baseline 4"), "{text:?}");
        assert!(text.contains("\x1b[1;31mVIOLATIONS 2\x1b[0m"), "{text:?}");
    }

    #[test]
    fn colours_are_codes_around_the_same_text() {
        let moment = busy();
        let painted = view(&moment).bar(100, Paint(true));
        assert!(painted.contains("\x1b[1;31mfailed 2\x1b[0m"), "{painted:?}");
        let mut plain = painted;
        for code in [GREEN, YELLOW, RED, CYAN, DIM, "0"] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(plain, view(&moment).bar(100, Paint(false)));
    }

    #[test]
    fn a_line_for_a_file_says_everything_once() {
        let moment = busy();
        assert_eq!(
            view(&moment).line(),
            "11387/43200 26 %, 9 min left (8–11 min), 59.3/s, 3 workers, 16 slots, certified \
             11,204, saddle 120, kink 41, diverging 3, out of budget 17, failed 2, worst excess \
             -1.2e-2"
        );
        let waiting = Moment {
            planned: 8,
            ..Moment::default()
        };
        let view = View {
            moment: &waiting,
            elapsed: Duration::ZERO,
        };
        assert_eq!(view.line(), "0/8 0 %, no worker, certified 0");
    }

    #[test]
    fn durations_and_counts_are_short() {
        let durations = [0.2, 99.0, 100.0, 3_725.0, 7_400.0, 86_400.0, 400_000.0];
        assert_eq!(
            durations.map(duration),
            ["1 s", "99 s", "2 min", "62 min", "2 h", "24 h", "4 d 15 h"]
        );
        assert_eq!(
            [0, 9_999, 10_000, 1_234_567].map(count),
            ["0", "9999", "10,000", "1,234,567"]
        );
    }
}
