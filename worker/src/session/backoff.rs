//! How long to wait before trying to connect again.

use std::time::Duration;

/// First pause.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause: after a restart of the coordinator its workers are back
/// within this time.
const LONGEST: Duration = Duration::from_secs(2);

/// The pause after the `attempt`-th failure in a row (from 0), with a random
/// word: between half and the whole of a bound that doubles up to
/// two seconds. Half of it is drawn so that a thousand workers do not return
/// at once.
pub fn pause(attempt: u32, random: u64) -> Duration {
    let bound = FIRST
        .saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX))
        .min(LONGEST);
    let half = bound / 2;
    let drawn = (u128::from(random) * half.as_nanos()) >> 64;
    half + Duration::from_nanos(drawn as u64)
}

/// The next word of a small generator (SplitMix64, Steele, Lea & Flood 2014).
/// Only for pauses: nothing that is recorded depends on it.
pub fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_half_of_each_is_drawn() {
        assert_eq!(pause(0, 0), Duration::from_millis(50));
        assert!(pause(0, u64::MAX) < Duration::from_millis(100));
        assert_eq!(pause(3, 0), Duration::from_millis(400));
        for attempt in [5, 31, 32, u32::MAX] {
            assert_eq!(pause(attempt, 0), Duration::from_secs(1));
            assert!(pause(attempt, u64::MAX) <= Duration::from_secs(2));
        }
    }
}
