//! What a formula says: its syntax as a tree.

/// A formula in one variable `t`.
///
/// Two formulas are the same when their trees are: spaces, parentheses that
/// change nothing, the way a number is written and `pi` for its value make no
/// difference; `t + 1` and `1 + t` are two formulas. Numbers are finite and
/// not negative zero; a minus before a number other than 0 is part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A number.
    Number(f64),
    /// `t`
    Variable,
    /// `-a`
    Negative(Box<Tree>),
    /// `a op b`
    Operation(Operator, Box<Tree>, Box<Tree>),
    /// `f(a)`
    Call(Function, Box<Tree>),
    /// `f(a, b)`
    CallTwo(FunctionOfTwo, Box<Tree>, Box<Tree>),
}

/// The operators between two terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `^`, to the right first: `2^3^2 = 2^9`
    Power,
}

impl Operator {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Power => "^",
        }
    }
}

/// The functions of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the mathematics")]
pub enum Function {
    Exp,
    /// Natural logarithm
    Log,
    /// log(1 + a)
    Log1p,
    Sqrt,
    Sin,
    Cos,
    Tanh,
    /// arctan a
    Atan,
    Erf,
    /// 1/(1 + e^{−a})
    Sigmoid,
    /// log(1 + e^a)
    Softplus,
    /// a where a > 0, else 0
    Relu,
    Abs,
    /// 1 where a > 0, −1 where a < 0, 0 at 0
    Sign,
}

impl Function {
    /// All, with their names, in the contract's order.
    pub const NAMED: [(&'static str, Self); 14] = [
        ("exp", Self::Exp),
        ("log", Self::Log),
        ("log1p", Self::Log1p),
        ("sqrt", Self::Sqrt),
        ("sin", Self::Sin),
        ("cos", Self::Cos),
        ("tanh", Self::Tanh),
        ("atan", Self::Atan),
        ("erf", Self::Erf),
        ("sigmoid", Self::Sigmoid),
        ("softplus", Self::Softplus),
        ("relu", Self::Relu),
        ("abs", Self::Abs),
        ("sign", Self::Sign),
    ];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        named(&Self::NAMED, &self)
    }
}

/// The functions of two arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FunctionOfTwo {
    /// The smaller one.
    Min,
    /// The larger one.
    Max,
}

impl FunctionOfTwo {
    /// All, with their names.
    pub const NAMED: [(&'static str, Self); 2] = [("min", Self::Min), ("max", Self::Max)];

    /// The name it is called by.
    pub fn name(self) -> &'static str {
        named(&Self::NAMED, &self)
    }
}

fn named<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table
        .iter()
        .find(|(_, v)| v == value)
        .map_or("", |(name, _)| name)
}

/// The constants that have a name.
pub const CONSTANTS: [(&str, f64); 2] = [("pi", std::f64::consts::PI), ("e", std::f64::consts::E)];
