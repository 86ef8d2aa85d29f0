//! `ringway explain` looks for files by itself, so it is asked beside a server: the same requests, and
//! both say the same status, file and fields.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use crate::server::{Io, Server, configured, on_both_drivers};
use crate::tree::Tree;

on_both_drivers!(it_says_what_the_server_does);

/// One listener, and for each host a way to look for the same files.
const TABLES: &str = r#"
[listen.web]
address = "127.0.0.1:0"
files = "plain"

[[route]]
host = "clean"
files = "clean"
[[route]]
host = "spa"
files = "spa"
[[route]]
host = "tried"
files = "tried"
[[route]]
host = "listed"
files = "listed"
[[route]]
host = "stripped"
path = "/docs/*"
strip_prefix = "/docs"
files = "plain"

[files.plain]
root = "root"
cache_control = "/docs/** max-age=60"

[files.clean]
root = "root"
clean_urls = true
error_pages = "404 /404.html"

[files.spa]
root = "root"
spa = true
symlinks = "deny"
headers = "*.html X-Page: yes"

[files.tried]
root = "root"
try_files = ["{path}", "{path}.html", "=410"]
error_pages = ["4xx /404.html", "405 /nowhere.html"]

[files.listed]
root = "root"
browse = true
show_dotfiles = true
"#;

/// Requests: the method, the host, the path, and the status that both are to say.
const REQUESTS: [(&str, &str, &str, u16); 32] = [
    ("GET", "plain", "/", 200),
    ("HEAD", "plain", "/about.html", 200),
    ("GET", "plain", "/docs", 301),
    ("GET", "plain", "/docs/", 200),
    ("GET", "plain", "/docs/%69ndex.html?q=a%20b", 200),
    ("GET", "plain", "/bare", 301),
    ("GET", "plain", "/bare/", 404),
    ("GET", "plain", "/about.html/", 404),
    ("GET", "plain", "/.hidden", 404),
    ("GET", "plain", "/out/secret", 404),
    ("GET", "plain", "/inside.html", 200),
    ("POST", "plain", "/about.html", 405),
    ("OPTIONS", "plain", "/about.html", 204),
    ("GET", "stripped", "/docs/about.html", 200),
    ("GET", "stripped", "/docs/docs?q", 301),
    ("GET", "clean", "/about", 200),
    ("GET", "clean", "/about.html?q=1", 301),
    ("GET", "clean", "/about/", 301),
    ("GET", "clean", "/docs/index.html", 301),
    ("GET", "clean", "/both", 200),
    ("GET", "clean", "/both.html", 200),
    ("GET", "clean", "/nothing", 404),
    ("GET", "spa", "/deep/down", 200),
    ("GET", "spa", "/deep/down.js", 404),
    ("GET", "spa", "/inside.html", 404),
    ("GET", "spa", "/out", 200),
    ("GET", "tried", "/about", 200),
    ("GET", "tried", "/nothing", 410),
    ("PUT", "tried", "/about", 405),
    ("GET", "tried", "/docs", 301),
    ("GET", "listed", "/bare/", 200),
    ("GET", "listed", "/.hidden", 200),
];

/// Files that each say their own path, and links inside and out.
fn tree() -> Tree {
    let tree = Tree::empty();
    for name in [
        "index.html",
        "about.html",
        "404.html",
        "both",
        "both.html",
        "docs/index.html",
        "bare/data.txt",
        ".hidden",
    ] {
        tree.write(name, format!("this is {name}"));
    }
    std::fs::write(tree.outside().join("secret"), "nobody is to see this").unwrap();
    symlink("..", tree.path("out")).unwrap();
    symlink("about.html", tree.path("inside.html")).unwrap();
    tree
}

/// What `ringway explain` says of a request.
fn explained(configuration: &Path, method: &str, host: &str, path: &str) -> Json {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["explain", method, path, "--json", "-H", "Accept: text/html"]);
    command.args(["-H", &format!("Host: {host}"), "--config"]);
    let output = command.arg(configuration).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn it_says_what_the_server_does(io: Io) {
    let tree = tree();
    let server = Server::start(configured(io, &tree, TABLES));
    let configuration = tree.outside().join("ringway.toml");
    for (method, host, path, status) in REQUESTS {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\n\r\n");
        let answer = server.connect().ask(&request);
        let said = explained(&configuration, method, host, path);
        let shown = format!("{method} {host} {path}: {said:#}");
        assert_eq!(answer.status, status, "the server's, of {shown}");
        assert_eq!(said["answer"]["status"], status, "{shown}");
        match said["answer"]["file"].as_str() {
            Some(_) if method == "HEAD" => assert_eq!(answer.body, b"", "{shown}"),
            Some(file) => {
                let content = std::fs::read(tree.path(&file[1..])).unwrap();
                assert_eq!(answer.body, content, "{shown}");
            }
            None => assert!(!answer.body.starts_with(b"this is"), "{shown}"),
        }
        let fields = said["response_headers"].as_array().unwrap().iter();
        let fields: Vec<(&str, &str)> = fields
            .map(|line| line.as_str().unwrap().split_once(": ").unwrap())
            .collect();
        // Whether codings are chosen from as well depends on how many bytes there are.
        for (name, value) in fields.iter().filter(|(name, _)| *name != "Vary") {
            assert_eq!(answer.field(name), Some(*value), "{name} of {shown}");
        }
        for name in ["Allow", "Cache-Control", "Location", "X-Page"] {
            let is_said = fields.iter().any(|(other, _)| *other == name);
            assert_eq!(answer.field(name).is_some(), is_said, "{name} of {shown}");
        }
    }
}
