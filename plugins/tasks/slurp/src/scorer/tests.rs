use super::*;

fn labels(intent: &str, entities: &[(&str, &str)]) -> Labels {
    let (scenario, action) = intent.split_once('_').unwrap();
    Labels {
        scenario: scenario.to_owned(),
        action: action.to_owned(),
        entities: entities
            .iter()
            .map(|(kind, filler)| Entity::new(*kind, *filler))
            .collect(),
    }
}

/// Right, too many and missed, over all labels of a measure.
#[track_caller]
fn check(measure: Measure, gold: &[(&str, &str)], predicted: &[(&str, &str)], expected: [f64; 3]) {
    let tables = Tables::of(&labels("a_b", gold), &labels("a_b", predicted));
    let total = tables.table(measure).total();
    assert_eq!([total.right, total.too_many, total.missed], expected, "{measure:?}");
}

#[test]
fn a_wrong_label_is_one_too_many_and_another_missed() {
    let mut sums = Tables::default();
    sums.add(&Tables::of(&labels("alarm_set", &[]), &labels("alarm_set", &[])));
    sums.add(&Tables::of(&labels("alarm_set", &[]), &labels("music_set", &[])));
    let scenario = sums.table(Measure::Scenario);
    let of = |label: &str| scenario.0[label];
    assert_eq!(
        (of("alarm").right, of("alarm").missed, of("music").too_many),
        (1.0, 1.0, 1.0)
    );
    assert_eq!(scenario.micro().f1, 0.5);
    // The mean of 2/3 for `alarm` and 0 for `music`, which was only ever predicted.
    assert!((scenario.macro_mean().f1 - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(sums.table(Measure::Action).micro().f1, 1.0);
    assert_eq!(sums.table(Measure::Intent).0.len(), 2);
}

#[test]
fn entities_are_struck_out_one_by_one() {
    use Measure::Entities;
    let gold = &[("date", "today"), ("date", "today"), ("time", "ten")];
    check(Entities, gold, gold, [3.0, 0.0, 0.0]);
    check(Entities, gold, &[("date", "today")], [1.0, 0.0, 2.0]);
    check(Entities, gold, &[("time", "today"), ("time", "Ten")], [0.0, 2.0, 3.0]);
    check(Entities, &[], &[("time", "ten"), ("time", "ten")], [0.0, 2.0, 0.0]);
    check(Entities, &[], &[], [0.0, 0.0, 0.0]);
}

#[test]
fn a_further_key_makes_an_entity_wrong_but_no_farther() {
    let gold = labels("a_b", &[("date", "today")]);
    let mut predicted = gold.clone();
    predicted.entities[0].has_more = true;
    let tables = Tables::of(&gold, &predicted);
    assert_eq!(tables.table(Measure::Entities).micro().f1, 0.0);
    assert_eq!(tables.table(Measure::SluF1).micro().f1, 1.0);
}

#[test]
fn a_near_miss_is_right_and_its_distance_counts_against_it() {
    use Measure::{Char, SluF1, Word};
    check(Word, &[("time", "ten am")], &[("time", "ten pm")], [1.0, 0.5, 0.5]);
    check(
        Char,
        &[("time", "ten am")],
        &[("time", "ten pm")],
        [1.0, 1.0 / 6.0, 1.0 / 6.0],
    );
    check(SluF1, &[("time", "ten")], &[("time", "ten")], [2.0, 0.0, 0.0]);
    check(SluF1, &[("time", "ten")], &[("date", "ten")], [0.0, 2.0, 2.0]);
    // The first takes the nearest, even if it would have suited the second better.
    let gold = &[("time", "ten am"), ("time", "ten")];
    check(Word, gold, &[("time", "ten"), ("time", "ten am")], [2.0, 0.0, 0.0]);
    check(
        Word,
        &[("time", "a b"), ("time", "b c")],
        &[("time", "b"), ("time", "a")],
        [2.0, 1.5, 1.5],
    );
}

#[test]
fn distances_by_words() {
    let check = |gold: &str, predicted: &str, expected: f64| {
        assert_eq!(word_distance(gold, predicted), expected, "{gold:?} {predicted:?}");
    };
    check("ten am", "ten am", 0.0);
    check("ten", "ten in the morning", 3.0); // not clipped
    check("ten am", "", 1.0);
    check("ten am", "  ten \t\n am ", 0.0);
    check("ten am", "ten\tam", 1.0); // one tab is part of a word
    check("ten am", "Ten am", 0.5);
    check("a b", "a\u{1c}\u{a0}b", 0.0);
}

#[test]
fn distances_by_characters() {
    let check = |gold: &str, predicted: &str, expected: f64| {
        assert_eq!(char_distance(gold, predicted), expected, "{gold:?} {predicted:?}");
    };
    check("ten", "ten", 0.0);
    check("ten", "", 1.0);
    check("ten", "TEN", 1.0);
    check("ten", " ten", 0.25);
    check("né", "ne", 0.5); // characters, not bytes
    check("", "", 0.0);
}

#[test]
fn counts_survive_being_written_and_read() {
    let gold = labels("alarm_set", &[("time", "ten am"), ("date", "today")]);
    let predicted = labels("music_set", &[("time", "ten pm"), ("time", "noon")]);
    let tables = Tables::of(&gold, &predicted);
    let text = tables.to_json().to_string();
    let read = Tables::from_json(&serde_json::from_str(&text).unwrap());
    assert_eq!(read, Some(tables));
    assert_eq!(Tables::from_json(&json!({"scenario": {"a": [1]}})), None);
    assert_eq!(Tables::from_json(&Value::Null), None);
}

#[test]
fn the_sums_that_comparisons_draw_again_give_the_official_f1() {
    let pairs = [
        (
            &[("time", "seven am"), ("date", "monday")][..],
            &[("time", "seven am")][..],
        ),
        (
            &[("song", "yesterday")],
            &[("song", "yesterdays"), ("artist", "beatles")],
        ),
        (&[], &[("place", "rome")]),
        (&[("place", "new york")], &[]),
    ];
    let (mut all, mut sums) = (Tables::default(), [0.0, 0.0]);
    for (gold, predicted) in pairs {
        let tables = Tables::of(&labels("a_b", gold), &labels("a_b", predicted));
        let ratio = &crate::summary::ratios(&tables)["slu_f1"];
        sums[0] += ratio[0].as_f64().unwrap();
        sums[1] += ratio[1].as_f64().unwrap();
        all.add(&tables);
    }
    let official = all.table(Measure::SluF1).micro().f1;
    assert!(
        official > 0.0 && (sums[0] / sums[1] - official).abs() < 1e-12,
        "{sums:?} {official}"
    );
}
