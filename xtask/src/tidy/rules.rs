//! Rules on single lines and files: what is banned, and where.

use super::source::{Source, has_word};

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: &[&str] = &[
    "common", "helper", "helpers", "misc", "types", "util", "utils",
];

/// Where unsafe code may be.
const UNSAFE_FOLDER: &str = "crates/kernel/";

/// Checks one source against every rule.
pub(super) fn check(source: &Source, problems: &mut Vec<String>) {
    if !source
        .lines
        .first()
        .is_some_and(|line| line.starts_with("//!"))
    {
        problems.push(format!(
            "{}: does not open with //! and what it is for",
            source.path
        ));
    }
    let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
    if stem.split('/').any(|part| EMPTY_NAMES.contains(&part)) {
        problems.push(format!("{}: a name that says nothing", source.path));
    }
    for (index, code) in source.code.iter().enumerate() {
        let mut report =
            |what: &str| problems.push(format!("{}:{}: {what}", source.path, index + 1));
        if let Some(what) = banned(source, index, code) {
            report(what);
        }
        if has_word(code, "unsafe") {
            if !source.path.starts_with(UNSAFE_FOLDER) {
                report("unsafe code has its home in crates/kernel");
            } else if opens_unsafe(code) && !has_safety_note(source, index) {
                report("unsafe without a SAFETY note above it");
            }
        }
    }
}

fn banned(source: &Source, index: usize, code: &str) -> Option<&'static str> {
    let test = source.is_test(index);
    let in_main = source.path.ends_with("src/main.rs");
    let has = |text: &str| code.contains(text);
    if !test && has(".unwrap()") {
        return Some("unwrap outside tests: handle it, or `expect` why it cannot happen");
    }
    if test && has("thread::sleep") {
        return Some("a test that sleeps: wait for what it waits for, or step virtual time");
    }
    if has("#[ignore") {
        return Some("an ignored test: make it skip itself with its reason");
    }
    if ["todo!", "dbg!", "unimplemented!"]
        .iter()
        .any(|name| has(name))
    {
        return Some("todo!, dbg! and unimplemented! do not stay");
    }
    if !in_main && has("process::exit") {
        return Some("process::exit outside main.rs: nothing above it could clean up");
    }
    None
}

/// Whether the line opens a block or an implementation, and not a function or a trait, whose
/// documentation has a `# Safety` section instead.
fn opens_unsafe(code: &str) -> bool {
    let after = code.split("unsafe").skip(1);
    after
        .map(str::trim_start)
        .any(|rest| rest.starts_with('{') || rest.starts_with("impl"))
}

/// Looks for the note in the statement's lines above `index` and the comment above those.
fn has_safety_note(source: &Source, index: usize) -> bool {
    for above in (0..=index).rev() {
        let line = source.lines[above].trim();
        if line.contains("SAFETY:") {
            return true;
        }
        let comment = line.starts_with("//");
        let code = source.code[above].trim_end();
        if above < index && !comment && (line.is_empty() || code.ends_with([';', '{', '}'])) {
            return false;
        }
    }
    false
}

/// Reports a path that exists on someone's machine only.
pub(super) fn machine_paths(path: &str, text: &str, problems: &mut Vec<String>) {
    for (index, line) in text.lines().enumerate() {
        for folder in ["work", "root", "home"] {
            let absolute = format!("/{folder}/");
            let found = line.match_indices(&absolute).any(|(start, _)| {
                let before = line[..start].chars().next_back();
                // Part of a longer path or an address, or below something named by a variable.
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.})$>~*".contains(c))
            });
            if found {
                problems.push(format!(
                    "{path}:{}: a path of one machine: {absolute}",
                    index + 1
                ));
            }
        }
    }
}

/// The changelog has a place for what the next release brings.
pub(super) fn changelog(files: &[(String, String)], problems: &mut Vec<String>) {
    let changelog = files.iter().find(|(path, _)| path == "CHANGELOG.md");
    let has_section = changelog.is_some_and(|(_, text)| {
        text.lines().any(|line| {
            line.strip_prefix("## ").is_some_and(|title| {
                title
                    .trim_start_matches('[')
                    .to_lowercase()
                    .starts_with("unreleased")
            })
        })
    });
    if !has_section {
        problems.push("CHANGELOG.md: lacks a section `## Unreleased`".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn check(path: &str, text: &str, expect: &[&str]) {
        let mut problems = Vec::new();
        super::check(&Source::new(path, text), &mut problems);
        assert_eq!(problems, expect);
    }

    fn check_line(path: &str, line: &str, complains: bool) {
        let mut problems = Vec::new();
        super::check(
            &Source::new(path, &format!("//! X.\n{line}\n")),
            &mut problems,
        );
        assert_eq!(!problems.is_empty(), complains, "{line}: {problems:?}");
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        check("crates/a/src/b.rs", "//! B.\n", &[]);
        let expect = ["crates/a/src/b.rs: does not open with //! and what it is for"];
        check("crates/a/src/b.rs", "use x;\n", &expect);
    }

    #[test]
    fn empty_names_are_refused() {
        check_line("crates/a/src/utils.rs", "", true);
        check_line("crates/a/tests/it/common/mod.rs", "", true);
        check_line("crates/a/src/types/b.rs", "", true);
        check_line("crates/a/src/mime_types.rs", "", false);
    }

    #[test]
    fn banned_calls_are_found_where_they_are_banned() {
        check_line("crates/a/src/b.rs", "a.unwrap();", true);
        check_line("crates/a/src/b.rs", "a.unwrap_or(1);", false);
        check_line("crates/a/src/b.rs", "// a.unwrap();", false);
        check_line("crates/a/tests/b.rs", "a.unwrap();", false);
        check_line("crates/a/tests/b.rs", "std::thread::sleep(a);", true);
        check_line("crates/a/src/b.rs", "std::thread::sleep(a);", false);
        check_line("crates/a/tests/b.rs", "#[ignore = \"slow\"]", true);
        check_line("crates/a/src/b.rs", "todo!()", true);
        check_line("crates/a/src/b.rs", "std::process::exit(1);", true);
        check_line("crates/a/src/main.rs", "std::process::exit(1);", false);
    }

    #[test]
    fn unsafe_code_has_one_home_and_a_note() {
        check_line("crates/http/src/a.rs", "unsafe { f() }", true);
        check_line("crates/http/src/a.rs", "#![forbid(unsafe_code)]", false);
        check_line("crates/kernel/src/a.rs", "unsafe { f() }", true);
        check_line(
            "crates/kernel/src/a.rs",
            "// SAFETY: why.\nunsafe { f() }",
            false,
        );
        check_line(
            "crates/kernel/src/a.rs",
            "// SAFETY: a\n// b.\nlet x =\n unsafe { f() };",
            false,
        );
        check_line(
            "crates/kernel/src/a.rs",
            "// SAFETY: a.\ng();\nunsafe { f() }",
            true,
        );
        check_line("crates/kernel/src/a.rs", "unsafe impl Send for A {}", true);
        check_line("crates/kernel/src/a.rs", "pub unsafe fn f() {}", false);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let found = |line: &str| {
            let mut problems = Vec::new();
            super::machine_paths("a.md", line, &mut problems);
            !problems.is_empty()
        };
        let home = ["/ho", "me/"].concat();
        assert!(found(&format!("see {home}me/x")));
        assert!(found(&format!("\"{home}x\"")));
        assert!(!found(&format!("https://example.org{home}x")));
        assert!(!found(&format!("{{dir}}{home}x")));
    }

    #[test]
    fn the_changelog_has_its_section() {
        let found = |text: &str| {
            let mut problems = Vec::new();
            let files = [("CHANGELOG.md".to_owned(), text.to_owned())];
            super::changelog(&files, &mut problems);
            problems.is_empty()
        };
        assert!(found("# Changes\n\n## Unreleased\n"));
        assert!(found("## [Unreleased]\n"));
        assert!(!found("## 0.1\nunreleased\n"));
    }
}
