//! The command line: help, exit codes, and what is said when something is wrong.

use std::path::Path;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 12] = [
    "serve",
    "proxy",
    "run",
    "check",
    "dump",
    "explain",
    "doctor",
    "tune",
    "hash-password",
    "completions",
    "man",
    "version",
];

fn ringway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

/// Standard output of a command that has to succeed in silence on standard error.
fn stdout(arguments: &[&str]) -> String {
    let output = ringway(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), &*errors),
        (Some(0), ""),
        "{arguments:?}"
    );
    String::from_utf8(output.stdout).expect("the program prints UTF-8")
}

/// Checks that a command fails with `code` and says just `expected`, nothing on standard output.
pub(crate) fn check_error(arguments: &[&str], code: i32, expected: &str) {
    let output = ringway(arguments);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!("ringway: {expected}\n")
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
}

#[test]
fn help_teaches_by_example() {
    for command in COMMANDS {
        let help = stdout(&[command, "--help"]);
        let (_, examples) = help.split_once("\nExamples:\n").expect(command);
        assert!(examples.contains(&format!("  ringway {command}")), "{help}");
        assert_eq!(stdout(&["help", command]), help);
    }
    assert!(stdout(&["--help"]).contains("\nExamples:\n  ringway serve"));
}

#[test]
fn short_help_is_short() {
    for command in COMMANDS {
        let short = stdout(&[command, "-h"]);
        assert!(short.lines().count() <= 50, "{short}");
    }
}

/// Every key with a flag is in the help with its key, and hidden ones aren't.
#[test]
fn help_lists_every_flag() {
    use ringway_server::config::{Flag, tables};
    let serve = stdout(&["serve", "--help"]);
    let proxy = stdout(&["proxy", "--help"]);
    let mut hidden = 0;
    for table in tables() {
        let help = match table.name {
            "upstream" => &proxy,
            _ => &serve,
        };
        for key in table.keys() {
            let Some(flag) = key.flag_name() else {
                continue;
            };
            if matches!(key.flag, Flag::Hidden(_)) {
                hidden += 1;
                assert!(!help.contains(&format!("{flag} <")), "{flag}");
            } else {
                assert!(help.contains(&format!("{flag} <")) || help.contains(&format!("{flag}\n")));
                assert!(
                    help.contains(&format!("in a file: {} ", key.name)),
                    "{}",
                    key.name
                );
            }
        }
    }
    assert_eq!(hidden, 5);
    assert!(!serve.contains("inject-panic") && !proxy.contains("inject-panic"));
}

/// What the help of `serve` shows as commands is what the program accepts.
#[test]
fn examples_are_accepted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("public")).unwrap();
    std::fs::write(directory.path().join("public/index.html"), "").unwrap();
    std::fs::write(
        directory.path().join("site.toml"),
        "[listen.main]\naddress = \":8080\"\n[files.site]\nroot = \"public\"\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(["check", "--config", "site.toml"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "site.toml: ok\n  listen.main: :8080 serves files.site\n  files.site: public\n"
    );
    let help = stdout(&["run", "--help"]);
    for line in [
        "[listen.main]",
        "address = \":8080\"",
        "[files.site]",
        "root = \"public\"",
    ] {
        assert!(help.contains(line), "{line}");
    }
}

#[test]
fn the_schema_can_be_printed() {
    let schema = stdout(&["check", "--print-schema"]);
    assert!(schema.contains("\"$schema\"") && schema.contains("\"idle_timeout\""));
    assert_eq!(ringway(&["check"]).status.code(), Some(64));
}

#[test]
fn version() {
    let line = format!("ringway {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&["-V"]), line);
    assert_eq!(stdout(&["--version"]), line);
    assert_eq!(stdout(&["version"]), line);
    let verbose = stdout(&["version", "--verbose"]);
    assert!(verbose.starts_with(&line));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(
        verbose.contains(&format!("kernel: {}", release.trim())),
        "{verbose}"
    );
    // What could be asked to fail is said to be able to.
    let injects = verbose.contains("fault injection: on");
    assert_eq!(injects, cfg!(debug_assertions), "{verbose}");
}

#[test]
fn completions() {
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef ringway"),
        ("fish", "complete -c ringway"),
    ] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains(mark), "{shell}: {script}");
        assert!(script.contains("idle-timeout"), "{shell}");
    }
}

#[test]
fn man_pages() {
    let page = stdout(&["man"]);
    assert!(
        page.contains(".TH ringway 1") && page.contains("serve"),
        "{page}"
    );
    let page = stdout(&["man", "serve"]);
    assert!(
        page.contains(".TH ringway-serve 1") && page.contains("idle\\-timeout"),
        "{page}"
    );
    let page = stdout(&["man", "bench", "load"]);
    assert!(page.contains(".TH ringway-bench-load 1"), "{page}");
    let none = "ringway serve has no commands of its own, and so no \"load\"";
    check_error(&["man", "serve", "load"], 1, none);
    let said = ringway(&["man", "bench", "nothing"]).stderr;
    let said = String::from_utf8(said).unwrap();
    let expected = "ringway: ringway bench has no command \"nothing\": it has ";
    assert!(
        said.starts_with(expected) && said.contains("load"),
        "{said}"
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    for arguments in [
        &["man", "serve"][..],
        &["completions", "bash"],
        &["serve", "--help"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringway"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn nothing_to_do_shows_the_help() {
    let output = ringway(&[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Usage: ringway <COMMAND>"));
}

#[test]
fn wrong_usage() {
    check_error(
        &["serv"],
        64,
        "unrecognized subcommand 'serv'; a similar subcommand exists: 'serve'; see ringway --help",
    );
    check_error(
        &["serve", "--worker", "3"],
        64,
        "unexpected argument '--worker' found; a similar argument exists: '--workers'; \
         see ringway serve --help",
    );
    check_error(
        &["serve", "--workers", "0"],
        64,
        "invalid value '0' for '--workers <N>': 0 is out of range: a whole number from 1 to 1024; \
         see ringway serve --help",
    );
    check_error(
        &["serve", "--idle-timeout", "30"],
        64,
        "invalid value '30' for '--idle-timeout <TIME>': \"30\" has no unit: such as \"30s\"; \
         see ringway serve --help",
    );
    check_error(
        &["serve", "--io", "poll"],
        64,
        "invalid value 'poll' for '--io <WORD>' [possible values: auto, uring, epoll]; \
         a similar value exists: 'epoll'; see ringway serve --help",
    );
    check_error(
        &["serve", "--listen", "8080"],
        64,
        "invalid value '8080' for '--listen <ADDR>': \"8080\" is a port, not an address: \
         \"127.0.0.1:8080\", or \":8080\" for every address of the machine; \
         see ringway serve --help",
    );
    check_error(
        &["run"],
        64,
        "the following required arguments were not provided: --config <FILE>; \
         see ringway run --help",
    );
}

#[test]
fn port_and_listen_exclude_each_other() {
    let output = ringway(&["serve", "-p", "1", "--listen", ":2"]);
    assert_eq!(output.status.code(), Some(64));
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        line.contains("cannot be used with") && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
fn a_directory_that_does_not_exist() {
    check_error(
        &["serve", "/no/such/place"],
        1,
        "/no/such/place doesn't exist: create it, or name a directory that does",
    );
    check_error(
        &["serve", "/proc/self/stat"],
        1,
        "/proc/self/stat isn't a directory: name the directory that it is in",
    );
}

#[test]
fn flags_that_contradict_each_other() {
    check_error(
        &[
            "serve",
            "/",
            "--target-bytes",
            "2KiB",
            "--head-bytes",
            "1KiB",
        ],
        1,
        "--target-bytes 2KiB: target_bytes is larger than head_bytes, which the target is part \
         of: head_bytes is 1KiB",
    );
    check_error(
        &["serve", "/", "--listen", ":80", "--listen", "127.0.0.1:80"],
        1,
        "--listen 127.0.0.1:80: 127.0.0.1:80 is already listened on: [listen.main] has :80",
    );
}

#[test]
fn configurations_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| -> String {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = directory.path().join("missing.toml");
    let missing = missing.to_str().unwrap();
    check_error(
        &["check", "-c", missing],
        1,
        &format!("{missing}: no such file"),
    );
    check_error(
        &["run", "-c", missing],
        1,
        &format!("{missing}: no such file"),
    );
    let bytes = write("bytes.toml", b"\xff");
    check_error(
        &["check", "-c", &bytes],
        1,
        &format!("{bytes}: isn't UTF-8 text: the first wrong byte is on line 1, at offset 0"),
    );
}

#[test]
fn check_reports_every_problem() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path: &Path = &directory.path().join(name);
        std::fs::write(path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let toml = write(
        "site.toml",
        "wrkers = 1\n[files.site]\nroot = \"/\"\nindx = []\n",
    );
    for command in ["check", "run"] {
        check_error(
            &[command, "-c", &toml],
            1,
            &format!(
                "2 problems in the configuration:\n\
                 {toml}:1:1: unknown key \"wrkers\"\n  1 | wrkers = 1\n    | ^^^^^^\n    \
                 = did you mean \"workers\"?\n\
                 {toml}:4:1: unknown key \"indx\" in [files.NAME]\n  4 | indx = []\n    | ^^^^\n    \
                 = did you mean \"index\"?"
            ),
        );
    }
    let json = write(
        "site.json",
        "{ \"files\": { \"site\": { \"root\": \"/\" } } }",
    );
    assert_eq!(
        stdout(&["check", "-c", &json]),
        format!(
            "{json}: ok\n  listen.main: 127.0.0.1:8080 serves files.site\n  files.site: /\n  \
             note: no index.html in /: --browse (browse = true) lists directories\n"
        )
    );
}
