//! Files as they are answered: sizes, names, types, validators, conditions, ranges, changes.

use std::time::{Duration, SystemTime};

use crate::client::{Response, request};
use crate::server::{Io, Server, eventually, on_every_driver, promptly};
use crate::tree::{HELLO, Tree, content};

on_every_driver!(
    sizes,
    sizes_without_a_cache,
    indexes_and_redirects,
    redirects_stay_here,
    dotfiles_are_hidden,
    content_types,
    names,
    names_too_long,
    entity_tags,
    if_none_match,
    if_modified_since,
    preconditions_that_fail,
    ranges_of_a_small_file,
    ranges_of_a_large_file,
    ranges_of_an_empty_file,
    if_range,
    changes_are_seen,
    a_vanished_file,
);

fn serve(io: Io) -> (Tree, Server) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &[]);
    (tree, server)
}

/// Around the bounds of a receive buffer, of the cache and of what sockets hold at once.
const SIZES: [usize; 12] = [
    0,
    1,
    2,
    1000,
    4095,
    4096,
    4097,
    65_536,
    262_143,
    262_144,
    262_145,
    10 << 20,
];

fn check_sizes(server: &Server, tree: &Tree) {
    for size in SIZES {
        tree.write(format!("{size}.bin"), content(size as u64, size));
    }
    let mut client = server.connect();
    // The second time from memory, if it was kept there.
    for size in SIZES.into_iter().chain(SIZES) {
        let path = format!("/{size}.bin");
        let response = client.get(&path);
        assert_eq!(response.status, 200);
        assert_eq!(response.field("Content-Length"), Some(&*size.to_string()));
        assert!(response.body == content(size as u64, size), "{path}");
        let head = client.ask(&request("HEAD", &path, &[]));
        assert_eq!(head.lasting_fields(), response.lasting_fields());
    }
}

fn sizes(io: Io) {
    let (tree, server) = serve(io);
    check_sizes(&server, &tree);
    server.stop();
}

fn sizes_without_a_cache(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--cache-bytes", "0"]);
    check_sizes(&server, &tree);
}

fn indexes_and_redirects(io: Io) {
    let (tree, server) = serve(io);
    let index = std::fs::read(tree.path("index.html")).unwrap();
    tree.write("folder/index.html", "in the folder");
    tree.write("a folder/\u{fc}/index.html", "in another");
    tree.write("bare/file.txt", "no index");
    std::fs::create_dir(tree.path("odd")).unwrap();
    std::fs::create_dir(tree.path("odd/index.html")).unwrap();
    let mut client = server.connect();
    let response = client.get("/");
    assert_eq!((response.status, response.body), (200, index));
    assert_eq!(client.get("/folder/?a").body, b"in the folder");
    assert_eq!(client.get("/folder/index.html").body, b"in the folder");
    for (target, location) in [
        ("/folder", "/folder/"),
        ("/folder?a=b&c", "/folder/?a=b&c"),
        ("/folder?", "/folder/?"),
        ("/./folder", "/folder/"),
        ("/bare", "/bare/"),
        ("/a%20folder/%c3%bc?x", "/a%20folder/%C3%BC/?x"),
    ] {
        for method in ["GET", "HEAD"] {
            let response = client.ask(&request(method, target, &[]));
            assert!(
                [301, 308].contains(&response.status),
                "{target}: {response:?}"
            );
            assert_eq!(response.field("Location"), Some(location), "{target}");
        }
    }
    assert_eq!(client.get("/a%20folder/%C3%BC/?x").body, b"in another");
    // No listing, whatever the status; a file has nothing below it.
    for target in ["/bare/", "/odd/"] {
        let response = client.get(target);
        assert!(
            [403, 404].contains(&response.status),
            "{target}: {response:?}"
        );
        let body = String::from_utf8_lossy(&response.body);
        assert!(
            !body.contains("file.txt") && !body.contains("no index"),
            "{body}"
        );
    }
    for target in [
        "/hello.txt/",
        "/hello.txt/x",
        "/nothing",
        "/nothing/",
        "/folder/nothing",
    ] {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
    let response = client.get("/nothing");
    assert!(!String::from_utf8_lossy(&response.body).contains(tree.root().to_str().unwrap()));

    let server = Server::serve(
        io,
        &tree.root(),
        &["--index", "none", "--index", "file.txt"],
    );
    assert_eq!(server.get("/bare/").body, b"no index");
    assert!([403, 404].contains(&server.get("/folder/").status));
}

/// A redirect must not lead to another host by the slashes that a target begins with.
fn redirects_stay_here(io: Io) {
    let (tree, server) = serve(io);
    tree.write("folder/index.html", "in the folder");
    std::fs::create_dir_all(tree.path("elsewhere.example/folder")).unwrap();
    for target in [
        "//folder",
        "///folder",
        "/.//folder",
        "//elsewhere.example/folder",
        "//elsewhere.example",
    ] {
        let response = server.get(target);
        assert!(
            [301, 308, 404].contains(&response.status),
            "{target}: {response:?}"
        );
        if let Some(location) = response.field("Location") {
            assert!(
                location.starts_with('/') && !location.starts_with("//"),
                "{location}"
            );
        }
    }
}

fn dotfiles_are_hidden(io: Io) {
    let tree = Tree::new();
    for name in [".hidden", ".git/config", "folder/.hidden", "folder/..name"] {
        tree.write(name, "secret");
    }
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for target in [
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/.git",
        "/.git/",
        "/.git/../.hidden",
        "/folder/.hidden",
        "/folder/..name",
    ] {
        let response = client.get(target);
        assert_eq!(response.status, 404, "{target}");
        assert!(!response.body.windows(6).any(|window| window == b"secret"));
    }
    let server = Server::serve(io, &tree.root(), &["--show-dotfiles"]);
    for target in ["/.hidden", "/.git/config", "/folder/..name"] {
        server.expect_alive(target, b"secret");
    }
}

fn content_types(io: Io) {
    let (tree, server) = serve(io);
    let mut client = server.connect();
    for (name, expect) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.htm", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("A.TXT", "text/plain; charset=utf-8"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.csv", "text/csv; charset=utf-8"),
        ("a.xml", "text/xml; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.jpeg", "image/jpeg"),
        ("a.gif", "image/gif"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.svg", "image/svg+xml"),
        ("a.ico", "image/x-icon"),
        ("a.woff2", "font/woff2"),
        ("a.wasm", "application/wasm"),
        ("a.json", "application/json"),
        ("a.pdf", "application/pdf"),
        ("a.zip", "application/zip"),
        ("a.mp4", "video/mp4"),
        ("a.bin", "application/octet-stream"),
        ("a.unheard-of", "application/octet-stream"),
        ("html", "application/octet-stream"),
        ("a.tar.gz", "application/gzip"),
    ] {
        tree.write(name, "x");
        let response = client.get(&format!("/{name}"));
        let sent = response.field("Content-Type").expect(name);
        // Whether XML of SVG and the like is text is a matter of taste.
        let bare = sent.split(';').next().unwrap();
        let matches = sent == expect
            || (!expect.contains(';') && bare == expect && !bare.starts_with("text/"));
        assert!(matches, "{name}: {sent}, not {expect}");
    }
}

fn names(io: Io) {
    let (tree, server) = serve(io);
    let longest = "n".repeat(255);
    let cases: &[(&[u8], &str)] = &[
        (b"with space.txt", "/with%20space.txt"),
        (b"a+b", "/a+b"),
        (b"100%", "/100%25"),
        (b"what?", "/what%3F"),
        (b"a#b", "/a%23b"),
        (b"a&b=c;d,e", "/a&b=c;d,e"),
        (b"~tilde", "/~tilde"),
        (b"'quote\"", "/%27quote%22"),
        (b"<b>", "/%3Cb%3E"),
        ("\u{fc}mlaut".as_bytes(), "/%C3%BCmlaut"),
        ("\u{65e5}\u{672c}".as_bytes(), "/%e6%97%a5%e6%9c%ac"),
        ("\u{65e5}\u{672c}".as_bytes(), "/\u{65e5}\u{672c}"),
        (b"\xff\xfe.txt", "/%FF%FE.txt"),
        (b"new\nline", "/new%0Aline"),
        (b"tab\t", "/tab%09"),
        (b"...", "/%2E.."),
        (b"a..b", "/a..b"),
        (b"d/e/f/g/h", "/d/e/f/g/h"),
        (b"d/e/f/g/h", "/d/e//f/./g/x/../h"),
        (longest.as_bytes(), &format!("/{longest}")),
    ];
    let hidden = |name: &[u8]| name.starts_with(b".");
    let mut client = server.connect();
    for (name, target) in cases {
        let body = format!("in {name:?}");
        tree.write(name, &body);
        let response = client.get(target);
        let expect = if hidden(name) { 404 } else { 200 };
        assert_eq!(response.status, expect, "{target}");
        assert!(hidden(name) || response.body == body.as_bytes(), "{target}");
    }
    assert_eq!(client.get("/%FF%FD.txt").status, 404);
}

fn names_too_long(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    for target in [
        format!("/{}", "n".repeat(256)),
        format!("/{}", "n".repeat(7000)),
        "/d".repeat(3500),
        format!("/{}hello.txt", "nothing/../".repeat(10)),
    ] {
        let expect = if target.ends_with("hello.txt") {
            200
        } else {
            404
        };
        assert_eq!(client.get(&target).status, expect);
    }
}

/// The entity tag, which has to be a strong one (RFC 9110 §8.8.3).
#[track_caller]
fn strong_tag(response: &Response) -> String {
    let tag = response.field("ETag").expect("ETag");
    let opaque = tag
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let opaque = opaque.unwrap_or_else(|| panic!("not a strong tag: {tag}"));
    assert!(
        !opaque.is_empty() && opaque.bytes().all(|byte| byte == b'!' || byte > b'"'),
        "{tag}"
    );
    tag.to_owned()
}

fn entity_tags(io: Io) {
    let (tree, server) = serve(io);
    tree.write("same.txt", HELLO);
    tree.write("large.bin", content(3, 1 << 20));
    for path in ["/hello.txt", "/large.bin", "/"] {
        let tag = strong_tag(&server.get(path));
        for _ in 0..4 {
            // From both workers, cold and cached.
            assert_eq!(strong_tag(&server.get(path)), tag);
        }
    }
    // Across a restart: clients keep their copies.
    let tag = strong_tag(&server.get("/hello.txt"));
    server.stop();
    let server = Server::serve(io, &tree.root(), &[]);
    assert_eq!(strong_tag(&server.get("/hello.txt")), tag);
}

/// A 304 has the fields that RFC 9110 §15.4.5 asks for, and none that describe a body it lacks.
#[track_caller]
fn check_not_modified(response: &Response, whole: &Response) {
    assert_eq!(response.status, 304);
    assert_eq!(response.field("ETag"), whole.field("ETag"));
    assert!(response.field("Date").is_some());
    assert_eq!(response.field("Content-Type"), None);
    assert_eq!(response.field("Content-Range"), None);
    let length = response.field("Content-Length");
    assert!(
        length.is_none() || length == whole.field("Content-Length"),
        "RFC 9110 §8.6: {length:?}"
    );
}

fn if_none_match(io: Io) {
    let (tree, server) = serve(io);
    tree.write("large.bin", content(4, 1 << 20));
    for path in ["/hello.txt", "/large.bin"] {
        let mut client = server.connect();
        let whole = client.get(path);
        let tag = strong_tag(&whole);
        let modified = whole.field("Last-Modified").unwrap();
        for (value, matches) in [
            (tag.clone(), true),
            (format!("\"x\", {tag}"), true),
            (format!("\"x\",W/{tag} , \"y\""), true),
            ("*".to_owned(), true),
            ("\"x\"".to_owned(), false),
            (tag.trim_matches('"').to_owned(), false),
            (String::new(), false),
        ] {
            let field = format!("If-None-Match: {value}");
            for method in ["GET", "HEAD"] {
                let response = client.ask(&request(method, path, &[&field]));
                match matches {
                    true => check_not_modified(&response, &whole),
                    false => assert_eq!(response.status, 200, "{field}"),
                }
            }
            // RFC 9110 §13.1.3: If-Modified-Since doesn't count beside it.
            let since = format!("If-Modified-Since: {modified}");
            let response = client.ask(&request("GET", path, &[&since, &field]));
            assert_eq!(response.status, if matches { 304 } else { 200 }, "{field}");
        }
    }
}

fn if_modified_since(io: Io) {
    let (tree, server) = serve(io);
    // A date that doesn't depend on today: 784,111,777 s after 1970.
    let modified = SystemTime::UNIX_EPOCH + Duration::new(784_111_777, 5_000_000);
    let file = std::fs::File::options()
        .append(true)
        .open(tree.path("hello.txt"))
        .unwrap();
    file.set_modified(modified).unwrap();
    let mut client = server.connect();
    let whole = client.get("/hello.txt");
    assert_eq!(
        whole.field("Last-Modified"),
        Some("Sun, 06 Nov 1994 08:49:37 GMT")
    );
    for (value, matches) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", true),
        ("Sun, 06 Nov 1994 08:49:38 GMT", true),
        ("Sunday, 06-Nov-94 08:49:37 GMT", true),
        ("Sun Nov  6 08:49:37 1994", true),
        ("Sun, 06 Nov 1994 08:49:36 GMT", false),
        ("Sat, 05 Nov 1994 08:49:37 GMT", false),
        ("yesterday", false),
        ("", false),
    ] {
        let field = format!("If-Modified-Since: {value}");
        for method in ["GET", "HEAD"] {
            let response = client.ask(&request(method, "/hello.txt", &[&field]));
            match matches {
                true => check_not_modified(&response, &whole),
                false => assert_eq!(response.status, 200, "{field}"),
            }
        }
    }
}

fn preconditions_that_fail(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let whole = client.get("/hello.txt");
    let tag = strong_tag(&whole);
    let modified = whole.field("Last-Modified").unwrap();
    for (field, expect) in [
        (format!("If-Match: {tag}"), 200),
        (format!("If-Match: \"x\", {tag}"), 200),
        ("If-Match: *".to_owned(), 200),
        ("If-Match: \"x\"".to_owned(), 412),
        // RFC 9110 §13.1.1: compared strongly.
        (format!("If-Match: W/{tag}"), 412),
        (format!("If-Unmodified-Since: {modified}"), 200),
        (
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            412,
        ),
        ("If-Unmodified-Since: yesterday".to_owned(), 200),
    ] {
        let response = client.ask(&request("GET", "/hello.txt", &[&field]));
        assert_eq!(response.status, expect, "{field}");
        assert_eq!(response.body == HELLO, expect == 200, "{field}");
    }
    // §13.2.1: not evaluated when the answer would be another error.
    assert_eq!(
        client
            .ask(&request("GET", "/nothing", &["If-Match: \"x\""]))
            .status,
        404
    );
}

/// What of `whole` a range has to give, if it isn't ignored.
enum Expect {
    Part(usize, usize),
    Whole,
    Unsatisfiable,
}

#[track_caller]
fn check_range(response: &Response, value: &str, whole: &[u8], expect: Expect) {
    let length = whole.len();
    match expect {
        Expect::Part(first, last) => {
            assert_eq!(response.status, 206, "{value}");
            let range = format!("bytes {first}-{last}/{length}");
            assert_eq!(response.field("Content-Range"), Some(&*range), "{value}");
            assert!(response.body == whole[first..=last], "{value}");
            strong_tag(response);
            assert!(response.field("Date").is_some());
        }
        Expect::Whole => {
            assert_eq!(
                (response.status, response.field("Content-Range")),
                (200, None),
                "{value}"
            );
            assert!(response.body == whole, "{value}");
        }
        Expect::Unsatisfiable => {
            assert_eq!(response.status, 416, "{value}");
            let range = format!("bytes */{length}");
            assert_eq!(response.field("Content-Range"), Some(&*range), "{value}");
        }
    }
}

fn ranges_of_a_small_file(io: Io) {
    use Expect::{Part, Unsatisfiable, Whole};
    let (tree, server) = serve(io);
    let whole = content(5, 1000);
    tree.write("thousand.bin", &whole);
    let mut client = server.connect();
    for (value, expect) in [
        ("bytes=0-0", Part(0, 0)),
        ("bytes=0-999", Part(0, 999)),
        ("bytes=0-", Part(0, 999)),
        ("bytes=1-1", Part(1, 1)),
        ("bytes=500-599", Part(500, 599)),
        ("bytes=999-999", Part(999, 999)),
        ("bytes=999-", Part(999, 999)),
        ("bytes=990-5000", Part(990, 999)),
        ("bytes=0-99999999999999999999999", Part(0, 999)),
        ("bytes=-1", Part(999, 999)),
        ("bytes=-1000", Part(0, 999)),
        ("bytes=-5000", Part(0, 999)),
        ("Bytes= 10-19 ", Part(10, 19)),
        ("bytes=1000-", Unsatisfiable),
        ("bytes=1000-1001", Unsatisfiable),
        ("bytes=99999999999999999999999-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        // RFC 9110 §14.2: what isn't a sound range of a known unit is ignored.
        ("bytes=5-2", Whole),
        ("bytes=", Whole),
        ("bytes=-", Whole),
        ("bytes=a-b", Whole),
        ("bytes=--1", Whole),
        ("bytes=1-2-3", Whole),
        ("lines=1-2", Whole),
        ("bytes 1-2", Whole),
        ("", Whole),
    ] {
        let field = format!("Range: {value}");
        let response = client.ask(&request("GET", "/thousand.bin", &[&field]));
        check_range(&response, value, &whole, expect);
        // §14.2: a range means something for GET only.
        let response = client.ask(&request("HEAD", "/thousand.bin", &[&field]));
        assert_eq!(
            (response.status, response.field("Content-Length")),
            (200, Some("1000")),
            "{value}"
        );
    }
}

fn ranges_of_a_large_file(io: Io) {
    let (tree, server) = serve(io);
    let length = (3 << 20) + 1;
    let whole = content(6, length);
    tree.write("large.bin", &whole);
    let mut client = server.connect();
    for (first, last) in [
        (0, 0),
        (0, length - 1),
        (length - 1, length - 1),
        (4095, 4096),
        (4096, 2 << 20),
        (1, length - 2),
        (length - 100_000, length - 1),
    ] {
        let value = format!("bytes={first}-{last}");
        let response = client.ask(&request("GET", "/large.bin", &[&format!("Range: {value}")]));
        check_range(&response, &value, &whole, Expect::Part(first, last));
    }
    let value = format!("bytes={length}-");
    let response = client.ask(&request("GET", "/large.bin", &[&format!("Range: {value}")]));
    check_range(&response, &value, &whole, Expect::Unsatisfiable);
}

fn ranges_of_an_empty_file(io: Io) {
    let (tree, server) = serve(io);
    tree.write("empty.bin", "");
    let mut client = server.connect();
    for value in ["bytes=0-", "bytes=0-0", "bytes=5-9", "bytes=-0"] {
        let response = client.ask(&request("GET", "/empty.bin", &[&format!("Range: {value}")]));
        check_range(&response, value, b"", Expect::Unsatisfiable);
    }
    // §14.1.2: satisfiable, but no Content-Range can tell of nothing.
    let response = client.ask(&request("GET", "/empty.bin", &["Range: bytes=-5"]));
    check_range(&response, "bytes=-5", b"", Expect::Whole);
}

fn if_range(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let tag = strong_tag(&client.get("/hello.txt"));
    for (value, applies) in [
        (tag.as_str(), true),
        ("\"x\"", false),
        (&format!("W/{tag}"), false),
        ("Sun, 06 Nov 1994 08:49:37 GMT", false),
        ("nonsense", false),
    ] {
        let fields = ["Range: bytes=1-3", &format!("If-Range: {value}")];
        let response = client.ask(&request("GET", "/hello.txt", &fields));
        let expect = if applies {
            Expect::Part(1, 3)
        } else {
            Expect::Whole
        };
        check_range(&response, value, HELLO, expect);
    }
    // RFC 9110 §13.2.2: If-None-Match comes first.
    let fields = ["Range: bytes=1-3", &format!("If-None-Match: {tag}")];
    assert_eq!(
        client.ask(&request("GET", "/hello.txt", &fields)).status,
        304
    );
}

/// A file that is replaced by one of the same size is seen soon, and tag, length and body always
/// belong together.
fn changes_are_seen(io: Io) {
    let (tree, server) = serve(io);
    for (name, length) in [("small.bin", 1000), ("large.bin", 1 << 20)] {
        let (path, on_disk) = (format!("/{name}"), tree.path(name));
        let (old, new) = (content(7, length), content(8, length));
        tree.write(name, &old);
        // Two files of a size that are written within one tick of the kernel's clock look alike.
        let file = std::fs::File::options().write(true).open(&on_disk).unwrap();
        let hour = Duration::from_secs(3600);
        file.set_modified(SystemTime::now() - hour).unwrap();
        let mut client = server.connect();
        let tag = strong_tag(&client.get(&path));
        tree.write("new.bin", &new);
        std::fs::rename(tree.path("new.bin"), &on_disk).unwrap();
        let new_tag = promptly("the new file is served", || {
            let response = client.get(&path);
            if response.body == old {
                assert_eq!(strong_tag(&response), tag);
                return None;
            }
            assert!(response.body == new, "neither the old nor the new file");
            assert_ne!(strong_tag(&response), tag);
            Some(strong_tag(&response))
        });
        // In place, by another length.
        tree.write(name, HELLO);
        eventually("the shorter file is served", || {
            let response = client.get(&path);
            let fresh = response.body == HELLO;
            // Between its being cut and its being written it is empty.
            let old = response.body.is_empty() || response.body == new;
            assert!(
                fresh || (old && (response.body.is_empty() || strong_tag(&response) == new_tag))
            );
            fresh.then_some(())
        });
    }
}

fn a_vanished_file(io: Io) {
    let (tree, server) = serve(io);
    let mut client = server.connect();
    assert_eq!(client.get("/later.txt").status, 404);
    assert_eq!(client.get("/hello.txt").status, 200);
    std::fs::remove_file(tree.path("hello.txt")).unwrap();
    tree.write("later.txt", "now");
    eventually("the file is gone", || {
        (client.get("/hello.txt").status == 404).then_some(())
    });
    eventually("the file is there", || {
        (client.get("/later.txt").status == 200).then_some(())
    });
}
