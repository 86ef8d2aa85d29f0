//! Bad input: a clear answer that can be read, an orderly close, nothing from outside the root.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::client::{Client, Response, find, request};
use crate::peers;
use crate::server::{Io, Server, on_both_drivers};
use crate::tree::{HELLO, Tree};

on_both_drivers!(
    heads,
    targets,
    bodies,
    limits,
    heads_that_never_end,
    unfinished_heads,
    refused_bodies_in_the_access_log,
    what_follows_an_error_is_not_read_as_a_request,
    answers_survive_what_is_still_sent,
    paths_out_of_the_root,
    symbolic_links,
    symbolic_links_denied,
    pipes_and_sockets,
    devices,
);

fn serve(io: Io, flags: &[&str]) -> (Tree, Server) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), flags);
    (tree, server)
}

/// Reads an error and the end of its connection.
#[track_caller]
fn refusal(client: &mut Client, name: &str) -> Response {
    let response = client.response();
    assert!(response.status >= 400, "{name}: {response:?}");
    assert!(response.field("Date").is_some(), "{name}");
    assert!(response.closes(), "{name}: RFC 9112 §9.6: {response:?}");
    match client.rest() {
        Ok(rest) if rest.is_empty() => response,
        other => panic!("{name}: not an orderly end: {other:?}"),
    }
}

/// Sends `input` and more behind it, and checks the status, the end, and that the server goes on.
#[track_caller]
fn check(server: &Server, input: impl AsRef<[u8]>, expect: u16) {
    let input = input.as_ref();
    let name = String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned();
    let mut client = server.connect();
    client.send(input);
    // A client that hasn't looked for an answer yet.
    for _ in 0..16 {
        if client.try_send([b'x'; 1024]).is_err() {
            break; // that the answer is lost by this shows below
        }
    }
    assert_eq!(refusal(&mut client, &name).status, expect, "{name:?}");
    server.expect_alive("/hello.txt", HELLO);
}

fn heads(io: Io) {
    let (_tree, server) = serve(io, &[]);
    let field = |field: &str| format!("GET /hello.txt HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    let bad_lines = [
        "GET /hello.txt HTTP/1.1\nHost: a\n\n",
        "GET /hello.txt HTTP/1.1\r\nHost: a\n\r\n",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt HTTP/1.1\rHost: a\r\r",
        "GET  /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/hello.txt\tHTTP/1.1\r\nHost: a\r\n\r\n",
        " GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt\r\nHost: a\r\n\r\n",
        "GET /hello.txt HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /hello world HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt HTTX/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt http/1.1\r\nHost: a\r\n\r\n",
        "GET /hello.txt HTTP/1.\r\nHost: a\r\n\r\n",
        "GET /hello.txt HTTP/1.10\r\nHost: a\r\n\r\n",
        "GET /hello.txt HTTP/2\r\nHost: a\r\n\r\n",
        "GET HTTP/1.1\r\nHost: a\r\n\r\n",
        "/hello.txt\r\n\r\n",
        "G(T /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello\0.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hello\x7f.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n\r\n\r\nGET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
        // A TLS client that has the wrong port.
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\r\n\r\n",
        // Host: RFC 9112 §3.2.
        "GET /hello.txt HTTP/1.1\r\n\r\n",
        "GET /hello.txt HTTP/1.1\r\nA: b\r\n\r\n",
    ];
    for line in bad_lines {
        check(&server, line, 400);
    }
    for bad in [
        "Host: a",
        "Host: b",
        "A: b\r\n c",
        "A: b\r\n\tc",
        "A : b",
        " A: b",
        ": b",
        "A",
        "A b",
        "A(: b",
        "A: \0",
        "A: b\x01c",
        "A: b\rc",
        "A: \x7f",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding:",
    ] {
        check(&server, field(bad), 400);
    }
    for host in [
        "a b",
        "a/b",
        "a@b",
        "a,b",
        "a:b:c",
        "[::1",
        "a:99999999",
        "a%41",
        "\u{fc}",
    ] {
        check(
            &server,
            format!("GET /hello.txt HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            400,
        );
    }
    // RFC 9112 §6.1: 501 for a coding that isn't known; chunked isn't in HTTP/1.0.
    for coding in ["gzip", "gzip, chunked", "identity", "x-unknown"] {
        check(&server, field(&format!("Transfer-Encoding: {coding}")), 501);
    }
    check(
        &server,
        "GET /hello.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    );
    check(
        &server,
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(100)),
        501,
    );
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/3.0"] {
        check(
            &server,
            format!("GET /hello.txt {version}\r\nHost: a\r\n\r\n"),
            505,
        );
    }
    check(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    for expectation in ["200-ok", "100-continue, x", ""] {
        let length = "Content-Length: 5\r\nExpect: ";
        check(&server, field(&format!("{length}{expectation}")), 417);
    }
    server.stop();
}

fn targets(io: Io) {
    let (_tree, server) = serve(io, &[]);
    for target in [
        "hello.txt",
        "*",
        "/%",
        "/%4",
        "/%zz",
        "/%4g",
        "/hello.txt%",
        "/hello.txt#fragment",
        "/hello.txt?a#b",
        "/%00",
        "/hello.txt%00",
        "/hello.txt%00.png",
        "ftp://test/hello.txt",
        "http://",
        "http:///hello.txt",
        "http://user@test/hello.txt",
        "http:/hello.txt",
        "test:80",
    ] {
        let status = answer_to(&server, target).status;
        assert_eq!(status, 400, "{target}");
    }
    server.expect_alive("/hello.txt", HELLO);
}

/// The answer to a GET for any target, after which the connection may or may not persist.
#[track_caller]
fn answer_to(server: &Server, target: &str) -> Response {
    server.connect().get(target)
}

fn bodies(io: Io) {
    let (_tree, server) = serve(io, &[]);
    let chunked =
        |chunks: &str| request("GET", "/hello.txt", &["Transfer-Encoding: chunked"]) + chunks;
    for chunks in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 1\r\na\r\n",
        "1\na\n0\n\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "11111111111111111\r\n",
        "1;\0\r\na\r\n",
        "1;a\nb\r\na\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\nA b\r\n\r\n",
        "0\r\nA : b\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\nA: \0\r\n\r\n",
        "0\r\n A: b\r\n\r\n",
    ] {
        check(&server, chunked(chunks), 400);
    }
    // Extensions are content that nobody counts, so they are bounded.
    check(
        &server,
        chunked(&format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(100_000))),
        400,
    );
    check(
        &server,
        chunked(&format!("0\r\n{}\r\n", "A: b\r\n".repeat(1000))),
        431,
    );
    check(
        &server,
        chunked(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(100_000))),
        431,
    );
    server.stop();
}

fn limits(io: Io) {
    let flags = [
        "--head-bytes",
        "2KiB",
        "--header-count",
        "8",
        "--target-bytes",
        "100",
    ];
    let flags = [&flags[..], &["--body-bytes", "1000"]].concat();
    let (_tree, server) = serve(io, &flags);
    let get = |target: &str, fields: &[String]| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        request("GET", target, &fields)
    };
    // The bound itself is allowed; `request` sends a Host field of its own.
    let at_bounds = [
        get(&format!("/hello.txt?{}", "q".repeat(89)), &[]),
        get("/hello.txt", &vec!["A: b".to_owned(); 7]),
        get("/hello.txt", &["Content-Length: 1000".to_owned()]) + &"x".repeat(1000),
        get("/hello.txt", &["Transfer-Encoding: chunked".to_owned()])
            + &format!("3e8\r\n{}\r\n0\r\n\r\n", "x".repeat(1000)),
    ];
    let base = get("/hello.txt", &["A: ".to_owned()]).len();
    let full = get("/hello.txt", &[format!("A: {}", "b".repeat(2048 - base))]);
    assert_eq!(full.len(), 2048);
    let mut client = server.connect();
    for text in at_bounds.iter().chain([&full]) {
        client.send(text);
        let response = client.response();
        assert_eq!((response.status, &*response.body), (200, HELLO), "{text:?}");
    }
    check(
        &server,
        get(&format!("/hello.txt?{}", "q".repeat(90)), &[]),
        414,
    );
    check(&server, get(&format!("/{}", "q".repeat(1000)), &[]), 414);
    check(&server, get("/hello.txt", &vec!["A: b".to_owned(); 8]), 431);
    check(
        &server,
        get("/hello.txt", &[format!("A: {}", "b".repeat(2049 - base))]),
        431,
    );
    check(
        &server,
        get("/hello.txt", &["Content-Length: 1001".to_owned()]),
        413,
    );
    check(
        &server,
        get(
            "/hello.txt",
            &["Content-Length: 18446744073709551615".to_owned()],
        ),
        413,
    );
    let chunked = get("/hello.txt", &["Transfer-Encoding: chunked".to_owned()]);
    check(&server, chunked.clone() + "3e9\r\n", 413);
    check(
        &server,
        chunked + &("64\r\n".to_owned() + &"x".repeat(100) + "\r\n").repeat(11),
        413,
    );
    // Refused before it is sent: no 100 for what won't be taken.
    let fields = [
        "Content-Length: 1001".to_owned(),
        "Expect: 100-continue".to_owned(),
    ];
    check(&server, get("/hello.txt", &fields), 413);
}

/// Heads that end nowhere are refused as soon as they are too long.
fn heads_that_never_end(io: Io) {
    let (_tree, server) = serve(io, &[]);
    for (start, rest, expect) in [
        ("GET /", "a", 414),
        ("GET / HTTP/1.1\r\nA: ", "b", 431),
        ("GET / HTTP/1.1\r\n", "A: b\r\n", 431),
        ("M", "M", 501),
    ] {
        check(
            &server,
            start.to_owned() + &rest.repeat(40_000 / rest.len()),
            expect,
        );
    }
}

fn unfinished_heads(io: Io) {
    let (_tree, server) = serve(
        io,
        &["--head-deadline", "200ms", "--body-stall-timeout", "200ms"],
    );
    for input in [
        "G",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\n",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut client = server.connect();
        client.send(input);
        assert_eq!(refusal(&mut client, input).status, 408, "{input:?}");
    }
    // After an answer as well.
    let mut client = server.connect();
    assert_eq!(client.get("/hello.txt").status, 200);
    client.send("GET /hello.txt HT");
    assert_eq!(refusal(&mut client, "the second").status, 408);
    // A head or a body that ends in the middle isn't answered as if it were whole.
    for input in [
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
    ] {
        let mut client = server.connect();
        client.send(input);
        client.finish_sending();
        let rest = client.rest().unwrap();
        assert!(
            !rest.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&rest)
        );
    }
    server.expect_alive("/hello.txt", HELLO);
}

/// A request whose body is refused is logged as the request that it is, not as none.
fn refused_bodies_in_the_access_log(io: Io) {
    let flags = ["--access-log", "-", "--body-stall-timeout", "100ms"];
    let (_tree, server) = serve(io, &flags);
    let cases = [
        ("/large", "Content-Length: 99999999\r\n\r\n", 413),
        ("/slow", "Content-Length: 5\r\n\r\nhell", 408),
        ("/bad", "Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    ];
    for (target, rest, status) in cases {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{rest}"));
        assert_eq!(refusal(&mut client, target).status, status);
    }
    let output = server.stop().stdout;
    for (target, _, status) in cases {
        let line = format!("\"GET {target} HTTP/1.1\" {status} ");
        assert_eq!(output.matches(&line).count(), 1, "{line} in {output}");
    }
}

fn what_follows_an_error_is_not_read_as_a_request(io: Io) {
    let (_tree, server) = serve(io, &[]);
    for bad in [
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /hello.txt HTTP/1.1\r\n\r\n",
        "GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(bad.to_owned() + &request("GET", "/hello.txt", &[]).repeat(3));
        refusal(&mut client, bad);
    }
}

/// A client that has much under way when it is refused still reads the answer: closing with
/// unread bytes would make the kernel send a reset, which destroys it (RFC 9112 §9.6).
fn answers_survive_what_is_still_sent(io: Io) {
    let (_tree, server) = serve(io, &["--body-bytes", "100"]);
    for _ in 0..5 {
        let mut client = server.connect();
        client.send(request("POST", "/", &["Content-Length: 100000000"]));
        let mut sender = Client::over(client.stream().try_clone().unwrap());
        std::thread::scope(|scope| {
            // Within `linger_bytes`, and only half of it before the answer may be read.
            let (half_sent, half) = std::sync::mpsc::channel();
            scope.spawn(move || {
                sender.send(vec![b'x'; 100_000]);
                half_sent.send(()).unwrap();
                sender.send(vec![b'x'; 100_000]);
            });
            half.recv().unwrap();
            let response = client.response();
            assert_eq!(response.status, 413);
        });
        client.finish_sending();
        client.expect_end();
    }
    // Who goes on for ever is cut.
    let mut client = server.connect();
    client.send(request("POST", "/", &["Content-Length: 100000000"]));
    let mut sent = 0;
    while client.try_send(vec![b'x'; 64 << 10]).is_ok() {
        sent += 64 << 10;
        assert!(sent < 80 << 20, "never cut");
    }
    server.expect_alive("/hello.txt", HELLO);
}

/// What lies outside of the root and must never be seen.
const SECRET: &[u8] = b"root:x:0:0 the secret";

#[track_caller]
fn check_kept_secret(response: &Response, name: &str) {
    assert!(
        [400, 403, 404].contains(&response.status),
        "{name}: {response:?}"
    );
    assert_eq!(
        find(&response.body, b"secret").or(find(&response.body, b"root:")),
        None,
        "{name}"
    );
}

fn paths_out_of_the_root(io: Io) {
    let tree = Tree::new();
    std::fs::write(tree.outside().join("secret.txt"), SECRET).unwrap();
    tree.write("folder/file.txt", "inside");
    let server = Server::serve(io, &tree.root(), &["--show-dotfiles"]);
    let outside = tree.outside().to_str().unwrap();
    let dots = [
        "..",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e%252e",
        "..;",
        "..%00",
        "%c0%ae%c0%ae",
        "%uff0e%uff0e",
        "....",
    ];
    let slashes = ["/", "%2f", "\\", "%5c", "%252f", "%c0%af", "//", "/./"];
    let mut targets = Vec::new();
    for dots in dots {
        for slash in slashes {
            targets.push(format!("/{dots}{slash}secret.txt"));
            targets.push(format!("/folder/{dots}{slash}{dots}{slash}secret.txt"));
            targets.push(format!(
                "/{}etc{slash}passwd",
                format!("{dots}{slash}").repeat(12)
            ));
            targets.push(format!("http://test/{dots}{slash}secret.txt"));
        }
        targets.push(format!("/{dots}"));
        targets.push(format!("/folder/{dots}/{dots}"));
    }
    targets.push(format!("/{outside}/secret.txt"));
    targets.push(format!("//{outside}/secret.txt"));
    targets.push(format!("http://test/{outside}/secret.txt"));
    targets.extend(["/etc/passwd", "//etc/passwd", "/proc/self/environ"].map(str::to_owned));
    for target in &targets {
        check_kept_secret(&answer_to(&server, target), target);
    }
    // They are dots only where a segment has nothing else.
    assert_eq!(server.get("/folder/../folder/file.txt").body, b"inside");
    server.expect_alive("/hello.txt", HELLO);
}

fn link_tree() -> Tree {
    let tree = Tree::new();
    std::fs::write(tree.outside().join("secret.txt"), SECRET).unwrap();
    tree.write("folder/file.txt", "inside");
    for (target, link) in [
        ("../secret.txt", "up.txt"),
        ("../../secret.txt", "folder/up.txt"),
        (
            tree.outside().join("secret.txt").to_str().unwrap(),
            "absolute.txt",
        ),
        ("/etc/passwd", "passwd"),
        ("..", "parent"),
        ("/", "slash"),
        ("up.txt", "twice.txt"),
        ("folder/../../root/../secret.txt", "crooked.txt"),
        ("/proc/self/root/etc/passwd", "magic"),
        ("/proc/self/cwd", "cwd"),
        ("loop", "loop"),
        ("nowhere", "dangling"),
        ("hello.txt", "inside.txt"),
        ("../hello.txt", "folder/inside.txt"),
        ("folder", "inside"),
    ] {
        symlink(target, tree.path(link)).unwrap();
    }
    tree
}

const LINKS_OUT: [&str; 14] = [
    "/up.txt",
    "/folder/up.txt",
    "/absolute.txt",
    "/passwd",
    "/parent/secret.txt",
    "/parent/",
    "/slash/etc/passwd",
    "/twice.txt",
    "/crooked.txt",
    "/magic",
    "/cwd/Cargo.toml",
    "/loop",
    "/dangling",
    "/inside/../parent/secret.txt",
];

fn symbolic_links(io: Io) {
    let tree = link_tree();
    let server = Server::serve(io, &tree.root(), &[]);
    for target in LINKS_OUT {
        check_kept_secret(&answer_to(&server, target), target);
    }
    for target in ["/inside.txt", "/folder/inside.txt"] {
        server.expect_alive(target, HELLO);
    }
    server.expect_alive("/inside/file.txt", b"inside");
}

fn symbolic_links_denied(io: Io) {
    let tree = link_tree();
    let server = Server::serve(io, &tree.root(), &["--symlinks", "deny"]);
    for target in LINKS_OUT {
        check_kept_secret(&answer_to(&server, target), target);
    }
    for target in [
        "/inside.txt",
        "/folder/inside.txt",
        "/inside/file.txt",
        "/inside",
        "/inside/",
    ] {
        assert_eq!(answer_to(&server, target).status, 404, "{target}");
    }
    server.expect_alive("/hello.txt", HELLO);
}

/// Checks that nothing of a special file is sent, and that nobody waits for it.
#[track_caller]
fn check_special(server: &Server, target: &str) {
    for method in ["GET", "HEAD"] {
        let response = server.connect().ask(&request(method, target, &[]));
        assert!(
            [403, 404].contains(&response.status),
            "{method} {target}: {response:?}"
        );
    }
}

fn pipes_and_sockets(io: Io) {
    let tree = Tree::new();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, tree.path("pipe"), FileType::Fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    symlink("pipe", tree.path("link")).unwrap();
    let server = Server::serve(io, &tree.root(), &[]);
    // More often than there are threads that could be stuck in an open.
    for _ in 0..20 {
        for target in ["/pipe", "/socket", "/link"] {
            check_special(&server, target);
        }
    }
    server.expect_alive("/hello.txt", HELLO);
    // A writer finds no reader, and its bytes go nowhere.
    let writer = rustix::fs::open(
        tree.path("pipe"),
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK,
        Mode::empty(),
    );
    assert_eq!(writer.unwrap_err(), rustix::io::Errno::NXIO);
    server.stop();
}

fn devices(io: Io) {
    if !peers::is_root() {
        return;
    }
    let tree = Tree::new();
    let mode = Mode::RUSR | Mode::ROTH;
    for (name, kind, major, minor) in [
        ("null", FileType::CharacterDevice, 1, 3),
        ("zero", FileType::CharacterDevice, 1, 5),
        ("tty", FileType::CharacterDevice, 5, 0),
        ("loop0", FileType::BlockDevice, 7, 0),
    ] {
        if mknodat(CWD, tree.path(name), kind, mode, makedev(major, minor)).is_err() {
            return peers::skip("this root may not make device files");
        }
    }
    let server = Server::serve(io, &tree.root(), &[]);
    for target in ["/null", "/zero", "/tty", "/loop0"] {
        check_special(&server, target);
        assert!(
            server.cpu_time() < Duration::from_secs(5),
            "it reads from {target}"
        );
    }
    server.expect_alive("/hello.txt", HELLO);
}
