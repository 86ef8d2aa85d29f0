//! Command lines that mean nothing as they stand, each answered with what was meant.

use crate::cli::check_error;

/// Checks that `arguments` are wrong usage, of which just that is said.
fn check(arguments: &[&str], expected: &str) {
    check_error(arguments, 64, expected);
}

#[test]
fn a_file_where_a_flag_is_wanted() {
    for command in ["run", "check", "dump"] {
        check(
            &[command, "site.toml"],
            &format!(
                "unexpected argument 'site.toml' found; the file is given as --config site.toml; \
                 see ringway {command} --help"
            ),
        );
    }
    for (arguments, word) in [
        (["explain", "GET", "/", "site.json"], "site.json"),
        (["explain", "site.json", "GET", "/"], "/"),
    ] {
        check(
            &arguments,
            &format!(
                "unexpected argument '{word}' found; the file is given as --config site.json; \
                 see ringway explain --help"
            ),
        );
    }
    check(
        &["explain", "GET", "site.toml"],
        "the following required arguments were not provided: --config <FILE>; the file is given \
         as --config site.toml; see ringway explain --help",
    );
    // With the flag there, the word is one too many and nothing else.
    check(
        &["run", "--config=a.toml", "b.toml"],
        "unexpected argument 'b.toml' found; see ringway run --help",
    );
}

#[test]
fn a_command_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().to_str().unwrap();
    check(
        &[directory],
        &format!(
            "unrecognized subcommand '{directory}'; ringway serve {directory} serves the \
             directory; see ringway --help"
        ),
    );
    check(
        &["run", directory],
        &format!(
            "unexpected argument '{directory}' found; ringway serve {directory} serves the \
             directory; see ringway run --help"
        ),
    );
    check(
        &["site.toml"],
        "unrecognized subcommand 'site.toml'; ringway run --config site.toml runs with it; \
         see ringway --help",
    );
    for (arguments, command) in [
        (["-p", "8080"], "serve -p 8080"),
        (["--port", "8080"], "serve --port 8080"),
        (["--listen", ":80"], "serve --listen :80"),
        (["--to", "localhost:3000"], "proxy --to localhost:3000"),
        (["--config", "site.toml"], "run --config site.toml"),
    ] {
        check(
            &arguments,
            &format!(
                "unexpected argument '{}' found; a command comes first: ringway {command}; \
                 see ringway --help",
                arguments[0]
            ),
        );
    }
}

#[test]
fn the_wrong_command_for_it() {
    check(
        &["proxy", "localhost:3000"],
        "unexpected argument 'localhost:3000' found; --to localhost:3000 names the server; \
         see ringway proxy --help",
    );
    check(
        &["serve", "--config", "site.toml"],
        "unexpected argument '--config' found; ringway run --config FILE runs with a file, and \
         ringway serve by flags alone; see ringway serve --help",
    );
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("site.toml");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let expected = format!("{file} isn't a directory: ringway run --config {file} runs with it");
    check_error(&["serve", file], 1, &expected);
}

#[test]
fn a_server_where_a_directory_is_wanted() {
    let url = "http://localhost:3000";
    let expected = format!("{url} isn't a directory: ringway proxy --to {url} passes requests on");
    check_error(&["serve", url], 1, &expected);
}

#[test]
fn more_directories_than_one() {
    check(
        &["serve", "a", "b"],
        "unexpected argument 'b' found; one directory is served: a configuration has several, as \
         ringway run --help shows; see ringway serve --help",
    );
}

#[test]
fn a_url_without_a_method() {
    for url in ["/a", "http://a/b"] {
        check(
            &["explain", url, "--config", "site.toml"],
            &format!(
                "the following required arguments were not provided: <URL>; the method comes \
                 first: ringway explain GET {url} --config site.toml; see ringway explain --help"
            ),
        );
    }
}

#[test]
fn addresses_of_another_kind() {
    check(
        &["serve", "--listen", "unix:/run/a"],
        "invalid value 'unix:/run/a' for '--listen <ADDR>': \"unix:/run/a\" is a Unix socket, and \
         listeners are TCP only: such as \"127.0.0.1:8080\", \"[::1]:8080\", or \":8080\" for \
         every address of the machine; see ringway serve --help",
    );
    check_error(
        &["serve", "--admin", "0.0.0.0:0"],
        1,
        "--admin 0.0.0.0:0: other machines could reach 0.0.0.0:0: take 127.0.0.1 or a Unix \
         socket; only a file allows it (ringway run --config FILE), with allow_remote = true in \
         [admin]",
    );
    // The last is how it is shown.
    for (server, expected, shown) in [
        (
            "3000",
            "\"3000\" is a port without a host: such as \"localhost:3000\"",
            "3000",
        ),
        (
            "a:1,b:2",
            "\"a:1,b:2\" is more than one server: an element of the list for each; on the \
             command line, --to for each",
            "a:1,b:2",
        ),
        (
            "http://user:pw@a:1",
            "credentials before \"a:1\": leave them out: `request_headers` in a [[route]] can set \
             Authorization",
            "http://*******@a:1",
        ),
    ] {
        check_error(
            &["proxy", "--to", server],
            1,
            &format!("--to {shown}: {expected}"),
        );
    }
}

#[test]
fn numbers_that_are_none() {
    for text in ["80000", "http", "8080/tcp"] {
        check(
            &["serve", "--port", text],
            &format!(
                "invalid value '{text}' for '--port <PORT>': a port is a whole number from 0 to \
                 65535; with 0 the kernel chooses; see ringway serve --help"
            ),
        );
    }
    for (flag, name) in [
        ("--rate", "PER_SECOND"),
        ("--connections", "COUNT"),
        ("--workers", "COUNT"),
    ] {
        check(
            &["doctor", flag, "10k"],
            &format!(
                "invalid value '10k' for '{flag} <{name}>': a whole number in digits alone, such \
                 as 50000; see ringway doctor --help"
            ),
        );
    }
}

#[test]
fn tls_is_not_there_yet() {
    for (command, flag) in [
        ("serve", "--tls"),
        ("serve", "--https"),
        ("serve", "--tls-cert=site.pem"),
        ("proxy", "--cert"),
        ("run", "--tls"),
    ] {
        let name = flag.split('=').next().unwrap();
        check(
            &[command, flag],
            &format!(
                "unexpected argument '{name}' found; TLS isn't there yet: Ringway speaks plain \
                 HTTP, so put a TLS proxy before it; see ringway {command} --help"
            ),
        );
    }
}
