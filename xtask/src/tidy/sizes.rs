//! Files and functions stay small enough to read, with exceptions that may only shrink.

use super::source::Source;
use std::collections::BTreeMap;

/// Lines of a file, its tail of unit tests aside.
const FILE_LIMIT_LINES: usize = 800;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LIMIT_LINES: usize = 70;
/// The same for tests, which may carry a table of what they expect.
const TEST_FUNCTION_LIMIT_LINES: usize = 140;

/// The list of exceptions, relative to the root: `PATH LINES` or `PATH FUNCTION LINES` a line.
pub(super) const EXCEPTIONS: &str = "xtask/tidy-exceptions.txt";

/// Compares what is too large with the list, both ways.
pub(super) fn check(sources: &[Source], exceptions: &str, problems: &mut Vec<String>) {
    let mut allowed = parse(exceptions, problems);
    for source in sources {
        for (key, length, limit) in measure(source) {
            let listed = allowed.remove(&key);
            if length <= limit && listed.is_none() {
                continue;
            }
            let advice = match listed {
                None if length > limit => format!("has {length} lines; {limit} is the limit"),
                Some(_) if length <= limit => format!("is small again: take it off {EXCEPTIONS}"),
                Some(listed) if length > listed => {
                    format!("grew from {listed} to {length} lines; exceptions may only shrink")
                }
                Some(listed) if length < listed => {
                    format!("shrank to {length} lines: put that number into {EXCEPTIONS}")
                }
                _ => continue,
            };
            problems.push(format!("{key}: {advice}"));
        }
    }
    for key in allowed.keys() {
        problems.push(format!("{EXCEPTIONS}: there is no {key} (any more)"));
    }
}

/// Each entry's lines by its key, which is `PATH` or `PATH FUNCTION`.
fn parse(exceptions: &str, problems: &mut Vec<String>) -> BTreeMap<String, usize> {
    let mut allowed = BTreeMap::new();
    for line in exceptions.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let entry = line
            .rsplit_once(' ')
            .map(|(key, lines)| (key.to_owned(), lines.parse()));
        match entry {
            Some((key, Ok(lines))) => _ = allowed.insert(key, lines),
            _ => problems.push(format!("{EXCEPTIONS}: cannot read `{line}`")),
        }
    }
    allowed
}

/// The key, length and limit of the file and of each of its functions.
fn measure(source: &Source) -> Vec<(String, usize, usize)> {
    let file_lines = if source.is_test(0) {
        0
    } else {
        source.production_lines
    };
    let mut measured = vec![(source.path.clone(), file_lines, FILE_LIMIT_LINES)];
    // Several functions of a file may share a name: the one furthest over its limit stands for
    // them.
    let mut largest: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for function in source.functions() {
        let is_test = source.is_test(function.line - 1);
        let limit = if is_test {
            TEST_FUNCTION_LIMIT_LINES
        } else {
            FUNCTION_LIMIT_LINES
        };
        let length = function.length_lines;
        let entry = largest.entry(function.name).or_insert((length, limit));
        if length + entry.1 > entry.0 + limit {
            *entry = (length, limit);
        }
    }
    measured.extend(
        largest
            .into_iter()
            .map(|(name, (length, limit))| (format!("{} {name}", source.path), length, limit)),
    );
    measured
}

#[cfg(test)]
mod tests {
    use super::{EXCEPTIONS, Source, check as check_sizes};

    fn check(function_lines: usize, exceptions: &str, expect: &[&str]) {
        let text = format!("fn f() {{{}}}\n", "\n".repeat(function_lines - 1));
        let mut problems = Vec::new();
        check_sizes(&[Source::new("a.rs", &text)], exceptions, &mut problems);
        assert_eq!(problems, expect);
    }

    #[test]
    fn a_function_up_to_the_limit_is_fine() {
        check(70, "", &[]);
        check(71, "", &["a.rs f: has 71 lines; 70 is the limit"]);
    }

    #[test]
    fn exceptions_excuse_exactly_what_they_say() {
        check(80, "# why\na.rs f 80\n", &[]);
        check(
            81,
            "a.rs f 80",
            &["a.rs f: grew from 80 to 81 lines; exceptions may only shrink"],
        );
        check(
            79,
            "a.rs f 80",
            &[&format!(
                "a.rs f: shrank to 79 lines: put that number into {EXCEPTIONS}"
            )],
        );
        check(
            70,
            "a.rs f 80",
            &[&format!("a.rs f: is small again: take it off {EXCEPTIONS}")],
        );
        check(
            70,
            "b.rs 900",
            &[&format!("{EXCEPTIONS}: there is no b.rs (any more)")],
        );
    }

    #[test]
    fn files_have_a_limit_that_tests_do_not_count_against() {
        let lines = "const A: u8 = 1;\n";
        let text = format!("{}#[cfg(test)]\nmod tests {{}}\n", lines.repeat(800));
        let mut problems = Vec::new();
        check_sizes(&[Source::new("a.rs", &text)], "", &mut problems);
        assert!(problems.is_empty());
        let text = lines.repeat(801);
        check_sizes(&[Source::new("a.rs", &text)], "", &mut problems);
        assert_eq!(problems, ["a.rs: has 801 lines; 800 is the limit"]);
    }
}
