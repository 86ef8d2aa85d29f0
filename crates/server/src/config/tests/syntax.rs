//! Files that are no TOML or JSON, can't be read, or have several problems at once.

use super::*;

#[test]
fn all_problems_at_once() {
    check(
        "wrkers = 2\nio = \"poll\"\n\n[listen.main]\nadress = \"127.0.0.1:80\"\nbacklog = 0\n\n\
         [files.site]\nroot = \"/no/such/place\"\n\n[limits]\nidle_timeout = 5\n",
        expect![[r#"
            site.toml:1:1: unknown key "wrkers"
              1 | wrkers = 2
                | ^^^^^^
                = did you mean "workers"?
            site.toml:2:6: unknown word "poll"
              2 | io = "poll"
                |      ^^^^^^
                = did you mean "epoll"?
            site.toml:4:9: [listen.main] needs "address"
              4 | [listen.main]
                |         ^^^^
                = such as address = ["127.0.0.1:8080"]
            site.toml:5:1: unknown key "adress" in [listen.NAME]
              5 | adress = "127.0.0.1:80"
                | ^^^^^^
                = did you mean "address"?
            site.toml:6:11: 0 is out of range
              6 | backlog = 0
                |           ^
                = a whole number from 1 to 65535
            site.toml:9:8: /no/such/place doesn't exist
              9 | root = "/no/such/place"
                |        ^^^^^^^^^^^^^^^^
                = create it, or name a directory that does
            site.toml:12:16: expected a duration, found a whole number
              12 | idle_timeout = 5
                 |                ^
                 = with its unit: "5s"
        "#]],
    );
}

#[test]
fn bad_syntax_and_what_follows_it() {
    check(
        "workers = \n[files.site]\nroot = \"/\nindex = \"a\"\n[limits]\nhead_byts = 1\n",
        expect![[r#"
            site.toml:1:11: string values must be quoted, expected literal string
              1 | workers =
                |           ^
            site.toml:3:10: invalid basic string, expected `"`
              3 | root = "/
                |          ^
            site.toml:6:1: unknown key "head_byts" in [limits]
              6 | head_byts = 1
                | ^^^^^^^^^
                = did you mean "head_bytes"?
        "#]],
    );
}

#[test]
fn duplicates() {
    check_added(
        "root = \"/\"\n",
        expect![[r#"
        site.toml:3:1: duplicate key
          3 | root = "/"
            | ^^^^
    "#]],
    );
    check_added(
        "[files.site]\nroot = \"/\"\n",
        expect![[r#"
        site.toml:3:8: duplicate key
          3 | [files.site]
            |        ^^^^
        site.toml:4:1: duplicate key
          4 | root = "/"
            | ^^^^
    "#]],
    );
}

#[test]
fn json() {
    check_json(
        r#"{
  "wrkers": 2,
  "files": { "site": { "root": "/no/such/place", "index": null } },
  "limits": { "idle_timeout": 5, "head_bytes": 1.5 },
  "limits": {}
}"#,
        expect![[r#"
            site.json:2:3: unknown key "wrkers"
              2 |   "wrkers": 2,
                |   ^^^^^^^^
                = did you mean "workers"?
            site.json:3:32: /no/such/place doesn't exist
              3 |   "files": { "site": { "root": "/no/such/place", "index": null } },
                |                                ^^^^^^^^^^^^^^^^
                = create it, or name a directory that does
            site.json:3:59: expected a string, found null
              3 |   "files": { "site": { "root": "/no/such/place", "index": null } },
                |                                                           ^^^^
                = such as "index.html"
            site.json:4:31: expected a duration, found a whole number
              4 |   "limits": { "idle_timeout": 5, "head_bytes": 1.5 },
                |                               ^
                = with its unit: "5s"
            site.json:4:48: expected a size, found a decimal number
              4 |   "limits": { "idle_timeout": 5, "head_bytes": 1.5 },
                |                                                ^^^
                = such as "16KiB"
            site.json:5:3: duplicate key
              5 |   "limits": {}
                |   ^^^^^^^^
        "#]],
    );
    check_json(
        "{ \"workers\": 1,\n  // why\n}",
        expect![[r#"
        site.json:2:3: comments are not allowed
          2 |   // why
            |   ^^^^^^
    "#]],
    );
    check_json(
        "{ \"workers\": 1 \"pin\": true }",
        expect![[r#"
        site.json:1:15: expected comma
          1 | { "workers": 1 "pin": true }
            |               ^
    "#]],
    );
    check_json(
        "[]",
        expect![[r#"
        site.json:1:1: expected an object, found an array
          1 | []
            | ^^
    "#]],
    );
    check_json(
        "",
        expect![[r#"
            site.json:1:1: an empty file isn't JSON
              1 |
                | ^
                = the smallest configuration is `{}`
        "#]],
    );
    check_json(
        "{ \"workers\": 1",
        expect![[r#"
        site.json:1:1: unterminated object
          1 | { "workers": 1
            | ^^^^^^^^^^^^^^
    "#]],
    );
}

#[test]
fn deep_nesting_is_refused() {
    check_json(
        &"[".repeat(100_000),
        expect![[r#"
        site.json:1:513: maximum nesting depth exceeded
          1 | …[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
            |                          ^^
    "#]],
    );
    let toml = format!("workers = {}", "[".repeat(100_000));
    let toml = report("deep.toml", &toml, Format::Toml, &Flags::new());
    expect!["deep.toml:1:91: cannot recurse further; max recursion depth met"]
        .assert_eq(toml.lines().next().unwrap());
}

/// A log or a binary that was taken for a configuration: an answer, soon, of readable length.
#[test]
fn a_large_file_of_nonsense() {
    let lines = [
        "[warn] worker 3: nothing\n",
        "a = 1\n",
        "=\n",
        "[files.a]\nroot = 1\n",
    ];
    for line in lines {
        let text = report(
            "log.toml",
            &line.repeat(20_000),
            Format::Toml,
            &Flags::new(),
        );
        assert!(text.lines().count() <= 401, "{}", text.lines().count());
        assert!(text.ends_with(" more\n"), "{text}");
    }
    let keys: String = (0..50_000)
        .map(|index| format!("\"k{index}\":1,"))
        .collect();
    let text = report(
        "a.json",
        &format!("{{{keys}\"workers\":1}}"),
        Format::Json,
        &Flags::new(),
    );
    assert!(text.ends_with("... and 49900 more\n"), "{text}");
}

#[test]
fn a_long_line_is_cut_around_the_problem() {
    let padding = "x".repeat(300);
    check_json(
        &format!("{{\"files\":{{\"{padding}\":{{\"root\":\"/\"}}}},\"wrkers\":2,\"pin\":true}}"),
        expect![[r#"
            site.json:1:11: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"… isn't a name
              1 | {"files":{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
                |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                = letters, digits, `-` and `_`, at most 64
            site.json:1:328: unknown key "wrkers"
              1 | …xxxxxxxx":{"root":"/"}},"wrkers":2,"pin":true}
                |                          ^^^^^^^^
                = did you mean "workers"?
        "#]],
    );
}

#[test]
fn tabs_wide_characters_and_escapes_are_shown_safely() {
    check_added(
        "\tindx = \"ö\" # \u{1b}[31m\n",
        expect![[r#"
            site.toml:3:15: invalid comment character, expected printable characters
              3 |     indx = "ö" # \u{1b}[31m
                |                  ^^^^^^
        "#]],
    );
    check_added(
        "charset = \"ö\u{7}\"\n",
        expect![[r#"
            site.toml:3:13: invalid basic string, expected non-double-quote visible characters, `\`
              3 | charset = "ö\u{7}"
                |             ^^^^^
        "#]],
    );
}

#[test]
fn unreadable() {
    let directory = tempfile::tempdir().unwrap();
    let error = |name: &str, content: Option<&[u8]>| {
        let path = directory.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = Config::load(&path, &Flags::new()).unwrap_err().to_string();
        error.replace(&directory.path().display().to_string(), "DIR")
    };
    std::fs::create_dir(directory.path().join("d.toml")).unwrap();
    let list = [
        error("missing.toml", None),
        error("d.toml", None),
        error("a.yaml", Some(b"")),
        error("bytes.toml", Some(b"workers = 1\n# \xff\n")),
        error("large.toml", Some(&vec![b'\n'; (1 << 20) + 1])),
    ];
    expect![[r#"
        DIR/missing.toml: no such file
        DIR/d.toml: is a directory; name the configuration file in it
        DIR/a.yaml: the name has to end in .toml or .json, which says the format
        DIR/bytes.toml: isn't UTF-8 text: the first wrong byte is on line 2, at offset 14
        DIR/large.toml: is larger than 1 MiB, so it can't be a configuration file"#]]
    .assert_eq(&list.join("\n"));
}

#[test]
fn relative_paths_start_at_the_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("public")).unwrap();
    let path = directory.path().join("site.toml");
    std::fs::write(
        &path,
        "[files.site]\nroot = \"public\"\n[log]\naccess = \"a.log\"\n",
    )
    .unwrap();
    let config = Config::load(&path, &Flags::new()).unwrap();
    assert_eq!(config.roots[0].root, directory.path().join("public"));
    assert_eq!(
        config.log.access,
        AccessLog::File(directory.path().join("a.log"))
    );
}
