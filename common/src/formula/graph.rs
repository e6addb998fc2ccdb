//! Building expressions: shared nodes, simplification, derivatives.
//!
//! The builder knows one operation more than [`Node`]: the integer power,
//! which has the better derivative `k·x^{k−1}·x′` and becomes products when
//! the finished graph is written out.

use std::collections::HashMap;

use super::expr::{Binary, Index, Node, Unary};
use super::tree::{Function, FunctionOfTwo, Operator, Tree};

/// Largest integer exponent that is computed by products.
const MAX_PRODUCTS: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
    Plain(Node),
    /// x^k, k ≥ 2.
    Integer(Index, u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Number(u64),
    Variable,
    Unary(Unary, Index),
    Binary(Binary, Index, Index),
    Select(Index, Index, Index),
    Integer(Index, u32),
}

impl Op {
    fn key(self) -> Key {
        match self {
            Self::Plain(Node::Number(x)) => Key::Number(x.to_bits()),
            Self::Plain(Node::Variable) => Key::Variable,
            Self::Plain(Node::Unary(op, a)) => Key::Unary(op, a),
            Self::Plain(Node::Binary(op, a, b)) => Key::Binary(op, a, b),
            Self::Plain(Node::Select {
                over,
                positive,
                otherwise,
            }) => Key::Select(over, positive, otherwise),
            Self::Integer(a, k) => Key::Integer(a, k),
        }
    }
}

/// A growing list of distinct operations with their derivatives by `t`.
#[derive(Default)]
pub(super) struct Graph {
    ops: Vec<Op>,
    known: HashMap<Key, Index>,
    derivatives: Vec<Option<Index>>,
}

impl Graph {
    fn push(&mut self, op: Op) -> Index {
        *self.known.entry(op.key()).or_insert_with(|| {
            self.ops.push(op);
            self.ops.len() - 1
        })
    }

    fn node(&mut self, node: Node) -> Index {
        self.push(Op::Plain(node))
    }

    fn value_of(&self, a: Index) -> Option<f64> {
        match self.ops[a] {
            Op::Plain(Node::Number(x)) => Some(x),
            _ => None,
        }
    }

    fn number(&mut self, x: f64) -> Index {
        self.node(Node::Number(x))
    }

    /// Constants are folded: the same operation on the same numbers now.
    fn unary(&mut self, op: Unary, a: Index) -> Index {
        match (self.value_of(a), self.ops[a]) {
            (Some(x), _) => self.number(op.apply(x)),
            (_, Op::Plain(Node::Unary(Unary::Negative, inner))) if op == Unary::Negative => inner,
            _ => self.node(Node::Unary(op, a)),
        }
    }

    fn call(&mut self, function: Function, a: Index) -> Index {
        self.unary(Unary::Function(function), a)
    }

    fn binary(&mut self, op: Binary, a: Index, b: Index) -> Index {
        match (self.value_of(a), self.value_of(b)) {
            (Some(x), Some(y)) => self.number(op.apply(x, y)),
            _ => self.node(Node::Binary(op, a, b)),
        }
    }

    // The forms used for derivatives also drop neutral and absorbing
    // constants. Dropping 0·x would hide a NaN of x; the value beside the
    // derivative still shows it.

    fn add(&mut self, a: Index, b: Index) -> Index {
        match (self.value_of(a), self.value_of(b)) {
            (Some(0.0), _) => b,
            (_, Some(0.0)) => a,
            _ => match self.ops[b] {
                Op::Plain(Node::Unary(Unary::Negative, c)) => self.subtract(a, c),
                _ => self.binary(Binary::Add, a, b),
            },
        }
    }

    fn subtract(&mut self, a: Index, b: Index) -> Index {
        match (self.value_of(a), self.value_of(b)) {
            (Some(0.0), _) => self.negative(b),
            (_, Some(0.0)) => a,
            _ => self.binary(Binary::Subtract, a, b),
        }
    }

    fn negative(&mut self, a: Index) -> Index {
        self.unary(Unary::Negative, a)
    }

    fn multiply(&mut self, a: Index, b: Index) -> Index {
        match (self.value_of(a), self.value_of(b)) {
            (Some(x), Some(y)) => self.number(x * y),
            (Some(0.0), _) | (_, Some(0.0)) => self.number(0.0),
            (Some(1.0), _) => b,
            (_, Some(1.0)) => a,
            (Some(-1.0), _) => self.negative(b),
            (_, Some(-1.0)) => self.negative(a),
            _ => self.binary(Binary::Multiply, a, b),
        }
    }

    fn divide(&mut self, a: Index, b: Index) -> Index {
        match (self.value_of(a), self.value_of(b)) {
            (Some(0.0), None) => a,
            (_, Some(1.0)) => a,
            _ => self.binary(Binary::Divide, a, b),
        }
    }

    fn select(&mut self, over: Index, positive: Index, otherwise: Index) -> Index {
        if positive == otherwise {
            return positive;
        }
        match (
            self.value_of(over),
            self.value_of(positive),
            self.value_of(otherwise),
        ) {
            (Some(x), _, _) => {
                if x > 0.0 {
                    positive
                } else {
                    otherwise
                }
            }
            (_, Some(1.0), Some(0.0)) => self.unary(Unary::Step, over),
            _ => self.node(Node::Select {
                over,
                positive,
                otherwise,
            }),
        }
    }

    /// x^y for a constant y: products for small integers, else `pow`.
    fn constant_power(&mut self, a: Index, exponent: f64) -> Index {
        let size = exponent.abs();
        if size.fract() != 0.0 || size > f64::from(MAX_PRODUCTS) {
            let y = self.number(exponent);
            return self.binary(Binary::Power, a, y);
        }
        let power = match size as u32 {
            0 => return self.number(1.0),
            1 => a,
            k => match self.value_of(a) {
                Some(x) => self.number(product_power(x, k, |x, y| x * y)),
                None => self.push(Op::Integer(a, k)),
            },
        };
        if exponent > 0.0 {
            return power;
        }
        let one = self.number(1.0);
        self.binary(Binary::Divide, one, power)
    }

    /// The formula itself, as written but for folded constants.
    pub(super) fn insert(&mut self, tree: &Tree) -> Index {
        match tree {
            Tree::Number(x) => self.number(*x),
            Tree::Variable => self.node(Node::Variable),
            Tree::Negative(a) => {
                let a = self.insert(a);
                self.negative(a)
            }
            Tree::Call(function, a) => {
                let a = self.insert(a);
                self.call(*function, a)
            }
            Tree::CallTwo(function, a, b) => {
                let (a, b) = (self.insert(a), self.insert(b));
                let op = match function {
                    FunctionOfTwo::Min => Binary::Min,
                    FunctionOfTwo::Max => Binary::Max,
                };
                self.binary(op, a, b)
            }
            Tree::Operation(operator, a, b) => {
                let (a, b) = (self.insert(a), self.insert(b));
                let op = match operator {
                    Operator::Add => Binary::Add,
                    Operator::Subtract => Binary::Subtract,
                    Operator::Multiply => Binary::Multiply,
                    Operator::Divide => Binary::Divide,
                    Operator::Power => match self.value_of(b) {
                        Some(y) => return self.constant_power(a, y),
                        None => Binary::Power,
                    },
                };
                self.binary(op, a, b)
            }
        }
    }

    /// The number whose sign decides which piece a kinked node is on.
    fn kink_argument(&mut self, node: Index) -> Option<Index> {
        match self.ops[node] {
            Op::Plain(Node::Unary(
                Unary::Function(Function::Relu | Function::Abs | Function::Sign),
                a,
            )) => Some(a),
            Op::Plain(Node::Binary(Binary::Min | Binary::Max, a, b)) => Some(self.subtract(a, b)),
            _ => None,
        }
    }

    /// The distinct arguments of the kinked nodes that `root` is made of,
    /// without those that do not depend on `t`.
    pub(super) fn kink_arguments(&mut self, root: Index) -> Vec<Index> {
        let used = self.reachable(&[root]);
        let mut found = Vec::new();
        for node in (0..=root).filter(|&i| used[i]) {
            if let Some(u) = self.kink_argument(node)
                && !found.contains(&u)
            {
                found.push(u);
            }
        }
        found.retain(|&u| self.line(u) != Some(0.0));
        found
    }

    /// The slope of a node that is a straight line in t for all t.
    pub(super) fn line(&mut self, node: Index) -> Option<f64> {
        let slope = self.derivative(node);
        let used = self.reachable(&[node]);
        let straight = (0..=node).filter(|&i| used[i]).all(|i| {
            matches!(
                self.ops[i],
                Op::Plain(
                    Node::Number(_)
                        | Node::Variable
                        | Node::Unary(Unary::Negative, _)
                        | Node::Binary(
                            Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide,
                            ..
                        )
                )
            )
        });
        self.value_of(slope).filter(|_| straight)
    }

    /// The derivative of a node by t.
    pub(super) fn derivative(&mut self, root: Index) -> Index {
        // Operands stand before their use, so one pass in order suffices; it
        // visits what `root` is made of and remembers what it found.
        let used = self.reachable(&[root]);
        for node in (0..=root).filter(|&i| used[i]) {
            if self.derivatives.get(node).copied().flatten().is_none() {
                let d = self.differentiate(node);
                if self.derivatives.len() <= node {
                    self.derivatives.resize(node + 1, None);
                }
                self.derivatives[node] = Some(d);
            }
        }
        self.derivatives[root].expect("just computed")
    }

    fn d(&self, node: Index) -> Index {
        self.derivatives[node].expect("operands come first")
    }

    fn differentiate(&mut self, node: Index) -> Index {
        match self.ops[node] {
            Op::Plain(Node::Number(_)) => self.number(0.0),
            Op::Plain(Node::Variable) => self.number(1.0),
            Op::Plain(Node::Unary(Unary::Negative, a)) => self.negative(self.d(a)),
            Op::Plain(Node::Unary(Unary::Step, _)) => self.number(0.0),
            Op::Plain(Node::Unary(Unary::Function(function), a)) => {
                let du = self.d(a);
                if self.value_of(du) == Some(0.0) {
                    return du;
                }
                let outer = self.outer_derivative(function, a, node);
                match outer {
                    Outer::Times(factor) => self.multiply(factor, du),
                    Outer::Over(divisor) => self.divide(du, divisor),
                }
            }
            Op::Plain(Node::Binary(op, a, b)) => self.binary_derivative(op, a, b, node),
            Op::Plain(Node::Select {
                over,
                positive,
                otherwise,
            }) => self.select(over, self.d(positive), self.d(otherwise)),
            Op::Integer(a, k) => {
                // (a^k)' = k a^{k−1} a'
                let power = self.constant_power(a, f64::from(k - 1));
                let k = self.number(f64::from(k));
                let factor = self.multiply(k, power);
                self.multiply(factor, self.d(a))
            }
        }
    }

    /// f′(a), or 1/f′(a) where that is the simpler one; `node` is f(a).
    fn outer_derivative(&mut self, function: Function, a: Index, node: Index) -> Outer {
        let one = self.number(1.0);
        Outer::Times(match function {
            Function::Exp => node,
            Function::Log => return Outer::Over(a),
            Function::Log1p => return Outer::Over(self.add(one, a)),
            Function::Sqrt => {
                let two = self.number(2.0);
                return Outer::Over(self.multiply(two, node));
            }
            Function::Sin => self.call(Function::Cos, a),
            Function::Cos => {
                let sine = self.call(Function::Sin, a);
                self.negative(sine)
            }
            Function::Tanh => {
                let square = self.constant_power(node, 2.0);
                self.subtract(one, square)
            }
            Function::Atan => {
                let square = self.constant_power(a, 2.0);
                return Outer::Over(self.add(one, square));
            }
            Function::Erf => {
                // 2/√π e^{−a²}
                let square = self.constant_power(a, 2.0);
                let exponent = self.negative(square);
                let bell = self.call(Function::Exp, exponent);
                let scale = self.number(std::f64::consts::FRAC_2_SQRT_PI);
                self.multiply(scale, bell)
            }
            Function::Sigmoid => {
                // σ(a)σ(−a): 1 − σ(a) would lose the digits of a large a.
                let mirrored = self.negative(a);
                let other = self.call(Function::Sigmoid, mirrored);
                self.multiply(node, other)
            }
            Function::Softplus => self.call(Function::Sigmoid, a),
            Function::Relu => self.unary(Unary::Step, a),
            Function::Abs => self.call(Function::Sign, a),
            Function::Sign => self.number(0.0),
        })
    }

    fn binary_derivative(&mut self, op: Binary, a: Index, b: Index, node: Index) -> Index {
        let (da, db) = (self.d(a), self.d(b));
        match op {
            Binary::Add => self.add(da, db),
            Binary::Subtract => self.subtract(da, db),
            Binary::Multiply => {
                let left = self.multiply(da, b);
                let right = self.multiply(a, db);
                self.add(left, right)
            }
            Binary::Divide => {
                // (a' − (a/b) b')/b
                let carried = self.multiply(node, db);
                let top = self.subtract(da, carried);
                self.divide(top, b)
            }
            Binary::Min | Binary::Max => {
                let over = self.subtract(a, b);
                let (positive, otherwise) = if op == Binary::Min {
                    (db, da)
                } else {
                    (da, db)
                };
                self.select(over, positive, otherwise)
            }
            Binary::Power => match self.value_of(b) {
                // (a^y)' = y a^{y−1} a'
                Some(y) => {
                    let power = self.constant_power(a, y - 1.0);
                    let factor = self.multiply(b, power);
                    self.multiply(factor, da)
                }
                // (a^b)' = a^b (b' log a + b a'/a)
                None => {
                    let log = self.call(Function::Log, a);
                    let growth = self.multiply(db, log);
                    let scaled = self.multiply(b, da);
                    let rate = self.divide(scaled, a);
                    let factor = self.add(growth, rate);
                    self.multiply(node, factor)
                }
            },
        }
    }

    fn reachable(&self, roots: &[Index]) -> Vec<bool> {
        let mut used = vec![false; self.ops.len()];
        for &root in roots {
            used[root] = true;
        }
        for i in (0..self.ops.len()).rev() {
            if !used[i] {
                continue;
            }
            match self.ops[i] {
                Op::Plain(Node::Number(_) | Node::Variable) => {}
                Op::Plain(Node::Unary(_, a)) | Op::Integer(a, _) => used[a] = true,
                Op::Plain(Node::Binary(_, a, b)) => {
                    used[a] = true;
                    used[b] = true;
                }
                Op::Plain(Node::Select {
                    over,
                    positive,
                    otherwise,
                }) => {
                    used[over] = true;
                    used[positive] = true;
                    used[otherwise] = true;
                }
            }
        }
        used
    }

    /// Writes out what the roots are made of, and where each root went.
    pub(super) fn finish(&self, roots: &[Index]) -> (Vec<Node>, Vec<Index>) {
        let used = self.reachable(roots);
        let mut out = Self::default();
        let mut place = vec![0; self.ops.len()];
        for i in (0..self.ops.len()).filter(|&i| used[i]) {
            place[i] = match self.ops[i] {
                Op::Plain(Node::Unary(op, a)) => out.node(Node::Unary(op, place[a])),
                Op::Plain(Node::Binary(op, a, b)) => out.node(Node::Binary(op, place[a], place[b])),
                Op::Plain(Node::Select {
                    over,
                    positive,
                    otherwise,
                }) => out.node(Node::Select {
                    over: place[over],
                    positive: place[positive],
                    otherwise: place[otherwise],
                }),
                Op::Plain(leaf) => out.node(leaf),
                Op::Integer(a, k) => product_power(place[a], k, |x, y| {
                    out.node(Node::Binary(Binary::Multiply, x, y))
                }),
            };
        }
        let nodes = out.ops.iter().map(|op| match *op {
            Op::Plain(node) => node,
            Op::Integer(..) => unreachable!("written out as products"),
        });
        (nodes.collect(), roots.iter().map(|&r| place[r]).collect())
    }
}

enum Outer {
    Times(Index),
    Over(Index),
}

/// x^k, k ≥ 1, by squaring: the set bits of k from the lowest, multiplied in
/// that order.
fn product_power<T: Copy>(x: T, k: u32, mut multiply: impl FnMut(T, T) -> T) -> T {
    let mut square = x;
    let mut rest = k;
    let mut product = None;
    loop {
        if rest & 1 == 1 {
            product = Some(product.map_or(square, |p| multiply(p, square)));
        }
        rest >>= 1;
        if rest == 0 {
            return product.unwrap_or(x);
        }
        square = multiply(square, square);
    }
}
