//! The page about the host says what the code does.

use expect_test::expect_file;
use ringway_host::checks::{Check, Remedy, Severity, table};
use std::fmt::Write as _;
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/host.md");
const HEAD: &str = "| check | looks at | good is | because | otherwise | remedy | undone by |\n\
                    | --- | --- | --- | --- | --- | --- | --- |\n";

fn row(check: &Check) -> String {
    let severity = match check.severity {
        Severity::Info => "advice",
        Severity::Warning => "warning",
        Severity::Failure => "failure",
    };
    let remedy = match check.remedy {
        Remedy::Tune => "`ringway tune`",
        Remedy::TuneWithLeave => "`ringway tune --allow-disruption`",
        Remedy::Advice(how) => how,
        Remedy::None => "none needed",
    };
    let mut row = format!("| `{}` ", check.id);
    for cell in [
        check.reads,
        check.good,
        check.why,
        severity,
        remedy,
        check.undo,
    ] {
        let cell = cell.replace('|', "\\|").replace('*', "\\*");
        let _ = write!(row, "| {cell} ");
    }
    row + "|\n"
}

#[test]
fn every_check_is_documented_as_it_is() {
    let page = std::fs::read_to_string(Path::new(PAGE)).unwrap();
    let end = page.find("-->\n").expect("the mark above the table") + "-->\n".len();
    let rows: String = table().map(row).collect();
    let expected = format!("{}\n{HEAD}{rows}", &page[..end]);
    expect_file![PAGE].assert_eq(&expected);
}
