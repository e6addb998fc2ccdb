//! The networks that are measured: residual bodies with tanh under the squared loss.

use clap::ValueEnum;
use common::decode::decode_cell;
use common::layout::standard_start;
use common::math::Isa;
use engine::objective::{Chart, Objective};
use engine::task::Cell;
use serde_json::{Value, json};

/// A network and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Case {
    /// 100 rows of a teacher, 5 inputs, 2 outputs; width 10, depth 2.
    #[value(name = "S")]
    S,
    /// Diabetes; width 32, depth 8.
    #[value(name = "M")]
    M,
    /// Digits, one-hot; width 64, depth 16.
    #[value(name = "L")]
    L,
    /// Digits, one-hot; width 256, depth 32.
    #[value(name = "XL")]
    Xl,
}

/// A case made ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) case: Case,
    /// The specification as the grid has it, without regulariser.
    pub(super) json: String,
    pub(super) cell: Cell,
}

impl Case {
    /// Width and depth.
    pub(super) fn size(self) -> (usize, usize) {
        match self {
            Self::S => (10, 2),
            Self::M => (32, 8),
            Self::L => (64, 16),
            Self::Xl => (256, 32),
        }
    }

    fn data(self) -> Value {
        match self {
            Self::S => json!({
                "generate": "teacher", "rows": 100, "inputs": 5, "outputs": 2, "body": "mlp",
                "depth": 1, "width": 3, "activation": "tanh", "noise": 0.1, "seed": 0,
            }),
            Self::M => json!("diabetes"),
            Self::L | Self::Xl => json!("digits"),
        }
    }

    /// Hessian-vector products are measured: those of XL are never asked for.
    pub(super) fn has_products(self) -> bool {
        self != Self::Xl
    }

    /// Small enough for minima by the dozen.
    pub(super) fn has_minima(self) -> bool {
        matches!(self, Self::S | Self::M)
    }

    /// Large enough for several threads.
    pub(super) fn is_large(self) -> bool {
        matches!(self, Self::L | Self::Xl)
    }

    /// Seeds whose minima are measured.
    pub(super) fn seeds(self) -> u64 {
        match self {
            Self::S => 20,
            _ => 10,
        }
    }

    pub(super) fn ready(self) -> anyhow::Result<Ready> {
        let (width, depth) = self.size();
        let json = json!({
            "data": self.data(), "body": "residual", "width": width, "depth": depth,
            "activation": "tanh", "loss": "squared",
            "regularizer": {"predictor_ridge": 0.0, "body_decay": 0.0},
        })
        .to_string();
        let cell = Cell::new(decode_cell(&json)?, |_| None)?;
        Ok(Ready {
            case: self,
            json,
            cell,
        })
    }
}

impl Ready {
    /// The standard start of a seed.
    pub(super) fn start(&self, seed: u64) -> Vec<f64> {
        standard_start(self.cell.arrays(), seed, 1.0)
    }

    /// The objective in θ.
    pub(super) fn objective(&self, threads: usize) -> Objective<'_> {
        let problem = self.cell.problem();
        Objective::new(problem, Chart::Theta, None, Isa::current(), threads)
    }
}
