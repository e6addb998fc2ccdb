//! What an unquoted word means: the core schema of YAML 1.2 (section 10.3.2).

use super::Value;

/// Why a word that looks like a number is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// An integer that 64 bits do not hold.
    Integer,
    /// A number beyond the largest float.
    Float,
}

const INTEGERS: std::ops::RangeInclusive<i128> = i64::MIN as i128..=u64::MAX as i128;

/// Reads an unquoted word.
pub(super) fn resolve(word: &str) -> Result<Value, Unusable> {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Ok(Value::Float(f64::NAN)),
        _ => {}
    }
    let (sign, body) = match word.as_bytes()[0] {
        b'-' => (-1, &word[1..]),
        b'+' => (1, &word[1..]),
        _ => (1, word),
    };
    if matches!(body, ".inf" | ".Inf" | ".INF") {
        return Ok(Value::Float(f64::INFINITY * f64::from(sign)));
    }
    let signed = body.len() < word.len();
    if let Some(digits) = body.strip_prefix("0x").filter(|_| !signed)
        && is_all(digits, u8::is_ascii_hexdigit)
    {
        return integer(i128::from_str_radix(digits, 16).ok());
    }
    if let Some(digits) = body.strip_prefix("0o").filter(|_| !signed)
        && is_all(digits, |b| (b'0'..=b'7').contains(b))
    {
        return integer(i128::from_str_radix(digits, 8).ok());
    }
    if is_all(body, u8::is_ascii_digit) {
        return integer(body.parse::<i128>().ok().map(|i| i * i128::from(sign)));
    }
    if is_float(body) {
        return match word.parse::<f64>() {
            Ok(x) if x.is_finite() => Ok(Value::Float(x)),
            _ => Err(Unusable::Float),
        };
    }
    Ok(Value::Str(word.to_string()))
}

fn integer(value: Option<i128>) -> Result<Value, Unusable> {
    value
        .filter(|i| INTEGERS.contains(i))
        .map(Value::Int)
        .ok_or(Unusable::Integer)
}

fn is_all(digits: &str, test: impl Fn(&u8) -> bool) -> bool {
    !digits.is_empty() && digits.as_bytes().iter().all(test)
}

/// `( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_float(body: &str) -> bool {
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(i) => (&body[..i], Some(&body[i + 1..])),
        None => (body, None),
    };
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['-', '+']).unwrap_or(e);
        is_all(digits, u8::is_ascii_digit)
    });
    let mantissa_fits = match mantissa.split_once('.') {
        None => is_all(mantissa, u8::is_ascii_digit),
        Some((whole, part)) => {
            let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
            digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty())
        }
    };
    exponent_fits && mantissa_fits
}
