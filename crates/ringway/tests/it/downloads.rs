//! Programs that people download with: in parts at once, again from where it broke off, compressed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::client::request;
use crate::peers;
use crate::server::{Io, Server, on_both_drivers};
use crate::slowness::thin_client;
use crate::tree::{Tree, content};

on_both_drivers!(
    sixteen_parts_at_once_by_aria2c,
    taken_up_again_by_wget,
    taken_up_again_by_curl,
    compressed_for_curl,
);

/// How long a peer may take.
const LONG: Duration = Duration::from_secs(60);

/// Of the file that is downloaded.
const LENGTH: usize = (40 << 20) + 12_345;

fn serve(io: Io) -> (Tree, Server) {
    let tree = Tree::new();
    tree.write("large.bin", content(11, LENGTH));
    let server = Server::serve(io, &tree.root(), &["--access-log", "-"]);
    (tree, server)
}

#[track_caller]
fn run(command: &mut Command) -> Vec<u8> {
    let output = peers::run(command, LONG);
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

#[track_caller]
fn expect_whole(path: &Path) {
    let fetched = std::fs::read(path).unwrap();
    assert_eq!(fetched.len(), LENGTH);
    assert!(fetched == content(11, LENGTH), "another content");
}

/// How many answers the access log has with this status.
fn count(log: &str, status: u16) -> usize {
    log.matches(&format!("\"GET /large.bin HTTP/1.1\" {status} "))
        .count()
}

fn sixteen_parts_at_once_by_aria2c(io: Io) {
    if !peers::has("aria2c") {
        return;
    }
    let (tree, server) = serve(io);
    let mut aria2c = Command::new("aria2c");
    aria2c.args([
        "--no-conf",
        "-x16",
        "-s16",
        "-k1M",
        "--file-allocation=none",
    ]);
    aria2c
        .arg("--dir")
        .arg(tree.outside())
        .args(["--out", "copy.bin"]);
    run(aria2c.arg(format!("http://{}/large.bin", server.address())));
    expect_whole(&tree.outside().join("copy.bin"));
    let log = server.stop().stdout;
    // The first connection may begin without a range.
    let parts = count(&log, 206);
    assert!(parts >= 15, "{parts} parts: {log}");
}

/// What a client has that stopped in the middle.
fn begin(server: &Server, path: &Path) {
    let mut client = thin_client(server);
    client.send(request("GET", "/large.bin", &[]));
    assert_eq!(client.head().status, 200);
    std::fs::write(path, client.take(5_000_001)).unwrap();
}

fn taken_up_again_by_wget(io: Io) {
    if !peers::has("wget") {
        return;
    }
    let (tree, server) = serve(io);
    let copy = tree.outside().join("large.bin");
    begin(&server, &copy);
    let mut wget = Command::new("wget");
    wget.args(["--no-verbose", "-c", "--directory-prefix"]);
    wget.arg(tree.outside());
    let url = format!("http://{}/large.bin", server.address());
    run(wget.arg(&url));
    expect_whole(&copy);
    // Once more: it is complete, and the server says so (416).
    let mut wget = Command::new("wget");
    wget.args(["--no-verbose", "-c", "--directory-prefix"]);
    run(wget.arg(tree.outside()).arg(&url));
    expect_whole(&copy);
    let log = server.stop().stdout;
    assert_eq!((count(&log, 206), count(&log, 416)), (1, 1), "{log}");
}

fn taken_up_again_by_curl(io: Io) {
    if !peers::has("curl") {
        return;
    }
    let (tree, server) = serve(io);
    let copy = tree.outside().join("copy.bin");
    begin(&server, &copy);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--continue-at", "-"]);
    curl.arg("--output").arg(&copy);
    run(curl.arg(format!("http://{}/large.bin", server.address())));
    expect_whole(&copy);
    assert_eq!(count(&server.stop().stdout, 206), 1);
}

/// Once from a file that lies there compressed, and once made.
fn compressed_for_curl(io: Io) {
    if !peers::has("curl") {
        return;
    }
    let tree = Tree::new();
    let source = "the same words again and again\n".repeat(5_000);
    tree.write("made.txt", &source);
    tree.write("there.txt", &source);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, source.as_bytes()).unwrap();
    tree.write("there.txt.gz", gzip.finish().unwrap());
    let server = Server::serve(
        io,
        &tree.root(),
        &["--precompressed", "gzip", "--compress", "gzip"],
    );
    for name in ["made.txt", "there.txt"] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--compressed"]);
        // What came over the wire, behind the content.
        curl.args(["--write-out", "%{size_download}"]);
        let output = run(curl.arg(format!("http://{}/{name}", server.address())));
        let output = String::from_utf8(output).unwrap();
        let size = output.strip_prefix(&*source).expect("the source, decoded");
        let size: usize = size.parse().unwrap();
        assert!(size < source.len() / 10, "{name}: {size} bytes");
    }
    server.stop();
}
