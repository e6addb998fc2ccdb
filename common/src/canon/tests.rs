use std::collections::HashSet;
use std::sync::Arc;

use super::*;
use crate::formula::Formula;
use crate::spec::{
    Activation, Body, Budget, DataSpec, Features, Loss, ModelSpec, Regularizer, Skip, StartKind,
    Tolerances,
};

const DATA: DataIdentity = DataIdentity {
    arrays: [7; 32],
    image: None,
};

fn cell() -> CellSpec {
    CellSpec {
        data: DataSpec::Named("diabetes".into()),
        standardize: true,
        model: ModelSpec {
            features: Features::Linear,
            intercept: true,
            body: Body::Mlp,
            depth: 2,
            width: 8,
            bottleneck: 2,
            cardinality: 2,
            activation: Activation::Tanh,
            skip: Skip::Outer,
            freeze: false,
            image: None,
        },
        loss: Loss::Squared,
        regularizer: Regularizer::default(),
        optimizer: Optimizer::Auto,
        polish: true,
        budget: Budget::default(),
        certificate: Tolerances::default(),
        sweep: None,
    }
}

fn changed(change: impl FnOnce(&mut CellSpec)) -> CellSpec {
    let mut c = cell();
    change(&mut c);
    c
}

fn id(cell: &CellSpec) -> CellId {
    CellIdentity::new(cell, &DATA).unwrap().id()
}

fn table() -> Body {
    Body::Table(FileRef {
        path: "z.npy".into(),
        sha256: "ab".repeat(32),
    })
}

#[test]
fn every_field_that_is_read_changes_the_identity() {
    let changes: Vec<CellSpec> = vec![
        cell(),
        changed(|c| c.standardize = false),
        changed(|c| c.model.features = Features::Polynomial { degree: 2 }),
        changed(|c| c.model.intercept = false),
        changed(|c| c.model.body = Body::Residual),
        changed(|c| c.model.body = table()),
        changed(|c| c.model.depth = 3),
        changed(|c| c.model.width = 9),
        changed(|c| c.model.activation = Activation::Relu),
        changed(|c| c.model.activation = Activation::LeakyRelu { slope: 0.1 }),
        changed(|c| c.model.activation = Activation::LeakyRelu { slope: 0.2 }),
        changed(|c| c.model.skip = Skip::None),
        changed(|c| c.model.skip = Skip::Chain),
        changed(|c| c.model.freeze = true),
        changed(|c| c.loss = Loss::Huber { delta: 1.0 }),
        changed(|c| c.loss = Loss::Huber { delta: 2.0 }),
        changed(|c| c.regularizer.predictor_ridge = 0.0),
        changed(|c| c.regularizer.body_decay = 0.0),
        changed(|c| c.regularizer.head_decay = 0.1),
        changed(|c| c.optimizer = Optimizer::Adam),
        changed(|c| c.polish = false),
        changed(|c| c.budget.evaluations = 10),
        changed(|c| c.budget.seconds = Some(1.0)),
        changed(|c| c.sweep = Some([1; 32])),
        changed(|c| c.sweep = Some([2; 32])),
        changed(|c| c.certificate.gradient = 1e-8),
        changed(|c| c.certificate.curvature = 1e-7),
    ];
    let ids: HashSet<CellId> = changes.iter().map(id).collect();
    assert_eq!(ids.len(), changes.len());
    let other = DataIdentity {
        arrays: [8; 32],
        image: None,
    };
    assert!(!ids.contains(&CellIdentity::new(&cell(), &other).unwrap().id()));
}

#[test]
fn fields_that_are_not_read_do_not_count() {
    let same = |a: &CellSpec, b: &CellSpec| assert_eq!(id(a), id(b));
    same(&cell(), &changed(|c| c.model.bottleneck = 5));
    same(&cell(), &changed(|c| c.model.cardinality = 5));
    same(&cell(), &changed(|c| c.certificate.kink_margin = 1.0));
    same(
        &cell(),
        &changed(|c| c.data = DataSpec::Named("a copy".into())),
    );
    let tabled = |change: fn(&mut CellSpec)| {
        changed(|c| {
            c.model.body = table();
            change(c);
        })
    };
    same(&tabled(|_| ()), &tabled(|c| c.model.depth = 9));
    same(
        &tabled(|_| ()),
        &tabled(|c| c.model.activation = Activation::Relu),
    );
    same(&tabled(|_| ()), &tabled(|c| c.regularizer.body_decay = 1.0));
    same(&tabled(|_| ()), &tabled(|c| c.model.freeze = true));
    let chained = |body: Body| {
        changed(|c| {
            c.model.skip = Skip::Chain;
            c.model.body = body;
        })
    };
    same(&chained(Body::Mlp), &chained(table()));
    let unmoved = |optimizer| {
        changed(|c| {
            c.budget.evaluations = 0;
            c.optimizer = optimizer;
        })
    };
    same(&unmoved(Optimizer::Auto), &unmoved(Optimizer::Sgd));
}

#[test]
fn a_kink_margin_counts_where_there_are_kinks() {
    let with = |activation: Activation, margin| {
        id(&changed(|c| {
            c.model.activation = activation;
            c.certificate.kink_margin = margin;
        }))
    };
    assert_ne!(with(Activation::Relu, 1e-6), with(Activation::Relu, 1e-5));
    let formula = |text: &str| Activation::Formula(Formula::parse(text).unwrap());
    assert_ne!(with(formula("abs(t)"), 1e-6), with(formula("abs(t)"), 1e-5));
    assert_eq!(with(formula("t*t"), 1e-6), with(formula("t*t"), 1e-5));
    let linear = || Activation::LeakyRelu { slope: 1.0 };
    assert_eq!(with(linear(), 1e-6), with(linear(), 1e-5));
}

#[test]
fn formulas_count_as_trees_and_zero_has_no_sign() {
    let with = |text: &str| {
        id(&changed(|c| {
            c.model.activation = Activation::Formula(Formula::parse(text).unwrap());
        }))
    };
    assert_eq!(with("t * tanh(t)"), with("(t*tanh( t ))"));
    assert_ne!(with("t * tanh(t)"), with("tanh(t) * t"));
    assert_eq!(
        id(&changed(|c| c.regularizer.head_decay = -0.0)),
        id(&changed(|c| c.regularizer.head_decay = 0.0))
    );
}

#[test]
fn the_images_shape_counts_wherever_it_comes_from() {
    let conv = |shape| {
        changed(|c| {
            c.model.body = Body::Conv;
            c.model.image = shape;
        })
    };
    let with = |cell: &CellSpec, image| {
        let data = DataIdentity { image, ..DATA };
        CellIdentity::new(cell, &data).unwrap().id()
    };
    let shape = Some([2, 5, 1]);
    assert_eq!(with(&conv(shape), None), with(&conv(None), shape));
    assert_ne!(
        with(&conv(Some([5, 2, 1])), shape),
        with(&conv(None), shape)
    );
    assert_eq!(with(&cell(), shape), with(&cell(), None));
}

#[test]
fn a_task_is_its_cell_its_start_and_a_seed_that_is_read() {
    let point = Start::Point(FileRef {
        path: "theta.json".into(),
        sha256: "0c".repeat(32),
    });
    let task = |cell: CellSpec, start: &Start, seed| {
        let task = TaskSpec {
            cell: Arc::new(cell),
            seed,
            start: start.clone(),
        };
        (task_id(&task, &DATA).unwrap(), effective_seed(&task))
    };
    let drawn = |kind, scale| Start::Drawn { kind, scale };
    let standard = drawn(StartKind::Standard, 1.0);
    let all = [
        task(cell(), &standard, 0),
        task(cell(), &standard, 1),
        task(cell(), &drawn(StartKind::Standard, 3.0), 0),
        task(cell(), &drawn(StartKind::Dead, 1.0), 0),
        task(cell(), &point, 0),
        task(changed(|c| c.optimizer = Optimizer::Sgd), &point, 0),
        task(changed(|c| c.optimizer = Optimizer::Sgd), &point, 1),
    ];
    let distinct: HashSet<TaskId> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!(distinct.len(), all.len());
    // Nothing is drawn: the seed is not part of the task.
    assert_eq!(task(cell(), &point, 5), task(cell(), &point, 0));
    assert_eq!(task(cell(), &standard, 5).1, 5);
}

#[test]
fn a_file_that_was_not_read_has_no_identity() {
    let unread = FileRef {
        path: "z.npy".into(),
        sha256: String::new(),
    };
    let c = changed(|c| c.model.body = Body::Table(unread.clone()));
    assert!(matches!(
        CellIdentity::new(&c, &DATA),
        Err(CanonError::UnknownContent { path, .. }) if path == "z.npy"
    ));
    assert!(StartIdentity::new(&Start::Point(unread)).is_err());
}

#[test]
fn networks_share_the_baseline_and_its_own_fields_tell_it_apart() {
    let base = baseline_id(&cell(), &DATA);
    let same = [
        changed(|c| c.model.depth = 9),
        changed(|c| c.model.skip = Skip::Chain),
        changed(|c| c.regularizer.body_decay = 0.5),
        changed(|c| c.optimizer = Optimizer::Gd),
        changed(|c| {
            c.regularizer.predictor_ridge = 0.0;
            c.regularizer.head_decay = 1e-3;
        }),
    ];
    for c in &same {
        assert_eq!(baseline_id(c, &DATA), base);
    }
    let other = [
        changed(|c| c.standardize = false),
        changed(|c| c.model.intercept = false),
        changed(|c| c.model.features = Features::Polynomial { degree: 2 }),
        changed(|c| c.loss = Loss::LogCosh),
        changed(|c| c.regularizer.predictor_ridge = 0.0),
    ];
    for c in &other {
        assert_ne!(baseline_id(c, &DATA), base);
    }
}

/// Results are stored by these: a change here means that nothing recorded
/// before is found again.
#[test]
fn identities_are_what_they_were() {
    let task = TaskSpec {
        cell: Arc::new(cell()),
        seed: 3,
        start: Start::STANDARD,
    };
    let lines = [
        id(&cell()).to_string(),
        task_id(&task, &DATA).unwrap().to_string(),
        baseline_id(&cell(), &DATA).to_string(),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_cell_is_described_by_what_it_reads_in_the_grids_notation() {
    let c = changed(|c| c.model.activation = Activation::LeakyRelu { slope: 0.2 });
    let text: Vec<String> = describe(&c)
        .iter()
        .map(|(k, v)| format!("{k}: {v}"))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn assumptions_and_notes_follow_the_theory() {
    let sizes = TheorySizes {
        phi: 5,
        outputs: 2,
        z: 8,
        masked: false,
    };
    assert!(assumptions_broken(&cell(), &sizes).is_empty());
    assert!(notes(&cell(), &sizes).is_empty());
    let broken = |c: &CellSpec, s: TheorySizes| assumptions_broken(c, &s).join("; ");
    assert_eq!(
        broken(&changed(|c| c.model.skip = Skip::None), sizes),
        "skip: none (no outer skip)"
    );
    assert_eq!(
        broken(
            &cell(),
            TheorySizes {
                outputs: 6,
                ..sizes
            }
        ),
        "d_y > d_phi (6 > 5)"
    );
    assert_eq!(
        broken(&changed(|c| c.regularizer.head_decay = 0.5), sizes),
        "head_decay > 0 (0.5)"
    );
    let masked = TheorySizes {
        masked: true,
        ..sizes
    };
    assert!(broken(&cell(), masked).starts_with("mask"));
    assert_eq!(notes(&cell(), &masked).len(), 1);
    // A frozen body and d_y > d_z stay inside the theorem.
    let narrow = TheorySizes { z: 1, ..sizes };
    let frozen = changed(|c| c.model.freeze = true);
    assert!(assumptions_broken(&frozen, &narrow).is_empty());
    assert_eq!(notes(&frozen, &narrow).len(), 2);
}
