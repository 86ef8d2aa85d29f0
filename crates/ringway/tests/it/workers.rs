//! Workers that fail and are started anew, what they share, and how they end.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::client::{Client, request};
use crate::peers;
use crate::server::{Io, Server, eventually, on_both_drivers, within};
use crate::slowness::thin_client;
use crate::tree::{HELLO, Tree, content};

on_both_drivers!(
    a_worker_that_fails,
    a_worker_that_panics,
    a_worker_that_fails_again,
    a_worker_that_cannot_start_for_a_while,
    no_worker_can_be_kept_running,
    an_answer_from_memory_outlives_the_signal,
    the_end_tells_idle_from_busy,
    hangup_opens_the_log_anew,
    hangup_without_a_log,
    the_cache_is_shared_fairly,
    each_worker_has_a_cpu_and_the_descriptors_of_all,
);

/// A server whose workers fail on request; `None` where the build has no such thing.
fn fragile(io: Io, tree: &Tree, flags: &[&str]) -> Option<Server> {
    if !cfg!(debug_assertions) {
        peers::skip("a release build has no --inject-panic");
        return None;
    }
    let flags = [&["--inject-panic", "/fault"], flags].concat();
    Some(Server::serve(io, &tree.root(), &flags))
}

/// Makes the worker fail that this request comes to.
fn make_fail(server: &Server, target: &str) {
    let mut client = server.connect();
    client.send(request("GET", target, &[]));
    client.expect_cut();
}

/// Waits until the event log has these words `count` times.
#[track_caller]
fn wait_for_event(server: &Server, words: &str, count: usize) {
    eventually(words, || {
        (server.errors().matches(words).count() >= count).then_some(())
    });
}

fn check_failure(io: Io, fault: &str, reason: &str) {
    let tree = Tree::new();
    let log = tree.outside().join("access.log");
    let flags = ["--access-log", log.to_str().unwrap()];
    let Some(server) = fragile(io, &tree, &flags) else {
        return;
    };
    // Among so many, some are the other worker's.
    let mut others: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    for client in &mut others {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    make_fail(&server, fault);
    wait_for_event(&server, "a worker is down", 1);
    assert!(server.errors().contains(reason), "{}", server.errors());
    others.retain_mut(|client| {
        let sent = client.try_send(request("GET", "/hello.txt", &[])).is_ok();
        sent && client.is_answered_within(Duration::from_secs(5)) && client.has_input()
    });
    assert!((1..40).contains(&others.len()), "{} go on", others.len());
    wait_for_event(&server, "a worker runs again", 1);
    for client in &mut others {
        assert_eq!(client.response().body, HELLO);
    }
    let served = 40 + others.len() + 40;
    for _ in 0..40 {
        server.expect_alive("/hello.txt", HELLO);
    }
    server.stop();
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.matches("\"GET /hello.txt ").count(), served);
}

fn a_worker_that_fails(io: Io) {
    check_failure(io, "/fault/failure", "injected");
}

fn a_worker_that_panics(io: Io) {
    check_failure(io, "/fault/worker", "it panicked");
}

/// It is left alone for longer each time.
fn a_worker_that_fails_again(io: Io) {
    let tree = Tree::new();
    let Some(server) = fragile(io, &tree, &["--workers", "1"]) else {
        return;
    };
    for (index, pause) in ["0.1", "0.2", "0.4"].into_iter().enumerate() {
        make_fail(&server, "/fault/failure");
        wait_for_event(&server, &format!("pause_seconds={pause}"), 1);
        wait_for_event(&server, "a worker runs again", index + 1);
        server.expect_alive("/hello.txt", HELLO);
    }
    server.stop();
}

/// Sets the limit of descriptors that a running server may have.
fn limit_descriptors(server: &Server, count: u64) {
    let limit = Rlimit {
        current: Some(count),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(server.pid()), Resource::Nofile, limit).unwrap();
}

fn a_worker_that_cannot_start_for_a_while(io: Io) {
    let tree = Tree::new();
    let Some(server) = fragile(io, &tree, &["--workers", "1"]) else {
        return;
    };
    let mut client = server.connect();
    assert_eq!(client.get("/hello.txt").body, HELLO);
    limit_descriptors(&server, 3);
    client.send(request("GET", "/fault/failure", &[]));
    client.expect_cut();
    wait_for_event(&server, "Too many open files", 2);
    limit_descriptors(&server, 1000);
    wait_for_event(&server, "a worker runs again", 1);
    server.expect_alive("/hello.txt", HELLO);
    server.stop();
}

/// What can't serve any more ends, and says so, instead of staying there for nothing.
fn no_worker_can_be_kept_running(io: Io) {
    let tree = Tree::new();
    let log = tree.outside().join("access.log");
    let flags = ["--access-log", log.to_str().unwrap()];
    let Some(mut server) = fragile(io, &tree, &flags) else {
        return;
    };
    let mut clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    limit_descriptors(&server, 3);
    for client in &mut clients {
        // Until both have failed.
        _ = client.try_send(request("GET", "/fault/failure", &[]));
        client.expect_cut();
    }
    // After pauses of 13 seconds in all.
    let ended = within(Duration::from_secs(60), || server.try_wait());
    assert_eq!(ended.expect("it ends by itself").code(), Some(1));
    let errors = server.all_errors();
    let last = errors.lines().last().unwrap();
    assert!(
        last.starts_with("ringway: no worker can be kept running: ")
            && last.contains("Too many open files"),
        "{errors}"
    );
    let lines = std::fs::read_to_string(&log).unwrap();
    assert_eq!(lines.matches("\"GET /hello.txt ").count(), 40);
}

/// `ringway run` with this text as its configuration.
fn run_with(io: Io, tree: &Tree, text: &str) -> Server {
    let file = tree.outside().join("site.toml");
    std::fs::write(&file, format!("io = \"{}\"\n{text}", io.word())).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringway"));
    run.args(["run", "--config"]).arg(&file);
    Server::start(run)
}

/// The last bytes of an answer that the server no longer looks at wake it up.
fn an_answer_from_memory_outlives_the_signal(io: Io) {
    let tree = Tree::new();
    let kept = content(1, 200 << 10);
    tree.write("kept.bin", &kept);
    let text = "workers = 1\n[listen.main]\naddress = \"127.0.0.1:0\"\nsend_buffer = \"4KiB\"\n\
                [files.site]\nroot = \"root\"\n";
    let mut server = run_with(io, &tree, text);
    assert!(server.get("/kept.bin").body == kept);
    let mut client = thin_client(&server);
    client.send(request("GET", "/kept.bin", &[]));
    assert_eq!(client.head().status, 200);
    server.signal(Signal::TERM);
    wait_for_event(&server, "ending", 1);
    let began = Instant::now();
    assert!(client.take(kept.len()) == kept);
    client.expect_end();
    assert_eq!(server.wait().code(), Some(0));
    // Nothing but the deadlines of 25 s and more would have ended it otherwise.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

fn the_end_tells_idle_from_busy(io: Io) {
    let tree = Tree::new();
    let large = content(2, 12 << 20);
    tree.write("large.bin", &large);
    let server = Server::serve(io, &tree.root(), &["--shutdown-timeout", "6s"]);
    let mut idle: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    let mut busy = [thin_client(&server), thin_client(&server)];
    for client in &mut busy {
        client.send(request("GET", "/large.bin", &[]));
        assert_eq!(client.head().status, 200);
    }
    server.signal(Signal::TERM);
    idle.iter_mut().for_each(Client::expect_end);
    assert!(busy[0].take(large.len()) == large);
    let mut server = server;
    assert_eq!(server.wait().code(), Some(0));
    let errors = server.all_errors();
    let begin = errors
        .lines()
        .find(|line| line.contains("ending:"))
        .unwrap();
    assert!(begin.contains("connections=7"), "{begin}");
    let end = errors.lines().last().unwrap();
    assert!(end.contains("idle=5 finished=1 cut=1"), "{end}");
}

fn hangup_opens_the_log_anew(io: Io) {
    let tree = Tree::new();
    let log = tree.outside().join("access.log");
    let server = Server::serve(io, &tree.root(), &["--access-log", log.to_str().unwrap()]);
    std::fs::rename(&log, tree.outside().join("access.log.1")).unwrap();
    server.signal(Signal::HUP);
    wait_for_event(&server, "the access log is opened anew", 1);
    server.expect_alive("/hello.txt", HELLO);
    // One that can't be opened isn't claimed to be.
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    server.signal(Signal::HUP);
    wait_for_event(&server, "cannot open the access log anew", 1);
    let ended = server.stop();
    assert_eq!(ended.stderr.matches("is opened anew").count(), 1);
}

fn hangup_without_a_log(io: Io) {
    let tree = Tree::new();
    for flags in [&[][..], &["--access-log", "-"]] {
        let server = Server::serve(io, &tree.root(), flags);
        server.signal(Signal::HUP);
        wait_for_event(&server, "no access log file", 1);
        server.expect_alive("/hello.txt", HELLO);
        let ended = server.stop();
        assert!(!ended.stderr.contains("is opened anew"), "{}", ended.stderr);
    }
}

/// Each root of each worker keeps its share of the bound, and no more.
fn the_cache_is_shared_fairly(io: Io) {
    const FILES: usize = 24;
    const BYTES: usize = 8 << 10;
    // All files of both roots would fit twice over if everybody had the whole of it.
    const BOUND: usize = 512 << 10;
    let tree = Tree::empty();
    let text = format!(
        "workers = 2\n[listen.a]\naddress = \"127.0.0.1:0\"\nfiles = \"a\"\n\
         [listen.b]\naddress = \"127.0.0.1:0\"\nfiles = \"b\"\n\
         [files.a]\nroot = \"root/a\"\nrevalidate_interval = \"1h\"\nwatch = false\n\
         [files.b]\nroot = \"root/b\"\nrevalidate_interval = \"1h\"\nwatch = false\n\
         [limits]\ncache_bytes = {BOUND}\ncache_file_bytes = \"16KiB\"\n"
    );
    let paths: Vec<String> = (0..FILES).map(|index| format!("/{index}.bin")).collect();
    let write = |content: &[u8]| {
        for root in ["a", "b"] {
            for path in &paths {
                tree.write(format!("{root}{path}"), content);
            }
        }
    };
    write(&[b'1'; BYTES]);
    let server = run_with(io, &tree, &text);
    for address in server.addresses(2) {
        // Each is one worker's; together they are both's, most likely.
        let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(address)).collect();
        for client in &mut clients {
            for path in &paths {
                assert_eq!(client.get(path).body, [b'1'; BYTES]);
            }
        }
        write(&[b'2'; BYTES]);
        // What is in memory is answered as it was. The last ones first: they are still there, and
        // what a miss drives out has been counted.
        let kept = |client: &mut Client| {
            let is_kept = |path: &&String| client.get(path).body == [b'1'; BYTES];
            paths.iter().rev().filter(is_kept).count() * BYTES
        };
        let most = clients.iter_mut().map(kept).max().unwrap();
        let share = BOUND / 4;
        assert!(
            (share / 2..=share).contains(&most),
            "{most} bytes are kept for one root of one worker, of {share}"
        );
        write(&[b'1'; BYTES]);
    }
    server.stop();
}

/// What the kernel says of each worker's thread: the CPUs that it may use, and its descriptors.
fn worker_threads(server: &Server) -> Vec<(String, BTreeSet<String>)> {
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    let mut threads = Vec::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        let task = task.unwrap().path();
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let name = field("Name:");
        let number = name.strip_prefix("ringway-").map(str::parse::<usize>);
        if !matches!(number, Some(Ok(_))) {
            continue;
        }
        let descriptors = std::fs::read_dir(task.join("fd")).unwrap();
        let names = descriptors.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        threads.push((field("Cpus_allowed_list:"), names.collect()));
    }
    threads
}

/// Rule 8 of the runtime: connections move between workers, so they have one table of descriptors.
fn each_worker_has_a_cpu_and_the_descriptors_of_all(io: Io) {
    let allowed = std::thread::available_parallelism().unwrap().get();
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--workers", &allowed.to_string()]);
    // So many that each worker has some, and what a request opens is open.
    let mut clients: Vec<Client> = (0..40).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    let threads = worker_threads(&server);
    let cpus: BTreeSet<&String> = threads.iter().map(|(cpus, _)| cpus).collect();
    assert_eq!((threads.len(), cpus.len()), (allowed, allowed), "{cpus:?}");
    assert!(
        cpus.iter().all(|cpu| cpu.parse::<usize>().is_ok()),
        "{cpus:?}"
    );
    for (_, descriptors) in &threads {
        assert!(descriptors.len() > clients.len(), "{descriptors:?}");
        assert_eq!(*descriptors, threads[0].1);
    }
    server.stop();
}
