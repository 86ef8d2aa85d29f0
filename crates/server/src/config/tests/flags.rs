//! Flags beside a file.

use super::*;

#[test]
fn flags_go_before_the_file() {
    let flags = Flags::new()
        .set("workers", "--workers", "2")
        .set("limits.head_bytes", "--head-bytes", "1KiB")
        .set("limits.target_bytes", "--target-bytes", "512")
        .set_list(
            "listen.main.address",
            "--listen",
            &["127.0.0.1:1".into(), "[::1]:1".into()],
        );
    let text = "workers = 7\n[files.site]\nroot = \"/\"\n[limits]\nheader_count = 9\n";
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &flags).unwrap();
    assert_eq!(config.workers, 2);
    assert_eq!(config.limits.head_bytes, 1024);
    assert_eq!(config.limits.target_bytes, 512);
    assert_eq!(config.limits.header_count, 9);
    assert_eq!(config.listeners[0].addresses.len(), 2);
}

/// A flag doesn't hide that the file has something else where the flag's table belongs.
#[test]
fn a_flag_into_what_is_no_table() {
    let flags = Flags::new().set("limits.head_bytes", "--head-bytes", "1KiB");
    let text = "limits = 3\n[files.site]\nroot = \"/\"\n";
    expect![[r#"
        site.toml:1:10: expected the table [limits], found a whole number
          1 | limits = 3
            |          ^
    "#]]
    .assert_eq(&report("site.toml", text, Format::Toml, &flags));
}

/// The second value of one flag is checked as the first is; a line has commas of its own.
#[test]
fn flags_with_several_values() {
    let text = "[files.site]\nroot = \"/\"\n";
    let flags = |path: &str, flag: &str, texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Flags::new().set_list(path, flag, &texts)
    };
    let index = flags("files.site.index", "--index", &["a.html", "../b.html"]);
    expect![[r#"
        --index ../b.html: "../b.html" isn't the name of a file: a name within the directory, such as "index.html"
    "#]].assert_eq(&report("site.toml", text, Format::Toml, &index));
    let lines = flags("files.site.headers", "--header", &["X-A: b, c", "X-D: e"]);
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &lines).unwrap();
    assert_eq!(config.roots[0].headers, ["X-A: b, c", "X-D: e"]);
    let single = Flags::new().set("files.site.headers", "--header", "X-A: b, c");
    let config = Config::parse("f", text, Format::Toml, Path::new("/"), &single).unwrap();
    assert_eq!(config.roots[0].headers, ["X-A: b, c"]);
}

#[test]
fn problems_of_flags_are_one_line() {
    let flags = Flags::new()
        .set("files.site.root", "", "/no/such/place")
        .set("limits.target_bytes", "--target-bytes", "1MiB")
        .set_list(
            "listen.main.address",
            "--listen",
            &[":80".into(), "127.0.0.1:80".into()],
        );
    let problems = Config::from_flags(&flags).unwrap_err();
    assert!(!problems.in_file());
    assert_eq!(problems.count(), 3);
    expect![[r#"
        --target-bytes 1MiB: target_bytes is larger than head_bytes, which the target is part of: head_bytes is 16KiB
        /no/such/place doesn't exist: create it, or name a directory that does
        --listen 127.0.0.1:80: 127.0.0.1:80 is already listened on: [listen.main] has :80"#]].assert_eq(&problems.to_string());
}
