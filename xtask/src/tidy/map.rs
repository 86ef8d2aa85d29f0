//! The code map of ARCHITECTURE.md: every file of a crate is named there, or lies in a folder that is;
//! what is named is there, before the map too; and its lines can be read.

/// Where the map is.
const PAGE: &str = "ARCHITECTURE.md";
/// Its longest line, in characters; a row of a table can't be broken.
const LINE_MAX: usize = 120;

pub(super) fn check(files: &[(String, String)], problems: &mut Vec<String>) {
    let Some((_, text)) = files.iter().find(|(path, _)| path == PAGE) else {
        problems.push(format!("{PAGE}: not there"));
        return;
    };
    for (index, line) in text.lines().enumerate() {
        if line.chars().count() > LINE_MAX && !line.starts_with('|') {
            problems.push(format!(
                "{PAGE}:{}: longer than {LINE_MAX} characters",
                index + 1
            ));
        }
    }
    let (before, map) = text.split_once("\n## Code map\n").unwrap_or((text, ""));
    check_paths(before, files, problems);
    let map = map.split("\n## ").next().unwrap_or_default();
    for part in map.split("\n### `crates/").skip(1) {
        let Some((name, text)) = part.split_once('`') else {
            continue;
        };
        let folder = format!("crates/{name}/src/");
        let own: Vec<&str> = files
            .iter()
            .filter_map(|(path, _)| path.strip_prefix(&folder))
            .filter(|path| path.ends_with(".rs"))
            .collect();
        check_crate(&folder, &own, text, problems);
    }
}

/// Sources are named by their path below `crates/`, with its `src/`, so that they are found.
fn check_paths(text: &str, files: &[(String, String)], problems: &mut Vec<String>) {
    let is_of_path =
        |character: char| character.is_ascii_alphanumeric() || "_/.".contains(character);
    let words = text.split(|character| !is_of_path(character));
    for word in words.filter(|word| word.ends_with(".rs") && *word != "lib.rs") {
        if !files
            .iter()
            .any(|(path, _)| path.strip_prefix("crates/") == Some(word))
        {
            problems.push(format!(
                "{PAGE}: it has {word}, but there is no crates/{word}"
            ));
        }
    }
}

fn check_crate(folder: &str, files: &[&str], text: &str, problems: &mut Vec<String>) {
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    for path in files {
        let is_own = ["lib.rs", "main.rs"].contains(path);
        if is_own || is_of_tests(path) {
            continue;
        }
        let is_in = |word: &&str| word.ends_with('/') && path.starts_with(*word);
        if !named.iter().any(|word| word == path || is_in(word)) {
            problems.push(format!("{PAGE}: the code map has no {folder}{path}"));
        }
    }
    let folders = named.iter().filter(|word| !word.contains(' '));
    for word in folders.filter(|word| word.ends_with(".rs") || word.ends_with('/')) {
        let is_there =
            |path: &&str| path == word || (word.ends_with('/') && path.starts_with(word));
        if !files.iter().any(is_there) && !word.starts_with("tests/") {
            problems.push(format!(
                "{PAGE}: the code map has {folder}{word}, which isn't there"
            ));
        }
    }
}

fn is_of_tests(path: &str) -> bool {
    path.split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

#[cfg(test)]
mod tests {
    use super::PAGE;

    fn check(map: &str, expect: &[&str]) {
        let page = format!("# A\n\n## Code map\n\n### `crates/http`\n{map}\n## Invariants\n");
        let paths = ["lib.rs", "a.rs", "b/c.rs", "b/tests/d.rs"];
        let mut files = vec![(PAGE.to_owned(), page)];
        files.extend(paths.map(|path| (format!("crates/http/src/{path}"), String::new())));
        let mut problems = Vec::new();
        super::check(&files, &mut problems);
        assert_eq!(problems, expect);
    }

    #[test]
    fn each_file_is_named_or_its_folder_is() {
        check("`a.rs` and `b/`", &[]);
        check("`a.rs`, `b/c.rs`", &[]);
        let expect = ["ARCHITECTURE.md: the code map has no crates/http/src/b/c.rs"];
        check("`a.rs` and `c`", &expect);
    }

    #[test]
    fn what_is_named_is_there() {
        let expect = ["ARCHITECTURE.md: the code map has crates/http/src/e.rs, which isn't there"];
        check("`a.rs`, `b/`, `e.rs`", &expect);
    }

    #[test]
    fn what_is_named_before_the_map_is_there() {
        for (text, problem) in [
            ("`http/src/b/c.rs`, and each `lib.rs`", None),
            (
                "(http/b/c.rs)",
                Some("it has http/b/c.rs, but there is no crates/http/b/c.rs"),
            ),
        ] {
            let page = format!("# A\n{text}\n\n## Code map\n\n### `crates/http`\n`b/`\n");
            let source = ("crates/http/src/b/c.rs".to_owned(), String::new());
            let mut problems = Vec::new();
            super::check(&[(PAGE.to_owned(), page), source], &mut problems);
            let expect = problem.map(|problem| format!("{PAGE}: {problem}"));
            assert_eq!(problems, Vec::from_iter(expect));
        }
    }

    #[test]
    fn long_lines_are_found() {
        let line = format!("`a.rs` `b/` {}", "x".repeat(110));
        check(&line, &["ARCHITECTURE.md:6: longer than 120 characters"]);
    }
}
