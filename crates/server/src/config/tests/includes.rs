//! `include` and `${NAME}`: several files as one, and what the environment says.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use expect_test::{Expect, expect};
use tempfile::TempDir;

use super::super::*;

/// A directory with these files; the first is the one that is read.
fn written(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn load(directory: &TempDir, name: &str) -> Result<Config, ConfigError> {
    Config::load(&directory.path().join(name), &Flags::new())
}

/// The report on files, with the directory's name left out.
fn check(files: &[(&str, &str)], expected: Expect) {
    let directory = written(files);
    let report = match load(&directory, files[0].0) {
        Ok(config) => panic!("the configuration is fine: {config:#?}"),
        Err(problems) => problems.to_string(),
    };
    let shown = directory.path().display().to_string();
    expected.assert_eq(&format!("{}\n", report.replace(&format!("{shown}/"), "")));
}

#[test]
fn several_files() {
    let directory = written(&[
        (
            "main.toml",
            "include = [\"sites/*.toml\", \"more.json\"]\nworkers = 2\n\
             [[route]]\npath = \"/main\"\nstatus = 200\n[limits]\nhead_bytes = 1024\n",
        ),
        (
            "sites/b.toml",
            "[listen.b]\naddress = \":2\"\n[[route]]\npath = \"/b\"\nfiles = \"b\"\n\
             [files.b]\nroot = \".\"\n",
        ),
        (
            "sites/a.toml",
            "include = \"deep/app.toml\"\n[listen.a]\naddress = \":1\"\nproxy = \"app\"\n\
             [[route]]\npath = \"/a\"\nstatus = 201\n",
        ),
        (
            "sites/deep/app.toml",
            "[upstream.app]\nservers = \"unix:app.sock\"\n",
        ),
        ("sites/.hidden.toml", "nonsense"),
        ("sites/readme", "nonsense"),
        (
            "more.json",
            r#"{"pin": false, "limits": {"header_count": 9}}"#,
        ),
    ]);
    let config = load(&directory, "main.toml").unwrap();
    assert_eq!((config.workers, config.pin), (2, false));
    assert_eq!(
        (config.limits.head_bytes, config.limits.header_count),
        (1024, 9)
    );
    let names: Vec<&str> = config.listeners.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["a", "b"]);
    let paths: Vec<String> = config
        .routes
        .iter()
        .map(|route| route.matcher.paths[0].to_string())
        .collect();
    assert_eq!(paths, ["/main", "/a", "/b"]);
    assert_eq!(config.roots[0].root, directory.path().join("sites/."));
    let socket = directory.path().join("sites/deep/app.sock");
    assert_eq!(
        config.upstreams[0].servers[0].address,
        ServerAddress::Unix(socket)
    );
}

#[test]
fn a_pattern_may_match_nothing() {
    let directory = written(&[
        (
            "main.toml",
            "include = \"sites/*.toml\"\n[files.a]\nroot = \".\"\n",
        ),
        ("sites/readme", ""),
    ]);
    assert!(load(&directory, "main.toml").is_ok());
}

#[test]
fn cycles() {
    check(
        &[
            ("main.toml", "include = \"a.toml\"\n"),
            ("a.toml", "\ninclude = \"b.toml\"\n"),
            ("b.toml", "include = [\"./a.toml\", \"main.toml\"]\n"),
        ],
        expect![[r#"
            b.toml:1:12: ./a.toml includes itself
              1 | include = ["./a.toml", "main.toml"]
                |            ^^^^^^^^^^
                = a.toml includes b.toml includes a.toml
            b.toml:1:24: main.toml includes itself
              1 | include = ["./a.toml", "main.toml"]
                |                        ^^^^^^^^^^^
                = main.toml includes a.toml includes b.toml includes main.toml
        "#]],
    );
    check(
        &[("main.toml", "include = \"*.toml\"\n")],
        expect![[r#"
        main.toml:1:11: main.toml includes itself
          1 | include = "*.toml"
            |           ^^^^^^^^
            = main.toml includes main.toml
    "#]],
    );
}

#[test]
fn a_file_twice() {
    check(
        &[
            ("main.toml", "include = [\"a.toml\", \"b.toml\"]\n"),
            ("a.toml", "include = \"c.toml\"\n"),
            ("b.toml", "include = \"c.toml\"\n"),
            ("c.toml", ""),
        ],
        expect![[r#"
            b.toml:1:11: c.toml is included already
              1 | include = "c.toml"
                |           ^^^^^^^^
                = at a.toml:1
        "#]],
    );
}

#[test]
fn a_name_or_key_twice() {
    check(
        &[
            (
                "main.toml",
                "include = \"a.toml\"\nworkers = 2\n[files.site]\nroot = \".\"\n\
                 [limits]\nhead_bytes = 1024\n",
            ),
            (
                "a.toml",
                "workers = 3\nlimits = { head_bytes = 2048 }\n[files.site]\nroot = \".\"\n",
            ),
        ],
        expect![[r#"
            a.toml:1:1: workers is there already
              1 | workers = 3
                | ^^^^^^^
                = at main.toml:2
            a.toml:2:12: head_bytes is there already
              2 | limits = { head_bytes = 2048 }
                |            ^^^^^^^^^^
                = at main.toml:6
            a.toml:3:8: [files.site] is there already
              3 | [files.site]
                |        ^^^^
                = at main.toml:3
        "#]],
    );
}

#[test]
fn listeners_of_two_files_that_overlap() {
    check(
        &[
            (
                "main.toml",
                "include = \"sites/*.toml\"\n[files.site]\nroot = \".\"\n",
            ),
            ("sites/a.toml", "[listen.a]\naddress = \":80\"\n"),
            ("sites/b.toml", "[listen.b]\naddress = \"127.0.0.1:80\"\n"),
        ],
        expect![[r#"
            sites/b.toml:2:11: 127.0.0.1:80 is already listened on
              2 | address = "127.0.0.1:80"
                |           ^^^^^^^^^^^^^^
                = [listen.a] has :80
        "#]],
    );
}

#[test]
fn a_route_that_another_file_hides() {
    check(
        &[
            (
                "main.toml",
                "include = \"a.toml\"\n[[route]]\npath = \"/a/*\"\nstatus = 404\n",
            ),
            ("a.toml", "[[route]]\npath = \"/a/b\"\nstatus = 200\n"),
        ],
        expect![[r#"
            a.toml:1:1: a route that no request gets to
              1 | [[route]]
                | ^^^^^^^^^
                = the one at main.toml:2 takes all of them: put this before it, or leave it out
        "#]],
    );
}

#[test]
fn problems_of_all_files() {
    check(
        &[
            ("main.toml", "include = \"sites/*.toml\"\nwrkers = 2\n"),
            (
                "sites/a.toml",
                "# first\n[files.site]\nroot = \"nowhere\"\n",
            ),
            ("sites/b.toml", "[[route]]\nfiles = \"sight\"\n[limits\n"),
        ],
        expect![[r#"
            main.toml:2:1: unknown key "wrkers"
              2 | wrkers = 2
                | ^^^^^^
                = did you mean "workers"?
            sites/a.toml:3:8: sites/nowhere doesn't exist
              3 | root = "nowhere"
                |        ^^^^^^^^^
                = create it, or name a directory that does
            sites/b.toml:3:8: unclosed table, expected `]`
              3 | [limits
                |        ^
        "#]],
    );
}

#[test]
fn files_that_cannot_be_included() {
    check(
        &[
            (
                "main.toml",
                "include = [\"none.toml\", \"none/*.toml\", \"s*/a.toml\", \"s*/*.toml\", \
                 \"readme\", \"[a]*.toml\", \"..\", \"sub.toml\"]\n",
            ),
            ("sub.toml/file", ""),
            ("readme", ""),
        ],
        expect![[r#"
            main.toml:1:12: none.toml: no such file
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |            ^^^^^^^^^^^
                = create it, or leave it out
            main.toml:1:25: none can't be listed: No such file or directory (os error 2)
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |                         ^^^^^^^^^^^^^
                = a pattern's directory exists, even if nothing in it does
            main.toml:1:40: s*/a.toml: no such file
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |                                        ^^^^^^^^^^^
                = create it, or leave it out
            main.toml:1:53: "s*/*.toml" has a star in a directory's name
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |                                                     ^^^^^^^^^^^
                = only the file's name is a pattern
            main.toml:1:66: readme ends in neither .toml nor .json
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |                                                                  ^^^^^^^^
                = the ending says the format
            main.toml:1:76: "[a]*.toml": a pattern can't have brackets, braces, backslashes or control characters
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |                                                                            ^^^^^^^^^^^
                = such as "sites/*.toml" or "upstreams.toml"
            main.toml:1:89: ".." names no file
              1 | include = ["none.toml", "none/*.toml", "s*/a.toml", "s*/*.toml", "readme", "[a]*.toml", "..", "s
                |                                                                                         ^^^^
                = such as "sites/*.toml" or "upstreams.toml"
            main.toml:1:95: sub.toml: is a directory; name the configuration file in it
              1 | …me", "[a]*.toml", "..", "sub.toml"]
                |                          ^^^^^^^^^^
                = mend it, or leave it out
        "#]],
    );
    check(
        &[("main.toml", "include = 3\n")],
        expect![[r#"
        main.toml:1:11: expected a string, found a whole number
          1 | include = 3
            |           ^
            = such as "sites/*.toml"
    "#]],
    );
}

#[test]
fn too_many_within_each_other() {
    let names: Vec<String> = (0..30).map(|index| format!("{index}.toml")).collect();
    let texts: Vec<String> = (1..=30)
        .map(|next| format!("include = \"{next}.toml\"\n"))
        .collect();
    let files: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (&**name, &**text))
        .collect();
    check(
        &files,
        expect![[r#"
        16.toml:1:11: too many files are included
          1 | include = "17.toml"
            |           ^^^^^^^^^
            = at most 1024, and 16 within each other
    "#]],
    );
}

// The environment.

/// The root of a configuration, where `${A}` is "usr" and `${EMPTY}` is empty.
fn root(text: &str) -> Result<String, String> {
    let flags = Flags::new()
        .variable("A", "usr")
        .variable("EMPTY", "")
        .variable("NESTED", "${A}")
        .variable("ODD", OsString::from_vec(vec![0xff]));
    let toml = format!("[files.site]\nroot = \"/\"\ncharset = {text:?}\n");
    match Config::parse("site.toml", &toml, Format::Toml, Path::new("/"), &flags) {
        Ok(config) => Ok(config.roots[0].charset.clone()),
        Err(problems) => Err(format!("{problems}\n")),
    }
}

#[test]
fn variables() {
    let is = |text: &str, expect: &str| assert_eq!(root(text).as_deref(), Ok(expect), "{text}");
    is("${A}", "usr");
    is("x${A}y${A}", "xusryusr");
    is("${A:-other}", "usr");
    is("${EMPTY}", "");
    is("${EMPTY:-other}", "other");
    is("${RINGWAY_TEST_UNSET:-}", "");
    is("${RINGWAY_TEST_UNSET:-a-b}", "a-b");
    is("$A$", "$A$");
}

#[test]
fn what_looks_like_a_variable() {
    let flags = Flags::new().variable("A", "usr").variable("NESTED", "${A}");
    let text = "[[route]]\nstatus = 200\nbody = \"$${A} ${A} ${NESTED} $$${A}\"\n\
                [log]\naccess_format = \"${peer}\"\n";
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &flags).unwrap();
    let Action::Status(answer) = &config.routes[0].rule.action else {
        panic!("a status")
    };
    // A value isn't looked at again, and the last dollar before a brace is the one that counts.
    assert_eq!(answer.body.as_deref(), Some("${A} usr ${A} $${A}"));
}

#[test]
fn variables_that_are_none() {
    let check = |text: &str, expected: Expect| expected.assert_eq(&root(text).unwrap_err());
    check(
        "${RINGWAY_TEST_UNSET}",
        expect![[r#"
        site.toml:3:12: the variable RINGWAY_TEST_UNSET isn't set
          3 | charset = "${RINGWAY_TEST_UNSET}"
            |            ^^^^^^^^^^^^^^^^^^^^^
            = set it in the environment, or write `${RINGWAY_TEST_UNSET:-default}`
    "#]],
    );
    check(
        "abc${RINGWAY_TEST_UNSET}",
        expect![[r#"
        site.toml:3:15: the variable RINGWAY_TEST_UNSET isn't set
          3 | charset = "abc${RINGWAY_TEST_UNSET}"
            |               ^^^^^^^^^^^^^^^^^^^^^
            = set it in the environment, or write `${RINGWAY_TEST_UNSET:-default}`
    "#]],
    );
    check(
        "${A",
        expect![[r#"
        site.toml:3:12: "${" without an end
          3 | charset = "${A"
            |            ^^^
            = `$${` is the text "${"
    "#]],
    );
    check(
        "${}",
        expect![[r#"
        site.toml:3:12: "" isn't the name of a variable
          3 | charset = "${}"
            |            ^^^
            = `${NAME}` or `${NAME:-default}`; `$${` is the text "${"
    "#]],
    );
    check(
        "${1A}",
        expect![[r#"
        site.toml:3:12: "1A" isn't the name of a variable
          3 | charset = "${1A}"
            |            ^^^^^
            = `${NAME}` or `${NAME:-default}`; `$${` is the text "${"
    "#]],
    );
    check(
        "${A-x}",
        expect![[r#"
        site.toml:3:12: "A-x" isn't the name of a variable
          3 | charset = "${A-x}"
            |            ^^^^^^
            = `${NAME}` or `${NAME:-default}`; `$${` is the text "${"
    "#]],
    );
    check(
        "${ODD}",
        expect![[r#"
        site.toml:3:12: the variable ODD isn't UTF-8 text
          3 | charset = "${ODD}"
            |            ^^^^^^
            = a configuration is
    "#]],
    );
}

#[test]
fn a_variable_takes_the_type_of_its_key() {
    let flags = Flags::new()
        .variable("COUNT", "3")
        .variable("HOSTS", "a.example,b.example")
        .variable("OFF", "false");
    let text = "workers = \"${COUNT}\"\npin = \"${OFF}\"\n\
                [[route]]\nhost = \"${HOSTS}\"\nstatus = \"40${COUNT}\"\n";
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &flags).unwrap();
    assert_eq!((config.workers, config.pin), (3, false));
    assert_eq!(config.routes[0].matcher.hosts.len(), 2);
    assert!(
        matches!(&config.routes[0].rule.action, Action::Status(answer) if answer.status == 403)
    );
}

/// Only what is written is shown, and what couldn't be read is one problem, not two.
#[test]
fn a_variable_that_says_something_else() {
    let flags = Flags::new().variable("COUNT", "three");
    let text = "workers = \"${COUNT}\"\n[files.site]\nroot = \"${RINGWAY_TEST_UNSET}\"\n";
    expect![[r#"
        site.toml:1:11: "three" isn't a whole number
          1 | workers = "${COUNT}"
            |           ^^^^^^^^^^
            = a whole number from 1 to 1024
        site.toml:3:9: the variable RINGWAY_TEST_UNSET isn't set
          3 | root = "${RINGWAY_TEST_UNSET}"
            |         ^^^^^^^^^^^^^^^^^^^^^
            = set it in the environment, or write `${RINGWAY_TEST_UNSET:-default}`
    "#]]
    .assert_eq(&super::report("site.toml", text, Format::Toml, &flags));
}
