//! The commands around a configuration: `dump`, `explain`, the flags of `proxy`, several files.

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in `directory`, with one variable of the environment.
fn ringway(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(arguments)
        .current_dir(directory)
        .env("RINGWAY_TEST_PORT", "8081")
        .output()
        .expect("the program starts")
}

/// Standard output of a command that has to succeed.
fn stdout(directory: &Path, arguments: &[&str]) -> String {
    let output = ringway(directory, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), &*errors),
        (Some(0), ""),
        "{arguments:?}"
    );
    String::from_utf8(output.stdout).expect("the program prints UTF-8")
}

/// What is said of a command that fails with `code`.
fn complaint(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = ringway(directory, arguments);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    String::from_utf8(output.stderr).expect("the program prints UTF-8")
}

/// A directory with a configuration of two files.
fn site() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "main.toml",
        "include = \"sites/*.toml\"\n[listen.main]\naddress = \"127.0.0.1:${RINGWAY_TEST_PORT}\"\n",
    );
    write(
        "sites/app.toml",
        "[[route]]\npath = \"/api/*\"\nproxy = \"app\"\nstrip_prefix = \"/api\"\n\
         [upstream.app]\nservers = [\"127.0.0.1:3000\", \"unix:app.sock\"]\n\
         [files.site]\nroot = \"../public\"\n",
    );
    std::fs::create_dir(directory.path().join("public")).unwrap();
    directory
}

#[test]
fn what_is_dumped_means_the_same() {
    let directory = site();
    let first = stdout(directory.path(), &["dump", "--config", "main.toml"]);
    assert!(
        first.contains("address = [\"127.0.0.1:8081\"]\n"),
        "{first}"
    );
    assert!(!first.contains("include"), "{first}");
    let root = directory.path().canonicalize().unwrap();
    assert!(
        first.contains(&format!("{}/sites/app.sock", root.display())),
        "{first}"
    );
    // From another directory, and again.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("dumped.toml"), &first).unwrap();
    let second = stdout(elsewhere.path(), &["dump", "-c", "dumped.toml"]);
    assert_eq!(second, first);
}

#[test]
fn a_request_is_explained() {
    let directory = site();
    let ask = |arguments: &[&str]| {
        let arguments = [&["explain"], arguments, &["--config", "main.toml"]].concat();
        stdout(directory.path(), &arguments)
    };
    let text = ask(&["GET", "http://example.org/api/users?x"]);
    for line in [
        "listener  main (127.0.0.1:8081)",
        "route 1   path /api/*: matches",
        "proxy     upstream.app, p2c of 127.0.0.1:3000, unix:sites/app.sock",
        "request   GET /users?x HTTP/1.1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    let json = ask(&[
        "GET", "/other", "-H", "Host: a", "--client", "::1", "--json",
    ]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answer"]["status"], 404);
    assert_eq!(
        json["routes"][0]["reason"],
        "the path \"/other\" isn't /api/*"
    );
    let complaint = complaint(
        directory.path(),
        &["explain", "GET", "ftp://a/", "-c", "main.toml"],
        1,
    );
    assert_eq!(
        complaint,
        "ringway: \"ftp://a/\" isn't served: listeners speak http\n"
    );
}

#[test]
fn problems_name_their_file() {
    let directory = site();
    let path = directory.path().join("sites/b.toml");
    std::fs::write(path, "[upstream.app]\nservers = \"https://a:1\"\n").unwrap();
    for command in [
        &["check", "-c", "main.toml"][..],
        &["dump", "-c", "main.toml"],
        &["explain", "GET", "/", "-c", "main.toml"],
        &["run", "-c", "main.toml"],
    ] {
        let complaint = complaint(directory.path(), command, 1);
        assert!(
            complaint.contains("sites/b.toml:1:11: [upstream.app] is there already"),
            "{complaint}"
        );
        assert!(complaint.contains("sites/app.toml:5"), "{complaint}");
    }
}

#[test]
fn check_says_what_there_is() {
    let directory = site();
    assert_eq!(
        stdout(directory.path(), &["check", "--config", "main.toml"]),
        "main.toml: ok\n  listen.main: 127.0.0.1:8081 serves what its routes say\n  a route\n  \
         upstream.app: 127.0.0.1:3000, unix:sites/app.sock\n  files.site: sites/../public\n  \
         note: [files.site] is there for nothing: no listener and no route names it\n"
    );
}

#[test]
fn flags_of_proxy() {
    let here = Path::new(".");
    let complain =
        |arguments: &[&str], code| complaint(here, &[&["proxy"], arguments].concat(), code);
    let missing = complain(&[], 64);
    assert!(missing.contains("--to <SERVER>"), "{missing}");
    for (arguments, expected) in [
        (
            &["--to", "localhost:8080"][..],
            "--to localhost:8080: [listen.main] would pass requests on to itself",
        ),
        (
            &["--to", "https://a:1"][..],
            "--to https://a:1: https upstreams aren't supported yet",
        ),
        (
            &["--to", "10.0.0.1"],
            "--to 10.0.0.1: \"10.0.0.1\" has no port: such as",
        ),
        (
            &["--to", "a:1", "--to", "http://a:1"],
            "--to http://a:1: a:1 is there already",
        ),
        (
            &["--to", "a:1", "--hash-by", "path"],
            "--hash-by path: hash_by has no effect",
        ),
        (
            &["--to", "a:1", "--health", "healthz"],
            "--health healthz: \"healthz\" isn't a check",
        ),
        (
            &["--to", "a:1", "--queue", "3"],
            "--queue 3: queue has no effect",
        ),
        (
            &["--to", "a:1", "--trusted", "10.0.0.1/8"],
            "--trusted 10.0.0.1/8: ",
        ),
        (
            &["--to", "a:1", "--upstream-host", "a b"],
            "--upstream-host a b: ",
        ),
    ] {
        let complaint = complain(arguments, 1);
        assert!(
            complaint.starts_with(&format!("ringway: {expected}")),
            "{complaint}"
        );
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    for (arguments, expected) in [
        (
            &["--to", "a:1", "--lb", "p3c"][..],
            "invalid value 'p3c' for '--lb <WORD>'",
        ),
        (
            &["--to", "a:1", "--connect-timeout", "5"],
            "invalid value '5' for '--connect-timeout",
        ),
        (
            &["--to", "a:1", "--max-connections", "0"],
            "invalid value '0' for '--max-connections",
        ),
        (
            &["--to", "a:1", "-p", "1", "--listen", ":2"],
            "the argument '--port <PORT>' cannot",
        ),
    ] {
        let complaint = complain(arguments, 64);
        assert!(
            complaint.starts_with(&format!("ringway: {expected}")),
            "{complaint}"
        );
    }
}
