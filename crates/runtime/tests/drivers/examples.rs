//! The examples: the file service as a part of this program, the others as programs of their own.

#[path = "../../examples/send_file.rs"]
#[allow(dead_code, reason = "the program's own main")]
mod send_file;

use crate::harness::{Case, Pattern, complete, listen, settle, std_connect};
use ringway_runtime::{Directory, TransferMethod, spawn, spawn_blocking};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

on_both_drivers! {
    echo_sends_back_what_it_gets,
    hello_http_answers_every_request,
    the_file_service_sends_a_length_and_the_file,
    the_file_service_serves_nothing_else,
}

/// What the service answers to `request`, to the end of the stream or a reset.
fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut peer = std_connect(address);
    peer.write_all(request).unwrap();
    if !request.ends_with(b"\n") {
        peer.shutdown(Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    let _ = peer.read_to_end(&mut answer);
    answer
}

fn the_file_service_sends_a_length_and_the_file(case: &Case) {
    let mut runtime = case.runtime();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let bytes = Pattern::new(7).chunk(0, 700_001);
    std::fs::write(folder.path().join("sub/file"), &bytes).unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let root = Directory::open(folder.path()).unwrap();
    complete(&mut runtime, async move {
        for method in TransferMethod::ALL {
            let (listener, address) = listen();
            let root = root.clone();
            let service = spawn(async move {
                let _ = send_file::serve(listener, root, method).await;
            });
            for request in [b"sub/file\n".as_slice(), b"sub/file"] {
                let answer = spawn_blocking(move || ask(address, request)).await.unwrap();
                let (length, body) = answer.split_at(8);
                assert_eq!(length, 700_001u64.to_be_bytes(), "{method}");
                assert!(body == bytes, "{method}");
            }
            let answer = spawn_blocking(move || ask(address, b"empty\n")).await;
            assert_eq!(answer.unwrap(), [0; 8]);
            service.cancel();
        }
    });
    settle(&mut runtime, 256);
}

fn the_file_service_serves_nothing_else(case: &Case) {
    let mut runtime = case.runtime();
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(outer.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
    let root = Directory::open(&root).unwrap();
    complete(&mut runtime, async move {
        let (listener, address) = listen();
        let service = spawn(async move {
            let _ = send_file::serve(listener, root, TransferMethod::Auto).await;
        });
        let long = [b'x'; 5000];
        for request in [
            b"../secret\n".as_slice(),
            b"out\n",
            b"/etc/passwd\n",
            b"\n",
            b"",
            b"missing\n",
            b"nul\0\n",
            &long,
        ] {
            let request = request.to_vec();
            let answer = spawn_blocking(move || ask(address, &request)).await;
            assert_eq!(answer.unwrap(), b"");
        }
        service.cancel();
    });
    settle(&mut runtime, 256);
}

/// A running example. Dropping it kills it.
struct Program {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts one, which is to say at first that it runs on the driver of `case`.
    fn start(case: &Case, name: &str, arguments: &[&str]) -> Program {
        let mut child = Command::new(example(name))
            .args(arguments)
            .arg(case.kind().name())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let driver = said.next().unwrap().unwrap();
        let expected = format!("{}: asked for", case.kind().name());
        assert!(driver.starts_with(&expected), "{driver}");
        Program { child, said }
    }

    /// The address that the next line ends with, between `before` and `after`.
    fn address(&mut self, before: &str, after: &str) -> SocketAddr {
        let line = self.said.next().unwrap().unwrap();
        let address = line
            .strip_prefix(before)
            .and_then(|it| it.strip_suffix(after));
        address.expect(&line).parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// An example's program, which cargo puts beside the tests: but not for a single test, and then there
/// may be an old one, or none.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let program = folder.join("examples").join(name);
    if !is_fresh(&program) {
        build(name, folder);
        assert!(program.exists(), "cargo has put it elsewhere");
    }
    program
}

/// Whether it is there, and newer than all that it was made of, which cargo lists beside it:
/// `PROGRAM: SOURCE SOURCE ...`, with a backslash before a space that is a part of a path.
fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|it| it.modified());
    let (Ok(made), Ok(list)) = (
        changed(program),
        std::fs::read_to_string(program.with_extension("d")),
    ) else {
        return false;
    };
    let list = list.replace("\\ ", "\0");
    let Some((_, sources)) = list.trim_end().split_once(": ") else {
        return false;
    };
    let mut sources = sources.split(' ').map(|source| source.replace('\0', " "));
    sources.all(|source| changed(Path::new(&source)).is_ok_and(|changed| changed <= made))
}

/// Builds an example as the tests were built, to where they are: `folder` is that of their profile.
fn build(name: &str, folder: &Path) {
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let above = folder.parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "ringway-runtime"]);
    cargo.args(["--example", name, "--profile", profile]);
    // With `--target` there is one more folder, such as `x86_64-unknown-linux-gnu`.
    let target = above.file_name().unwrap().to_str().unwrap();
    if target.starts_with(&format!("{}-", std::env::consts::ARCH)) {
        cargo.args(["--target", target]);
        cargo.arg("--target-dir").arg(above.parent().unwrap());
    } else {
        cargo.arg("--target-dir").arg(above);
    }
    assert!(cargo.status().unwrap().success());
}

fn echo_sends_back_what_it_gets(case: &Case) {
    let mut program = Program::start(case, "echo", &["127.0.0.1:0"]);
    let address = program.address("echoing on ", "");
    let bytes = Pattern::new(3).chunk(0, 300_000);
    for _ in 0..2 {
        let mut peer = std_connect(address);
        let mut writer = peer.try_clone().unwrap();
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        writing.join().unwrap();
        assert!(received == bytes);
    }
}

fn hello_http_answers_every_request(case: &Case) {
    let arguments = ["--listen", "127.0.0.1:0", "--io"];
    let mut program = Program::start(case, "hello_http", &arguments);
    let address = program.address("http://", "/");
    let mut peer = std_connect(address);
    let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    // Two that come together, and one that comes in two parts.
    peer.write_all(&request.repeat(2)).unwrap();
    expect_hello(&mut peer);
    expect_hello(&mut peer);
    peer.write_all(&request[..20]).unwrap();
    peer.write_all(&request[20..]).unwrap();
    expect_hello(&mut peer);
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap(), 0);
}

fn expect_hello(peer: &mut std::net::TcpStream) {
    let head = "HTTP/1.1 200 OK\r\nServer: hello\r\nContent-Type: text/plain\r\n\
                Content-Length: 1024\r\n\r\n";
    let mut answer = vec![0; head.len() + 1024];
    peer.read_exact(&mut answer).unwrap();
    let (said, body) = answer.split_at(head.len());
    assert_eq!(said, head.as_bytes());
    assert_eq!(body, [b'x'; 1024]);
}
