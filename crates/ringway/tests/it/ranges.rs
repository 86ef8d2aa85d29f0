//! Several ranges in one answer, and ranges that mean harm.

use std::time::Duration;

use crate::client::{Client, Response, find, request};
use crate::server::{Io, Server, on_every_driver};
use crate::tree::{HELLO, Tree, content};

on_every_driver!(
    several_parts,
    several_parts_of_a_large_file,
    parts_that_overlap,
    too_many_parts,
    none_offered,
    several_parts_conditionally,
    several_parts_of_a_coding,
    parts_of_a_file_that_changes,
    preconditions_by_the_thousand,
);

/// First and last byte of each part, both included.
type Ranges = Vec<(usize, usize)>;

fn ask(client: &mut Client, path: &str, ranges: &str, fields: &[&str]) -> Response {
    let range = format!("Range: bytes={ranges}");
    client.ask(&request("GET", path, &[&[&*range], fields].concat()))
}

/// Reads a body by RFC 2046 and RFC 9110 §14.6: the ranges of its parts, whose bytes have to be
/// those of the file.
#[track_caller]
fn read_parts(response: &Response, whole: &[u8]) -> Ranges {
    assert_eq!(response.status, 206);
    assert_eq!(response.field("Content-Range"), None);
    let boundary = response.field("Content-Type").unwrap();
    let boundary = boundary
        .strip_prefix("multipart/byteranges; boundary=")
        .expect(boundary);
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = &response.body[..];
    let mut ranges = Ranges::new();
    assert_eq!(
        find(rest, delimiter.as_bytes()),
        Some(0),
        "nothing before the first"
    );
    loop {
        rest = &rest[delimiter.len()..];
        if rest == b"--\r\n" {
            return ranges;
        }
        let end = find(rest, b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let range = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("Content-Range: bytes "));
        let (range, length) = range.expect(head).split_once('/').unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(length, whole.len().to_string());
        assert!(
            head.contains("\r\nContent-Type: application/octet-stream"),
            "{head}"
        );
        rest = &rest[end + 4..];
        let (part, behind) = rest.split_at(last - first + 1);
        assert!(part == &whole[first..=last], "{first}-{last}");
        assert!(behind.starts_with(delimiter.as_bytes()));
        ranges.push((first, last));
        rest = behind;
    }
}

fn several_parts(io: Io) {
    let tree = Tree::new();
    let whole = content(1, 1000);
    tree.write("small.bin", &whole);
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for _ in 0..2 {
        for (ranges, expect) in [
            ("0-1,4-5", vec![(0, 1), (4, 5)]),
            ("0-0, -1", vec![(0, 0), (999, 999)]),
            // In the order of the request, as RFC 9110 §15.3.7.2 would have it.
            ("900-,0-9", vec![(900, 999), (0, 9)]),
            // What can't be satisfied is left out.
            ("0-1,5000-,7-8,-0", vec![(0, 1), (7, 8)]),
        ] {
            let response = ask(&mut client, "/small.bin", ranges, &[]);
            assert_eq!(read_parts(&response, &whole), expect, "{ranges}");
        }
        // One is left: RFC 9110 §15.3.7.2.
        let response = ask(&mut client, "/small.bin", "3-4,2000-", &[]);
        assert_eq!(response.field("Content-Range"), Some("bytes 3-4/1000"));
        assert_eq!(response.body, &whole[3..5]);
        let response = ask(&mut client, "/small.bin", "1000-,2000-3000", &[]);
        assert_eq!(response.status, 416);
        assert_eq!(response.field("Content-Range"), Some("bytes */1000"));
        for malformed in ["0-1,5-2", "0-1,x", "0-1,2-3,4", "0-1;2-3"] {
            let response = ask(&mut client, "/small.bin", malformed, &[]);
            assert_eq!(
                (response.status, response.body.len()),
                (200, 1000),
                "{malformed}"
            );
        }
    }
    // Ranges are of GET alone (RFC 9110 §14.2).
    let head = client.ask(&request("HEAD", "/small.bin", &["Range: bytes=0-1,4-5"]));
    assert_eq!(
        (head.status, head.field("Content-Length")),
        (200, Some("1000"))
    );
    server.stop();
}

/// Kept open, and opened for each request.
fn several_parts_of_a_large_file(io: Io) {
    let tree = Tree::new();
    let length = 5 << 20;
    let whole = content(2, length);
    tree.write("large.bin", &whole);
    for flags in [[].as_slice(), &["--cache-bytes", "0"]] {
        let server = Server::serve(io, &tree.root(), flags);
        let mut client = server.connect();
        for _ in 0..2 {
            let (middle, end) = (length / 2, length - 10);
            let ranges = format!("0-9,{middle}-{end},100-200000,-3");
            let expect = vec![
                (0, 9),
                (middle, end),
                (100, 200_000),
                (length - 3, length - 1),
            ];
            let response = ask(&mut client, "/large.bin", &ranges, &[]);
            assert_eq!(read_parts(&response, &whole), expect);
        }
        // One after the other on one connection, sent together.
        let one = request("GET", "/large.bin", &["Range: bytes=0-4,70000-70009"]);
        client.send(one.repeat(10) + &request("GET", "/hello.txt", &[]));
        for _ in 0..10 {
            let response = client.response();
            assert_eq!(read_parts(&response, &whole), [(0, 4), (70_000, 70_009)]);
        }
        assert_eq!(client.response().body, HELLO);
        server.stop();
    }
}

fn parts_that_overlap(io: Io) {
    let tree = Tree::new();
    let (small, large) = (content(3, 1000), content(4, 1 << 20));
    tree.write("small.bin", &small);
    tree.write("large.bin", &large);
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for (path, whole) in [("/small.bin", &small), ("/large.bin", &large)] {
        let response = ask(&mut client, path, "0-99,50-149,500-599,550-560", &[]);
        assert_eq!(read_parts(&response, whole), [(0, 149), (500, 599)]);
        // All of it over and over is never more than all of it once.
        for many in [
            "0-,".repeat(60),
            "0-999,".repeat(60),
            "-1000,0-,".repeat(30),
        ] {
            let response = ask(&mut client, path, &many, &[]);
            assert!(
                response.body.len() <= whole.len() + 10_000,
                "{}",
                response.body.len()
            );
        }
    }
    server.stop();
}

fn too_many_parts(io: Io) {
    let tree = Tree::new();
    let whole = content(5, 300 << 10);
    tree.write("large.bin", &whole);
    let server = Server::serve(io, &tree.root(), &["--ranges", "10"]);
    let mut client = server.connect();
    let list = |count: usize| {
        let ranges = (0..count).map(|index| format!("{}-{},", index * 10, index * 10 + 1));
        ranges.collect::<String>()
    };
    let response = ask(&mut client, "/large.bin", &list(10), &[]);
    assert_eq!(read_parts(&response, &whole).len(), 10);
    for count in [11, 100, 1000] {
        let response = ask(&mut client, "/large.bin", &list(count), &[]);
        assert_eq!((response.status, response.body.len()), (200, whole.len()));
    }
    // The attack of CVE-2011-3192 a hundred times over: no more than a hundred downloads.
    let before = (server.resident_kib(), server.cpu_time());
    let attack = (0..1300)
        .map(|last| format!("5-{last},"))
        .collect::<String>();
    for _ in 0..100 {
        let response = ask(&mut client, "/large.bin", &attack, &[]);
        assert_eq!(response.status, 200);
    }
    assert!(server.resident_kib() < before.0 + (8 << 10));
    assert!(server.cpu_time() - before.1 < Duration::from_secs(5));
    server.stop();
}

fn none_offered(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--ranges", "0"]);
    let mut client = server.connect();
    let response = ask(&mut client, "/hello.txt", "0-1", &[]);
    assert_eq!((response.status, &*response.body), (200, HELLO));
    assert_eq!(response.field("Accept-Ranges"), Some("none"));
}

fn several_parts_conditionally(io: Io) {
    let tree = Tree::new();
    let whole = content(6, 2000);
    tree.write("file.bin", &whole);
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    let tag = client.get("/file.bin").field("ETag").unwrap().to_owned();
    let mut ask = |field: &str| ask(&mut client, "/file.bin", "0-1,4-5", &[field]);
    let response = ask(&format!("If-Range: {tag}"));
    assert_eq!(read_parts(&response, &whole), [(0, 1), (4, 5)]);
    assert_eq!(response.field("ETag"), Some(&*tag));
    assert_eq!(ask("If-Range: \"other\"").status, 200);
    assert_eq!(ask(&format!("If-None-Match: {tag}")).status, 304);
    assert_eq!(ask("If-Match: \"other\"").status, 412);
    server.stop();
}

/// RFC 9110 doesn't say whether the coding would then be that of the parts or of the whole.
fn several_parts_of_a_coding(io: Io) {
    let tree = Tree::new();
    tree.write("page.html", "a line of text\n".repeat(500));
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    let response = ask(
        &mut client,
        "/page.html",
        "0-1,4-5",
        &["Accept-Encoding: gzip"],
    );
    assert_eq!(
        (response.status, response.field("Content-Encoding")),
        (200, Some("gzip"))
    );
    let response = ask(&mut client, "/page.html", "0-1,4-5", &[]);
    assert_eq!(response.status, 206);
    server.stop();
}

/// Whatever happens to the file, no byte is of another, and nothing is promised and then missing
/// without a cut.
fn parts_of_a_file_that_changes(io: Io) {
    let tree = Tree::new();
    let versions = [content(7, 1 << 20), content(8, 1 << 20)];
    tree.write("file.bin", &versions[0]);
    let server = Server::serve(io, &tree.root(), &[]);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for turn in 1..40 {
                tree.write("next.bin", &versions[turn % 2]);
                std::fs::rename(tree.path("next.bin"), tree.path("file.bin")).unwrap();
            }
        });
        let mut client = server.connect();
        while !writer.is_finished() {
            let response = ask(&mut client, "/file.bin", "0-9,500000-900000,-10", &[]);
            let is_of = |whole: &&Vec<u8>| find(&response.body, &whole[500_000..900_001]).is_some();
            let whole = versions.iter().find(is_of).expect("of one version");
            assert_eq!(read_parts(&response, whole).len(), 3);
        }
    });
    server.stop();
}

fn preconditions_by_the_thousand(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    let tag = client.get("/hello.txt").field("ETag").unwrap().to_owned();
    let others = "\"no\", W/\"neither\",".repeat(600);
    for (list, status) in [
        (format!("{others}{tag}"), 304),
        (format!("{tag},{others}"), 304),
        (others.clone(), 200),
        (",".repeat(8000), 200),
        ("\"".repeat(8000), 200),
        (format!("\"{}", "x".repeat(8000)), 200),
    ] {
        let field = format!("If-None-Match: {list}");
        assert_eq!(
            client.ask(&request("GET", "/hello.txt", &[&field])).status,
            status
        );
    }
    let field = format!("If-Match: {others}");
    assert_eq!(
        client.ask(&request("GET", "/hello.txt", &[&field])).status,
        412
    );
    let field = format!("If-Match: {others}{tag}");
    assert_eq!(
        client.ask(&request("GET", "/hello.txt", &[&field])).status,
        200
    );
    server.stop();
}
