//! `ringway hash-password`: from a pipe and from a terminal, and what becomes of the hash.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::client::request;
use crate::server::{PATIENCE, Server};
use crate::tree::{HELLO, Tree};

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.arg("hash-password").args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the command makes of this standard input.
fn pipe(flags: &[&str], input: &[u8]) -> Output {
    let mut child = command(flags).stdin(Stdio::piped()).spawn().unwrap();
    // Wrong flags are refused before anything is read.
    _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The one line that it prints.
#[track_caller]
fn line(flags: &[&str], input: &[u8]) -> String {
    let output = pipe(flags, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*errors), (Some(0), ""));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.strip_suffix('\n').expect("a whole line").to_owned();
    assert!(!line.contains('\n'));
    line
}

#[track_caller]
fn check_error(flags: &[&str], input: &[u8], code: i32, expect: &str) {
    let output = pipe(flags, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, format!("ringway: {expect}\n"));
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(code), &b""[..])
    );
}

#[test]
fn from_a_pipe() {
    let hash = line(&[], b"secret\n");
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    assert_ne!(line(&[], b"secret"), hash, "each has a salt of its own");
    let hash = line(&["--algorithm", "bcrypt", "--user", "bob"], b"secret\r\n");
    assert!(hash.starts_with("bob:$2b$12$"), "{hash}");
}

#[test]
fn what_is_no_password() {
    check_error(&[], b"", 1, "the password is empty");
    check_error(&[], b"\n", 1, "the password is empty");
    let lines = "standard input has more than one line: a password is one";
    check_error(&[], b"a\nb\n", 1, lines);
    let control = "the password has control characters or isn't UTF-8: no browser could send it";
    check_error(&[], b"a\tb", 1, control);
    check_error(&[], b"\xff", 1, control);
    let long = "the password is longer than the 71 bytes that bcrypt looks at; argon2id takes any \
                length";
    check_error(&["-a", "bcrypt"], &[b'a'; 72], 1, long);
    check_error(
        &[],
        &[b'a'; 100_000],
        1,
        "standard input is longer than any password",
    );
    let name = "invalid value 'a:b' for '--user <NAME>': 1 to 255 bytes without colons and control \
                characters; see ringway hash-password --help";
    check_error(&["--user", "a:b"], b"secret", 64, name);
    let argument = "unexpected argument 'secret' found; see ringway hash-password --help";
    check_error(&["secret"], b"", 64, argument);
}

/// A line of each kind in the configuration lets its user in.
#[test]
fn what_is_made_lets_in() {
    let tree = Tree::new();
    let alice = line(&["-u", "alice"], "p\u{e4}ss: \u{1f40e}".as_bytes());
    let bob = line(&["-u", "bob", "-a", "bcrypt"], b"secret");
    let text = format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\n[files.site]\nroot = \"root\"\n\
         users = [\"{alice}\", \"{bob}\"]\n"
    );
    let file = tree.outside().join("site.toml");
    std::fs::write(&file, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringway"));
    run.args(["run", "--config"]).arg(&file);
    let server = Server::start(run);
    for credentials in ["YWxpY2U6cMOkc3M6IPCfkI4=", "Ym9iOnNlY3JldA=="] {
        let field = format!("Authorization: Basic {credentials}");
        let answer = server
            .connect()
            .ask(&request("GET", "/hello.txt", &[&field]));
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, HELLO),
            "{credentials}"
        );
    }
    server.stop();
}

#[test]
fn a_weak_hash_is_noted() {
    let tree = Tree::new();
    let file = tree.outside().join("site.toml");
    let text = "[files.site]\nroot = \"root\"\n\
        users = \"bob:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\"\n";
    std::fs::write(&file, text).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_ringway"));
    let output = check
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let note = "  note: user \"bob\" of files.site has bcrypt with a cost below 10; ringway \
                hash-password makes better ones\n";
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with(note), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

/// The command at a terminal of its own.
struct Typist {
    terminal: File,
    /// The program's side, kept so that what the terminal showed can be read to its end.
    inside: File,
    child: Child,
    /// Dropped when the program has ended; else its time is up some day.
    _watch: Sender<()>,
}

impl Typist {
    fn start() -> Typist {
        let terminal =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let inside = File::options().read(true).write(true).open(path).unwrap();
        let child = command(&["--user", "alice"])
            .stdin(inside.try_clone().unwrap())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (watch, ended) = channel::<()>();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                _ = kill_process(pid, Signal::KILL);
            }
        });
        Typist {
            terminal: terminal.into(),
            inside,
            child,
            _watch: watch,
        }
    }

    /// Types when the program asks.
    fn answer(&mut self, prompt: &str, keys: &[u8]) {
        let mut shown = vec![0; prompt.len()];
        let errors = self.child.stderr.as_mut().unwrap();
        errors.read_exact(&mut shown).unwrap();
        assert_eq!(String::from_utf8_lossy(&shown), prompt);
        let modes = tcgetattr(&self.inside).unwrap().local_modes;
        assert!(
            !modes.contains(LocalModes::ECHO),
            "what is typed would be shown"
        );
        self.terminal.write_all(keys).unwrap();
    }

    /// What came of it: exit code, output, errors, and what was seen on the terminal.
    fn end(mut self) -> (Option<i32>, String, String, String) {
        let (mut output, mut errors) = (String::new(), String::new());
        let child = &mut self.child;
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        child
            .stderr
            .as_mut()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        let code = child.wait().unwrap().code();
        let modes = tcgetattr(&self.inside).unwrap().local_modes;
        assert!(
            modes.contains(LocalModes::ECHO | LocalModes::ISIG),
            "not as it was"
        );
        // The mark ends what is read: everything before it was there.
        self.inside.write_all(b"!").unwrap();
        let mut seen = Vec::new();
        while seen.last() != Some(&b'!') {
            let mut byte = [0];
            self.terminal.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        (code, output, errors, String::from_utf8(seen).unwrap())
    }
}

#[test]
fn typed_at_a_terminal() {
    let mut typist = Typist::start();
    typist.answer("Password: ", b"secreet\x7f\x7ft\n");
    typist.answer("The same again: ", b"secret\n");
    let (code, output, errors, seen) = typist.end();
    assert_eq!((code, &*errors), (Some(0), ""));
    assert!(output.starts_with("alice:$argon2id$"), "{output}");
    // The ends of the lines, and the mark.
    assert_eq!(seen, "\r\n\r\n!");
}

#[test]
fn mistyped_or_given_up() {
    let mut typist = Typist::start();
    typist.answer("Password: ", b"secret\n");
    typist.answer("The same again: ", b"secre\n");
    let (code, output, errors, _) = typist.end();
    let differ = "ringway: the two passwords differ: try again\n";
    assert_eq!((code, &*output, &*errors), (Some(1), "", differ));
    // Ctrl-C, and Ctrl-D on an empty line.
    for keys in [&b"secr\x03"[..], b"\x04"] {
        let mut typist = Typist::start();
        typist.answer("Password: ", keys);
        let (code, output, errors, seen) = typist.end();
        assert_eq!(
            (code, &*output, &*errors),
            (Some(1), "", "\nringway: interrupted\n")
        );
        assert!(!seen.contains("secr"), "{seen}");
    }
}
