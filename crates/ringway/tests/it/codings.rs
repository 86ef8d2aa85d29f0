//! Content codings: files that lie there precompressed, files that are compressed when they are
//! asked for, and which of them a client gets.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use crate::client::{Client, Response, request};
use crate::server::{Io, Server, eventually, on_every_driver};
use crate::tree::{Tree, content};

on_every_driver!(
    precompressed_by_weight,
    precompressed_in_another_order,
    precompressed_at_any_size,
    precompressed_turned_off,
    parts_and_conditions_of_a_coding,
    siblings_by_their_own_names,
    outdated_siblings,
    siblings_that_come_and_go,
    siblings_that_are_no_files,
    compressed_when_asked_for,
    compressed_at_any_size,
    what_is_not_compressed,
    compressed_under_load,
);

const SOURCE: &[u8] = b"console.log('the source');\n";
const CODINGS: [(&str, &str); 3] = [("zstd", "zst"), ("br", "br"), ("gzip", "gz")];

/// What lies in the file of a coding: nobody looks whether it is compressed.
fn sibling(extension: &str) -> Vec<u8> {
    format!("in place of {extension}").into_bytes()
}

fn tree() -> Tree {
    let tree = Tree::new();
    tree.write("app.js", SOURCE);
    for (_, extension) in CODINGS {
        tree.write(format!("app.js.{extension}"), sibling(extension));
    }
    tree
}

fn ask(client: &mut Client, path: &str, accept: &str) -> Response {
    client.ask(&request(
        "GET",
        path,
        &[&format!("Accept-Encoding: {accept}")],
    ))
}

/// The file name's ending of the coding that `accept` gets, twice: at first and from the cache.
#[track_caller]
fn check_choice(client: &mut Client, accept: &str, expect: &str) {
    let coding = CODINGS.iter().find(|(_, extension)| *extension == expect);
    let body = coding.map_or(SOURCE.to_vec(), |(_, extension)| sibling(extension));
    for _ in 0..2 {
        let response = ask(client, "/app.js", accept);
        assert_eq!(response.status, 200, "{accept:?}");
        assert_eq!(
            response.field("Content-Encoding"),
            coding.map(|(name, _)| *name),
            "{accept:?}"
        );
        assert_eq!(response.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(
            response.field("Content-Type"),
            Some("text/javascript; charset=utf-8")
        );
        assert_eq!(response.body, body, "{accept:?}");
        let line = format!("Accept-Encoding: {accept}");
        let head = client.ask(&request("HEAD", "/app.js", &[&line]));
        assert_eq!(head.lasting_fields(), response.lasting_fields());
    }
}

fn precompressed_by_weight(io: Io) {
    let tree = tree();
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for (accept, expect) in [
        ("gzip, deflate, br, zstd", "zst"),
        ("gzip", "gz"),
        ("GZip", "gz"),
        ("x-gzip", "gz"),
        ("br;q=0.5, gzip", "gz"),
        ("gzip;q=0.5, br;q=0.8", "br"),
        ("gzip ; q=0.001", "gz"),
        ("*", "zst"),
        ("zstd;q=0, *", "br"),
        ("*;q=0.1, gzip;q=0.5", "gz"),
        ("identity;q=0, gzip;q=0.1", "gz"),
        ("gzip;q=0.5, identity;q=0.6", ""),
        ("identity", ""),
        ("identity, gzip;q=0", ""),
        ("deflate, compress", ""),
        ("zstd;q=0, br;q=0, gzip;q=0", ""),
        ("", ""),
    ] {
        check_choice(&mut client, accept, expect);
    }
    // Two lines are one list.
    let two = ["Accept-Encoding: gzip;q=0.2", "Accept-Encoding: br"];
    let response = client.ask(&request("GET", "/app.js", &two));
    assert_eq!(response.field("Content-Encoding"), Some("br"));
    // Without the field: as it is.
    let plain = client.get("/app.js");
    assert_eq!(plain.field("Vary"), Some("Accept-Encoding"));
    assert_eq!(
        (plain.field("Content-Encoding"), plain.body.clone()),
        (None, SOURCE.to_vec())
    );
    // RFC 9110 §12.5.3: nothing that there is suits.
    for accept in ["identity;q=0", "*;q=0", "identity;q=0, compress"] {
        assert_eq!(ask(&mut client, "/app.js", accept).status, 406, "{accept}");
    }
    // A file that there is one representation of isn't negotiated (RFC 9110 §12.4.1).
    for accept in ["identity;q=0", "*;q=0", "gzip"] {
        let response = ask(&mut client, "/hello.txt", accept);
        assert_eq!(
            (response.status, response.field("Vary")),
            (200, None),
            "{accept}"
        );
    }
    server.stop();
}

fn precompressed_in_another_order(io: Io) {
    let tree = tree();
    let server = Server::serve(io, &tree.root(), &["--precompressed", "gzip,br"]);
    let mut client = server.connect();
    check_choice(&mut client, "zstd, br, gzip", "gz");
    check_choice(&mut client, "br", "br");
    check_choice(&mut client, "zstd", "");
}

fn precompressed_turned_off(io: Io) {
    let tree = tree();
    let server = Server::serve(io, &tree.root(), &["--precompressed", ""]);
    let response = ask(&mut server.connect(), "/app.js", "gzip, br, zstd");
    assert_eq!(response.body, SOURCE);
    assert_eq!(
        (response.field("Content-Encoding"), response.field("Vary")),
        (None, None)
    );
}

/// From memory, from open files, and opened for each request.
fn precompressed_at_any_size(io: Io) {
    let tree = Tree::new();
    let (large, small) = (content(1, 1 << 20), content(2, 300 << 10));
    tree.write("large.bin", &large);
    tree.write("large.bin.zst", &small);
    tree.write("large.bin.gz", &small[..1000]);
    for flags in [
        &[][..],
        &["--cache-bytes", "0"],
        &["--cache-descriptors", "0"],
    ] {
        let server = Server::serve(io, &tree.root(), flags);
        let mut client = server.connect();
        for _ in 0..3 {
            assert!(ask(&mut client, "/large.bin", "zstd").body == small);
            assert!(ask(&mut client, "/large.bin", "gzip").body == small[..1000]);
            assert!(client.get("/large.bin").body == large);
        }
    }
}

/// RFC 9110 §14.1.2, §8.8.3.3: of the coded bytes, under a tag of their own.
fn parts_and_conditions_of_a_coding(io: Io) {
    let tree = tree();
    tree.write("text.txt", "a line of text\n".repeat(1000));
    for (path, accept) in [
        ("/app.js", "gzip"),
        ("/app.js", "zstd"),
        ("/text.txt", "br"),
    ] {
        let server = Server::serve(io, &tree.root(), &[]);
        let mut client = server.connect();
        let whole = ask(&mut client, path, accept);
        assert_eq!(whole.field("Content-Encoding"), Some(accept));
        let (tag, length) = (whole.field("ETag").unwrap(), whole.body.len());
        assert!(!tag.starts_with("W/"), "{tag}");
        let plain = client.get(path).field("ETag").unwrap().to_owned();
        assert_ne!(tag, plain);
        let mut ask = |fields: &[&str]| {
            let accept = format!("Accept-Encoding: {accept}");
            client.ask(&request("GET", path, &[&[&*accept], fields].concat()))
        };
        let part = ask(&["Range: bytes=2-5"]);
        assert_eq!((part.status, &*part.body), (206, &whole.body[2..6]));
        assert_eq!(
            part.field("Content-Range"),
            Some(&*format!("bytes 2-5/{length}"))
        );
        assert_eq!(part.field("Content-Encoding"), Some(accept));
        assert_eq!(part.field("Vary"), Some("Accept-Encoding"));
        let part = ask(&["Range: bytes=-3", &format!("If-Range: {tag}")]);
        assert_eq!((part.status, &*part.body), (206, &whole.body[length - 3..]));
        let other = ask(&["Range: bytes=-3", &format!("If-Range: {plain}")]);
        assert_eq!((other.status, other.body.len()), (200, length));
        let beyond = ask(&[&format!("Range: bytes={length}-")]);
        assert_eq!(beyond.status, 416);
        assert_eq!(
            beyond.field("Content-Range"),
            Some(&*format!("bytes */{length}"))
        );
        let same = ask(&[&format!("If-None-Match: {tag}")]);
        assert_eq!((same.status, same.field("ETag")), (304, Some(tag)));
        assert_eq!(same.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(ask(&[&format!("If-None-Match: {plain}")]).status, 200);
        assert_eq!(ask(&[&format!("If-Match: {plain}")]).status, 412);
        assert_eq!(ask(&[&format!("If-Match: {tag}")]).status, 200);
        server.stop();
    }
}

fn siblings_by_their_own_names(io: Io) {
    let tree = tree();
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for (name, media_type) in [
        ("app.js.gz", "application/gzip"),
        ("app.js.zst", "application/zstd"),
        ("app.js.br", "application/octet-stream"),
    ] {
        let response = ask(&mut client, &format!("/{name}"), "gzip, br, zstd");
        assert_eq!(response.field("Content-Type"), Some(media_type), "{name}");
        assert_eq!(response.field("Content-Encoding"), None);
        assert_eq!(response.body, sibling(name.rsplit('.').next().unwrap()));
    }
}

fn set_modified(tree: &Tree, name: &str, ago: Duration) {
    let options = std::fs::OpenOptions::new()
        .write(true)
        .open(tree.path(name));
    options
        .unwrap()
        .set_modified(SystemTime::now() - ago)
        .unwrap();
}

/// A sibling that is older than its source holds something else; the log says so, once.
fn outdated_siblings(io: Io) {
    let tree = tree();
    set_modified(&tree, "app.js", Duration::from_secs(10));
    set_modified(&tree, "app.js.gz", Duration::from_secs(11));
    set_modified(&tree, "app.js.br", Duration::from_secs(10));
    let server = Server::serve(io, &tree.root(), &["--precompressed", "gzip,br"]);
    for _ in 0..3 {
        let mut client = server.connect();
        check_choice(&mut client, "gzip, br", "br");
        check_choice(&mut client, "gzip", "");
    }
    eventually("it is told", || {
        server.errors().contains("app.js.gz").then_some(())
    });
    let errors = server.stop().stderr;
    assert_eq!(
        errors.matches("older than its source").count(),
        1,
        "{errors}"
    );
}

fn siblings_that_come_and_go(io: Io) {
    let tree = Tree::new();
    tree.write("app.js", SOURCE);
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    assert_eq!(ask(&mut client, "/app.js", "gzip").body, SOURCE);
    tree.write("app.js.gz", sibling("gz"));
    eventually("the sibling is served", || {
        let body = ask(&mut client, "/app.js", "gzip").body;
        (body == sibling("gz")).then_some(())
    });
    tree.write("app.js.gz", "another one");
    eventually("its successor is served", || {
        let body = ask(&mut client, "/app.js", "gzip").body;
        (body == b"another one").then_some(())
    });
    std::fs::remove_file(tree.path("app.js.gz")).unwrap();
    eventually("the source is served", || {
        let response = ask(&mut client, "/app.js", "gzip");
        (response.body == SOURCE && response.field("Content-Encoding").is_none()).then_some(())
    });
    server.stop();
}

/// Nothing of another kind, and nothing outside of the root, is taken for a sibling.
fn siblings_that_are_no_files(io: Io) {
    let tree = Tree::new();
    tree.write("app.js", SOURCE);
    std::fs::create_dir(tree.path("app.js.zst")).unwrap();
    std::fs::write(tree.outside().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", tree.path("app.js.br")).unwrap();
    std::os::unix::fs::symlink("app.js.gz", tree.path("app.js.gz")).unwrap();
    let server = Server::serve(io, &tree.root(), &[]);
    let response = ask(&mut server.connect(), "/app.js", "gzip, br, zstd");
    assert_eq!((response.status, &*response.body), (200, SOURCE));
}

fn decode(response: &Response) -> Vec<u8> {
    let mut body = Vec::new();
    let coded = &*response.body;
    match response.field("Content-Encoding") {
        None => return response.body.clone(),
        Some("gzip") => flate2::read::GzDecoder::new(coded)
            .read_to_end(&mut body)
            .unwrap(),
        Some("br") => brotli::Decompressor::new(coded, 4096)
            .read_to_end(&mut body)
            .unwrap(),
        Some("zstd") => zstd::Decoder::new(coded)
            .unwrap()
            .read_to_end(&mut body)
            .unwrap(),
        Some(other) => panic!("nobody asked for {other}"),
    };
    body
}

/// Text of about so many bytes, which compresses, and differs by its seed.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = content(seed, length / 12);
    let words = words.iter().map(|byte| format!("word number {byte}\n"));
    let mut text = words.collect::<String>().into_bytes();
    text.truncate(length);
    text
}

fn compressed_when_asked_for(io: Io) {
    let tree = Tree::new();
    let source = text(1, 20_000);
    tree.write("page.html", &source);
    tree.write("page.html.br", "lies there");
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    let mut tags = vec![client.get("/page.html").field("ETag").unwrap().to_owned()];
    for coding in ["gzip", "zstd"] {
        let first = ask(&mut client, "/page.html", coding);
        // Whoever asks first gets it already.
        assert_eq!(first.field("Content-Encoding"), Some(coding));
        assert_eq!(first.field("Vary"), Some("Accept-Encoding"));
        assert_eq!(
            first.field("Content-Type"),
            Some("text/html; charset=utf-8")
        );
        assert!(first.body.len() < source.len() / 2);
        assert!(decode(&first) == source);
        for _ in 0..3 {
            let again = ask(&mut server.connect(), "/page.html", coding);
            assert_eq!(again.lasting_fields(), first.lasting_fields());
            assert!(again.body == first.body);
        }
        tags.push(first.field("ETag").unwrap().to_owned());
    }
    // What lies there goes before what would have to be made.
    let response = ask(&mut client, "/page.html", "gzip, zstd, br");
    assert_eq!(response.body, b"lies there");
    tags.push(response.field("ETag").unwrap().to_owned());
    let distinct: std::collections::HashSet<_> = tags.iter().collect();
    assert_eq!(distinct.len(), 4, "{tags:?}");
    // Another version is compressed anew.
    tree.write("page.html", text(2, 20_000));
    eventually("the new version is served", || {
        (decode(&ask(&mut client, "/page.html", "gzip")) == text(2, 20_000)).then_some(())
    });
    server.stop();
}

/// Around the bounds of what is kept in memory, and of what is compressed.
fn compressed_at_any_size(io: Io) {
    let tree = Tree::new();
    let sizes = [
        1023,
        1024,
        262_144,
        262_145,
        999_999,
        1 << 20,
        (1 << 20) + 1,
    ];
    for size in sizes {
        tree.write(format!("{size}.css"), text(size as u64, size));
    }
    let flags = ["--compress-file-bytes", "1MiB", "--compress", "gzip,br"];
    let server = Server::serve(io, &tree.root(), &flags);
    let mut client = server.connect();
    for size in sizes {
        for coding in ["gzip", "br"] {
            let response = ask(&mut client, &format!("/{size}.css"), coding);
            let is_within = (1024..=1 << 20).contains(&size);
            let expect = is_within.then_some(coding);
            assert_eq!(response.field("Content-Encoding"), expect, "{size}");
            assert!(decode(&response) == text(size as u64, size), "{size}");
        }
        let response = ask(&mut client, &format!("/{size}.css"), "zstd");
        assert_eq!(response.field("Content-Encoding"), None);
    }
    server.stop();
}

fn what_is_not_compressed(io: Io) {
    let tree = Tree::new();
    for name in [
        "image.png",
        "film.mp4",
        "archive.zip",
        "font.woff2",
        "bytes",
    ] {
        tree.write(name, text(1, 5000));
    }
    // Text by its name, but not compressible: not made larger.
    tree.write("random.txt", content(1, 5000));
    tree.write("text.txt", text(1, 5000));
    let server = Server::serve(io, &tree.root(), &[]);
    let mut client = server.connect();
    for name in [
        "image.png",
        "film.mp4",
        "archive.zip",
        "font.woff2",
        "bytes",
    ] {
        let response = ask(&mut client, &format!("/{name}"), "gzip, br, zstd");
        assert_eq!(response.field("Content-Encoding"), None, "{name}");
        assert_eq!(response.field("Vary"), None, "{name}");
        assert!(response.body == text(1, 5000));
    }
    for _ in 0..2 {
        let response = ask(&mut client, "/random.txt", "gzip");
        assert_eq!(response.field("Content-Encoding"), None);
        assert!(response.body == content(1, 5000));
        // It could have been.
        assert_eq!(
            ask(&mut client, "/random.txt", "gzip, identity;q=0").status,
            406
        );
    }
    for flags in [["--compress", ""], ["--cache-bytes", "0"]] {
        let server = Server::serve(io, &tree.root(), &flags);
        let response = ask(&mut server.connect(), "/text.txt", "gzip, br, zstd");
        assert_eq!(response.field("Content-Encoding"), None, "{flags:?}");
        assert!(response.body == text(1, 5000));
    }
}

/// Everybody gets the file, in a coding that suits, however many ask for it in all of them.
fn compressed_under_load(io: Io) {
    let tree = Tree::new();
    let sizes = [2_000, 50_000, 400_000];
    for size in sizes {
        tree.write(format!("{size}.svg"), text(size as u64, size));
    }
    let server = Server::serve(io, &tree.root(), &[]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for turn in 0..40 {
                    let size = sizes[(thread + turn) % 3];
                    let accept =
                        ["gzip", "br", "zstd", "br, identity;q=0"][(thread + turn / 3) % 4];
                    let response = ask(&mut client, &format!("/{size}.svg"), accept);
                    if accept.contains("q=0") && response.status == 503 {
                        continue; // as many are under way as may be
                    }
                    assert_eq!(response.status, 200);
                    let coding = response.field("Content-Encoding");
                    assert!(coding.is_none_or(|coding| accept.contains(coding)));
                    assert!(coding.is_some() || !accept.contains("q=0"));
                    assert!(decode(&response) == text(size as u64, size));
                }
            });
        }
    });
    for coding in ["gzip", "br", "zstd"] {
        for size in sizes {
            eventually("each is there in the end", || {
                let response = ask(&mut server.connect(), &format!("/{size}.svg"), coding);
                (response.field("Content-Encoding") == Some(coding)).then_some(())
            });
        }
    }
    server.stop();
}
