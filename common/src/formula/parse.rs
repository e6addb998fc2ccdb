//! Text to [`Tree`], or to a mistake with its place and the way out.
//!
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = signed { ("*" | "/") signed }
//! signed  = ("-" | "+") signed | power
//! power   = atom [ "^" signed ]
//! atom    = number | "t" | "pi" | "e" | name "(" sum { "," sum } ")" | "(" sum ")"
//! ```
//!
//! Recursive descent over bytes; every limit is checked before it can hurt.

use std::ops::Range;

use super::tree::{CONSTANTS, Function, FunctionOfTwo, Operator, Tree};
use crate::suggest;

/// Longest formula, in bytes.
pub const MAX_BYTES: usize = 2_000;
/// Most numbers, variables, operators and calls of one formula.
pub const MAX_NODES: usize = 256;
/// Deepest nesting of parentheses, calls, signs and powers.
pub const MAX_DEPTH: usize = 48;

/// Why a text is not a formula, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FormulaError {
    /// Bytes of the formula's text that are to blame; may be empty (something
    /// is missing there).
    pub span: Range<usize>,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with a formula.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Problem {
    #[error("the formula is empty")]
    Empty,
    #[error("a formula has at most {MAX_BYTES} bytes, this one has {bytes}")]
    TooLong { bytes: usize },
    #[error("a formula has at most {MAX_NODES} terms")]
    TooManyTerms,
    #[error("a formula nests at most {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("`{found}` has no meaning in a formula")]
    Character { found: char },
    #[error("`{text}` is not a number")]
    Number { text: String },
    #[error("`{text}` is too large for a 64-bit float")]
    Overflow { text: String },
    #[error("unknown name `{name}`")]
    Name { name: String },
    #[error("`{name}` is a function: write `{name}(…)`")]
    MissingArguments { name: &'static str },
    #[error("`{name}` is no function")]
    NotAFunction { name: String },
    #[error("`{name}` takes {expected} argument{}, {found} given", if *expected == 1 { "" } else { "s" })]
    ArgumentCount {
        name: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("expected a number, `t`, a function or `(`{}", found_text(.found))]
    ExpectedTerm { found: Option<String> },
    #[error("expected an operator{}", found_text(.found))]
    ExpectedOperator { found: Option<String> },
    #[error("this parenthesis is never closed")]
    Unclosed,
    #[error("this parenthesis was never opened")]
    Unopened,
}

fn found_text(found: &Option<String>) -> String {
    found.as_ref().map_or_else(
        || ", the formula ends here".into(),
        |f| format!(", found `{f}`"),
    )
}

impl FormulaError {
    fn new(span: Range<usize>, problem: Problem) -> Self {
        Self { span, problem }
    }

    /// What to write instead, where that can be said.
    pub fn help(&self) -> Option<String> {
        match &self.problem {
            Problem::Name { name } => Some(help_for_name(name)),
            Problem::NotAFunction { name } if name == "t" => Some("write `t * (…)`".into()),
            Problem::ExpectedOperator { .. } => {
                Some("a product needs its `*`: write `2 * t`, not `2t`".into())
            }
            Problem::ExpectedTerm { found: Some(f) } if f == "*" => {
                Some("a power is written `t^2`".into())
            }
            Problem::Character {
                found: '−' | '–'
            } => Some("write the minus as `-`".into()),
            Problem::Character { found: '×' | '·' } => Some("write the product as `*`".into()),
            Problem::Character { found: '²' | '³' } => Some("a power is written `t^2`".into()),
            Problem::Character { found: '|' } => Some("write `abs(t)`".into()),
            Problem::Character { found: '[' | '{' } => Some("use round parentheses".into()),
            _ => None,
        }
    }
}

fn help_for_name(name: &str) -> String {
    let known = match name {
        "x" | "y" | "z" | "u" => Some("t"),
        "ln" => Some("log"),
        "arctan" => Some("atan"),
        "fabs" => Some("abs"),
        "pow" => return "a power is written `t^2`".into(),
        _ => {
            let functions = Function::NAMED.iter().map(|(n, _)| *n);
            let two = FunctionOfTwo::NAMED.iter().map(|(n, _)| *n);
            suggest::nearest(name, functions.chain(two))
        }
    };
    match known {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the variable is `t`; known are {}", known_names()),
    }
}

fn known_names() -> String {
    let functions = Function::NAMED.iter().map(|(n, _)| *n);
    let two = FunctionOfTwo::NAMED.iter().map(|(n, _)| *n);
    let constants = CONSTANTS.iter().map(|(n, _)| *n);
    let names: Vec<&str> = functions.chain(two).chain(constants).collect();
    names.join(", ")
}

/// Reads a formula.
///
/// # Errors
/// The first mistake, with its place.
pub(super) fn parse(text: &str) -> Result<Tree, FormulaError> {
    if text.len() > MAX_BYTES {
        let problem = Problem::TooLong { bytes: text.len() };
        return Err(FormulaError::new(0..text.len(), problem));
    }
    if text.trim().is_empty() {
        return Err(FormulaError::new(0..text.len(), Problem::Empty));
    }
    let mut parser = Parser {
        text,
        at: 0,
        nodes: 0,
        depth: 0,
    };
    let tree = parser.sum()?;
    match parser.next_token()? {
        (Token::End, _) => Ok(tree),
        (Token::Close, span) => Err(FormulaError::new(span, Problem::Unopened)),
        (_, span) => Err(parser.expected_operator(span)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Number(f64),
    Name(&'a str),
    Operator(Operator),
    Open,
    Close,
    Comma,
    End,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Result<Tree, FormulaError> {
        let mut left = self.product()?;
        loop {
            let (token, span) = self.peek()?;
            let Token::Operator(operator @ (Operator::Add | Operator::Subtract)) = token else {
                return Ok(left);
            };
            self.at = span.end;
            let right = self.product()?;
            left = self.operation(operator, span, left, right)?;
        }
    }

    fn product(&mut self) -> Result<Tree, FormulaError> {
        let mut left = self.signed()?;
        loop {
            let (token, span) = self.peek()?;
            let Token::Operator(operator @ (Operator::Multiply | Operator::Divide)) = token else {
                return Ok(left);
            };
            self.at = span.end;
            let right = self.signed()?;
            left = self.operation(operator, span, left, right)?;
        }
    }

    fn signed(&mut self) -> Result<Tree, FormulaError> {
        let (token, span) = self.peek()?;
        match token {
            Token::Operator(Operator::Subtract) => {
                self.at = span.end;
                let inner = self.nested(&span, Self::signed)?;
                self.count(&span)?;
                Ok(match inner {
                    Tree::Number(x) if x != 0.0 => Tree::Number(-x),
                    other => Tree::Negative(Box::new(other)),
                })
            }
            Token::Operator(Operator::Add) => {
                self.at = span.end;
                self.nested(&span, Self::signed)
            }
            _ => self.power(),
        }
    }

    fn power(&mut self) -> Result<Tree, FormulaError> {
        let base = self.atom()?;
        let (token, span) = self.peek()?;
        if token != Token::Operator(Operator::Power) {
            return Ok(base);
        }
        self.at = span.end;
        let exponent = self.nested(&span, Self::signed)?;
        self.operation(Operator::Power, span, base, exponent)
    }

    fn atom(&mut self) -> Result<Tree, FormulaError> {
        let (token, span) = self.next_token()?;
        match token {
            Token::Number(x) => {
                self.count(&span)?;
                Ok(Tree::Number(x))
            }
            Token::Name(name) => self.name(name, span),
            Token::Open => {
                let inner = self.nested(&span, Self::sum)?;
                self.close(span)?;
                Ok(inner)
            }
            Token::End => {
                let problem = Problem::ExpectedTerm { found: None };
                Err(FormulaError::new(span, problem))
            }
            _ => {
                let found = Some(self.text[span.clone()].to_string());
                Err(FormulaError::new(span, Problem::ExpectedTerm { found }))
            }
        }
    }

    fn name(&mut self, name: &'a str, span: Range<usize>) -> Result<Tree, FormulaError> {
        self.count(&span)?;
        let called = self.peek()?.0 == Token::Open;
        if let Some(&(name, function)) = Function::NAMED.iter().find(|(n, _)| *n == name) {
            let [a] = self.arguments(name, span, called)?;
            return Ok(Tree::Call(function, Box::new(a)));
        }
        if let Some(&(name, function)) = FunctionOfTwo::NAMED.iter().find(|(n, _)| *n == name) {
            let [a, b] = self.arguments(name, span, called)?;
            return Ok(Tree::CallTwo(function, Box::new(a), Box::new(b)));
        }
        let constant = CONSTANTS.iter().find(|(n, _)| *n == name);
        if name != "t" && constant.is_none() {
            let name = name.to_string();
            return Err(FormulaError::new(span, Problem::Name { name }));
        }
        if called {
            let name = name.to_string();
            return Err(FormulaError::new(span, Problem::NotAFunction { name }));
        }
        Ok(constant.map_or(Tree::Variable, |&(_, value)| Tree::Number(value)))
    }

    fn arguments<const N: usize>(
        &mut self,
        name: &'static str,
        span: Range<usize>,
        called: bool,
    ) -> Result<[Tree; N], FormulaError> {
        if !called {
            return Err(FormulaError::new(span, Problem::MissingArguments { name }));
        }
        let (_, open) = self.next_token()?;
        let mut arguments = Vec::with_capacity(N);
        loop {
            arguments.push(self.nested(&open, Self::sum)?);
            let (token, comma) = self.peek()?;
            if token != Token::Comma {
                break;
            }
            self.at = comma.end;
        }
        self.close(open)?;
        let found = arguments.len();
        arguments.try_into().map_err(|_| {
            let problem = Problem::ArgumentCount {
                name,
                expected: N,
                found,
            };
            FormulaError::new(span.start..self.at, problem)
        })
    }

    fn close(&mut self, open: Range<usize>) -> Result<(), FormulaError> {
        match self.next_token()? {
            (Token::Close, _) => Ok(()),
            (Token::End, _) => Err(FormulaError::new(open, Problem::Unclosed)),
            (_, span) => Err(self.expected_operator(span)),
        }
    }

    fn expected_operator(&self, span: Range<usize>) -> FormulaError {
        let found = Some(self.text[span.clone()].to_string()).filter(|f| !f.is_empty());
        FormulaError::new(span, Problem::ExpectedOperator { found })
    }

    fn operation(
        &mut self,
        operator: Operator,
        span: Range<usize>,
        left: Tree,
        right: Tree,
    ) -> Result<Tree, FormulaError> {
        self.count(&span)?;
        Ok(Tree::Operation(operator, Box::new(left), Box::new(right)))
    }

    fn count(&mut self, span: &Range<usize>) -> Result<(), FormulaError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(FormulaError::new(span.clone(), Problem::TooManyTerms));
        }
        Ok(())
    }

    fn nested(
        &mut self,
        span: &Range<usize>,
        inner: fn(&mut Self) -> Result<Tree, FormulaError>,
    ) -> Result<Tree, FormulaError> {
        if self.depth == MAX_DEPTH {
            return Err(FormulaError::new(span.clone(), Problem::TooDeep));
        }
        self.depth += 1;
        let tree = inner(self);
        self.depth -= 1;
        tree
    }

    fn next_token(&mut self) -> Result<(Token<'a>, Range<usize>), FormulaError> {
        let (token, span) = self.peek()?;
        self.at = span.end;
        Ok((token, span))
    }

    /// The token that follows, and its bytes.
    fn peek(&self) -> Result<(Token<'a>, Range<usize>), FormulaError> {
        let rest = &self.text[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let rest = &self.text[start..];
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, start..start));
        };
        let token = match first {
            '+' => Token::Operator(Operator::Add),
            '-' => Token::Operator(Operator::Subtract),
            '*' => Token::Operator(Operator::Multiply),
            '/' => Token::Operator(Operator::Divide),
            '^' => Token::Operator(Operator::Power),
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '0'..='9' | '.' => return number(rest, start),
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                return Ok((Token::Name(&rest[..end]), start..start + end));
            }
            found => {
                let span = start..start + found.len_utf8();
                return Err(FormulaError::new(span, Problem::Character { found }));
            }
        };
        Ok((token, start..start + 1))
    }
}

/// Digits, a point, an exponent; `2e` is 2 followed by the name `e`.
fn number(rest: &str, start: usize) -> Result<(Token<'_>, Range<usize>), FormulaError> {
    let bytes = rest.as_bytes();
    let digits = |mut i: usize| {
        while bytes.get(i).is_some_and(u8::is_ascii_digit) {
            i += 1;
        }
        i
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    let text = &rest[..end];
    let span = start..start + end;
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok((Token::Number(x), span)),
        Ok(_) => Err(FormulaError::new(
            span,
            Problem::Overflow { text: text.into() },
        )),
        Err(_) => Err(FormulaError::new(
            span,
            Problem::Number { text: text.into() },
        )),
    }
}
