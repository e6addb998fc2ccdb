//! How long to wait after something could not be started.

use std::time::Duration;

/// The pause after this many failures in a row: `first`, doubled with each
/// further one, and at most `longest`.
pub fn pause(failures: u32, first: Duration, longest: Duration) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    first.saturating_mul(doubled).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pause = |n| pause(n, Duration::from_secs(1), Duration::from_secs(60)).as_secs();
        let all = [0, 1, 2, 3, 6, 7, 8, 40, u32::MAX].map(pause);
        assert_eq!(all, [1, 1, 2, 4, 32, 60, 60, 60, 60]);
    }
}
