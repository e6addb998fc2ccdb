//! Which form of the virtual vector this process uses.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// A form of the virtual vector. All forms give the same bits; they differ in
/// speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CpuLevel {
    /// Arrays of eight numbers; whatever the compiler makes of them.
    Portable,
    /// Two 256-bit registers, AVX2 and FMA.
    Avx2,
    /// One 512-bit register, AVX-512 F, DQ and VL.
    Avx512,
}

/// The processor lacks the instructions of a requested level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this processor does not support the cpu level `{requested}`; the best it supports is `{best}`"
)]
pub struct UnsupportedCpuLevel {
    /// What was asked for.
    pub requested: CpuLevel,
    /// What [`CpuLevel::detect`] finds.
    pub best: CpuLevel,
}

static CHOSEN: OnceLock<Isa> = OnceLock::new();

/// A level that this processor has been checked to support: what vectorised
/// functions take, so that they cannot be called with instructions that do
/// not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(CpuLevel);

impl Isa {
    /// Checks a level.
    ///
    /// # Errors
    /// [`UnsupportedCpuLevel`] if the processor lacks the instructions.
    pub fn new(level: CpuLevel) -> Result<Self, UnsupportedCpuLevel> {
        let best = CpuLevel::detect();
        if level <= best {
            Ok(Self(level))
        } else {
            Err(UnsupportedCpuLevel {
                requested: level,
                best,
            })
        }
    }

    /// What this process uses: the forced level, else the best one.
    #[inline]
    pub fn current() -> Self {
        *CHOSEN.get_or_init(|| Self(CpuLevel::detect()))
    }

    /// Fixes what [`Isa::current`] returns for the rest of the process.
    /// Returns the level in use, which is another one if the choice had
    /// already been made.
    ///
    /// # Errors
    /// [`UnsupportedCpuLevel`] if the processor lacks the instructions.
    pub fn force(level: CpuLevel) -> Result<Self, UnsupportedCpuLevel> {
        let isa = Self::new(level)?;
        Ok(*CHOSEN.get_or_init(|| isa))
    }

    /// The level's name and rank.
    #[inline]
    pub fn level(self) -> CpuLevel {
        self.0
    }
}

impl CpuLevel {
    /// All levels, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// The best level that this processor supports.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
            {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// Whether this processor can run the level.
    pub fn is_supported(self) -> bool {
        self <= Self::detect()
    }

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CpuLevel {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.name() == s)
            .ok_or_else(|| format!("unknown cpu level `{s}`; allowed: portable, avx2, avx512"))
    }
}
