//! Which file a path means: clean URLs, lists of what is tried, one-page applications; and the
//! pages for what isn't there.

use crate::client::{Response, request};
use crate::server::{Io, Server, on_every_driver};
use crate::tree::{Tree, content};

on_every_driver!(
    clean_urls,
    clean_urls_that_are_taken,
    clean_urls_that_change,
    one_page_applications,
    one_page_applications_and_directories,
    what_is_tried,
    a_list_that_ends,
    nothing_outside_is_tried,
    error_pages,
    error_pages_without_a_cache,
    error_pages_of_every_size,
    error_pages_that_are_none,
    made_up_paths_take_no_memory,
);

fn serve(io: Io, tree: &Tree, flags: &[&str]) -> Server {
    Server::serve(io, &tree.root(), flags)
}

#[track_caller]
fn check(server: &Server, target: &str, body: &str) {
    // The second from memory.
    for _ in 0..2 {
        let response = server.get(target);
        let text = String::from_utf8_lossy(&response.body);
        assert_eq!((response.status, &*text), (200, body), "{target}");
        let head = server.connect().ask(&request("HEAD", target, &[]));
        assert_eq!(head.status, 200, "{target}");
    }
}

#[track_caller]
fn check_moved(server: &Server, target: &str, location: &str) {
    for _ in 0..2 {
        let response = server.get(target);
        assert_eq!(response.status, 301, "{target}");
        assert_eq!(response.field("Location"), Some(location), "{target}");
    }
}

#[track_caller]
fn check_status(server: &Server, target: &str, status: u16) {
    for _ in 0..2 {
        assert_eq!(server.get(target).status, status, "{target}");
    }
}

fn clean_urls(io: Io) {
    let tree = Tree::empty();
    for name in [
        "index.html",
        "about.html",
        "docs/index.html",
        "docs/a b.html",
        "page.v2.html",
        ".html",
        "old.htm",
    ] {
        tree.write(name, name);
    }
    std::fs::create_dir(tree.path("folder.html")).unwrap();
    let server = serve(io, &tree, &["--clean-urls"]);
    check(&server, "/", "index.html");
    check(&server, "/about", "about.html");
    check(&server, "/about?a=b", "about.html");
    check(&server, "/docs/", "docs/index.html");
    check(&server, "/docs/a%20b", "docs/a b.html");
    check(&server, "/page.v2", "page.v2.html");
    check(&server, "/old.htm", "old.htm");
    for (target, location) in [
        ("/about.html", "/about"),
        ("/about.html?a=b&c", "/about?a=b&c"),
        ("/about/", "/about"),
        ("/about/?x", "/about?x"),
        ("/index.html", "/"),
        ("/docs/index.html?q", "/docs/?q"),
        ("/docs", "/docs/"),
        ("/docs/a%20b.html", "/docs/a%20b"),
        ("/page.v2.html", "/page.v2"),
    ] {
        check_moved(&server, target, location);
    }
    for target in [
        "/nothing",
        "/nothing.html",
        "/nothing/",
        "/folder",
        "/about/x",
        "/.html",
        "/a",
    ] {
        check_status(&server, target, 404);
    }
    let server = serve(io, &tree, &[]);
    check(&server, "/about.html", "about.html");
    check_status(&server, "/about", 404);
}

/// A file of the very name goes first, a directory last, and nothing is sent in circles.
fn clean_urls_that_are_taken(io: Io) {
    let tree = Tree::empty();
    for name in [
        "both",
        "both.html",
        "dir/index.html",
        "dir.html",
        "bare/x",
        "bare.html",
    ] {
        tree.write(name, name);
    }
    let server = serve(io, &tree, &["--clean-urls"]);
    check(&server, "/both", "both");
    check(&server, "/both.html", "both.html");
    check(&server, "/dir", "dir.html");
    check_moved(&server, "/dir.html", "/dir");
    check(&server, "/dir/", "dir/index.html");
    check(&server, "/bare", "bare.html");
    check_moved(&server, "/bare/", "/bare");
}

fn clean_urls_that_change(io: Io) {
    let tree = Tree::empty();
    tree.write("page.html", "one");
    let server = serve(io, &tree, &["--clean-urls"]);
    check(&server, "/page", "one");
    let becomes = |body: &[u8]| {
        crate::server::eventually("the change shows", || {
            (server.get("/page").body == body).then_some(())
        });
    };
    tree.write("page.html", "two, longer");
    becomes(b"two, longer");
    tree.write("page", "the file itself");
    becomes(b"the file itself");
    std::fs::remove_file(tree.path("page")).unwrap();
    becomes(b"two, longer");
}

fn navigation(server: &Server, target: &str, accept: &str) -> Response {
    let accept = format!("Accept: {accept}");
    let fields = if accept == "Accept: " {
        vec![]
    } else {
        vec![accept.as_str()]
    };
    server.connect().ask(&request("GET", target, &fields))
}

fn one_page_applications(io: Io) {
    let tree = Tree::empty();
    tree.write("index.html", "the page");
    tree.write("app.js", "script");
    let server = serve(io, &tree, &["--spa"]);
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    for target in [
        "/",
        "/users",
        "/users/42",
        "/users/42/",
        "/a%20b?q=1",
        "/nothing/x/y/z",
    ] {
        for accept in [browser, "*/*", "text/*", ""] {
            let response = navigation(&server, target, accept);
            assert_eq!(response.status, 200, "{target} {accept}");
            assert_eq!(response.body, b"the page");
            assert_eq!(
                response.field("Content-Type"),
                Some("text/html; charset=utf-8")
            );
            assert_eq!(response.field("Cache-Control"), Some("no-cache"));
        }
    }
    check(&server, "/users/7", "the page");
    check(&server, "/app.js", "script");
    // What has an extension is asked for by the page itself.
    for target in [
        "/missing.js",
        "/users/app.css",
        "/img/a.png",
        "/users/john.doe",
        "/.env",
    ] {
        assert_eq!(navigation(&server, target, browser).status, 404, "{target}");
    }
    for accept in [
        "application/json",
        "image/avif,image/webp",
        "text/html;q=0, */*",
    ] {
        let response = navigation(&server, "/users", accept);
        assert_eq!(response.status, 404, "{accept}");
    }
    let mut client = server.connect();
    assert_eq!(
        client
            .ask(&request("POST", "/users", &["Content-Length: 0"]))
            .status,
        405
    );
    // The tag is the page's, wherever it is.
    let tag = navigation(&server, "/users", "")
        .field("ETag")
        .unwrap()
        .to_owned();
    let known = format!("If-None-Match: {tag}");
    assert_eq!(client.ask(&request("GET", "/other", &[&known])).status, 304);

    let empty = Tree::empty();
    let server = serve(io, &empty, &["--spa"]);
    check_status(&server, "/", 404);
    check_status(&server, "/users", 404);
}

fn one_page_applications_and_directories(io: Io) {
    let tree = Tree::empty();
    tree.write("index.html", "the page");
    tree.write("users/photo.png", "photo");
    tree.write("docs/index.html", "docs");
    tree.write("about.html", "about");
    let server = serve(io, &tree, &["--spa", "--clean-urls"]);
    // Without an index there is nothing to be seen at a directory but the application.
    check(&server, "/users", "the page");
    check(&server, "/users/", "the page");
    check(&server, "/users/photo.png", "photo");
    check_moved(&server, "/docs", "/docs/");
    check(&server, "/docs/", "docs");
    check(&server, "/about", "about");
    check_moved(&server, "/about.html", "/about");
    check_moved(&server, "/index.html", "/");
}

fn what_is_tried(io: Io) {
    let tree = Tree::empty();
    for name in [
        "a",
        "b.html",
        "c.txt",
        "dir/index.html",
        "fallback.html",
        "bare/x",
    ] {
        tree.write(name, name);
    }
    let list = "{path},{path}.html,{path}.txt,/fallback.html";
    let server = serve(io, &tree, &["--try-file", list]);
    check(&server, "/a", "a");
    check(&server, "/b", "b.html");
    check(&server, "/b.html", "b.html");
    check(&server, "/c", "c.txt");
    check(&server, "/dir/", "dir/index.html");
    check_moved(&server, "/dir", "/dir/");
    for target in ["/nothing", "/nothing.js", "/x/y/", "/bare", "/bare/"] {
        check(&server, target, "fallback.html");
    }
    // Only for names that may be asked for.
    check_status(&server, "/.hidden", 404);
    check_status(&server, "/a%00b", 400);
}

fn a_list_that_ends(io: Io) {
    let tree = Tree::empty();
    tree.write("a", "a");
    tree.write("dir/index.html", "dir");
    let server = serve(io, &tree, &["--try-file", "{path},=410"]);
    check(&server, "/a", "a");
    check_status(&server, "/nothing", 410);
    check_status(&server, "/nothing/", 410);
    check_moved(&server, "/dir", "/dir/");
    // Not what was asked for at all.
    let server = serve(io, &tree, &["--try-file", "/a"]);
    for target in ["/", "/a", "/dir/", "/nothing"] {
        check(&server, target, "a");
    }
}

fn nothing_outside_is_tried(io: Io) {
    let tree = Tree::empty();
    tree.write("index.html", "the page");
    std::fs::write(tree.outside().join("secret.html"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret.html", tree.path("link.html")).unwrap();
    std::os::unix::fs::symlink("loop.html", tree.path("loop.html")).unwrap();
    let long = format!("/{}", "x".repeat(255));
    for flags in [
        &["--clean-urls"][..],
        &["--spa"],
        &["--try-file", "{path},{path}.html"],
    ] {
        let server = serve(io, &tree, flags);
        for target in [
            "/../secret",
            "/..%2fsecret",
            "/link",
            "/loop",
            "/link.html",
            "/loop.html",
            &long,
        ] {
            let response = server.get(target);
            assert!(response.body != b"secret", "{target}");
            let is_application = flags == ["--spa"] && response.body == b"the page";
            assert!(
                is_application || response.status >= 400,
                "{target}: {response:?}"
            );
        }
    }
}

#[track_caller]
fn check_page(server: &Server, method: &str, target: &str, status: u16, body: &[u8]) {
    let response = server.connect().ask(&request(method, target, &[]));
    assert_eq!(response.status, status, "{target}");
    let length = response.field("Content-Length").unwrap();
    assert_eq!(length, body.len().to_string(), "{target}");
    if method != "HEAD" {
        assert!(response.body == body, "{target}");
    }
    assert_eq!(
        response.field("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(response.field("Cache-Control"), Some("no-store"));
    for name in ["ETag", "Last-Modified", "Accept-Ranges", "Content-Encoding"] {
        assert_eq!(response.field(name), None, "{target}");
    }
}

fn check_pages(server: &Server) {
    for _ in 0..2 {
        for method in ["GET", "HEAD"] {
            for target in ["/nothing", "/no/thing/", "/.hidden", "/bare/"] {
                check_page(server, method, target, 404, b"not here");
            }
        }
    }
    // A condition or a range is about what was asked for, which isn't there.
    for field in [
        "Range: bytes=0-2",
        "If-None-Match: *",
        "Accept-Encoding: gzip",
    ] {
        let response = server.connect().ask(&request("GET", "/nothing", &[field]));
        assert_eq!(
            (response.status, &*response.body),
            (404, &b"not here"[..]),
            "{field}"
        );
    }
    // The page itself is a file like any other.
    let page = server.get("/404.html");
    assert_eq!(
        (page.status, page.field("Cache-Control")),
        (200, Some("no-cache"))
    );
}

fn error_pages(io: Io) {
    let tree = Tree::new();
    tree.write("bare/x", "x");
    tree.write("404.html", "not here");
    let server = serve(io, &tree, &["--security-headers"]);
    check_pages(&server);
    let response = server.get("/nothing");
    assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"));
    // Other errors have the server's own words.
    let response = server.connect().ask(&request("DELETE", "/hello.txt", &[]));
    assert_eq!(
        (response.status, response.field("Allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
    assert!(response.body.starts_with(b"<!doctype html>"));
    // A page that changes, goes and comes back.
    let becomes = |test: fn(&[u8]) -> bool| {
        crate::server::eventually("the change shows", || {
            test(&server.get("/nothing").body).then_some(())
        });
    };
    tree.write("404.html", "changed");
    becomes(|body| body == b"changed");
    std::fs::remove_file(tree.path("404.html")).unwrap();
    becomes(|body| body.starts_with(b"<!doctype html>"));
    tree.write("404.html", "back again");
    becomes(|body| body == b"back again");
}

fn error_pages_without_a_cache(io: Io) {
    let tree = Tree::new();
    tree.write("bare/x", "x");
    tree.write("404.html", "not here");
    let server = serve(io, &tree, &["--cache-bytes", "0"]);
    check_pages(&server);
}

fn error_pages_of_every_size(io: Io) {
    let tree = Tree::new();
    for size in [0, 1, 300_000] {
        let body = content(size as u64, size);
        tree.write("404.html", &body);
        let server = serve(io, &tree, &[]);
        for _ in 0..2 {
            check_page(&server, "GET", "/nothing", 404, &body);
            check_page(&server, "HEAD", "/nothing", 404, &body);
        }
    }
}

/// A page that can't be had is no reason for another error.
fn error_pages_that_are_none(io: Io) {
    let tree = Tree::new();
    let is_plain = |server: &Server| {
        let response = server.get("/nothing");
        assert_eq!(response.status, 404);
        assert!(response.body.starts_with(b"<!doctype html>"));
    };
    std::os::unix::fs::symlink("404.html", tree.path("404.html")).unwrap();
    is_plain(&serve(io, &tree, &[]));
    std::fs::remove_file(tree.path("404.html")).unwrap();
    std::fs::create_dir(tree.path("404.html")).unwrap();
    tree.write("404.html/index.html", "an index");
    is_plain(&serve(io, &tree, &[]));
    std::fs::remove_dir_all(tree.path("404.html")).unwrap();
    std::fs::write(tree.outside().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", tree.path("404.html")).unwrap();
    is_plain(&serve(io, &tree, &[]));
}

/// A fallback is kept once, and not under each path that somebody makes up.
fn made_up_paths_take_no_memory(io: Io) {
    let tree = Tree::empty();
    let page = content(1, 200_000);
    tree.write("index.html", &page);
    let server = serve(io, &tree, &["--spa", "--workers", "1"]);
    let mut client = server.connect();
    assert!(client.get("/first").body == page);
    let before = server.resident_kib();
    for number in 0..500 {
        assert!(client.get(&format!("/made/up/{number}")).body == page);
    }
    let grown = server.resident_kib().saturating_sub(before);
    // 500 copies would be 98 MiB.
    assert!(grown < 8 << 10, "{grown} KiB");
}
