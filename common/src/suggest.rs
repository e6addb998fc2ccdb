//! "Did you mean …?": the known name nearest to a mistyped one.

/// The candidate nearest to `word`, if it is near enough to be what was meant.
///
/// Near means: equal but for case and separators, or at most a third of the
/// letters (at least one) inserted, deleted, replaced or swapped with their
/// neighbour. The first of several equally near candidates wins.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let plain = |s: &str| -> Vec<char> {
        s.chars()
            .filter(|c| !matches!(c, '_' | '-' | ' '))
            .flat_map(char::to_lowercase)
            .collect()
    };
    let word = plain(word);
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let letters = plain(candidate);
        let allowed = (word.len().max(letters.len()) / 3).max(1);
        // A one-letter name is no misspelling of another one.
        if letters.len() > LONGEST || word.len().min(letters.len()) <= allowed && word != letters {
            continue;
        }
        let distance = edit_distance(&word, &letters);
        if distance <= allowed && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insertions, deletions, replacements and
/// swaps of neighbours, no part edited twice.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = above;
        above = row;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name_that_was_meant() {
        let known = ["activation", "depth", "width", "tanh", "atan", "leaky_relu"];
        for (typed, meant) in [
            ("activaton", "activation"),
            ("dpeth", "depth"),
            ("widht", "width"),
            ("tanhh", "tanh"),
            ("LeakyReLU", "leaky_relu"),
            ("leaky-relu", "leaky_relu"),
        ] {
            assert_eq!(nearest(typed, known), Some(meant), "{typed}");
        }
    }

    #[test]
    fn an_unrelated_word_suggests_nothing() {
        for typed in ["", "x", "banana", "momentum", &"a".repeat(1000)] {
            assert_eq!(
                nearest(typed, ["activation", "depth", "sin", "t"]),
                None,
                "{typed}"
            );
        }
    }
}
