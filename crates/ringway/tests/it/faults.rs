//! What goes wrong in the world, provoked: resets, no descriptors, no buffers, no io_uring, full
//! logs, a jumping clock, panics, half-closed connections.
//!
//! The same is expected each time: no crash, no hang, no spin, everything given back, and the
//! others served.

use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;

use crate::client::{Client, find, request};
use crate::peers;
use crate::server::{
    Io, PATIENCE, Server, command, eventually, limited, on_both_drivers, run_by, without,
};
use crate::slowness::try_thin_client;
use crate::tree::{HELLO, Tree, content};

on_both_drivers!(
    reset_storms,
    no_descriptors_left,
    few_descriptors,
    downloads_have_their_descriptors,
    an_index_that_cannot_be_read,
    what_cannot_be_read_is_told,
    few_buffers,
    completion_queue_overflows,
    log_on_a_full_disk,
    log_that_nobody_reads,
    clock_jumps,
    panics,
    half_closes,
    connection_churn,
    small_send_buffers,
);

/// Ends a connection with a reset.
fn reset(client: Client) {
    set_socket_linger(client.stream(), Some(Duration::ZERO)).unwrap();
}

fn reset_storms(io: Io) {
    let tree = Tree::new();
    tree.write("large.bin", content(1, 8 << 20));
    let server = Server::serve(io, &tree.root(), &[]);
    let storm = |count: usize| {
        for index in 0..count {
            let mut client = server.connect();
            match index % 6 {
                0 => {}
                1 => client.send("GET /hello.txt HT"),
                2 => client.send(request("GET", "/hello.txt", &["Content-Length: 100"])),
                3 => client.send(request("GET", "/hello.txt", &[]).repeat(20)),
                4 => {
                    client.send(request("GET", "/large.bin", &[]));
                    client.head();
                }
                _ => {
                    client.send("BAD\r\n\r\n");
                    client.head();
                }
            }
            reset(client);
        }
    };
    storm(60);
    server.expect_alive("/hello.txt", HELLO);
    let (descriptors, memory) = (server.descriptors(), server.resident_kib());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| storm(240));
        }
    });
    server.expect_alive("/hello.txt", HELLO);
    eventually("its descriptors are closed", || {
        (server.descriptors() <= descriptors).then_some(())
    });
    let grown = server.resident_kib().saturating_sub(memory);
    assert!(grown < 8 << 10, "{grown} KiB more");
    server.stop();
}

/// A server that may have `limit` descriptors.
fn with_descriptors(io: Io, tree: &Tree, limit: usize, flags: &[&str]) -> Server {
    let command = command(io, &tree.root(), flags);
    Server::start(limited(&format!("-n {limit}"), &command))
}

/// Begins downloads that don't go on until the server has no descriptor left; gives back those who
/// have them, or wait to be let in.
///
/// Each asks for a name of its own: of one file they would share the open one.
fn take_descriptors(server: &Server, tree: &Tree, limit: usize) -> Vec<Client> {
    let mut names = 0..;
    let mut ask = |client: &mut Client| {
        let name = format!("large-{}.bin", names.next().unwrap());
        std::fs::hard_link(tree.path("large.bin"), tree.path(&name)).unwrap();
        let large = request("GET", &format!("/{name}"), &[]);
        client.try_send(large).is_ok()
    };
    let clients = (0..limit).filter_map(|_| try_thin_client(server));
    let mut asking: Vec<Client> = clients.collect();
    asking.retain_mut(&mut ask);
    let mut stuck = Vec::new();
    eventually("no descriptor is left", || {
        for mut client in std::mem::take(&mut asking) {
            if !client.is_answered_within(Duration::from_millis(1)) {
                asking.push(client);
                continue;
            }
            if !client.has_input() {
                continue; // refused
            }
            let head = client.head();
            if head.status == 200 {
                stuck.push(client);
                continue;
            }
            assert_eq!(head.status, 503, "{head:?}");
            client.take(head.field("Content-Length").unwrap().parse().unwrap());
            // Those that are refused have descriptors for a moment, and while they had them a file
            // found none: it does now.
            if ask(&mut client) {
                asking.push(client);
            }
        }
        (server.descriptors() >= limit - 1).then_some(())
    });
    stuck.append(&mut asking);
    stuck
}

/// Every descriptor is taken, by connections and by the files that are sent on them: those who are
/// in are answered, nothing spins, and it passes.
fn no_descriptors_left(io: Io) {
    const LIMIT: usize = 64;
    let tree = Tree::new();
    let large = content(2, 16 << 20);
    tree.write("large.bin", &large);
    // As many connections as there may be sockets, so that files find no descriptor; and none is
    // kept open.
    let flags = ["--connections", "1000", "--cache-descriptors", "0"];
    let server = with_descriptors(io, &tree, LIMIT, &flags);
    server.expect_alive("/hello.txt", HELLO);
    let base = server.descriptors();
    let mut inside: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut inside {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    let stuck = take_descriptors(&server, &tree, LIMIT);
    server.expect_rest();
    for client in &mut inside {
        // A file that can't be opened is an error of the server's, for the moment.
        for (path, body) in [("/hello.txt", HELLO), ("/large.bin", &large[..])] {
            let response = client.get(path);
            match response.status {
                200 => assert!(response.body == body),
                status => assert_eq!(status, 503, "{response:?}"),
            }
        }
    }
    drop(stuck);
    eventually("its descriptors are closed", || {
        (server.descriptors() <= base + inside.len()).then_some(())
    });
    // Those who waited to be let in are let in only now, and may take the descriptors once more before
    // it is seen that they have left.
    for client in &mut inside {
        let response = eventually("a descriptor for the file", || {
            let response = client.get("/large.bin");
            (response.status != 503).then_some(response)
        });
        assert!(response.body == large);
    }
    server.expect_alive("/hello.txt", HELLO);
    server.stop();
}

/// By default there are no more connections than can have a file each.
fn downloads_have_their_descriptors(io: Io) {
    const LIMIT: usize = 64;
    let tree = Tree::new();
    let large = content(7, 12 << 20);
    tree.write("large.bin", &large);
    let server = with_descriptors(io, &tree, LIMIT, &[]);
    // All are in before any of them asks for a file.
    let mut inside = Vec::new();
    for _ in 0..LIMIT {
        let Some(mut client) = try_thin_client(&server) else {
            continue;
        };
        let sent = client.try_send(request("OPTIONS", "/", &[])).is_ok();
        if sent && client.is_answered_within(Duration::from_secs(5)) && client.has_input() {
            client.head();
            inside.push(client);
        }
    }
    assert!((10..32).contains(&inside.len()), "{} inside", inside.len());
    for client in &mut inside {
        client.send(request("GET", "/large.bin", &[]));
        assert_eq!(client.head().status, 200);
    }
    // And there are some left for what isn't in memory yet.
    drop(inside.pop());
    eventually("a place is free", || {
        let mut client = server.try_connect().ok()?;
        client.try_send(request("GET", "/hello.txt", &[])).ok()?;
        let is_answered = client.is_answered_within(Duration::from_secs(5));
        (is_answered && client.has_input()).then(|| assert_eq!(client.response().body, HELLO))
    });
    let errors = server.errors();
    let said = errors.lines().find(|line| line.contains("connections"));
    let said = said.expect("the start says that there are few");
    assert!(
        said.contains("64 descriptors") && said.contains("ulimit"),
        "{said}"
    );
    drop(inside);
    server.stop();
}

/// What is there and can't be read is refused: neither the next index nor "not found" in its place.
fn an_index_that_cannot_be_read(io: Io) {
    let tree = Tree::new();
    tree.write("closed/first.html", "first");
    tree.write("closed/second.html", "second");
    tree.write("open/second.html", "second");
    let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o000);
    std::fs::set_permissions(tree.path("closed/first.html"), nobody).unwrap();
    let flags = ["--index", "first.html", "--index", "second.html"];
    // Or root reads it all the same.
    let rights = ["dac_override", "dac_read_search"];
    let Some(command) = without(&rights, command(io, &tree.root(), &flags)) else {
        return;
    };
    let server = Server::start(command);
    for _ in 0..2 {
        assert_eq!(server.get("/closed/").status, 403);
        assert_eq!(server.get("/closed/first.html").status, 403);
        assert_eq!(server.get("/closed/second.html").body, b"second");
        assert_eq!(server.get("/open/").body, b"second");
    }
    server.stop();
}

/// A page that was uploaded with the wrong rights was answered 403, and nobody was told why.
fn what_cannot_be_read_is_told(io: Io) {
    let tree = Tree::new();
    tree.write("page.html", "secret");
    tree.write("closed/file", "secret");
    for name in ["page.html", "closed"] {
        let nobody = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        std::fs::set_permissions(tree.path(name), nobody).unwrap();
    }
    let rights = ["dac_override", "dac_read_search"];
    for (flags, asked, named) in [
        (&[][..], "/page.html", "page.html"),
        (&["--clean-urls"], "/page.html", "page.html"),
        (&["--index", "page.html"], "/", "page.html"),
        (&["--browse"], "/closed/", "closed/"),
    ] {
        let flags = [&["--workers", "1"], flags].concat();
        let Some(command) = without(&rights, command(io, &tree.root(), &flags)) else {
            return;
        };
        let server = Server::start(command);
        for _ in 0..50 {
            assert_eq!(server.get(asked).status, 403);
        }
        assert_eq!(server.get("/nothing").status, 404);
        let told = server.stop().stderr;
        let events: Vec<&str> = told.lines().filter(|line| line.contains("read")).collect();
        let path = tree.root().join(named);
        for event in &events {
            assert!(event.contains(path.to_str().unwrap()), "{event}");
            assert!(event.contains("WARN") && event.contains("Permission denied"));
        }
        // The first at once, the others as one number every few seconds.
        assert!((1..25).contains(&events.len()), "{told}");
        assert!(events[0].contains("count=1 "), "{told}");
    }
}

/// A low limit: those whom the server lets in have their answers, the others wait or are refused.
fn few_descriptors(io: Io) {
    let tree = Tree::new();
    for flags in [&[][..], &["--connections", "1000"]] {
        let server = with_descriptors(io, &tree, 100, flags);
        server.expect_alive("/hello.txt", HELLO);
        let before = server.descriptors();
        for _ in 0..3 {
            let clients: Vec<Client> = (0..150).filter_map(|_| server.try_connect().ok()).collect();
            let mut waiting: Vec<Client> = clients
                .into_iter()
                .filter_map(|mut client| {
                    let sent = client.try_send(request("GET", "/hello.txt", &[]));
                    sent.is_ok().then_some(client)
                })
                .collect();
            let mut served = Vec::new();
            eventually("a fifth of what the descriptors allow is served", || {
                let time = Duration::from_millis(1);
                for mut client in std::mem::take(&mut waiting) {
                    if !client.is_answered_within(time) {
                        waiting.push(client);
                    } else if client.has_input() {
                        // Those on their way out have a descriptor as well, for a moment.
                        let response = client.response();
                        let sound = response.body == HELLO || response.status == 503;
                        assert!(sound, "{response:?}");
                        served.push(client);
                    }
                }
                (served.len() >= 20).then_some(())
            });
            assert!(served.len() < 100, "{} served", served.len());
            drop(waiting);
            for client in &mut served {
                assert_eq!(client.get("/hello.txt").body, HELLO);
            }
            drop(served);
            eventually("its descriptors are closed", || {
                (server.descriptors() <= before + 1).then_some(())
            });
            server.expect_alive("/hello.txt", HELLO);
        }
        server.stop();
    }
}

/// Fewer buffers and queue entries than there are senders: nothing is lost, and the order holds.
fn few_buffers(io: Io) {
    let tree = Tree::new();
    for seed in 0..8 {
        tree.write(format!("{seed}.bin"), content(seed, 3000 * seed as usize));
    }
    let flags = ["--receive-buffers", "4", "--receive-buffer-bytes", "256"];
    let flags = [
        &flags[..],
        &["--ring-entries", "8", "--completion-entries", "8"],
    ]
    .concat();
    let server = Server::serve(io, &tree.root(), &flags);
    let ask = |seed: u64| {
        let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
        let path = format!("/{seed}.bin");
        match seed % 2 {
            0 => {
                request("GET", &path, &["Transfer-Encoding: chunked"])
                    + &chunk.repeat(5)
                    + "0\r\n\r\n"
            }
            _ => request("GET", &path, &["Content-Length: 5000"]) + &"y".repeat(5000),
        }
    };
    std::thread::scope(|scope| {
        for first in 0..8 {
            let server = &server;
            scope.spawn(move || {
                // Many connections of each thread send before any of them reads.
                let mut clients: Vec<Client> = (0..16).map(|_| server.connect()).collect();
                for round in 0..4 {
                    let seed = (first + round) % 8;
                    for client in &mut clients {
                        client.send(ask(seed) + &ask((seed + 1) % 8));
                    }
                    for client in &mut clients {
                        for seed in [seed, (seed + 1) % 8] {
                            let response = client.response();
                            assert_eq!(response.status, 200);
                            assert!(response.body == content(seed, 3000 * seed as usize));
                        }
                    }
                }
            });
        }
    });
    server.stop();
}

/// More completions at once than their queue holds: all are answered, and it is told.
fn completion_queue_overflows(io: Io) {
    let tree = Tree::new();
    let flags = [
        "--workers",
        "1",
        "--ring-entries",
        "8",
        "--completion-entries",
        "8",
    ];
    let server = Server::serve(io, &tree.root(), &flags);
    let mut clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    // While it is stopped, all of them ask.
    server.signal(Signal::STOP);
    for client in &mut clients {
        client.send(request("GET", "/hello.txt", &[]));
    }
    server.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.response().body, HELLO);
    }
    let is_told = |errors: &str| errors.contains("completion queue overflowed");
    if io == Io::Uring {
        eventually("the overflow is told", || {
            is_told(&server.errors()).then_some(())
        });
    }
    let ended = server.stop();
    assert_eq!(is_told(&ended.stderr), io == Io::Uring, "{}", ended.stderr);
    assert!(!ended.stderr.contains("lost"), "{}", ended.stderr);
}

#[test]
fn io_uring_is_refused() {
    let tree = Tree::new();
    // `auto` says what it does, and why (the whole of `requests` and `files` runs this way too).
    let server = Server::serve(Io::Refused, &tree.root(), &[]);
    server.expect_alive("/hello.txt", HELLO);
    let ended = server.stop();
    let said = ended.stdout + &ended.stderr;
    let line = said
        .lines()
        .find(|line| line.contains("epoll"))
        .expect("a line on the driver");
    assert!(
        line.contains("io_uring_setup") && line.contains("EPERM"),
        "{line}"
    );
    // `uring` doesn't do something else instead.
    let outer = command(Io::Uring, &tree.root(), &[]);
    let refused = Server::try_start(run_by(peers::refuse_calls(), &["io_uring"], &outer));
    let ended = refused.err().expect("it doesn't start");
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("EPERM") && ended.stderr.contains("--io"),
        "{}",
        ended.stderr
    );
}

#[test]
fn no_memory_may_be_locked() {
    let tree = Tree::new();
    let mut auto = Command::new(env!("CARGO_BIN_EXE_ringway"));
    auto.arg("serve")
        .arg(tree.root())
        .args(["--listen", "127.0.0.1:0"]);
    let server = Server::start(limited("-l 0", &auto));
    server.expect_alive("/hello.txt", HELLO);
    let output = server.output();
    let driver = output.lines().find_map(|line| line.strip_prefix("driver "));
    // Rings were counted against that limit before Linux 5.12.
    let expected = match Io::Uring.missing() {
        None => "uring: the self-test passed",
        Some(_) => "epoll: io_uring_setup: E",
    };
    let driver = driver.unwrap_or_else(|| panic!("{output}")).trim();
    assert!(driver.starts_with(expected), "{driver}");
    server.stop();
}

/// Requests whose log lines are long, all of which have to be answered.
fn ask_with_long_lines(server: &Server, count: usize) {
    let referer = format!("Referer: http://test/{}", "r".repeat(7000));
    let mut client = server.connect();
    let began = Instant::now();
    for _ in 0..count {
        assert_eq!(
            client.ask(&request("GET", "/hello.txt", &[&referer])).body,
            HELLO
        );
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// How many lines the server says were lost, in all.
fn lost(errors: &str) -> u64 {
    let count = |line: &str| {
        let (before, _) = line.split_once(" access log entries were lost")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    };
    errors.lines().filter_map(count).sum()
}

/// The log lines that were written: whole ones only, but for the one that the disk ended.
fn check_lines(log: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(log);
    let (whole, _rest) = text.rsplit_once('\n').unwrap_or_default();
    for line in whole.lines() {
        assert!(
            line.contains("\"GET /hello.txt HTTP/1.1\" 200 14 "),
            "{line}"
        );
    }
    whole.lines().count() as u64
}

fn log_on_a_full_disk(io: Io) {
    if !peers::is_root() {
        return;
    }
    let tree = Tree::new();
    let disk = tree.outside().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let log = disk.join("access.log");
    let (disk, log) = (disk.to_str().unwrap(), log.to_str().unwrap());
    // In a mount namespace of its own, which ends with it.
    let script = format!("mount -t tmpfs -o size=1m tmpfs '{disk}' && exec \"$0\" \"$@\"");
    let inner = command(io, &tree.root(), &["--access-log", log]);
    if !peers::run(Command::new("unshare").args(["-m", "true"]), PATIENCE)
        .status
        .success()
    {
        return peers::skip("this root may not make a mount namespace");
    }
    let server = Server::start(run_by("unshare", &["-m", "sh", "-c", &script], &inner));
    ask_with_long_lines(&server, 400);
    let mut written = Vec::new();
    let within = format!("/proc/{}/root{log}", server.pid().as_raw_nonzero());
    eventually("the disk is full", || {
        written.clear();
        std::fs::File::open(&within)
            .unwrap()
            .read_to_end(&mut written)
            .unwrap();
        (written.len() >= (1 << 20) - (8 << 10)).then_some(())
    });
    ask_with_long_lines(&server, 10);
    let lines = check_lines(&written);
    let ended = server.stop();
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("ended idle="), "{}", ended.stderr);
    assert_eq!(lost(&ended.stderr) + lines, 410, "{}", ended.stderr);
}

fn log_that_nobody_reads(io: Io) {
    let tree = Tree::new();
    let log = tree.outside().join("access.pipe");
    mknodat(CWD, &log, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Open for both, so that it has a reader and can be written to.
    let mut pipe = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&log)
        .unwrap();
    let server = Server::serve(io, &tree.root(), &["--access-log", log.to_str().unwrap()]);
    // Far more than a pipe and a bounded queue hold.
    ask_with_long_lines(&server, 3000);
    server.expect_rest();
    let ended = server.stop();
    let mut written = vec![0; 1 << 20];
    let length = pipe.read(&mut written).unwrap();
    let lines = check_lines(&written[..length]);
    // Lines of the write that waits are in the pipe already, and counted as lost with their batch of
    // 64 KiB: the system call hasn't said how far it is.
    let told = lost(&ended.stderr) + lines;
    assert!((3000..3009).contains(&told), "{told}: {}", ended.stderr);
}

/// libfaketime moves the clock of the day under the running server, and leaves the monotonic one.
fn clock_jumps(io: Io) {
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    let libraries = folders.map(|folder| format!("{folder}/faketime/libfaketimeMT.so.1"));
    let Some(library) = libraries
        .iter()
        .find(|file| std::path::Path::new(file).exists())
    else {
        return peers::skip("faketime isn't installed");
    };
    let tree = Tree::new();
    let clock = tree.outside().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let mut inner = command(io, &tree.root(), &["--idle-timeout", "3s"]);
    inner
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock);
    inner
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let server = Server::start(inner);
    let year = |client: &mut Client| -> i32 {
        let response = client.get("/hello.txt");
        let date = response.field("Date").expect("Date");
        date.split(' ').nth(3).expect(date).parse().expect(date)
    };
    let mut client = server.connect();
    let now = year(&mut client);
    // 800 days are two years and a bit; from a jump back the clock returns.
    for (offset, expect) in [
        ("+800d", now + 2..=now + 3),
        ("-800d", now - 3..=now - 2),
        ("+0", now..=now),
    ] {
        let mut idle = server.connect();
        let began = Instant::now();
        std::fs::write(&clock, offset).unwrap();
        eventually("the jump is seen", || {
            expect.contains(&year(&mut client)).then_some(())
        });
        // The cache looks at files again although the clock went back.
        let body = format!("at {offset}");
        tree.write("hello.txt", &body);
        eventually("the change is seen", || {
            (client.get("/hello.txt").body == body.as_bytes()).then_some(())
        });
        // It neither ended the wait nor put it off.
        idle.expect_end();
        let lived = began.elapsed();
        let bounds = Duration::from_millis(2900)..Duration::from_secs(8);
        assert!(bounds.contains(&lived), "{lived:?}");
        client = server.connect();
    }
    server.stop();
}

fn panics(io: Io) {
    if !cfg!(debug_assertions) {
        return peers::skip("a release build has no --inject-panic");
    }
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--inject-panic", "/panic"]);
    let mut others: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut others {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    let before = server.descriptors();
    for _ in 0..10 {
        let mut client = server.connect();
        client.send(request("GET", "/hello.txt", &[]));
        assert_eq!(client.response().body, HELLO);
        client.send(request("GET", "/panic", &[]) + &request("GET", "/hello.txt", &[]));
        let rest = client.expect_cut();
        assert_eq!(find(&rest, HELLO), None, "the connection went on");
        assert!(
            !rest.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&rest)
        );
        for client in &mut others {
            assert_eq!(client.get("/hello.txt").body, HELLO);
        }
    }
    eventually("its descriptors are closed", || {
        (server.descriptors() <= before).then_some(())
    });
    let ended = server.stop();
    let said = |line: &&str| line.contains("ended by a panic");
    let said = ended.stderr.lines().filter(said).collect::<Vec<_>>();
    assert!(!said.is_empty(), "it isn't said: {}", ended.stderr);
}

fn half_closes(io: Io) {
    let tree = Tree::new();
    let large = content(3, 10 << 20);
    tree.write("large.bin", &large);
    let server = Server::serve(io, &tree.root(), &[]);
    let before = server.descriptors();
    for paths in [
        &["/hello.txt"][..],
        &["/large.bin"],
        &["/hello.txt", "/large.bin", "/hello.txt"],
    ] {
        let mut client = server.connect();
        client.send(
            paths
                .iter()
                .map(|path| request("GET", path, &[]))
                .collect::<String>(),
        );
        client.finish_sending();
        for path in paths {
            let response = client.response();
            assert_eq!(response.status, 200);
            assert!(
                response.body
                    == if *path == "/large.bin" {
                        &large[..]
                    } else {
                        HELLO
                    },
                "{path}"
            );
        }
        client.expect_end();
    }
    // After an answer, and before any request.
    let mut client = server.connect();
    assert_eq!(client.get("/hello.txt").body, HELLO);
    client.finish_sending();
    client.expect_end();
    let mut client = server.connect();
    client.finish_sending();
    client.expect_end();
    drop(client);
    eventually("its descriptors are closed", || {
        // Each of the two workers may have kept the large file open.
        (server.descriptors() <= before + 2).then_some(())
    });
}

fn connection_churn(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &[]);
    let base = server.descriptors();
    let churn = |count: usize| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..count / 4 {
                        server.expect_alive("/hello.txt", HELLO);
                    }
                });
            }
        });
        eventually("its descriptors are closed", || {
            (server.descriptors() <= base).then_some(())
        });
        server.resident_kib()
    };
    let warm = churn(400);
    let grown = churn(2000).saturating_sub(warm);
    assert!(grown < 2 << 10, "{grown} KiB more after 2,000 connections");
    server.stop();
}

/// Every send is a short one.
fn small_send_buffers(io: Io) {
    let tree = Tree::new();
    let (large, small) = (content(4, 3 << 20), content(5, 200 << 10));
    tree.write("large.bin", &large);
    tree.write("small.bin", &small);
    let file = tree.outside().join("site.toml");
    let text = format!(
        "io = \"{}\"\nworkers = 2\n[listen.main]\naddress = \"127.0.0.1:0\"\nsend_buffer = \"4KiB\"\n\
         receive_buffer = \"4KiB\"\n[files.site]\nroot = \"root\"\n",
        io.word()
    );
    std::fs::write(&file, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringway"));
    run.args(["run", "--config"]).arg(&file);
    let server = Server::start(run);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(request("GET", "/small.bin", &[]) + &request("GET", "/large.bin", &[]));
        assert!(client.response().body == small);
        assert!(client.response().body == large);
    }
    let mut sender = Client::over(client.stream().try_clone().unwrap());
    std::thread::scope(|scope| {
        let length = format!("Content-Length: {}", 500_000);
        scope.spawn(move || {
            sender.send(request("GET", "/small.bin", &[&length]) + &"x".repeat(500_000));
        });
        assert!(client.response().body == small);
    });
    server.stop();
}
