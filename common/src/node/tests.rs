use proptest::prelude::*;

use super::*;

fn read(text: &str) -> (Option<Node>, Vec<String>) {
    let mut found = Diagnostics::new();
    let node = parse(text, Limits::GRID, &mut found);
    (node, found.iter().map(|d| d.message.clone()).collect())
}

fn good(text: &str) -> Node {
    let (node, mistakes) = read(text);
    assert_eq!(mistakes, Vec::<String>::new(), "{text}");
    node.unwrap()
}

fn mistakes(text: &str) -> Vec<String> {
    let (_, mistakes) = read(text);
    assert!(!mistakes.is_empty(), "{text} was accepted");
    mistakes
}

#[test]
fn words_mean_what_the_core_schema_says() {
    for (text, value) in [
        ("~", Value::Null),
        ("", Value::Null),
        ("null", Value::Null),
        ("true", Value::Bool(true)),
        ("False", Value::Bool(false)),
        ("12", Value::Int(12)),
        ("-7", Value::Int(-7)),
        ("+7", Value::Int(7)),
        ("0x1F", Value::Int(31)),
        ("0o17", Value::Int(15)),
        ("18446744073709551615", Value::Int(u64::MAX.into())),
        ("-9223372036854775808", Value::Int(i64::MIN.into())),
        ("1e-3", Value::Float(1e-3)),
        ("1.", Value::Float(1.0)),
        (".5", Value::Float(0.5)),
        ("-2.5E+2", Value::Float(-250.0)),
        ("-.inf", Value::Float(f64::NEG_INFINITY)),
        ("no", Value::Str("no".into())),
        ("1_000", Value::Str("1_000".into())),
        ("e5", Value::Str("e5".into())),
        ("1e", Value::Str("1e".into())),
        (".", Value::Str(".".into())),
        ("-0x1", Value::Str("-0x1".into())),
        ("'12'", Value::Str("12".into())),
        ("\"true\"", Value::Str("true".into())),
        ("!!str 12", Value::Str("12".into())),
        ("!!float 12", Value::Int(12)),
    ] {
        assert_eq!(good(text).value, value, "{text}");
    }
    assert!(matches!(good(".nan").value, Value::Float(x) if x.is_nan()));
}

#[test]
fn every_value_knows_the_bytes_it_stood_on() {
    let text =
        "# é\naxes:\n  depth: [1, 22]\n  name: \"é x\"\n  more:\n    - a b\n    - {k: v}\nempty:\n";
    let root = good(text);
    let at = |node: &Node| &text[node.span.range()];
    let axes = root.as_map().unwrap().get("axes").unwrap();
    let axes_map = axes.as_map().unwrap();
    assert_eq!(at(axes_map.get("depth").unwrap()), "[1, 22]");
    assert_eq!(
        at(&axes_map.get("depth").unwrap().as_seq().unwrap()[1]),
        "22"
    );
    assert_eq!(at(axes_map.get("name").unwrap()), "\"é x\"");
    let more = axes_map.get("more").unwrap().as_seq().unwrap();
    assert_eq!(at(&more[0]), "a b");
    assert_eq!(at(&more[1]), "{k: v}");
    assert_eq!(
        at(axes),
        text["# é\naxes:\n  ".len()..]
            .strip_suffix("\nempty:\n")
            .unwrap()
    );
    let entry = axes_map.entry("depth").unwrap();
    assert_eq!(&text[entry.key_span.range()], "depth");
    assert_eq!(at(root.as_map().unwrap().get("empty").unwrap()), "empty");
}

#[test]
fn a_byte_order_mark_moves_nothing() {
    for text in ["\u{feff}a: é b\n", "\u{feff}{\"a\": \"é b\"}"] {
        let root = good(text);
        let value = root.as_map().unwrap().get("a").unwrap();
        assert_eq!(text[value.span.range()].trim_matches('"'), "é b");
    }
}

#[test]
fn json_and_yaml_readers_agree_on_json() {
    let text = r#"{"a": [1, -2.5e3, true, null, "x\ny\u00e9\"", [], {}], "b": {"c": 0}}"#;
    let mut found = Diagnostics::new();
    let json = json::parse(text, Limits::GRID, &mut found).unwrap();
    assert_eq!(Some(json), yaml::parse(text, Limits::GRID, &mut found));
    assert!(found.is_empty());
    let emoji = good(r#"["\ud83d\ude00"]"#);
    assert_eq!(emoji.as_seq().unwrap()[0].as_str(), Some("😀"));
}

#[test]
fn flow_yaml_that_only_looks_like_json_is_still_read() {
    let root = good("{a: [x, 0x10], b: {formula: t / (1 + abs(t))}}");
    assert_eq!(root.as_map().unwrap().len(), 2);
}

#[test]
fn a_key_that_stands_twice_is_a_mistake_with_both_places_and_reading_goes_on() {
    for text in [
        "a: 1\nb: 2\na: 3\na: 4\n",
        r#"{"a": 1, "b": 2, "a": 3, "a": 4}"#,
    ] {
        let mut found = Diagnostics::new();
        let root = parse(text, Limits::GRID, &mut found).unwrap();
        assert_eq!(
            root.as_map().unwrap().get("a").unwrap().value,
            Value::Int(1)
        );
        assert_eq!(found.len(), 2, "{text}");
        for mistake in &found {
            assert_eq!(mistake.message, "the key `a` stands twice");
            let first = mistake.secondary[0].0;
            assert_eq!(
                first.range().start,
                text.find('a').map_or(0, |i| i - usize::from(i > 0))
            );
        }
    }
    let many: String = (0..40).map(|i| format!("k{i}: 0\n")).collect();
    assert_eq!(mistakes(&format!("{many}k30: 1\nk2: 1\n")).len(), 2);
}

#[test]
fn aliases_are_copies_and_a_bomb_is_refused_while_it_is_small() {
    let root = good("a: &x [1, 2]\nb: *x\n");
    let map = root.as_map().unwrap();
    assert_eq!(map.get("a"), map.get("b"));

    let mut bomb = String::from("a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]\n");
    for i in 1..12 {
        let uses = vec![format!("*a{}", i - 1); 9].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{uses}]\n"));
    }
    assert_eq!(mistakes(&bomb), ["the text has more than 200000 values"]);

    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        vec!["*a"; 100].join(", ")
    );
    assert_eq!(mistakes(&long), ["the text has more than 200000 values"]);

    let deep: String = (1..40)
        .map(|i| format!("a{i}: &a{i} [*a{}]\n", i - 1))
        .collect();
    let deep = format!("a0: &a0 [0]\n{deep}");
    assert_eq!(
        mistakes(&deep),
        ["lists and maps nest at most 24 deep here"]
    );
    assert_eq!(
        mistakes("a: &x {b: *x}"),
        ["this alias stands inside what its anchor names"]
    );
}

#[test]
fn what_configuration_should_not_hold_is_refused() {
    for (text, message) in [
        (
            "a: 1\n---\nb: 2\n",
            "a second document begins here, a file holds one",
        ),
        (
            "a: !python/object x",
            "the tag `!python/object` is not known here",
        ),
        ("a: !!int x", "the tag `!!int` is not known here"),
        ("a: !!set {x}", "the tag `!!set` is not known here"),
        (
            "a: 99999999999999999999",
            "the integer `99999999999999999999` does not fit into 64 bits",
        ),
        (
            "[99999999999999999999]",
            "the integer `99999999999999999999` does not fit into 64 bits",
        ),
        ("a: 1e999", "the number `1e999` is too large for a float"),
        ("<<: {a: 1}", "merge keys are not used here"),
        ("? [a, b]\n: 1", "a key is a word, not a list"),
        ("a: *b", "not YAML: parsing node, found unknown anchor"),
        (
            "a: [1, 2\nb: 3",
            "not YAML: illegal placement of ':' indicator",
        ),
    ] {
        assert_eq!(mistakes(text), [message], "{text}");
    }
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
    assert_eq!(
        mistakes(&deep),
        ["lists and maps nest at most 24 deep here"]
    );
    let long = "x".repeat(Limits::GRID.bytes + 1);
    assert_eq!(
        mistakes(&long),
        ["the text has 4194305 bytes, at most 4194304 are read"]
    );
}

#[test]
fn bytes_that_are_no_text_are_a_mistake_at_their_place() {
    let mut found = Diagnostics::new();
    let source = source("grid.yaml", b"a: \xff", &mut found);
    assert_eq!(source.text, "a: \u{fffd}");
    let mistake = found.iter().next().unwrap();
    assert_eq!(mistake.message, "the text is not UTF-8: byte 0xff");
    assert_eq!(mistake.span.range(), 3..4);
}

fn check_any(text: &str) -> Result<(), TestCaseError> {
    let limits = Limits {
        bytes: 1 << 16,
        depth: 8,
        nodes: 500,
    };
    let mut found = Diagnostics::new();
    let node = parse(text, limits, &mut found);
    prop_assert!(node.is_some() || found.has_errors());
    for mistake in &found {
        prop_assert!(mistake.span.range().end <= text.len().max(1));
    }
    let source = Source {
        name: "x".into(),
        text: text.into(),
    };
    found.render(&source, false);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_bytes_are_a_tree_or_a_mistake(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_any(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_mixture_of_yaml_signs_is_a_tree_or_a_mistake(
        text in "([-?:,\\[\\]{}#&*!|>'\"%@` \\n\\ta1é]|- |: |\\? |&a |\\*a |---\\n|\\.\\.\\.\\n|!!str |<<: ){0,40}",
    ) {
        check_any(&text)?;
    }

    #[test]
    fn a_grid_with_a_few_bytes_changed_is_a_tree_or_a_mistake(
        changes in prop::collection::vec((0usize..600, any::<u8>()), 0..6),
    ) {
        let mut bytes = include_bytes!("../../tests/grids/contract.yaml").to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        check_any(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn json_text_of_any_tree_reads_back(
        numbers in prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 0..20),
        words in prop::collection::vec(".{0,8}", 0..5),
    ) {
        let value = serde_json::json!({ "numbers": numbers, "words": words });
        let mut found = Diagnostics::new();
        let node = json::parse(&value.to_string(), Limits::GRID, &mut found).unwrap();
        let map = node.as_map().unwrap();
        let read: Vec<f64> =
            map.get("numbers").unwrap().as_seq().unwrap().iter().map(|n| n.as_f64().unwrap()).collect();
        prop_assert_eq!(read, numbers);
        let read: Vec<&str> =
            map.get("words").unwrap().as_seq().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
        prop_assert_eq!(read, words);
    }
}
