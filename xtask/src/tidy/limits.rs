//! `docs/limits.md` lists the bounds that are no keys of the configuration: each has to be in the
//! source with that value, and every constant whose name says that it is a bound has to be listed.

use super::source::Source;

/// Where they are listed.
const LIST: &str = "docs/limits.md";

/// Where bounds on peers are.
const FOLDERS: [&str; 4] = [
    "crates/kernel/src/",
    "crates/runtime/src/",
    "crates/http/src/",
    "crates/server/src/",
];

/// Where there are none: what is measured against, what is simulated, what reads configurations.
const FREE: [&str; 3] = [
    "crates/kernel/src/yardstick",
    "crates/kernel/src/driver/sim",
    "crates/server/src/config/",
];

/// A constant and what it is set to.
#[derive(Debug, PartialEq, Eq)]
struct Bound<'a> {
    path: &'a str,
    name: &'a str,
    value: &'a str,
}

pub(super) fn check(files: &[(String, String)], sources: &[Source], problems: &mut Vec<String>) {
    let Some((_, text)) = files.iter().find(|(path, _)| path == LIST) else {
        problems.push(format!("{LIST}: not there"));
        return;
    };
    let listed: Vec<Bound<'_>> = text.lines().filter_map(row).collect();
    let written: Vec<Bound<'_>> = sources.iter().flat_map(constants).collect();
    for bound in &listed {
        if !written.contains(bound) {
            let Bound { path, name, value } = bound;
            problems.push(format!("{LIST}: {path} has no {name} of {value}"));
        }
    }
    for bound in &written {
        let is_free = FREE.iter().any(|folder| bound.path.starts_with(folder));
        let is_there = FOLDERS.iter().any(|folder| bound.path.starts_with(folder));
        let is_same = |other: &&Bound<'_>| other.path == bound.path && other.name == bound.name;
        if is_there && !is_free && is_bound(bound) && !listed.iter().any(|one| is_same(&one)) {
            problems.push(format!(
                "{}: {} is a bound that {LIST} doesn't list",
                bound.path, bound.name
            ));
        }
    }
}

/// Whether the name of a number or a time says that nothing is larger.
fn is_bound(bound: &Bound<'_>) -> bool {
    let Bound { name, value, .. } = bound;
    let says_so = name.ends_with("_LIMIT") || name.ends_with("_MAX") || name.contains("MAX_");
    let is_number = value.starts_with(|first: char| first.is_ascii_digit());
    says_so && (is_number || value.starts_with("Duration::"))
}

/// A row of a table: the name, the file, the value.
fn row(line: &str) -> Option<Bound<'_>> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.strip_suffix('`')?;
    let path = cells.next()?;
    let value = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some(Bound { path, name, value })
}

/// The constants of a file that stand on one line, outside of its tests.
fn constants(source: &Source) -> impl Iterator<Item = Bound<'_>> {
    let lines = source.lines.iter().enumerate();
    let lines = lines.filter(|(index, _)| !source.is_test(*index));
    lines.filter_map(|(_, line)| {
        let (before, rest) = line.split_once("const ")?;
        let (name, rest) = rest.split_once(": ")?;
        let value = rest.split_once(" = ")?.1.strip_suffix(';')?;
        let is_item = before.is_empty() || before.ends_with("pub ") || before.ends_with(") ");
        is_item.then_some(Bound {
            path: &source.path,
            name,
            value,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{LIST, Source};

    fn check(list: &str, code: &str, expect: &[&str]) {
        let files = [(LIST.to_owned(), list.to_owned())];
        let sources = [Source::new("crates/http/src/x.rs", code)];
        let mut problems = Vec::new();
        super::check(&files, &sources, &mut problems);
        assert_eq!(problems, expect);
    }

    const ROW: &str = "| `A_LIMIT` | crates/http/src/x.rs | `1 << 4` | enough |\n";

    #[test]
    fn what_is_listed_is_in_the_source() {
        let code = "//! X.\npub(crate) const A_LIMIT: usize = 1 << 4;\n";
        check(ROW, code, &[]);
        let expect = ["docs/limits.md: crates/http/src/x.rs has no A_LIMIT of 1 << 4"];
        check(ROW, &code.replace("<< 4", "<< 5"), &expect);
        check(ROW, "//! X.\n", &expect);
    }

    #[test]
    fn what_is_called_a_bound_is_listed() {
        let expect =
            ["crates/http/src/x.rs: MAX_LINES is a bound that docs/limits.md doesn't list"];
        check("", "//! X.\nconst MAX_LINES: usize = 2;\n", &expect);
        check(
            "",
            "//! X.\nconst MAX_AGE: HeaderName = header_name!(x);\n",
            &[],
        );
        check(
            "",
            "//! X.\n#[cfg(test)]\nmod tests {\nconst A_MAX: u8 = 2;\n}\n",
            &[],
        );
    }
}
