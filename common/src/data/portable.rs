//! A problem's arrays as other programs read them.
//!
//! Beside a kept minimum lie the arrays that its network read, so that the
//! claim can be checked without this program's way of reading, standardising
//! and encoding data: see `docs/check_minimum.py`.

use ndarray::{Array2, ArrayView2};
use sha2::{Digest, Sha256};

use super::Prepared;
use crate::ids::to_hex;
use crate::spec::Body;

/// Numbers beyond which arrays are not copied out: 64 MiB of them.
const MOST: usize = 8 << 20;

/// What a network reads, under the names of the file they are written to.
#[derive(Clone, Debug, PartialEq)]
pub struct Portable<'a> {
    /// Name of the file, made of the arrays' content: equal data, equal name.
    pub file: String,
    /// `x` \[n, d_in\], `phi` \[n, d_φ\], `y` \[n, d_y\] and, where there is one, `mask`
    /// \[n, d_y\] and `z` \[n, d_z\] (a given representation).
    pub arrays: Vec<(&'static str, ArrayView2<'a, f64>)>,
}

/// The arrays of a problem; `None` if they have more than 8 Mi numbers.
pub fn portable<'a>(
    data: &'a Prepared,
    body: &Body,
    table: Option<&'a Array2<f64>>,
) -> Option<Portable<'a>> {
    let mut arrays = vec![
        ("x", data.inputs_of(body)),
        ("phi", data.phi.view()),
        ("y", data.y.view()),
    ];
    arrays.extend(data.mask.as_ref().map(|mask| ("mask", mask.view())));
    arrays.extend(table.map(|z| ("z", z.view())));
    if arrays.iter().map(|(_, a)| a.len()).sum::<usize>() > MOST {
        return None;
    }
    let mut hash = Sha256::new();
    for (name, array) in &arrays {
        hash.update(name.as_bytes());
        hash.update((array.nrows() as u64).to_le_bytes());
        hash.update((array.ncols() as u64).to_le_bytes());
        array.iter().for_each(|x| hash.update(x.to_le_bytes()));
    }
    let name = to_hex(&hash.finalize()[..8]);
    Some(Portable {
        file: format!("data-{name}.npz"),
        arrays,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Preparation, named, prepare};
    use crate::spec::{Features, Loss};

    fn iris(standardize: bool) -> Prepared {
        let how = Preparation {
            loss: Loss::CrossEntropy,
            standardize,
            features: Features::Linear,
            intercept: true,
        };
        prepare(&named("iris").unwrap(), &how).unwrap()
    }

    #[test]
    fn equal_arrays_have_one_name_and_others_another() {
        let (data, raw) = (iris(true), iris(false));
        let file = |data: &Prepared| portable(data, &Body::Mlp, None).unwrap().file;
        assert_eq!(file(&data), file(&data.clone()));
        assert_ne!(file(&data), file(&raw));
        let shapes: Vec<_> = portable(&data, &Body::Mlp, Some(&data.y))
            .unwrap()
            .arrays
            .iter()
            .map(|(name, a)| (*name, a.dim()))
            .collect();
        let expected = [
            ("x", (150, 4)),
            ("phi", (150, 5)),
            ("y", (150, 3)),
            ("z", (150, 3)),
        ];
        assert_eq!(shapes, expected);
    }

    #[test]
    fn arrays_beyond_the_limit_are_not_copied() {
        let data = Prepared {
            phi: Array2::zeros((150, MOST / 100)),
            ..iris(true)
        };
        assert_eq!(portable(&data, &Body::Mlp, None), None);
    }
}
