//! Stochastic gradient descent with momentum over batches of rows.
//!
//! v ← μ v − η g_b, x ← x + v, with g_b the gradient of batch b's mean loss and the penalties
//! (Robbins & Monro 1951; Polyak 1964). Every epoch goes once over all batches, in an order drawn
//! from the run's key; η = η₀/(1 + epoch/50). An epoch that ends in numbers that are not finite is
//! taken back, and η₀ halved.

use common::rng::{Philox, Purpose};
use serde::{Deserialize, Serialize};

/// Rows of a batch, about.
pub const BATCH_ROWS: usize = 32;

const MOMENTUM: f64 = 0.9;
const RATE: f64 = 0.05;
/// Epochs in which the rate halves for the first time.
const DECAY: f64 = 50.0;

/// State between two epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    x: Vec<f64>,
    velocity: Vec<f64>,
    rate: f64,
    epoch: u32,
    epochs: u32,
}

impl Sgd {
    /// Starts at `x`, for so many epochs.
    pub fn new(x: Vec<f64>, epochs: u32) -> Self {
        Self {
            velocity: vec![0.0; x.len()],
            x,
            rate: RATE,
            epoch: 0,
            epochs,
        }
    }

    /// Where it is.
    pub fn point(&self) -> &[f64] {
        &self.x
    }

    /// Whether all epochs are done.
    pub fn is_over(&self) -> bool {
        self.epoch >= self.epochs
    }

    /// One epoch; `gradient(b, x, out)` gives the gradient of batch b.
    pub fn epoch(
        &mut self,
        batches: usize,
        key: Philox,
        mut gradient: impl FnMut(usize, &[f64], &mut [f64]),
    ) {
        let before = self.x.clone();
        let rate = self.rate / (1.0 + f64::from(self.epoch) / DECAY);
        let mut g = vec![0.0; self.x.len()];
        for b in order(batches, key, self.epoch) {
            gradient(b, &self.x, &mut g);
            for ((x, v), g) in self.x.iter_mut().zip(&mut self.velocity).zip(&g) {
                *v = MOMENTUM * *v - rate * g;
                *x += *v;
            }
        }
        if self.x.iter().any(|x| !x.is_finite()) {
            self.x = before;
            self.velocity.fill(0.0);
            self.rate *= 0.5;
        }
        self.epoch += 1;
    }
}

/// The batches of an epoch in the order drawn for it (Fisher & Yates).
fn order(batches: usize, key: Philox, epoch: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..batches).collect();
    for i in (1..batches).rev() {
        let j = key.below(i as u64 + 1, Purpose::Sgd, epoch, i as u32, 0);
        order.swap(i, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_batch_once_in_its_own_order() {
        let key = Philox::new(3);
        let orders: Vec<Vec<usize>> = (0..4).map(|epoch| order(14, key, epoch)).collect();
        for o in &orders {
            let mut sorted = o.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..14).collect::<Vec<_>>());
        }
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[2], order(14, key, 2));
    }

    #[test]
    fn it_comes_near_the_minimum_of_a_mean_of_parabolas() {
        // ½(x − b)² over b = 0, 1, 2, 3: the minimum is at 1.5.
        let mut sgd = Sgd::new(vec![40.0], 400);
        while !sgd.is_over() {
            sgd.epoch(4, Philox::new(1), |b, x, g| g[0] = x[0] - b as f64);
        }
        assert!((sgd.point()[0] - 1.5).abs() < 0.2, "{:?}", sgd.point());
    }

    #[test]
    fn an_epoch_that_overflows_is_taken_back() {
        let mut sgd = Sgd::new(vec![1.0], 10);
        sgd.epoch(3, Philox::new(1), |_, _, g| g[0] = f64::INFINITY);
        assert_eq!((sgd.point(), sgd.rate), (&[1.0][..], 0.5 * RATE));
    }
}
