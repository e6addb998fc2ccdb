//! Reading data files: each format, its round trip, and what is refused.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use common::data::{
    Cells, ColumnError, DataError, Dataset, ReadError, TargetKind, load, matrix, read,
};
use common::spec::{Column, DataSpec, FileData, FileRef, NamedFile};
use ndarray::{Array2, array};
use proptest::prelude::*;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("files/", $name)).as_slice()
    };
}

/// The numbers of a table that has nothing else, row-major.
fn numbers(bytes: &[u8]) -> Array2<f64> {
    let table = read(bytes).unwrap();
    Array2::from_shape_fn((table.rows, table.columns.len()), |(i, j)| {
        match &table.columns[j].cells {
            Cells::Numbers(values) => values[i],
            other => panic!("{other:?}"),
        }
    })
}

fn error(bytes: &[u8]) -> String {
    read(bytes).unwrap_err().to_string()
}

fn names(names: &[&str]) -> Vec<Column> {
    names
        .iter()
        .map(|n| Column::Name((*n).to_owned()))
        .collect()
}

fn spec() -> FileData {
    FileData {
        file: NamedFile {
            file: "data.csv".into(),
            sha256: "1".into(),
        },
        targets: vec![],
        inputs: None,
        mask: None,
        classes: None,
        target_file: None,
    }
}

fn dataset(bytes: &[u8], spec: FileData) -> Result<Dataset, DataError> {
    load(&DataSpec::File(spec), |sha| (sha == "1").then_some(bytes))
}

/// What the columns of a file are refused for.
fn refusal(text: &str, spec: FileData) -> ColumnError {
    match dataset(text.as_bytes(), spec).unwrap_err() {
        DataError::Columns { path, source } => {
            assert_eq!(path, "data.csv");
            source
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_numpy_type_of_numbers_is_read_in_row_major_order() {
    let m = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
    for (bytes, want) in [
        (file!("f8.npy"), m.clone()),
        (file!("f4_fortran.npy"), m.clone()),
        (file!("i2_big_endian.npy"), m.clone()),
        (file!("i8.npy"), -&m),
        (file!("u1.npy"), m.clone()),
        (file!("version2.npy"), m.clone()),
        (file!("bool.npy"), array![[0.0], [1.0], [0.0]]),
    ] {
        assert_eq!(numbers(bytes), want);
    }
}

#[test]
fn an_array_of_three_dimensions_holds_images() {
    let table = read(file!("images.npy")).unwrap();
    assert_eq!(table.image, Some([2, 2, 1]));
    let want = Array2::from_shape_fn((3, 4), |(i, j)| (4 * i + j) as f64);
    assert_eq!(numbers(file!("images.npy")), want);
}

#[test]
fn the_arrays_of_an_archive_are_chosen_by_name() {
    for bytes in [file!("stored.npz"), file!("deflated.npz")] {
        let set = dataset(bytes, spec()).unwrap();
        assert_eq!(set.inputs, array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
        assert_eq!(set.targets, array![[0.0], [1.0], [0.0]]);
        let other = FileData {
            targets: names(&["x"]),
            ..spec()
        };
        let set = dataset(bytes, other).unwrap();
        assert_eq!((set.inputs.ncols(), set.targets.ncols()), (1, 2));
    }
}

#[test]
fn numpy_types_that_are_no_real_numbers_are_refused_by_name() {
    assert_eq!(
        error(file!("complex.npy")),
        "numpy type `<c16` is not supported; use a float, integer or boolean type"
    );
}

#[test]
fn a_header_that_announces_other_sizes_than_the_file_is_refused_before_allocating() {
    let mut npy = file!("f8.npy").to_vec();
    let at = npy.windows(6).position(|w| w == b"(3, 2)").unwrap();
    npy[at..at + 6].copy_from_slice(b"(3, 9)");
    assert_eq!(
        error(&npy),
        "the NPY header announces 216 bytes of data, the file has 48"
    );
    let text = String::from_utf8_lossy(file!("f8.npy")).into_owned();
    let header = text
        .split("{'descr")
        .nth(1)
        .unwrap()
        .split('\n')
        .next()
        .unwrap();
    let huge = format!("{{'descr{header}").replace("(3, 2)", "(999999999999, 99999999)");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((huge.len() as u16).to_le_bytes());
    npy.extend(huge.as_bytes());
    assert!(matches!(read(&npy), Err(ReadError::TooLarge { .. })));
    let idx = [0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255, 7];
    assert!(matches!(read(&idx), Err(ReadError::TooLarge { .. })));
}

#[test]
fn idx_files_of_every_type_are_read() {
    let idx = |kind: u8, sizes: &[u32], data: &[u8]| {
        let mut bytes = vec![0, 0, kind, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|s| s.to_be_bytes()));
        bytes.extend(data);
        bytes
    };
    for (kind, data) in [
        (0x08, vec![1, 2]),
        (0x09, vec![1, 2]),
        (0x0B, vec![0, 1, 0, 2]),
        (0x0C, [1i32.to_be_bytes(), 2i32.to_be_bytes()].concat()),
        (0x0D, [1f32.to_be_bytes(), 2f32.to_be_bytes()].concat()),
        (0x0E, [1f64.to_be_bytes(), 2f64.to_be_bytes()].concat()),
    ] {
        assert_eq!(numbers(&idx(kind, &[2], &data)), array![[1.0], [2.0]]);
    }
    assert_eq!(numbers(&idx(0x09, &[1, 1], &[0xff])), array![[-1.0]]);
    let images = idx(8, &[2, 1, 2], &[1, 2, 3, 4]);
    assert_eq!(read(&images).unwrap().image, Some([1, 2, 1]));
    assert_eq!(
        error(&idx(8, &[2, 2], &[1, 2, 3])),
        "the IDX header announces 4 bytes of data, the file has 3"
    );
    assert_eq!(
        error(&idx(10, &[1], &[1])),
        "not a valid IDX file: its type is none of 8, 9, 11, 12, 13, 14"
    );
}

#[test]
fn images_and_labels_in_two_idx_files_make_a_data_set() {
    let images = [
        &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2][..],
        &[9, 8, 7, 6],
    ]
    .concat();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 3, 5];
    let spec = FileData {
        classes: Some(true),
        target_file: Some(FileRef {
            path: "labels".into(),
            sha256: "2".into(),
        }),
        ..spec()
    };
    let content = |sha: &str| Some(if sha == "1" { &images[..] } else { &labels[..] });
    let set = load(&DataSpec::File(spec.clone()), content).unwrap();
    assert_eq!(set.inputs, array![[9.0, 8.0], [7.0, 6.0]]);
    assert_eq!(set.image, Some([1, 2, 1]));
    assert_eq!(set.targets, array![[0.0], [1.0]]);
    assert_eq!(set.class_names, ["3", "5"]);
    let short = [0, 0, 8, 1, 0, 0, 0, 1, 3];
    let content = |sha: &str| Some(if sha == "1" { &images[..] } else { &short[..] });
    let error = load(&DataSpec::File(spec), content).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`data.csv`: the inputs have 2 rows, the target file has 1"
    );
}

#[test]
fn csv_is_read_with_and_without_header_and_with_any_usual_separator() {
    let want = array![[1.0, -2.5], [3e-3, 4.0]];
    for text in [
        "a,b\n1,-2.5\n3e-3,4\n",
        "1,-2.5\n3e-3,4",
        "a;b\r\n1;-2.5\r\n3e-3;4\r\n",
        "a\tb\n1\t-2.5\n\n3e-3\t4\n",
        "\u{feff}\"a\", b\n 1 , -2.5\n\"3e-3\",4\n",
    ] {
        assert_eq!(numbers(text.as_bytes()), want, "{text:?}");
    }
}

#[test]
fn a_first_line_with_a_number_is_data_even_beside_text() {
    let set = dataset(
        b"5.1,3.5,setosa\n4.9,3.0,virginica\n6.2,2.2,setosa\n",
        spec(),
    )
    .unwrap();
    assert_eq!(set.inputs.nrows(), 3);
    assert_eq!(set.kind, TargetKind::Classes { classes: 2 });
    assert_eq!(set.targets, array![[0.0], [1.0], [0.0]]);
    assert_eq!(set.class_names, ["setosa", "virginica"]);
}

#[test]
fn rows_of_another_length_are_refused_with_their_row() {
    assert_eq!(
        error(b"a,b\n1,2\n3\n"),
        "row 2 has 1 fields, the first row has 2"
    );
}

#[test]
fn bytes_that_are_no_known_format_are_refused() {
    assert_eq!(error(b""), "the file is empty");
    assert_eq!(
        error(&[0x1f, 0x8b, 8, 0]),
        "the file is compressed with gzip; unpack it first"
    );
    let mistake = "is not UTF-8 text, and the file is not NPY, NPZ, Parquet or IDX";
    assert_eq!(error(b"1,2\n\xff\xfe"), format!("byte 4 {mistake}"));
    assert_eq!(error(b"a\0b"), format!("byte 1 {mistake}"));
}

#[test]
fn targets_are_the_last_column_unless_named() {
    let text = "a,b,c\n1,2,3\n4,5,6\n";
    let set = dataset(text.as_bytes(), spec()).unwrap();
    assert_eq!(
        (set.input_names.join(","), set.target_names.join(",")),
        ("a,b".into(), "c".into())
    );
    assert_eq!(set.kind, TargetKind::Undecided);
    let chosen = FileData {
        targets: vec![Column::Index(0), Column::Name("b".into())],
        classes: Some(false),
        ..spec()
    };
    let set = dataset(text.as_bytes(), chosen).unwrap();
    assert_eq!(set.targets, array![[1.0, 2.0], [4.0, 5.0]]);
    assert_eq!(set.inputs, array![[3.0], [6.0]]);
    assert_eq!(set.kind, TargetKind::Values);
}

#[test]
fn an_empty_target_cell_and_a_zero_in_the_mask_are_not_observed() {
    let text = "x,y,z,my,mz\n1,7,,1,1\n2,8,9,0,1\n3,NA,4,1,1\n";
    let masked = FileData {
        targets: names(&["y", "z"]),
        mask: Some(names(&["my", "mz"])),
        ..spec()
    };
    let set = dataset(text.as_bytes(), masked).unwrap();
    assert_eq!(set.inputs, array![[1.0], [2.0], [3.0]]);
    assert_eq!(set.targets, array![[7.0, 0.0], [0.0, 9.0], [0.0, 4.0]]);
    assert_eq!(set.mask, Some(array![[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]));
}

#[test]
fn a_mask_of_ones_is_no_mask() {
    let masked = FileData {
        targets: names(&["y"]),
        mask: Some(names(&["m"])),
        ..spec()
    };
    let with = dataset(b"x,y,m\n1,7,1\n2,8,1\n", masked).unwrap();
    let without = dataset(b"x,y\n1,7\n2,8\n", spec()).unwrap();
    assert_eq!(with.mask, None);
    assert_eq!(with.content_hash(), without.content_hash());
}

#[test]
fn each_mistake_in_the_columns_has_one_message_with_its_place() {
    let check = |text: &str, spec: FileData, want: &str| {
        assert_eq!(refusal(text, spec).to_string(), want);
    };
    let targets = |list: &[&str]| FileData {
        targets: names(list),
        ..spec()
    };
    check(
        "a,b\n1,2\nred,3\n",
        spec(),
        "column `a` holds text (`red` in row 2); leave it out of `inputs`, or make it numbers",
    );
    check(
        "a,b\n1,2\n,3\n",
        spec(),
        "row 2 has no value in column `a`; only targets may be missing",
    );
    check(
        "1,2\ninf,3\n",
        spec(),
        "row 2 has the value inf in column `0`; numbers must be finite",
    );
    check(
        "a,b\n1,-inf\n",
        spec(),
        "row 1 has the value -inf in column `b`; numbers must be finite",
    );
    check(
        "a,b\n1,2\n",
        targets(&["c"]),
        "there is no column `c`; the file has a, b",
    );
    check(
        "1,2\n",
        targets(&["c"]),
        "there is no column `c`; the file has no names, only positions 0 to 1",
    );
    check(
        "a,b\n1,2\n",
        FileData {
            targets: vec![Column::Index(7)],
            ..spec()
        },
        "there is no column 7; the file has columns 0 to 1",
    );
    check(
        "a,b\n1,2\n",
        FileData {
            inputs: Some(names(&["a", "b"])),
            ..spec()
        },
        "column `b` is used twice: as an input and as a target",
    );
    check(
        "a,b\n1,2\n",
        FileData {
            targets: names(&["b"]),
            mask: Some(names(&["b"])),
            ..spec()
        },
        "column `b` is used twice: as a target and as mask",
    );
    check(
        "a,b\n1,2\n",
        targets(&["b", "b"]),
        "column `b` is used twice: as one entry and as another entry of one list",
    );
    check("a,b\n", spec(), "the file has no rows of data");
    check("a\n1\n", spec(), "no column is left for the inputs");
    check(
        "a,b,m\n1,2,0.5\n",
        FileData {
            targets: names(&["b"]),
            mask: Some(names(&["m"])),
            ..spec()
        },
        "row 1 of mask column `m` is 0.5; a mask holds 0 and 1",
    );
    check(
        "a,b,m\n1,2,1\n",
        FileData {
            targets: names(&["a", "b"]),
            mask: Some(names(&["m"])),
            inputs: Some(names(&["m"])),
            ..spec()
        },
        "column `m` is used twice: as an input and as mask",
    );
    check(
        "x,a,b,m\n9,1,2,1\n",
        FileData {
            targets: names(&["a", "b"]),
            mask: Some(names(&["m"])),
            ..spec()
        },
        "there are 1 mask columns for 2 targets; give one for each target",
    );
    check("a,b\n1,\n2,\n", spec(), "no target is observed in any row");
    check(
        "a,b,c\n1,2,3\n",
        FileData {
            classes: Some(true),
            targets: names(&["b", "c"]),
            ..spec()
        },
        "classes stand in one target column, 2 are named",
    );
}

#[test]
fn all_that_is_wrong_with_the_columns_is_told_at_once() {
    let wrong = FileData {
        targets: names(&["p", "b"]),
        inputs: Some(names(&["q", "a"])),
        mask: Some(names(&["m"])),
        ..spec()
    };
    let known = "the file has a, b, m";
    assert_eq!(
        refusal("a,b,m\n1,2,3\n", wrong).to_string(),
        format!(
            "there is no column `p`; {known}; and there is no column `q`; {known}; and row 1 of \
             mask column `m` is 3; a mask holds 0 and 1"
        )
    );
    let values = refusal("a,b\n,inf\n", spec()).to_string();
    assert!(
        values.contains("row 1 has no value in column `a`"),
        "{values}"
    );
    assert!(
        values.contains("row 1 has the value inf in column `b`"),
        "{values}"
    );
}

#[test]
fn a_header_that_names_two_columns_alike_is_refused() {
    assert_eq!(
        error(b"a,b, b\n1,2,3\n"),
        "columns 1 and 2, counted from 0, are both called `b`; give each its own name"
    );
    // No name is no name twice.
    assert_eq!(numbers(b"a,,\n1,2,3\n").ncols(), 3);
}

#[test]
fn content_that_is_not_at_hand_is_named_by_its_path() {
    let error = load(&DataSpec::File(spec()), |_| None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the content of `data.csv` is not at hand"
    );
}

#[test]
fn a_matrix_is_all_columns_of_a_file() {
    let file = FileRef {
        path: "z.npy".into(),
        sha256: String::new(),
    };
    let z = matrix(&file, file!("f8.npy")).unwrap();
    assert_eq!(z, array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    let error = matrix(&file, b"1,\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`z.npy`: row 1 has no value in column `1`; only targets may be missing"
    );
}

#[test]
fn equal_arrays_have_equal_hashes_whatever_file_they_came_from() {
    let values = FileData {
        classes: Some(false),
        ..spec()
    };
    let from = |bytes: &[u8]| dataset(bytes, values.clone()).unwrap().content_hash();
    let csv = from(b"a,b\n1,2\n3,4\n5,6\n");
    assert_eq!(csv, from(file!("f8.npy")));
    assert_eq!(csv, from(b"1.0;2.0\n3;4e0\n5;6\n"));
    assert_ne!(csv, from(b"a,b\n1,2\n3,4\n5,6.0000000000000009\n"));
    assert_eq!(from(b"0,2\n3,4\n"), from(b"-0,2\n3,4\n"));
    // The kind of the targets counts.
    assert_ne!(
        csv,
        dataset(file!("f8.npy"), spec()).unwrap().content_hash()
    );
}

/// Every prefix and many damaged copies of a file are answered, not panicked at.
fn survives_damage(bytes: &[u8]) {
    for end in 0..bytes.len() {
        let _ = read(&bytes[..end]);
    }
    for at in 0..bytes.len() {
        for damage in [0x00, 0x01, 0x40, 0x80, 0xff] {
            let mut copy = bytes.to_vec();
            copy[at] ^= damage;
            let _ = read(&copy);
        }
    }
}

#[test]
fn damaged_files_are_refused_without_a_panic() {
    survives_damage(file!("f4_fortran.npy"));
    survives_damage(file!("images.npy"));
    survives_damage(file!("stored.npz"));
    survives_damage(file!("deflated.npz"));
    survives_damage(b"a,b\n1,2\n\"3\",\"x\n");
    survives_damage(&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4]);
}

proptest! {
    #[test]
    fn what_is_written_as_npy_is_read_back(rows in 1usize..8, columns in 1usize..8, seed: u64) {
        use ndarray_npy::WriteNpyExt;
        let entry = |i: usize, j: usize| {
            f64::from_bits(seed.wrapping_mul((i * 31 + j + 1) as u64) & 0x7fef_ffff_ffff_ffff)
        };
        let want = Array2::from_shape_fn((rows, columns), |(i, j)| entry(i, j));
        let mut bytes = Vec::new();
        want.write_npy(&mut bytes).unwrap();
        prop_assert_eq!(numbers(&bytes), want.clone());
        let mut archive = ndarray_npy::NpzWriter::new(std::io::Cursor::new(Vec::new()));
        archive.add_array("x", &want).unwrap();
        let bytes = archive.finish().unwrap().into_inner();
        prop_assert_eq!(numbers(&bytes), want);
    }

    #[test]
    fn what_is_written_as_csv_is_read_back(
        rows in prop::collection::vec(prop::collection::vec(prop::num::f64::NORMAL, 3), 1..20)
    ) {
        let line = |row: &Vec<f64>| format!("{},{:e},{:?}\n", row[0], row[1], row[2]);
        let text: String = rows.iter().map(line).collect();
        let want = Array2::from_shape_fn((rows.len(), 3), |(i, j)| rows[i][j]);
        prop_assert_eq!(numbers(text.as_bytes()), want);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;

    #[test]
    fn parquet_files_of_pandas_are_read_in_every_usual_compression() {
        for bytes in [
            file!("snappy.parquet"),
            file!("zstd.parquet"),
            file!("plain.parquet"),
        ] {
            let chosen = FileData {
                inputs: Some(names(&["a", "b", "unsigned", "flag"])),
                targets: names(&["y"]),
                ..spec()
            };
            let set = dataset(bytes, chosen).unwrap();
            assert_eq!(
                set.inputs,
                array![
                    [1.0, 2.0, 1.0, 0.0],
                    [3.0, 4.0, 2.0, 1.0],
                    [5.0, 6.0, 4_294_967_295.0, 0.0]
                ]
            );
            assert_eq!(set.targets, array![[0.5], [0.0], [1.5]]);
            assert_eq!(set.mask, Some(array![[1.0], [0.0], [1.0]]));
            let species = FileData {
                inputs: Some(names(&["a"])),
                targets: names(&["species"]),
                ..spec()
            };
            let set = dataset(bytes, species).unwrap();
            assert_eq!(set.class_names, ["blue", "red"]);
            assert_eq!(set.targets, array![[1.0], [0.0], [1.0]]);
        }
    }

    #[test]
    fn a_column_of_another_type_is_refused_only_when_it_is_used() {
        let error = dataset(
            file!("plain.parquet"),
            FileData {
                inputs: Some(names(&["when"])),
                ..spec()
            },
        );
        let message = error.unwrap_err().to_string();
        assert!(
            message.starts_with("`data.csv`: column `when` has the type TIMESTAMP"),
            "{message}"
        );
    }

    #[test]
    fn nested_columns_are_refused_by_name() {
        assert_eq!(
            error(file!("nested.parquet")),
            "Parquet column `a.list.element` is nested or repeated; store plain columns"
        );
    }

    #[test]
    fn damaged_parquet_files_are_refused_without_a_panic() {
        // Its decoder does panic on some of them; that must not reach the caller.
        survives_damage(file!("plain.parquet"));
        survives_damage(file!("snappy.parquet"));
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_build_without_the_decoder_says_so() {
    assert_eq!(
        error(file!("plain.parquet")),
        "this build reads no Parquet files; use CSV, NPY or NPZ"
    );
}
