//! Arbitrary specifications, for property tests.

use std::sync::Arc;

use proptest::prelude::*;

use crate::formula::Formula;
use crate::spec::*;

fn positive() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1e-3), Just(1.0), 1e-12..1e6f64]
}

fn not_negative() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), positive()]
}

fn size() -> impl Strategy<Value = usize> {
    1usize..70
}

fn hash() -> impl Strategy<Value = String> {
    prop::array::uniform32(any::<u8>()).prop_map(|b| crate::ids::to_hex(&b))
}

fn file() -> impl Strategy<Value = FileRef> {
    ("[a-z/é .\"]{1,12}", hash()).prop_map(|(path, sha256)| FileRef { path, sha256 })
}

pub(crate) fn activation() -> impl Strategy<Value = Activation> {
    let formulas = [
        "t",
        "t / (1 + abs(t))",
        "max(0.1*t, t)^2 - pi",
        "exp(-t^2)\n* 2",
    ];
    prop_oneof![
        4 => prop::sample::select(Activation::NAMED.to_vec()).prop_map(|(_, a)| a),
        1 => any::<i16>().prop_map(|i| Activation::LeakyRelu { slope: f64::from(i) / 1e3 }),
        1 => prop::sample::select(formulas.to_vec())
            .prop_map(|f| Activation::Formula(Formula::parse(f).unwrap())),
    ]
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    prop::collection::btree_set("[a-zA-Z é:#1]{1,6}", 1..3).prop_map(|names| {
        let mut columns: Vec<Column> = names.into_iter().map(Column::Name).collect();
        columns.push(Column::Index(3));
        columns
    })
}

fn teacher() -> impl Strategy<Value = Teacher> {
    let bodies = Body::NAMED.map(|(_, b)| b)[..5].to_vec();
    (prop::sample::select(bodies), size(), size(), activation()).prop_map(|(body, d, w, a)| {
        let blocks = matches!(body, Body::Bottleneck | Body::Aggregated);
        Teacher {
            bottleneck: if blocks { d } else { 0 },
            cardinality: if body == Body::Aggregated { 2 } else { 0 },
            body,
            depth: d,
            width: w,
            activation: a,
        }
    })
}

pub(crate) fn data() -> impl Strategy<Value = DataSpec> {
    let generator = (
        prop::sample::select(GeneratorKind::NAMED.to_vec()),
        (size(), size(), size(), not_negative(), any::<u64>()),
        teacher(),
    )
        .prop_map(
            |((_, generate), (rows, inputs, outputs, noise, seed), teacher)| Generator {
                generate,
                rows,
                inputs: match generate {
                    GeneratorKind::Spirals => 2,
                    GeneratorKind::Sawtooth => 1,
                    _ => inputs,
                },
                outputs,
                noise,
                seed,
                teacher: (generate == GeneratorKind::Teacher).then_some(teacher),
                parameter: generate.parameter().map(|_| (rows % 32 + 1) as f64),
            },
        );
    let from_file = (
        file(),
        prop_oneof![Just(Vec::new()), columns()],
        prop::option::of(columns()),
        any::<bool>(),
        prop::option::of(any::<bool>()),
        prop::option::of(file()),
    )
        .prop_map(
            |(file, targets, inputs, masked, classes, target_file)| FileData {
                file: NamedFile {
                    file: file.path,
                    sha256: file.sha256,
                },
                mask: masked.then(|| {
                    (0..targets.len().max(1))
                        .map(|i| Column::Index(10 + i))
                        .collect()
                }),
                targets,
                inputs,
                classes,
                target_file,
            },
        );
    prop_oneof![
        prop::sample::select(NAMED_DATA.to_vec()).prop_map(|n| DataSpec::Named(n.into())),
        generator.prop_map(DataSpec::Generate),
        from_file.prop_map(DataSpec::File),
    ]
}

pub(crate) fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        3 => (prop::sample::select(StartKind::ALL.to_vec()), prop_oneof![Just(1.0), positive()])
            .prop_map(|(kind, scale)| Start::Drawn { kind, scale }),
        1 => file().prop_map(Start::Point),
    ]
}

fn model() -> impl Strategy<Value = ModelSpec> {
    let features = prop_oneof![
        Just(Features::Linear),
        (1usize..6).prop_map(|degree| Features::Polynomial { degree }),
        (size(), positive(), any::<u64>()).prop_map(|(count, scale, seed)| Features::Fourier {
            count,
            scale,
            seed
        }),
    ];
    let body = prop_oneof![
        5 => prop::sample::select(Body::NAMED.map(|(_, b)| b).to_vec()),
        1 => file().prop_map(Body::Table),
    ];
    let skip = prop::sample::select(Skip::NAMED.map(|(_, s)| s).to_vec());
    (
        (features, any::<bool>(), body, skip),
        (1usize..9, 2usize..70, any::<bool>(), activation()),
        prop::option::of([1usize..9, 1usize..9, 1usize..4]),
    )
        .prop_map(
            |((features, intercept, body, skip), (depth, width, freeze, activation), image)| {
                let chain = skip == Skip::Chain;
                let blocks = matches!(body, Body::Bottleneck | Body::Aggregated);
                ModelSpec {
                    features,
                    intercept,
                    depth,
                    width,
                    bottleneck: if blocks && !chain {
                        width - 1
                    } else {
                        depth - 1
                    },
                    cardinality: if body == Body::Aggregated { depth } else { 0 },
                    activation,
                    skip,
                    freeze,
                    image: if body == Body::Conv {
                        Some(image.unwrap_or([8, 8, 1]))
                    } else {
                        image
                    },
                    body,
                }
            },
        )
}

pub(crate) fn cell() -> impl Strategy<Value = CellSpec> {
    (
        (data(), any::<bool>(), model()),
        prop_oneof![
            prop::sample::select(Loss::NAMED.map(|(_, l)| l).to_vec()),
            positive().prop_map(|delta| Loss::Huber { delta }),
        ],
        [not_negative(), not_negative(), not_negative()],
        (
            prop::sample::select(Optimizer::NAMED.map(|(_, o)| o).to_vec()),
            any::<bool>(),
            0u64..1_000_000,
            prop::option::of(positive()),
        ),
        [positive(), positive(), positive()],
    )
        .prop_map(
            |(
                (data, standardize, model),
                loss,
                [r, b, h],
                (optimizer, polish, e, s),
                [g, c, k],
            )| {
                let masked = matches!(&data, DataSpec::File(f) if f.mask.is_some());
                CellSpec {
                    data,
                    standardize,
                    model,
                    loss: if masked && loss == Loss::CrossEntropy {
                        Loss::Squared
                    } else {
                        loss
                    },
                    regularizer: Regularizer {
                        predictor_ridge: r,
                        body_decay: b,
                        head_decay: h,
                    },
                    optimizer,
                    polish,
                    budget: Budget {
                        evaluations: e,
                        seconds: s,
                    },
                    certificate: Tolerances {
                        gradient: g,
                        curvature: c,
                        kink_margin: k,
                    },
                    sweep: s.map(|_| [7; 32]),
                }
            },
        )
}

pub(crate) fn task() -> impl Strategy<Value = TaskSpec> {
    (cell(), any::<u64>(), start()).prop_map(|(cell, seed, start)| TaskSpec {
        cell: Arc::new(cell),
        seed,
        start,
    })
}
