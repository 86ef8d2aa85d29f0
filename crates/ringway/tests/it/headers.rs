//! Headers beside a file's own: caching, those of the configuration, security, other origins.

use std::process::Command;

use crate::client::{Response, request};
use crate::peers;
use crate::server::{Io, Server, on_every_driver, run_by};
use crate::tree::{Tree, content};

on_every_driver!(
    caching_by_name,
    caching_by_rule,
    headers_of_the_configuration,
    the_security_preset,
    open_to_all_origins,
    open_to_some_origins,
    with_credentials,
    preflights,
);

/// Every way to be answered: from memory or from disk, whole, in part, not at all.
fn answers(server: &Server, origin: &[&str]) -> Vec<(&'static str, Response)> {
    let mut client = server.connect();
    let mut ask = |what, method, target, fields: &[&str]| {
        let fields = [fields, origin].concat();
        (what, client.ask(&request(method, target, &fields)))
    };
    let (_, first) = ask("first", "GET", "/hello.txt", &[]);
    let tag = format!("If-None-Match: {}", first.field("ETag").unwrap());
    vec![
        ("first", first),
        ask("again", "GET", "/hello.txt", &[]),
        ask("head", "HEAD", "/hello.txt", &[]),
        ask("part", "GET", "/hello.txt", &["Range: bytes=0-3"]),
        ask("unchanged", "GET", "/hello.txt", &[&tag]),
        ask("failed", "GET", "/hello.txt", &["If-Match: \"x\""]),
        ask("unsatisfiable", "GET", "/hello.txt", &["Range: bytes=99-"]),
        ask("large", "GET", "/large.bin", &[]),
        ask("missing", "GET", "/nothing", &[]),
        ask("redirect", "GET", "/folder", &[]),
        ask("options", "OPTIONS", "/hello.txt", &[]),
        ask("not allowed", "DELETE", "/hello.txt", &[]),
    ]
}

fn serve(io: Io, flags: &[&str]) -> (Tree, Server) {
    let tree = Tree::new();
    tree.write("large.bin", content(1, 300_000));
    tree.write("folder/index.html", "<!doctype html>");
    let server = Server::serve(io, &tree.root(), flags);
    (tree, server)
}

#[track_caller]
fn check(server: &Server, target: &str, expected: Option<&str>) {
    // The second from memory.
    for _ in 0..2 {
        let response = server.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.field("Cache-Control"), expected, "{target}");
    }
}

fn caching_by_name(io: Io) {
    let (tree, server) = serve(io, &[]);
    let forever = Some("max-age=31536000, immutable");
    for name in ["app.3f9a1c20.js", "assets/index-DkT3x9aB.css"] {
        tree.write(name, "x");
        check(&server, &format!("/{name}"), forever);
    }
    tree.write("page.3f9a1c20.html", "x");
    for target in [
        "/",
        "/hello.txt",
        "/page.3f9a1c20.html",
        "/large.bin",
        "/folder/",
    ] {
        check(&server, target, Some("no-cache"));
    }
    for (what, response) in answers(&server, &[]) {
        let said = response.field("Cache-Control");
        // RFC 9110 §15.4.5: on a 304 as on the 200. An error that is kept would outlive its cause.
        match response.status {
            200 | 206 | 304 => assert_eq!(said, Some("no-cache"), "{what}"),
            _ => assert_eq!(said, None, "{what}"),
        }
    }
}

fn caching_by_rule(io: Io) {
    let flags = [
        "--cache-control",
        "/img/** private, max-age=60",
        "--cache-control",
        "*.zip none",
        "--cache-control",
        "index.html max-age=5",
    ];
    let (tree, server) = serve(io, &flags);
    for name in ["img/a/b.zip", "x.zip", "img.zip/x.txt", "other/img/x.txt"] {
        tree.write(name, "x");
    }
    check(&server, "/img/a/b.zip", Some("private, max-age=60"));
    check(&server, "/x.zip", None);
    check(&server, "/img.zip/x.txt", Some("no-cache"));
    check(&server, "/other/img/x.txt", Some("no-cache"));
    // The file is what counts, not what it is called by.
    check(&server, "/", Some("max-age=5"));
    check(&server, "/folder/", Some("max-age=5"));
}

fn headers_of_the_configuration(io: Io) {
    let flags = [
        "--header",
        "X-One: a, b; c=\"d\"",
        "--header",
        "/folder/** X-Two: two",
        "--header",
        "*.html X-One: page",
        "--header",
        "X-Empty:",
    ];
    let (_tree, server) = serve(io, &flags);
    for (what, response) in answers(&server, &[]) {
        assert_eq!(response.field("X-One"), Some("a, b; c=\"d\""), "{what}");
        assert_eq!(response.field("X-Two"), None, "{what}");
        assert_eq!(response.field("X-Empty"), Some(""), "{what}");
    }
    let page = server.get("/folder/");
    assert_eq!(page.field("X-One"), Some("page"));
    assert_eq!(page.field("X-Two"), Some("two"));
}

fn the_security_preset(io: Io) {
    let preset = [
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "frame-ancestors 'self'"),
        ("X-Frame-Options", "SAMEORIGIN"),
        ("Referrer-Policy", "strict-origin-when-cross-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    ];
    let (_tree, server) = serve(io, &["--security-headers"]);
    for (what, response) in answers(&server, &[]) {
        for (name, value) in preset {
            assert_eq!(response.field(name), Some(value), "{what}");
        }
    }
    let policy = "content-security-policy: default-src 'self'";
    let (_tree, server) = serve(io, &["--security-headers", "--header", policy]);
    let response = server.get("/");
    let replaced = Some("default-src 'self'");
    assert_eq!(response.field("Content-Security-Policy"), replaced);
    assert_eq!(response.field("X-Frame-Options"), Some("SAMEORIGIN"));
    let (_tree, server) = serve(io, &[]);
    for (name, _) in preset {
        assert_eq!(server.get("/").field(name), None);
    }
}

fn open_to_all_origins(io: Io) {
    let (_tree, server) = serve(io, &["--cors", "*"]);
    for origin in [&[][..], &["Origin: https://a.example"], &["Origin: null"]] {
        for (what, response) in answers(&server, origin) {
            assert_eq!(
                response.field("Access-Control-Allow-Origin"),
                Some("*"),
                "{what}"
            );
            assert_eq!(response.field("Access-Control-Allow-Credentials"), None);
            let vary = response.field("Vary").unwrap_or_default();
            assert!(!vary.contains("Origin"), "{what}: {vary}");
        }
    }
}

fn open_to_some_origins(io: Io) {
    let flags = ["--cors", "https://a.example,http://localhost:3000"];
    let (_tree, server) = serve(io, &flags);
    let allowed = |origin: &str| {
        let field = format!("Origin: {origin}");
        let fields = if origin.is_empty() {
            vec![]
        } else {
            vec![field.as_str()]
        };
        let mut said: Vec<Option<String>> = answers(&server, &fields)
            .into_iter()
            .map(|(what, response)| {
                // Without it a cache would give one origin what is meant for another.
                let vary = response.field("Vary").unwrap_or_default();
                let has_origin = vary.split(", ").any(|name| name == "Origin");
                // RFC 9110 §15.5.13, §15.5.17: nothing that would be kept.
                assert!(
                    has_origin || [412, 416].contains(&response.status),
                    "{what}: {vary}"
                );
                response
                    .field("Access-Control-Allow-Origin")
                    .map(str::to_owned)
            })
            .collect();
        said.dedup();
        assert_eq!(said.len(), 1, "{origin}: {said:?}");
        said.remove(0)
    };
    for origin in ["https://a.example", "http://localhost:3000"] {
        assert_eq!(allowed(origin).as_deref(), Some(origin));
    }
    for origin in [
        "",
        "null",
        "*",
        "http://a.example",
        "https://a.example:444",
        "https://a.example.evil.example",
        "https://A.example",
        "https://a.example, https://b.example",
    ] {
        assert_eq!(allowed(origin), None, "{origin}");
    }
    // Two of them are none.
    let twice = ["Origin: https://a.example", "Origin: https://b.example"];
    let response = server.connect().ask(&request("GET", "/hello.txt", &twice));
    assert_eq!(response.field("Access-Control-Allow-Origin"), None);
}

fn config(tree: &Tree, io: Io, keys: &str) -> Server {
    let file = tree.outside().join("site.toml");
    let text = format!(
        "workers = 1\n[listen.main]\naddress = \"127.0.0.1:0\"\n[files.site]\nroot = \"root\"\n{keys}"
    );
    std::fs::write(&file, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringway"));
    run.args(["run", "--io", io.word(), "--config"]).arg(&file);
    Server::start(match io {
        Io::Refused => run_by(peers::refuse_calls(), &["io_uring"], &run),
        Io::Uring | Io::Epoll => run,
    })
}

fn with_credentials(io: Io) {
    let tree = Tree::new();
    let keys = "cors = [\"null\", \"https://a.example\"]\ncors_credentials = true\n\
                cors_expose = [\"ETag\", \"X-One\"]\n";
    let server = config(&tree, io, keys);
    let ask = |origin: &str| {
        let mut client = server.connect();
        client.ask(&request("GET", "/hello.txt", &[origin]))
    };
    for origin in ["null", "https://a.example"] {
        let response = ask(&format!("Origin: {origin}"));
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin));
        assert_eq!(
            response.field("Access-Control-Allow-Credentials"),
            Some("true")
        );
        assert_eq!(
            response.field("Access-Control-Expose-Headers"),
            Some("ETag, X-One")
        );
    }
    let response = ask("Origin: https://b.example");
    assert_eq!(response.field("Access-Control-Allow-Origin"), None);
    assert_eq!(response.field("Access-Control-Allow-Credentials"), None);
}

fn preflights(io: Io) {
    let (_tree, server) = serve(io, &["--cors", "https://a.example"]);
    let mut client = server.connect();
    let mut ask = |origin: &str, fields: &[&str]| {
        let fields = [&[origin, "Access-Control-Request-Method: GET"], fields].concat();
        client.ask(&request("OPTIONS", "/no/such/file", &fields))
    };
    let ours = "Origin: https://a.example";
    let requested = "Access-Control-Request-Headers: range, if-none-match, x-anything";
    let response = ask(ours, &[requested]);
    assert_eq!(response.status, 204);
    assert_eq!(
        response.field("Access-Control-Allow-Origin"),
        Some("https://a.example")
    );
    assert_eq!(
        response.field("Access-Control-Allow-Methods"),
        Some("GET, HEAD")
    );
    let allowed = response.field("Access-Control-Allow-Headers");
    assert_eq!(allowed, Some("range, if-none-match, x-anything"));
    assert_eq!(response.field("Access-Control-Max-Age"), Some("3600"));
    assert_eq!(response.field("Allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(ask(ours, &[]).field("Access-Control-Allow-Headers"), None);
    // No list of names, or a longer one than browsers send.
    let long = format!("Access-Control-Request-Headers: {}", "a".repeat(2000));
    for bad in ["Access-Control-Request-Headers: a;b=\"c\"", &long] {
        let response = ask(ours, &[bad]);
        assert_eq!(response.field("Access-Control-Allow-Headers"), None);
    }
    let response = ask("Origin: https://b.example", &[requested]);
    for name in ["Origin", "Methods", "Headers"] {
        let name = format!("Access-Control-Allow-{name}");
        assert_eq!(response.field(&name), None);
    }
    assert_eq!(response.field("Vary"), Some("Origin"));
}
