//! Sound requests in every shape: methods, forms of targets, framing, persistence, pipelining.

use std::time::Duration;

use crate::client::{Client, Response, request};
use crate::server::{Io, Server, on_every_driver};
use crate::tree::{HELLO, Tree, content};

on_every_driver!(
    a_get,
    a_head,
    options,
    methods_that_are_not_allowed,
    http_1_0,
    later_minor_versions,
    close_is_honoured,
    pipelining_in_one_write,
    pipelining_byte_by_byte,
    pipelined_errors_keep_their_order,
    every_split_of_a_request,
    bodies_are_read_and_ignored,
    expect_continue,
    what_is_refused_is_not_told_to_continue,
    forms_of_the_target,
    hosts,
    empty_lines_before_a_request,
    many_fields_and_long_values,
    lists_in_several_lines,
    fields_that_may_come_once_only,
    requests_per_connection,
    a_large_answer_in_a_pipeline,
);

fn serve(io: Io) -> (Tree, Server) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &[]);
    (tree, server)
}

#[track_caller]
fn check_hello(response: &Response) {
    assert_eq!(
        (response.status, &*response.body),
        (200, HELLO),
        "{response:?}"
    );
}

/// Seconds since 1970 of a date as RFC 9110 §5.6.7 wants it, read by rules of our own.
fn unix_seconds(date: &str) -> i64 {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<&str> = date.split([' ', ':']).collect();
    let [weekday, day, month, year, hour, minute, second, "GMT"] = words[..] else {
        panic!("not an IMF-fixdate: {date:?}");
    };
    assert_eq!(date.len(), 29, "{date:?}");
    let number = |word: &str| word.parse::<i64>().expect(word);
    let month = MONTHS.find(month).expect(month) as i64 / 3 + 1;
    let (y, m) = if month > 2 {
        (number(year), month - 3)
    } else {
        (number(year) - 1, month + 9)
    };
    // Days since the first of March of year 0, of which 1970-01-01 is day 719,468.
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + number(day) - 1 - 719_468;
    let expect = ["Thu,", "Fri,", "Sat,", "Sun,", "Mon,", "Tue,", "Wed,"][(days % 7) as usize];
    assert_eq!(weekday, expect, "{date:?}");
    days * 86_400 + number(hour) * 3600 + number(minute) * 60 + number(second)
}

fn a_get(io: Io) {
    let (tree, server) = serve(io);
    let mut client = server.connect();
    let response = client.get("/hello.txt");
    check_hello(&response);
    assert_eq!(response.version, "HTTP/1.1");
    assert_eq!(response.field("Content-Length"), Some("14"));
    assert_eq!(
        response.field("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
    assert!(!response.closes());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let date = unix_seconds(response.field("Date").expect("RFC 9110 §6.6.1: Date"));
    assert!((now.as_secs() as i64 - date).abs() <= 2, "{response:?}");
    let modified = std::fs::metadata(tree.path("hello.txt"))
        .unwrap()
        .modified()
        .unwrap();
    let modified = modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    assert_eq!(
        unix_seconds(response.field("Last-Modified").unwrap()),
        modified
    );
    // The same connection, and the cache, say the same.
    assert_eq!(
        client.get("/hello.txt").lasting_fields(),
        response.lasting_fields()
    );
    server.stop();
}

fn a_head(io: Io) {
    let (tree, server) = serve(io);
    tree.write("large.bin", content(1, 1 << 20));
    let mut client = server.connect();
    for path in ["/", "/hello.txt", "/large.bin", "/nothing"] {
        let get = client.get(path);
        // Pipelined, so that a body would be taken for the next answer.
        client.send(request("HEAD", path, &[]) + &request("HEAD", path, &[]));
        for _ in 0..2 {
            let head = client.response_to("HEAD");
            assert_eq!(head.status, get.status);
            assert_eq!(head.lasting_fields(), get.lasting_fields(), "{path}");
        }
    }
    check_hello(&client.get("/hello.txt"));
}

/// The methods that `Allow` lists.
#[track_caller]
fn check_allow(response: &Response) {
    let allow = response.field("Allow").expect("Allow");
    let mut methods: Vec<&str> = allow.split(',').map(str::trim).collect();
    methods.sort_unstable();
    assert_eq!(methods, ["GET", "HEAD", "OPTIONS"]);
}

fn options(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    for target in ["/hello.txt", "/", "*", "http://test"] {
        let response = client.ask(&request("OPTIONS", target, &[]));
        match response.status {
            // RFC 9110 §8.6: none in a 204.
            204 => assert_eq!(response.field("Content-Length"), None),
            status => assert_eq!(status, 200, "{target}"),
        }
        assert_eq!(response.body, b"");
        check_allow(&response);
    }
    check_hello(&client.get("/hello.txt"));
}

fn methods_that_are_not_allowed(io: Io) {
    let (tree, server) = serve(io);
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let mut client = server.connect();
        let response = client.ask(&request(method, "/hello.txt", &[]));
        assert_eq!(response.status, 405, "{method}");
        check_allow(&response);
    }
    // RFC 9110 §9.1: 501 when the method is unknown to the server, 405 when it is only not allowed.
    // Methods are case-sensitive.
    for (method, target) in [
        ("BREW", "/hello.txt"),
        ("get", "/hello.txt"),
        ("CONNECT", "a:80"),
    ] {
        let response = server.connect().ask(&request(method, target, &[]));
        assert!(
            [405, 501].contains(&response.status),
            "{method}: {response:?}"
        );
        assert_eq!(response.status == 405, response.field("Allow").is_some());
    }
    // What was refused with its body doesn't become the next request.
    let mut client = server.connect();
    let body = request("GET", "/hello.txt", &[]);
    let length = format!("Content-Length: {}", body.len());
    client.send(request("PUT", "/hello.txt", &[&length]) + &body + &request("GET", "/", &[]));
    let response = client.response();
    assert_eq!(response.status, 405);
    if response.closes() {
        client.expect_end();
    } else {
        let next = client.response();
        assert_eq!(
            (next.status, next.body),
            (200, std::fs::read(tree.path("index.html")).unwrap())
        );
    }
}

fn http_1_0(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    client.send("GET /hello.txt HTTP/1.0\r\n\r\n");
    let response = client.response();
    check_hello(&response);
    assert_ne!(response.field("Connection"), Some("keep-alive"));
    client.expect_end();

    let mut client = server.connect();
    for _ in 0..3 {
        client.send("GET /hello.txt HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let response = client.response();
        check_hello(&response);
        // RFC 9112 §9.3 and appendix C.2.2: said, because it isn't the default.
        let connection = response.field("Connection").expect("Connection");
        assert!(
            connection.eq_ignore_ascii_case("keep-alive"),
            "{connection}"
        );
    }
    client.send("HEAD /hello.txt HTTP/1.0\r\n\r\n");
    client.response_to("HEAD");
    client.expect_end();
}

/// RFC 9110 §2.5: answered as HTTP/1.1 is, in HTTP/1.1.
fn later_minor_versions(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    for minor in 2..10 {
        client.send(format!("GET /hello.txt HTTP/1.{minor}\r\nHost: a\r\n\r\n"));
        let response = client.response();
        check_hello(&response);
        assert_eq!((&*response.version, response.closes()), ("HTTP/1.1", false));
    }
}

fn close_is_honoured(io: Io) {
    let (_tree, server) = serve(io);
    for field in [
        "Connection: close",
        "Connection: foo, Close",
        "connection: keep-alive, close",
    ] {
        for path in ["/hello.txt", "/nothing"] {
            let mut client = server.connect();
            // What follows a request with `close` isn't answered (RFC 9112 §9.6).
            client.send(request("GET", path, &[field]) + &request("GET", "/hello.txt", &[]));
            assert!(client.response().closes(), "{field}");
            client.expect_end();
        }
    }
}

fn pipelining_in_one_write(io: Io) {
    let (tree, server) = serve(io);
    let paths: Vec<String> = (0..100)
        .map(|index| format!("/{}.bin", index % 7))
        .collect();
    for seed in 0..7 {
        tree.write(format!("{seed}.bin"), content(seed, 1000 * seed as usize));
    }
    let mut client = server.connect();
    client.send(
        paths
            .iter()
            .map(|path| request("GET", path, &[]))
            .collect::<String>(),
    );
    for index in 0..100 {
        let seed = index % 7;
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(
            response.body == content(seed, 1000 * seed as usize),
            "answer {index}"
        );
    }
    check_hello(&client.get("/hello.txt"));
}

fn pipelining_byte_by_byte(io: Io) {
    let (tree, server) = serve(io);
    let index = std::fs::read(tree.path("index.html")).unwrap();
    let mut client = server.connect();
    let two = request("GET", "/hello.txt", &["A: b"]) + &request("GET", "/", &[]);
    let text = two.repeat(10);
    for byte in text.as_bytes() {
        client.send([*byte]);
    }
    for _ in 0..10 {
        check_hello(&client.response());
        assert_eq!(client.response().body, index);
    }
}

fn pipelined_errors_keep_their_order(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let text = request("GET", "/hello.txt", &[])
        + &request("GET", "/nothing", &[])
        + &request("HEAD", "/nothing", &[])
        + &request("GET", "/hello.txt", &[])
        + "GET /bad HTTP/1.1\r\nA b\r\n\r\n"
        + &request("GET", "/hello.txt", &[]);
    client.send(text);
    check_hello(&client.response());
    assert_eq!(client.response().status, 404);
    assert_eq!(client.response_to("HEAD").status, 404);
    check_hello(&client.response());
    assert_eq!(client.response().status, 400);
    client.expect_end();
}

fn every_split_of_a_request(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--workers", "1"]);
    let (mut client, mut other) = (server.connect(), server.connect());
    let text = request("GET", "/hello.txt", &["Transfer-Encoding: chunked"])
        + "3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n";
    for at in 1..text.len() {
        let (first, second) = text.split_at(at);
        client.send(first);
        // The only worker takes things in turn: when this is answered, it has read the first part.
        check_hello(&other.get("/hello.txt"));
        client.send(second);
        check_hello(&client.response());
    }
}

fn bodies_are_read_and_ignored(io: Io) {
    let (_tree, server) = serve(io);
    let looks_like_a_request = request("GET", "/nothing", &[]);
    let sized = |body: &str| {
        request(
            "GET",
            "/hello.txt",
            &[&format!("Content-Length: {}", body.len())],
        ) + body
    };
    let chunked =
        |chunks: &str| request("GET", "/hello.txt", &["Transfer-Encoding: chunked"]) + chunks;
    let length = looks_like_a_request.len();
    let bodies = [
        sized("hello"),
        sized(&looks_like_a_request),
        sized(&"x".repeat(200_000)),
        request("GET", "/hello.txt", &["Content-Length: 0"]),
        chunked("0\r\n\r\n"),
        chunked(&format!(
            "{length:x}\r\n{looks_like_a_request}\r\n0\r\n\r\n"
        )),
        chunked("5;name=\"value\"\r\nhello\r\n00005\r\nhello\r\n0;x\r\nA: b\r\nHost: c\r\n\r\n"),
        chunked(&(format!("ffff\r\n{}\r\n", "x".repeat(0xffff)).repeat(4) + "0\r\n\r\n")),
        request("GET", "/hello.txt", &["transfer-encoding: CHUNKED"]) + "1\r\nx\r\n0\r\n\r\n",
    ];
    let mut client = server.connect();
    for body in &bodies {
        client.send(body);
        check_hello(&client.response());
    }
    // All at once: the bounds between them are found in one buffer as well.
    let mut client = server.connect();
    let mut sender = Client::over(client.stream().try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(bodies.concat()));
        for _ in &bodies {
            check_hello(&client.response());
        }
    });
}

fn expect_continue(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let fields = ["Content-Length: 5", "Expect: 100-continue"];
    for _ in 0..2 {
        client.send(request("GET", "/hello.txt", &fields));
        // RFC 9110 §10.1.1: it waits for this, and may wait for ever.
        let interim = client.response();
        assert_eq!(
            (interim.status, interim.field("Content-Length")),
            (100, None)
        );
        client.send("hello");
        check_hello(&client.response());
    }
    // RFC 9110 §10.1.1: ignored in HTTP/1.0, and without a body.
    let mut client = server.connect();
    client
        .send("GET /hello.txt HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    check_hello(&client.response());
    check_hello(
        &server
            .connect()
            .ask(&request("GET", "/hello.txt", &["Expect: 100-continue"])),
    );
}

/// RFC 9110 §10.1.1: the final status at once where it can be told from the head. Whether the body
/// follows is up to the client then, so the connection ends, and nothing behind is a request.
fn what_is_refused_is_not_told_to_continue(io: Io) {
    let (tree, server) = serve(io);
    tree.write("folder/index.html", "in the folder");
    tree.write("large.bin", content(5, 1 << 20));
    let body = request("GET", "/hello.txt", &[]);
    let length = format!("Content-Length: {}", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let bodies = [(&*length, &body), ("Transfer-Encoding: chunked", &chunked)];
    for (method, target, field, expect) in [
        ("PUT", "/hello.txt", "A: b", 405),
        ("GET", "/nothing", "A: b", 404),
        ("HEAD", "/nothing", "A: b", 404),
        ("GET", "/%00", "A: b", 400),
        ("GET", "/folder", "A: b", 301),
        ("GET", "/hello.txt", "If-Match: \"x\"", 412),
        ("GET", "/large.bin", "Range: bytes=1048576-", 416),
    ] {
        for (framing, body) in bodies {
            // Without waiting, as who gave up, and after the answer, as who doesn't look for it.
            for waits in [false, true] {
                let mut client = server.connect();
                client.send(request(
                    method,
                    target,
                    &["Expect: 100-continue", framing, field],
                ));
                if !waits {
                    client.send(body);
                }
                let response = client.response_to(method);
                assert_eq!(response.status, expect, "{method} {target} {framing}");
                assert!(response.closes(), "{method} {target} {framing}");
                if waits {
                    client.send(body);
                }
                client.finish_sending();
                client.expect_end();
            }
        }
    }
    server.expect_alive("/hello.txt", HELLO);
}

fn forms_of_the_target(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    for target in [
        "/hello.txt?query",
        "/hello.txt?a=/../b&c=%zz",
        "/./hello.txt",
        "/nothing/../hello.txt",
        "//hello.txt",
        "/%68ello%2Etxt",
        "/%2e/hello.txt",
        "http://test/hello.txt",
        "HTTP://TEST/hello.txt",
        "http://elsewhere:8080/hello.txt?a",
        "http://[::1]/nothing/../hello.txt",
    ] {
        let response = client.get(target);
        assert_eq!((response.status, &*response.body), (200, HELLO), "{target}");
    }
    for target in ["http://test", "http://test?a", "/hello.txt/..", "/."] {
        let response = client.get(target);
        assert_eq!(
            response.field("Content-Type"),
            Some("text/html; charset=utf-8"),
            "{target}"
        );
    }
}

fn hosts(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    for host in [
        "localhost",
        "example.com:80",
        "127.0.0.1",
        "[::1]:8080",
        "[fe80::1]",
        "a_b-c.d",
        "",
    ] {
        let text = format!("GET /hello.txt HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let response = client.ask(&text);
        assert_eq!(response.status, 200, "{host}");
    }
    let response = client.ask("GET /hello.txt HTTP/1.1\r\nhOST:a\r\n\r\n");
    check_hello(&response);
}

fn empty_lines_before_a_request(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    for _ in 0..3 {
        // RFC 9112 §2.2: at least one is ignored.
        client.send("\r\n");
        check_hello(&client.get("/hello.txt"));
    }
}

fn many_fields_and_long_values(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let names: Vec<String> = (0..50)
        .map(|index| format!("X-{index}: {}", "v".repeat(100)))
        .collect();
    let fields: Vec<&str> = names.iter().map(String::as_str).collect();
    check_hello(&client.ask(&request("GET", "/hello.txt", &fields)));
    // Larger than a receive buffer, within `head_bytes`.
    let long = format!("Cookie: {}", "c".repeat(15_000));
    check_hello(&client.ask(&request("GET", "/hello.txt", &[&long])));
    let target = format!("/hello.txt?{}", "q".repeat(8000));
    check_hello(&client.get(&target));
}

/// RFC 9110 §5.3: the lines of a list are one list.
fn lists_in_several_lines(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let tag = client.get("/hello.txt").field("ETag").unwrap().to_owned();
    let mut check = |name: &str, values: [&str; 3], expect: u16| {
        let lines = values.map(|value| format!("{name}: {value}"));
        let fields = ["A: b", &lines[0], &lines[1], "C: d", &lines[2]];
        let response = client.ask(&request("GET", "/hello.txt", &fields));
        assert_eq!(response.status, expect, "{lines:?}");
    };
    for values in [
        [&*tag, "\"x\"", "\"y\""],
        ["\"x\"", "\"y\"", &*tag],
        ["", "", &*tag],
    ] {
        check("If-None-Match", values, 304);
        check("If-Match", values, 200);
    }
    // None of them, and lists that are none.
    for values in [
        ["\"x\"", "\"y\"", "\"z\""],
        ["\"x\"", "nonsense", &*tag],
        ["*", "\"x\"", "\"y\""],
    ] {
        check("If-None-Match", values, 200);
        check("If-Match", values, 412);
    }
}

/// Their lines together are malformed, and so they are ignored, or refused where that is safer.
fn fields_that_may_come_once_only(io: Io) {
    let (_tree, server) = serve(io);
    let mut client = server.connect();
    let whole = client.get("/hello.txt");
    let tag = whole.field("ETag").unwrap();
    let modified = whole.field("Last-Modified").unwrap();
    let twice = |name: &str, value: &str| [format!("{name}: {value}"), format!("{name}: {value}")];
    for [one, other] in [
        // RFC 9110 §14.2: it isn't a list, and an invalid one may be ignored.
        twice("Range", "bytes=1-3"),
        // §13.1.3, §13.1.4: ignored when there is more than one.
        twice("If-Modified-Since", modified),
        twice("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ] {
        let response = client.ask(&request("GET", "/hello.txt", &[&one, &other]));
        check_hello(&response);
    }
    // §13.1.5: neither a tag nor a date, so it doesn't match.
    let [one, other] = twice("If-Range", tag);
    let fields = ["Range: bytes=1-3", &one];
    assert_eq!(
        client.ask(&request("GET", "/hello.txt", &fields)).status,
        206
    );
    let fields = ["Range: bytes=1-3", &one, &other];
    check_hello(&client.ask(&request("GET", "/hello.txt", &fields)));
}

fn requests_per_connection(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--requests-per-connection", "3"]);
    let mut client = server.connect();
    client.send(request("GET", "/hello.txt", &[]).repeat(5));
    for index in 1..=3 {
        let response = client.response();
        check_hello(&response);
        assert_eq!(response.closes(), index == 3);
    }
    client.expect_end();
}

/// More than the sockets' buffers hold is on its way while the next requests wait.
fn a_large_answer_in_a_pipeline(io: Io) {
    let (tree, server) = serve(io);
    let large = content(2, 10 << 20);
    tree.write("large.bin", &large);
    let mut client = server.connect();
    let three = request("GET", "/hello.txt", &[])
        + &request("GET", "/large.bin", &[])
        + &request("GET", "/hello.txt", &[]);
    client.send(three.repeat(2));
    for _ in 0..2 {
        check_hello(&client.response());
        assert!(client.response().body == large);
        check_hello(&client.response());
    }
    assert!(
        !client.is_answered_within(Duration::from_millis(20)),
        "more than was asked for"
    );
}
