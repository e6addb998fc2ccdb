//! Combinations of axes without a list of them.
//!
//! A [`Space`] is the product of axes of known lengths minus the combinations
//! that its exclusions match. It counts what is left, finds the n-th of it and
//! the number of a given one, and walks it in order, all without visiting
//! what lies between: the count of everything behind a prefix depends only on
//! *which exclusions the prefix has not yet contradicted*, so counts are kept
//! by (axis, set of exclusions still alive). Memory and time grow with the
//! exclusions and the positions they name, never with the lengths of axes.
//!
//! Order: the first axis is the slowest. Positions count from 0. What stands
//! at a position is nobody's business here.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Most (axis, set) pairs that are counted. Beyond it a grid's exclusions
/// interlock so much that counting becomes listing.
const MAX_STATES: usize = 20_000;

/// Combinations to leave out: those that stand at one of the given positions
/// of every named axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// Positions by axis; an axis that is absent may stand anywhere.
    pub positions: BTreeMap<usize, Vec<u64>>,
}

/// Why a space cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// More combinations than 2⁶³.
    #[error("the axes have more than 2^63 combinations")]
    TooLarge,
    /// Exclusions that interlock beyond what is counted.
    #[error("the {exclusions} exclusions interlock in more than {MAX_STATES} ways")]
    TooIntricate {
        /// How many there are.
        exclusions: usize,
    },
}

/// Exclusions that a prefix has not contradicted, ascending.
type Alive = Vec<u32>;

/// See the module's page.
#[derive(Clone, Debug)]
pub struct Space {
    lens: Vec<u64>,
    /// Product of the lengths from an axis on; one longer than `lens`.
    behind: Vec<u64>,
    /// For each axis and exclusion that constrains it: positions, ascending.
    constraints: Vec<HashMap<u32, Vec<u64>>>,
    /// The last axis that an exclusion constrains.
    last: Vec<usize>,
    counts: HashMap<(usize, Alive), u64>,
    all: Alive,
    len: u64,
}

impl Space {
    /// A space of axes with the given lengths.
    ///
    /// # Errors
    /// [`SpaceError`] where it cannot be counted.
    ///
    /// # Panics
    /// If an exclusion names an axis that is not there, or none.
    pub fn new(lens: Vec<u64>, exclusions: &[Exclusion]) -> Result<Self, SpaceError> {
        let mut behind = vec![1_u64; lens.len() + 1];
        for axis in (0..lens.len()).rev() {
            behind[axis] = behind[axis + 1]
                .checked_mul(lens[axis])
                .filter(|n| *n <= 1 << 63)
                .ok_or(SpaceError::TooLarge)?;
        }
        let mut constraints = vec![HashMap::new(); lens.len()];
        let mut last = Vec::with_capacity(exclusions.len());
        for (i, exclusion) in (0_u32..).zip(exclusions) {
            for (&axis, positions) in &exclusion.positions {
                let mut sorted: Vec<u64> = positions.clone();
                sorted.sort_unstable();
                sorted.dedup();
                sorted.retain(|p| *p < lens[axis]);
                constraints[axis].insert(i, sorted);
            }
            let (&axis, _) = exclusion
                .positions
                .last_key_value()
                .expect("an exclusion names an axis");
            last.push(axis);
        }
        let all = (0..last.len() as u32).collect();
        let mut space = Self {
            lens,
            behind,
            constraints,
            last,
            counts: HashMap::new(),
            all,
            len: 0,
        };
        let mut counts = HashMap::new();
        space.len = space.fill(0, &space.all, &mut counts)?;
        space.counts = counts;
        Ok(space)
    }

    /// Combinations that are left.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lengths of the axes.
    pub fn lens(&self) -> &[u64] {
        &self.lens
    }

    /// Combinations of the product that are excluded.
    pub fn excluded(&self) -> u64 {
        self.behind[0] - self.len
    }

    /// The exclusions still alive behind one more coordinate, or `None` where
    /// one of them has matched in full.
    fn advance(&self, axis: usize, alive: &[u32], position: u64) -> Option<Alive> {
        let mut next = Vec::with_capacity(alive.len());
        for &e in alive {
            match self.constraints[axis].get(&e) {
                None => next.push(e),
                Some(positions) if positions.binary_search(&position).is_ok() => {
                    if self.last[e as usize] == axis {
                        return None;
                    }
                    next.push(e);
                }
                Some(_) => {}
            }
        }
        Some(next)
    }

    /// The same for every position that no exclusion alive names.
    fn elsewhere(&self, axis: usize, alive: &[u32]) -> Alive {
        let constrained = &self.constraints[axis];
        alive
            .iter()
            .copied()
            .filter(|e| !constrained.contains_key(e))
            .collect()
    }

    /// Positions that exclusions alive name, ascending.
    fn named(&self, axis: usize, alive: &[u32]) -> Vec<u64> {
        let mut out: Vec<u64> = alive
            .iter()
            .filter_map(|e| self.constraints[axis].get(e))
            .flatten()
            .copied()
            .collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    fn fill(
        &self,
        axis: usize,
        alive: &[u32],
        counts: &mut HashMap<(usize, Alive), u64>,
    ) -> Result<u64, SpaceError> {
        if alive.is_empty() {
            return Ok(self.behind[axis]);
        }
        let key = (axis, alive.to_vec());
        if let Some(&known) = counts.get(&key) {
            return Ok(known);
        }
        if counts.len() >= MAX_STATES {
            return Err(SpaceError::TooIntricate {
                exclusions: self.last.len(),
            });
        }
        let named = self.named(axis, alive);
        let others = self.lens[axis] - named.len() as u64;
        let mut total = 0;
        if others > 0 {
            total = others * self.fill(axis + 1, &self.elsewhere(axis, alive), counts)?;
        }
        for &position in &named {
            if let Some(next) = self.advance(axis, alive, position) {
                total += self.fill(axis + 1, &next, counts)?;
            }
        }
        counts.insert(key, total);
        Ok(total)
    }

    /// Combinations behind a prefix of which these exclusions are alive.
    fn count(&self, axis: usize, alive: &[u32]) -> u64 {
        if alive.is_empty() {
            return self.behind[axis];
        }
        // Every state that can be reached was counted when the space was made.
        let key = (axis, alive.to_vec());
        self.counts.get(&key).copied().unwrap_or(0)
    }

    /// The n-th combination that is left: a position on every axis.
    pub fn get(&self, n: u64) -> Option<Vec<u64>> {
        if n >= self.len {
            return None;
        }
        let mut rest = n;
        let mut alive = self.all.clone();
        let mut out = Vec::with_capacity(self.lens.len());
        for axis in 0..self.lens.len() {
            let position = self.descend(axis, &alive, &mut rest);
            alive = self.advance(axis, &alive, position)?;
            out.push(position);
        }
        Some(out)
    }

    /// Goes from a combination to the next one, in its place. False where only [`Space::get`]
    /// knows it: where something is excluded, and at the end.
    pub fn step(&self, positions: &mut [u64]) -> bool {
        if !self.all.is_empty() {
            return false;
        }
        for (position, len) in positions.iter_mut().zip(&self.lens).rev() {
            *position += 1;
            if *position < *len {
                return true;
            }
            *position = 0;
        }
        false
    }

    /// The position on one axis under which the `rest`-th combination lies;
    /// leaves in `rest` its number there.
    fn descend(&self, axis: usize, alive: &[u32], rest: &mut u64) -> u64 {
        let each = self.count(axis + 1, &self.elsewhere(axis, alive));
        // First position after the last named one.
        let mut free = 0;
        for position in self.named(axis, alive) {
            let gap = (position - free) * each;
            if *rest < gap {
                break;
            }
            *rest -= gap;
            let here = self
                .advance(axis, alive, position)
                .map_or(0, |next| self.count(axis + 1, &next));
            if *rest < here {
                return position;
            }
            *rest -= here;
            free = position + 1;
        }
        let position = free + *rest / each;
        *rest %= each;
        position
    }

    /// The number of a combination among those left; `None` if it is excluded
    /// or no combination at all.
    pub fn rank(&self, positions: &[u64]) -> Option<u64> {
        if positions.len() != self.lens.len() {
            return None;
        }
        let mut alive = self.all.clone();
        let mut before = 0;
        for (axis, &position) in positions.iter().enumerate() {
            if position >= self.lens[axis] {
                return None;
            }
            let each = self.count(axis + 1, &self.elsewhere(axis, &alive));
            let named = self.named(axis, &alive);
            let smaller = named.partition_point(|p| *p < position);
            before += (position - smaller as u64) * each;
            for &p in &named[..smaller] {
                if let Some(next) = self.advance(axis, &alive, p) {
                    before += self.count(axis + 1, &next);
                }
            }
            alive = self.advance(axis, &alive, position)?;
        }
        Some(before)
    }

    /// Whether some combination is left that stands at the given positions;
    /// `None` stands anywhere.
    pub fn exists(&self, fixed: &[Option<u64>]) -> bool {
        let mut hopeless = HashSet::new();
        self.search(0, &self.all, fixed, &mut hopeless)
    }

    fn search(
        &self,
        axis: usize,
        alive: &[u32],
        fixed: &[Option<u64>],
        hopeless: &mut HashSet<(usize, Alive)>,
    ) -> bool {
        if axis == self.lens.len() {
            return true;
        }
        if self.count(axis, alive) == 0 || hopeless.contains(&(axis, alive.to_vec())) {
            return false;
        }
        let mut go = |next: Option<Alive>| {
            next.is_some_and(|next| self.search(axis + 1, &next, fixed, hopeless))
        };
        let found = match fixed.get(axis).copied().flatten() {
            Some(position) => position < self.lens[axis] && go(self.advance(axis, alive, position)),
            None => {
                let named = self.named(axis, alive);
                (named.len() as u64) < self.lens[axis] && go(Some(self.elsewhere(axis, alive)))
                    || named.iter().any(|&p| go(self.advance(axis, alive, p)))
            }
        };
        if !found {
            hopeless.insert((axis, alive.to_vec()));
        }
        found
    }

    /// Positions of one axis that stand for all of it where a property is
    /// monotone in the position: every position that an exclusion names, and
    /// enough from both ends that one of them is named by none.
    pub fn representatives(&self, axis: usize) -> Vec<u64> {
        let mut out = self.named(axis, &self.all);
        let len = self.lens[axis];
        let ends = (out.len() as u64 + 1).min(len);
        out.extend(0..ends);
        out.extend(len - ends..len);
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The combinations that are left, in order, from the n-th on.
    pub fn walk(&self, from: u64) -> Walk<'_> {
        Walk::new(self, from)
    }
}

/// Walks a [`Space`] in order; lends each combination.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    space: &'a Space,
    positions: Vec<u64>,
    /// Exclusions alive before each axis.
    alive: Vec<Alive>,
    state: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// `positions` is the next combination to be lent.
    Ready,
    /// `positions` has been lent.
    Lent,
    Done,
}

impl<'a> Walk<'a> {
    fn new(space: &'a Space, from: u64) -> Self {
        let mut walk = Self {
            space,
            positions: Vec::new(),
            alive: vec![Vec::new(); space.lens.len() + 1],
            state: Step::Done,
        };
        if let Some(positions) = space.get(from) {
            walk.alive[0].clone_from(&space.all);
            for (axis, &p) in positions.iter().enumerate() {
                let next = space.advance(axis, &walk.alive[axis], p);
                walk.alive[axis + 1] = next.unwrap_or_default();
            }
            walk.positions = positions;
            walk.state = Step::Ready;
        }
        walk
    }

    /// The next combination: a position on every axis.
    pub fn next_positions(&mut self) -> Option<&[u64]> {
        let more = match self.state {
            Step::Done => false,
            Step::Ready => true,
            Step::Lent => self.step(),
        };
        self.state = if more { Step::Lent } else { Step::Done };
        more.then_some(&self.positions[..])
    }

    /// Moves to the following combination.
    fn step(&mut self) -> bool {
        let axes = self.positions.len();
        let Some(mut axis) = axes.checked_sub(1) else {
            return false;
        };
        self.positions[axis] += 1;
        loop {
            if self.positions[axis] >= self.space.lens[axis] {
                if axis == 0 {
                    return false;
                }
                axis -= 1;
                self.positions[axis] += 1;
                continue;
            }
            if !self.enter(axis) {
                self.positions[axis] += 1;
                continue;
            }
            axis += 1;
            if axis == axes {
                return true;
            }
            self.positions[axis] = 0;
        }
    }

    /// Takes the position of an axis; `false` where nothing is left under it.
    fn enter(&mut self, axis: usize) -> bool {
        if self.alive[axis].is_empty() {
            self.alive[axis + 1].clear();
            return true;
        }
        match self
            .space
            .advance(axis, &self.alive[axis], self.positions[axis])
        {
            Some(next) if self.space.count(axis + 1, &next) > 0 => {
                self.alive[axis + 1] = next;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exclusion(pairs: &[(usize, &[u64])]) -> Exclusion {
        Exclusion {
            positions: pairs.iter().map(|(a, p)| (*a, p.to_vec())).collect(),
        }
    }

    fn matches(e: &Exclusion, positions: &[u64]) -> bool {
        e.positions
            .iter()
            .all(|(axis, set)| set.contains(&positions[*axis]))
    }

    /// Every combination that is left, by looking at each.
    fn listed(lens: &[u64], exclusions: &[Exclusion]) -> Vec<Vec<u64>> {
        let mut out = vec![Vec::new()];
        for &len in lens {
            out = out
                .iter()
                .flat_map(|prefix: &Vec<u64>| (0..len).map(|p| [prefix.as_slice(), &[p]].concat()))
                .collect();
        }
        out.retain(|positions| !exclusions.iter().any(|e| matches(e, positions)));
        out
    }

    #[test]
    fn a_thousand_million_combinations_are_a_number_and_a_rule() {
        let lens = vec![1000, 7, 1_000_000_000];
        let out = [
            exclusion(&[(0, &[3]), (2, &[999_999_999])]),
            exclusion(&[(1, &[2])]),
        ];
        let space = Space::new(lens, &out).unwrap();
        assert_eq!(space.len(), 1000 * 6 * 1_000_000_000 - 6);
        assert_eq!(space.excluded(), 1000 * 1_000_000_000 + 6);
        let last = space.get(space.len() - 1).unwrap();
        assert_eq!(last, [999, 6, 999_999_999]);
        assert_eq!(space.rank(&last), Some(space.len() - 1));
        assert_eq!(space.get(space.len()), None);
        assert_eq!(space.rank(&[0, 2, 0]), None);
        let mut walk = space.walk(6_000_000_000 * 3 + 999_999_998);
        assert_eq!(walk.next_positions(), Some(&[3, 0, 999_999_998][..]));
        assert_eq!(walk.next_positions(), Some(&[3, 1, 0][..]));
    }

    #[test]
    fn too_many_combinations_are_refused() {
        let e = Space::new(vec![1 << 32, 1 << 32], &[]).unwrap_err();
        assert_eq!(e, SpaceError::TooLarge);
    }

    #[test]
    fn exclusions_that_interlock_too_much_are_refused() {
        // Each of 40 exclusions takes a random half of each of 10 axes: nearly
        // every prefix leaves another set of them alive.
        let rng = crate::rng::Philox::new(1);
        let draw =
            |e: u32, a: u32, p: u32| rng.uniform(crate::rng::Purpose::Estimate, e, a, p) < 0.5;
        let exclusions: Vec<Exclusion> = (0..40)
            .map(|e| Exclusion {
                positions: (0..10_u32)
                    .map(|a| {
                        let half = (0..64).filter(|p| draw(e, a, *p)).map(u64::from);
                        (a as usize, half.collect())
                    })
                    .collect(),
            })
            .collect();
        let e = Space::new(vec![64; 10], &exclusions).unwrap_err();
        assert_eq!(e, SpaceError::TooIntricate { exclusions: 40 });
    }

    #[test]
    fn a_space_without_axes_has_one_combination() {
        let space = Space::new(vec![], &[]).unwrap();
        assert_eq!((space.len(), space.get(0)), (1, Some(vec![])));
        let mut walk = space.walk(0);
        assert_eq!(walk.next_positions(), Some(&[][..]));
        assert_eq!(walk.next_positions(), None);
    }

    fn spaces() -> impl Strategy<Value = (Vec<u64>, Vec<Exclusion>)> {
        let lens = proptest::collection::vec(0..5_u64, 1..5);
        lens.prop_flat_map(|lens| {
            let axes = lens.len();
            let one = proptest::collection::btree_map(
                0..axes,
                proptest::collection::vec(0..5_u64, 0..3),
                1..=axes,
            )
            .prop_map(|positions| Exclusion { positions });
            (Just(lens), proptest::collection::vec(one, 0..6))
        })
    }

    proptest! {
        #[test]
        fn a_space_is_the_list_it_does_not_make((lens, exclusions) in spaces(), from in 0..20_u64) {
            let want = listed(&lens, &exclusions);
            let space = Space::new(lens.clone(), &exclusions).unwrap();
            prop_assert_eq!(space.len(), want.len() as u64);
            for (n, positions) in (0..).zip(&want) {
                prop_assert_eq!(&space.get(n), &Some(positions.clone()));
                prop_assert_eq!(space.rank(positions), Some(n));
            }
            prop_assert_eq!(space.get(space.len()), None);
            let mut walk = space.walk(from);
            let mut walked = Vec::new();
            while let Some(positions) = walk.next_positions() {
                walked.push(positions.to_vec());
            }
            let rest = want.get(from as usize..).unwrap_or_default();
            prop_assert_eq!(&walked[..], rest);
        }

        #[test]
        fn existence_is_that_of_a_listed_combination(
            (lens, exclusions) in spaces(),
            fixed in proptest::collection::vec(proptest::option::of(0..5_u64), 4),
        ) {
            let space = Space::new(lens.clone(), &exclusions).unwrap();
            let fixed = &fixed[..lens.len()];
            let fits = |positions: &Vec<u64>| {
                positions.iter().zip(fixed).all(|(p, f)| f.is_none_or(|f| f == *p))
            };
            prop_assert_eq!(space.exists(fixed), listed(&lens, &exclusions).iter().any(fits));
        }

        #[test]
        fn representatives_see_what_a_monotone_property_can_show(
            (lens, exclusions) in spaces(), threshold in 0..6_u64, falling in any::<bool>(),
        ) {
            // If some combination left has the property on axis 0, one at a
            // representative does.
            let holds = |p: u64| if falling { p <= threshold } else { p >= threshold };
            let space = Space::new(lens.clone(), &exclusions).unwrap();
            let some = listed(&lens, &exclusions).iter().any(|c| holds(c[0]));
            let seen = space.representatives(0).into_iter().any(|p| {
                let mut fixed = vec![None; lens.len()];
                fixed[0] = Some(p);
                holds(p) && space.exists(&fixed)
            });
            prop_assert_eq!(seen, some);
        }
    }
}
