//! Comparisons made from figures that are known.

use super::*;

fn runs(costs: &[f64]) -> Vec<Run> {
    let run = |cost: &f64| Run {
        cost: *cost,
        ..Run::default()
    };
    costs.iter().map(run).collect()
}

#[test]
fn ratios_are_to_the_first_ones_run_of_the_same_round() {
    let rows = vec![
        ("a".to_owned(), None, runs(&[10.0, 20.0, 40.0])),
        ("b".to_owned(), None, runs(&[20.0, 30.0, 40.0])),
    ];
    let comparison = Comparison::new("t", "u", None, rows).unwrap();
    let row = comparison.row("b").unwrap();
    assert_eq!(Some(row.ratio), Spread::of(&[2.0, 1.5, 1.0]));
    assert_eq!((row.cost.median, row.best), (30.0, 2.0));
    assert_eq!(comparison.row("a").unwrap().ratio.median, 1.0);
    assert!(comparison.row("c").is_none());
}

#[test]
fn without_a_run_there_is_no_comparison() {
    assert!(Comparison::new("t", "u", None, Vec::new()).is_none());
    let rows = vec![("a".to_owned(), None, Vec::new())];
    assert!(Comparison::new("t", "u", None, rows).is_none());
}

#[test]
fn what_was_thrown_away_is_counted() {
    let mut disturbed = runs(&[1.0, 2.0]);
    disturbed[0].discarded = 2;
    disturbed[1].discarded = 3;
    let rows = vec![("a".to_owned(), None, disturbed)];
    let comparison = Comparison::new("t", "u", None, rows).unwrap();
    assert_eq!(comparison.discarded(), 5);
}

#[test]
fn large_bodies_are_told_by_the_gigabyte() {
    assert_eq!(Shape::closed(1, 1 << 20).unit(), "ms of CPU for a GB");
    assert_eq!(Shape::closed(1, 1024).unit(), "µs of CPU for a request");
}

#[test]
fn a_run_that_others_had_much_of_is_disturbed() {
    let is_disturbed = |stolen, others| {
        let run = Run {
            stolen,
            others,
            ..Run::default()
        };
        run.is_disturbed()
    };
    assert!(!is_disturbed(0.05, 0.1));
    assert!(is_disturbed(0.06, 0.0));
    assert!(is_disturbed(0.0, 0.11));
}
