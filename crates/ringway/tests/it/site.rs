//! A real site fetched whole by real clients, at rest and under load, and seen in a browser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::request;
use crate::peers;
use crate::server::{Io, Server, on_both_drivers};
use crate::tree::{Tree, content};

on_both_drivers!(
    fetched_by_wget,
    fetched_by_curl,
    fetched_under_load,
    documentation,
    seen_in_a_browser
);

/// How long a peer may take for a whole site.
const LONG: Duration = Duration::from_secs(60);

/// Files by their paths below the root.
type Files = BTreeMap<String, Vec<u8>>;

/// A site of about 2,000 files of all sizes, each linked from the index of its folder.
fn site(tree: &Tree) -> Files {
    let mut files = Files::new();
    let mut home = String::from("<!doctype html><title>Home</title>");
    for folder in 0..20 {
        let mut index = format!("<!doctype html><title>{folder}</title>");
        for file in 0..100 {
            let seed = folder * 100 + file;
            // Most are small, some larger than the cache takes.
            let length = match file {
                0 => 0,
                99 => 300_000,
                _ => (seed as usize * 37) % 9000,
            };
            let name = format!("file {file}.{}", ["txt", "png", "js"][file as usize % 3]);
            index += &format!("<a href=\"{}\">{file}</a>", name.replace(' ', "%20"));
            files.insert(format!("{folder}/{name}"), content(seed, length));
        }
        home += &format!("<a href=\"{folder}/\">{folder}</a>");
        files.insert(format!("{folder}/index.html"), index.into_bytes());
    }
    files.insert("index.html".to_owned(), home.into_bytes());
    for (name, body) in &files {
        tree.write(name, body);
    }
    files
}

/// Reads every file below `root`.
fn read(root: &Path) -> Files {
    let mut files = Files::new();
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

#[track_caller]
fn check_equal(fetched: &Files, expect: &Files) {
    for (name, body) in expect {
        let other = fetched
            .get(name)
            .unwrap_or_else(|| panic!("{name} is missing"));
        assert!(
            other == body,
            "{name} differs: {} bytes, not {}",
            other.len(),
            body.len()
        );
    }
    assert_eq!(fetched.len(), expect.len());
}

fn fetched_by_wget(io: Io) {
    if !peers::has("wget") {
        return;
    }
    let tree = Tree::empty();
    let files = site(&tree);
    let server = Server::serve(io, &tree.root(), &[]);
    let target = tree.outside().join("copy");
    let mut wget = Command::new("wget");
    wget.args([
        "--recursive",
        "--level=3",
        "--no-verbose",
        "--no-host-directories",
        "-e",
        "robots=off",
    ]);
    wget.arg("--directory-prefix")
        .arg(&target)
        .arg(format!("http://{}/", server.address()));
    let output = peers::run(&mut wget, LONG);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    check_equal(&read(&target), &files);
    server.stop();
}

/// Fetches every file over many connections at once.
fn curl(server: &Server, folder: &Path, files: &Files) {
    std::fs::create_dir_all(folder).unwrap();
    let list: String = files
        .keys()
        .map(|name| {
            let url = name.replace(' ', "%20");
            format!(
                "url = \"http://{}/{url}\"\noutput = \"{}\"\n",
                server.address(),
                folder.join(name).display()
            )
        })
        .collect();
    let config = folder.with_extension("list");
    std::fs::write(&config, list).unwrap();
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--create-dirs",
        "--parallel",
        "--parallel-max",
        "40",
    ]);
    let output = peers::run(curl.arg("--config").arg(config), LONG);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn fetched_by_curl(io: Io) {
    if !peers::has("curl") {
        return;
    }
    let tree = Tree::empty();
    let files = site(&tree);
    let server = Server::serve(io, &tree.root(), &[]);
    let target = tree.outside().join("copy");
    curl(&server, &target, &files);
    check_equal(&read(&target), &files);
    server.stop();
}

fn fetched_under_load(io: Io) {
    if !(peers::has("curl") && peers::has("wrk")) {
        return;
    }
    let tree = Tree::empty();
    let files = site(&tree);
    let server = Server::serve(io, &tree.root(), &[]);
    let url = format!("http://{}/7/file%2042.txt", server.address());
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", "-c50", "-d6", "--latency"])
        .arg(url)
        .stdin(Stdio::null());
    let load = std::thread::spawn(move || peers::run(&mut wrk, LONG));
    // The load is there when the server works without being asked by this test.
    let before = server.cpu_time();
    crate::server::eventually("wrk begins", || {
        (server.cpu_time() > before + Duration::from_millis(100)).then_some(())
    });
    let target = tree.outside().join("copy");
    curl(&server, &target, &files);
    check_equal(&read(&target), &files);
    let report = load.join().unwrap();
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.contains("Requests/sec"), "{report}");
    assert!(
        !report.contains("Socket errors") && !report.contains("Non-2xx"),
        "{report}"
    );
    server.stop();
}

/// The workspace's own documentation, if it was built.
fn documentation(io: Io) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let root = target.join("doc");
    if !root.join("ringway_server/index.html").is_file() {
        return peers::skip("the documentation isn't built (cargo doc)");
    }
    let mut files = read(&root);
    // Not served, by default.
    files.retain(|name, _| !name.split('/').any(|part| part.starts_with('.')));
    let server = Server::serve(io, &root, &[]);
    let names: Vec<&String> = files.keys().collect();
    let per_connection = names.len().div_ceil(8);
    std::thread::scope(|scope| {
        for part in names.chunks(per_connection) {
            let (server, files) = (&server, &files);
            scope.spawn(move || {
                let mut client = server.connect();
                for some in part.chunks(10) {
                    client.send(
                        some.iter()
                            .map(|name| request("GET", &encoded(name), &[]))
                            .collect::<String>(),
                    );
                    for name in some {
                        let response = client.response();
                        assert_eq!(response.status, 200, "{name}");
                        assert!(response.body == files[*name], "{name} differs");
                    }
                }
            });
        }
    });
    server.stop();
}

/// A path with everything encoded that isn't a letter, a digit or one of a few marks.
fn encoded(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    format!("/{}", name.bytes().map(encode).collect::<String>())
}

const PAGE: &str = "<!doctype html><title>Ringway</title><link rel=stylesheet href=style.css>\
    <p id=text>waiting</p><img id=image src=image.svg><script src=script.js></script>";
const SCRIPT: &str = "onload = () => { const image = document.getElementById('image'); \
    document.getElementById('text').textContent = 'ran: ' + \
    getComputedStyle(document.body).backgroundColor + ' ' + image.naturalWidth; }";
const IMAGE: &str = "<svg xmlns='http://www.w3.org/2000/svg' width='123' height='45'><rect width='123' height='45'/></svg>";

/// A page whose script says that style sheet and picture have come, and a picture of it.
fn seen_in_a_browser(io: Io) {
    let tree = Tree::empty();
    let Some(mut command) = peers::browser(tree.outside()) else {
        return;
    };
    tree.write("index.html", PAGE);
    tree.write("style.css", "body { background-color: rgb(1, 2, 3) }");
    tree.write("script.js", SCRIPT);
    tree.write("image.svg", IMAGE);
    let server = Server::serve(io, &tree.root(), &["--access-log", "-"]);
    let picture = tree.outside().join("picture.png");
    command.args(["--virtual-time-budget=5000", "--dump-dom"]);
    command.arg(format!("--screenshot={}", picture.display()));
    command.arg(format!("http://{}/", server.address()));
    let output = peers::run(&mut command, LONG);
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        page.contains("ran: rgb(1, 2, 3) 123"),
        "{page}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let picture = std::fs::read(picture).unwrap_or_default();
    assert!(picture.starts_with(b"\x89PNG\r\n"), "no picture of it");
    let log = server.stop().stdout;
    for path in ["/", "/style.css", "/script.js", "/image.svg"] {
        assert!(
            log.contains(&format!("\"GET {path} HTTP/1.1\" 200 ")),
            "{log}"
        );
    }
}
