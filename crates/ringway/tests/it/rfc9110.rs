//! What RFC 9110 asks of whoever serves files, one request a line, of this server and of nginx.
//!
//! Each row of [`ROWS`] is a requirement with a request that shows whether it is kept, and both
//! servers are held to the answers that stand there. `docs/rfc9110.md` is written from the same
//! rows; after a change `UPDATE_EXPECT=1` rewrites it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use expect_test::expect_file;

use crate::client::{find, request};
use crate::peers;
use crate::server::{Io, PATIENCE, Server, eventually, on_every_driver};
use crate::tree::{HELLO, Tree};

mod rows;

use rows::{ROWS, Row};

on_every_driver!(every_row);

/// 2001-09-09 01:46:40 GMT, when every file was last changed.
const MODIFIED: Duration = Duration::from_secs(1_000_000_000);

fn tree() -> Tree {
    let tree = Tree::empty();
    tree.write("hello.txt", HELLO);
    tree.write("empty.bin", "");
    tree.write("app.js", "let it = be;\n".repeat(200));
    tree.write("app.js.gz", GZIPPED);
    tree.write("dir/index.html", "<!doctype html><title>Directory</title>");
    for name in [
        "hello.txt",
        "empty.bin",
        "app.js",
        "app.js.gz",
        "dir/index.html",
    ] {
        let file = std::fs::File::options().write(true).open(tree.path(name));
        file.unwrap()
            .set_modified(SystemTime::UNIX_EPOCH + MODIFIED)
            .unwrap();
    }
    tree
}

/// What a precompressed file holds is nobody's business but the client's.
const GZIPPED: &[u8] = b"\x1f\x8b as good as gzip";

/// An answer: the head's lines, and the content.
struct Answer {
    status: String,
    fields: Vec<(String, String)>,
    bytes: usize,
}

impl Answer {
    /// Sends a request that ends the connection, and reads to its end.
    fn ask(mut stream: impl Read + Write, text: &str) -> Answer {
        stream.write_all(text.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let end = find(&all, b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&all[..end]).unwrap();
        let (first, rest) = head.split_once("\r\n").unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Answer {
            status: first.split(' ').nth(1).unwrap().to_owned(),
            fields: rest.split("\r\n").map(field).collect(),
            bytes: all.len() - end - 4,
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let name = name.to_ascii_lowercase();
        let mut values = self.fields.iter().filter(|(sent, _)| *sent == name);
        values.next().map(|(_, value)| value.as_str())
    }

    /// The answer in a few words: the status, what the row looks at, and how much content came.
    /// What differs from run to run is put by its kind.
    fn summary(&self, is_head: bool, names: &[&str]) -> String {
        let mut text = self.status.clone();
        for name in names {
            let value = match (self.field(name), *name) {
                (None, _) => {
                    let _ = write!(text, ", no {name}");
                    continue;
                }
                (Some(tag), "ETag") if tag.starts_with("W/") => "weak",
                (Some(_), "ETag") => "strong",
                (Some(_), "Date") => "there",
                (Some(value), _) => value.split("; boundary").next().unwrap(),
            };
            let _ = write!(text, ", {name}: {value}");
        }
        // Error pages and the framing of parts are each server's own.
        let is_multipart =
            (self.field("Content-Type")).is_some_and(|it| it.starts_with("multipart/"));
        let is_comparable = self.status.starts_with('2') || self.status == "304" || is_head;
        if is_comparable && !is_multipart {
            let _ = write!(text, ", {} bytes", self.bytes);
        }
        text
    }
}

/// Something that answers requests.
trait Peer {
    fn answer(&self, text: &str) -> Answer;

    fn entity_tag(&self, path: &str) -> String {
        let answer = self.answer(&request("HEAD", path, &["Connection: close"]));
        answer.field("ETag").expect("a tag").to_owned()
    }

    fn run(&self, row: &Row) -> String {
        let tag = self.entity_tag("/hello.txt");
        let coded = self.entity_tag("/app.js");
        let fields: Vec<String> = row
            .fields
            .iter()
            .map(|field| field.replace("{tag}", &tag).replace("{app}", &coded))
            .collect();
        let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        fields.push("Connection: close");
        self.answer(&request(row.method, row.target, &fields))
            .summary(row.method == "HEAD", row.looks_at)
    }
}

impl Peer for Server {
    fn answer(&self, text: &str) -> Answer {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Answer::ask(stream, text)
    }
}

/// nginx on a socket of its own, as it comes but for precompressed files.
struct Nginx {
    child: Child,
    socket: PathBuf,
}

impl Nginx {
    fn start(folder: &Path, root: &Path) -> Nginx {
        let socket = folder.join("nginx.socket");
        let (at, folder_name, root) = (socket.display(), folder.display(), root.display());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {folder_name}/{name};\n"))
            .collect();
        let config = format!(
            "daemon off; master_process off; pid {folder_name}/nginx.pid;\n\
             error_log stderr; events {{ }}\n\
             http {{ access_log off; {temporary} gzip_static on; gzip_vary on;\n\
             types {{ text/plain txt; text/javascript js; text/html html; }}\n\
             server {{ listen unix:{at}; server_name test; root {root}; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(peers::find("nginx").unwrap());
        command.arg("-e").arg("stderr").arg("-c").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        eventually("nginx listens", || UnixStream::connect(&socket).ok());
        Nginx { child, socket }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Peer for Nginx {
    fn answer(&self, text: &str) -> Answer {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Answer::ask(stream, text)
    }
}

/// What a peer answers otherwise than the rows say.
fn differences(peer: &impl Peer, expect: impl Fn(&Row) -> &str) -> String {
    let mut text = String::new();
    for row in ROWS {
        let got = peer.run(row);
        if got != expect(row) {
            let request = row.request();
            let _ = writeln!(
                text,
                "§{} {request}\n  {got}\n  not {}",
                row.section,
                expect(row)
            );
        }
    }
    text
}

fn every_row(io: Io) {
    let tree = tree();
    let server = Server::serve(io, &tree.root(), &[]);
    let different = differences(&server, |row| row.ours);
    assert!(different.is_empty(), "\n{different}");
    server.stop();
}

#[test]
fn nginx() {
    if !peers::has("nginx") {
        return;
    }
    let tree = tree();
    let nginx = Nginx::start(tree.outside(), &tree.root());
    let different = differences(&nginx, Row::theirs);
    assert!(different.is_empty(), "\n{different}");
}

#[test]
fn where_they_differ_it_is_said_why() {
    for row in ROWS {
        let differs = row.theirs() != row.ours;
        assert_eq!(
            differs,
            !row.why.is_empty(),
            "§{} {}",
            row.section,
            row.request()
        );
    }
}

const HEAD: &str = "\
# RFC 9110, as files are served

<!-- Written from crates/ringway/tests/it/rfc9110/rows.rs. After a change there:
     UPDATE_EXPECT=1 cargo test -p ringway --test it rfc9110 -->

Each line is a request that is sent to Ringway, on both drivers, and to nginx (seen: 1.22.1; as it comes, with `gzip_static on`), and the answers that
both are held to: `cargo test -p ringway --test it rfc9110`. `{tag}` is the file's entity tag, `{app}` that of `/app.js` without a coding;
all files were last changed on Sun, 09 Sep 2001 01:46:40 GMT. An empty cell under nginx means the same answer.
";

#[test]
fn the_document_says_the_same() {
    let mut page = HEAD.to_owned();
    let mut chapter = "";
    for row in ROWS {
        if row.chapter() != chapter {
            chapter = row.chapter();
            let _ = write!(
                page,
                "\n## Section {chapter}\n\n| section | requirement | request | Ringway | nginx | why they differ |\n\
                 | --- | --- | --- | --- | --- | --- |\n"
            );
        }
        let theirs = row.theirs.unwrap_or_default();
        let _ = writeln!(
            page,
            "| {} | {} | `{}` | {} | {theirs} | {} |",
            row.section,
            row.requirement,
            row.request(),
            row.ours,
            row.why
        );
    }
    expect_file!["../../../../docs/rfc9110.md"].assert_eq(&page);
}
