//! Routes of a configuration, asked over the wire: files, redirects and statuses of their own.

use std::process::Command;

use crate::client::{Client, Response};
use crate::server::{Io, Server, on_both_drivers};

on_both_drivers!(files_beneath_a_prefix, answers_of_their_own);

const CONFIG: &str = r#"
[listen.main]
address = "127.0.0.1:0"
[[route]]
path = "/s/*"
files = "site"
strip_prefix = "/s"
response_headers = ["X-App: {path}", "-Server", "Cache-Control: no-store"]
[[route]]
method = "POST"
redirect = "/elsewhere{path}"
status = 303
[[route]]
path = "/gone"
status = 410
response_headers = "X-Gone: {host}"
[files.site]
root = "public"
"#;

/// A server with these routes, and a file in its only directory.
fn start(io: Io) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("public")).unwrap();
    std::fs::write(directory.path().join("public/a.txt"), "hello").unwrap();
    std::fs::create_dir(directory.path().join("public/dir")).unwrap();
    let config = directory.path().join("site.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(["run", "--workers", "1", "--io", io.word(), "--config"]);
    command.arg(config);
    (directory, Server::start(command))
}

/// The answer to a request with a body.
fn post(server: &Server, target: &str) -> Response {
    let mut client = Client::connect(server.address());
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nConnection: close\r\n\r\na=b"
    ));
    client.response()
}

fn files_beneath_a_prefix(io: Io) {
    let (_directory, server) = start(io);
    // Twice: looked up first, then from memory.
    for _ in 0..2 {
        for path in ["/s/a.txt", "/s/./%61.txt?x", "/x/..//s/a.txt"] {
            let answer = server.get(path);
            assert_eq!(
                (answer.status, &*answer.body),
                (200, &b"hello"[..]),
                "{path}"
            );
            assert_eq!(answer.field("X-App"), Some("/s/a.txt"));
            assert_eq!(answer.field("Cache-Control"), Some("no-store"));
            assert_eq!(answer.field("Server"), None);
        }
    }
    let moved = server.get("/s/dir");
    assert_eq!(
        (moved.status, moved.field("Location")),
        (301, Some("/s/dir/"))
    );
    for path in ["/a.txt", "/sa.txt", "/s/s/a.txt"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    server.stop();
}

fn answers_of_their_own(io: Io) {
    let (_directory, server) = start(io);
    let answer = post(&server, "/form?a");
    assert_eq!(answer.status, 303);
    assert_eq!(answer.field("Location"), Some("/elsewhere/form"));
    let answer = server.get("/x/../g%6fne");
    assert_eq!(answer.status, 410);
    assert_eq!(answer.field("X-Gone"), Some("test"));
    assert_eq!(server.get("/other").status, 404);
    server.stop();
}
