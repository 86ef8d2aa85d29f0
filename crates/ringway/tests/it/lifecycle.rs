//! Starting, refusing to start, stopping, and starting again on the same port.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{bind, connect};
use rustix::process::Signal;

use crate::client::{Client, ipv4_socket, request};
use crate::peers;
use crate::server::{
    Ended, Io, Server, command, command_on, eventually, limited, on_both_drivers, without,
};
use crate::slowness::thin_client;
use crate::tree::{HELLO, Tree, content};

on_both_drivers!(
    restarts_under_load,
    a_second_instance,
    a_download_outlives_the_signal,
    a_download_that_takes_too_long,
    what_had_arrived_is_answered,
    nobody_goes_on_without_a_pause,
    the_self_test_leaves_nothing_open,
    a_second_signal,
    interrupt_is_like_terminate,
    low_ports,
    a_root_that_cannot_be_entered,
    too_few_descriptors,
    too_little_memory,
    logs_that_cannot_be_written,
    the_access_log,
    two_listeners,
    ipv6,
    both_families,
    connection_limit,
    connection_limit_for_each_address,
    start_lines,
);

/// Checks that the program refused: one line that says what, and the exit code for it.
#[track_caller]
fn check_refused(started: Result<Server, Ended>, words: &[&str]) {
    let ended = started.err().expect("it doesn't start");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "", "nothing is ready");
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("ringway: "), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

/// Clients that connect, ask and leave in the middle, until they are told to stop.
fn load(address: SocketAddr, stop: &AtomicBool, answers: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
            continue; // it is down
        };
        let mut client = Client::over(stream);
        // A large one, so that some are always under way when the server goes.
        if client.try_send(request("GET", "/large.bin", &[])).is_err() {
            continue;
        }
        if client
            .sip(100_000)
            .is_ok_and(|bytes| bytes.starts_with(b"HTTP/1.1 200 OK\r\n"))
        {
            answers.fetch_add(1, Ordering::Relaxed);
            _ = client.sip(1 << 20);
        }
    }
}

fn restarts_under_load(io: Io) {
    let tree = Tree::new();
    tree.write("large.bin", content(1, 1 << 20));
    let flags = ["--shutdown-timeout", "100ms"];
    let began = Instant::now();
    let first = Server::serve(io, &tree.root(), &flags);
    let address = first.address();
    let (stop, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(address, &stop, &answers));
        }
        let restarts = scope.spawn(|| {
            let mut server = first;
            for round in 0..50 {
                server.expect_alive("/hello.txt", HELLO);
                match round % 2 {
                    0 => server.kill(),
                    _ => _ = server.stop(),
                }
                let again = command_on(io, &tree.root(), &address.to_string(), &flags);
                server = Server::start(again);
            }
            server.expect_alive("/hello.txt", HELLO);
        });
        let done = restarts.join();
        stop.store(true, Ordering::Relaxed);
        done.expect("every restart serves");
    });
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    assert!(answers.load(Ordering::Relaxed) > 50, "there was no load");
}

fn a_second_instance(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &[]);
    let address = server.address().to_string();
    // Whatever the driver and the workers of either.
    for (io, flags) in [(io, &[][..]), (Io::Epoll, &["--workers", "1"])] {
        let second = command_on(io, &tree.root(), &address, flags);
        check_refused(Server::try_start(second), &[&address]);
    }
    // Nobody got lost to it.
    for _ in 0..20 {
        server.expect_alive("/hello.txt", HELLO);
    }
    // A port that another program has.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    check_refused(
        Server::try_start(command_on(io, &tree.root(), &address, &[])),
        &[&address],
    );
}

/// Length of a download that isn't over when the signal comes.
const LENGTH: usize = 12 << 20;

/// A server with a download under way, of which nothing but the head is read.
fn downloading(io: Io, tree: &Tree, flags: &[&str]) -> (Server, Client) {
    tree.write("large.bin", content(2, LENGTH));
    let server = Server::serve(io, &tree.root(), flags);
    let mut client = thin_client(&server);
    client.send(request("GET", "/large.bin", &[]));
    assert_eq!(client.head().status, 200);
    (server, client)
}

fn a_download_outlives_the_signal(io: Io) {
    let tree = Tree::new();
    let (server, mut client) = downloading(io, &tree, &[]);
    let (mut silent, mut idle) = (server.connect(), server.connect());
    assert_eq!(idle.get("/hello.txt").body, HELLO);
    server.signal(Signal::TERM);
    let began = Instant::now();
    // Those that nothing is under way on are closed at once, in good order.
    idle.expect_end();
    silent.expect_end();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // Nobody is let in any more.
    eventually("it stops listening", || {
        TcpStream::connect(server.address()).is_err().then_some(())
    });
    assert!(client.take(LENGTH) == content(2, LENGTH));
    client.expect_end();
    let mut server = server;
    assert_eq!(server.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

fn a_download_that_takes_too_long(io: Io) {
    let tree = Tree::new();
    let (mut server, mut client) = downloading(io, &tree, &["--shutdown-timeout", "500ms"]);
    server.signal(Signal::TERM);
    let began = Instant::now();
    let status = server.wait();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(450) && took < Duration::from_secs(5),
        "{took:?}"
    );
    assert_eq!(status.code(), Some(0));
    assert!(client.expect_cut().len() < LENGTH);
}

fn a_second_signal(io: Io) {
    let tree = Tree::new();
    let (mut server, mut client) = downloading(io, &tree, &[]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/hello.txt").body, HELLO);
    server.signal(Signal::TERM);
    // The first one was understood.
    idle.expect_end();
    server.signal(Signal::TERM);
    let began = Instant::now();
    // Whoever waits for it learns that not everything was sent.
    assert_eq!(server.wait().code(), Some(1));
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert!(client.expect_cut().len() < LENGTH);
}

fn interrupt_is_like_terminate(io: Io) {
    let tree = Tree::new();
    let mut server = Server::serve(io, &tree.root(), &[]);
    let mut idle = server.connect();
    assert_eq!(idle.get("/hello.txt").body, HELLO);
    server.signal(Signal::INT);
    idle.expect_end();
    assert_eq!(server.wait().code(), Some(0));
}

/// Connections that weren't accepted yet and requests that weren't read yet when the signal came.
fn what_had_arrived_is_answered(io: Io) {
    let tree = Tree::new();
    for workers in ["1", "2"] {
        let mut server = Server::serve(io, &tree.root(), &["--workers", workers]);
        let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
        for client in &mut clients[..10] {
            assert_eq!(client.get("/hello.txt").body, HELLO);
        }
        server.signal(Signal::STOP);
        clients.extend((0..20).map(|_| server.connect()));
        for client in &mut clients {
            client.send(request("GET", "/hello.txt", &[]));
        }
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        for client in &mut clients {
            assert_eq!(client.response().body, HELLO);
            client.expect_end();
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// Whoever has sent a thousand requests at once doesn't keep the worker from others until they are
/// all answered.
fn nobody_goes_on_without_a_pause(io: Io) {
    let tree = Tree::new();
    let flags = [
        "--workers",
        "1",
        "--access-log",
        "-",
        "--access-format",
        "$request",
    ];
    let server = Server::serve(io, &tree.root(), &flags);
    let mut others = [server.connect(), server.connect()];
    let mut hasty = server.connect();
    for client in others.iter_mut().chain([&mut hasty]) {
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    server.signal(Signal::STOP);
    hasty.send(request("GET", "/hello.txt?hasty", &["Range: bytes=0-0"]).repeat(1000));
    for client in &mut others {
        client.send(request("GET", "/hello.txt?patient", &[]));
    }
    server.signal(Signal::CONT);
    for client in &mut others {
        assert_eq!(client.response().body, HELLO);
    }
    for _ in 0..1000 {
        assert_eq!(hasty.response().body, HELLO[..1]);
    }
    let ended = server.stop();
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let last = lines.iter().rposition(|line| line.contains("patient"));
    let before = lines[..last.expect("they are there")].iter();
    let hasty = before.filter(|line| line.contains("hasty")).count();
    assert!(hasty < 300, "{hasty} came first");
}

/// Each worker has one socket, and nothing else is one.
fn the_self_test_leaves_nothing_open(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--workers", "2"]);
    eventually("two sockets are left", || {
        (server.sockets() == 2).then_some(())
    });
}

/// Port 80, without the right to it.
fn low_ports(io: Io) {
    let unprivileged = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if unprivileged.is_ok_and(|first| first.trim().parse::<u16>().unwrap() <= 80) {
        return peers::skip("this machine gives low ports to everybody");
    }
    let tree = Tree::new();
    let command = command_on(io, &tree.root(), "127.0.0.1:80", &[]);
    let Some(command) = without(&["net_bind_service"], command) else {
        return;
    };
    check_refused(Server::try_start(command), &["127.0.0.1:80", "1024"]);
}

/// A directory that could be opened, but nothing in it.
fn a_root_that_cannot_be_entered(io: Io) {
    let tree = Tree::new();
    let closed = tree.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o600)).unwrap();
    let rights = ["dac_override", "dac_read_search"];
    let Some(command) = without(&rights, command(io, &closed, &[])) else {
        return;
    };
    let words = [closed.to_str().unwrap(), "may not enter"];
    check_refused(Server::try_start(command), &words);
}

fn too_few_descriptors(io: Io) {
    let tree = Tree::new();
    for limit in ["-n 8", "-n 20"] {
        let command = limited(limit, &command(io, &tree.root(), &[]));
        check_refused(Server::try_start(command), &["descriptors", "ulimit -Hn"]);
    }
    // With as many as it asks for it serves.
    let refused = Server::try_start(limited("-n 20", &command(io, &tree.root(), &[])));
    let said = refused.err().expect("a refusal").stderr;
    let (_, asked) = said.split_once("it takes ").expect("how many it takes");
    let (asked, _) = asked.split_once(';').expect("a number");
    let command = limited(&format!("-n {asked}"), &command(io, &tree.root(), &[]));
    let server = Server::start(command);
    server.expect_alive("/hello.txt", HELLO);
    server.stop();
}

fn too_little_memory(io: Io) {
    let tree = Tree::new();
    // A gibibyte for each worker.
    let flags = [
        "--receive-buffers",
        "1024",
        "--receive-buffer-bytes",
        "1MiB",
    ];
    let command = limited("-v 1000000", &command(io, &tree.root(), &flags));
    check_refused(Server::try_start(command), &["mapping 1073741824 bytes"]);
}

fn logs_that_cannot_be_written(io: Io) {
    let tree = Tree::new();
    let file = tree.path("hello.txt/access.log");
    check_refused(
        Server::try_start(command(
            io,
            &tree.root(),
            &["--access-log", file.to_str().unwrap()],
        )),
        &["access.log"],
    );
    let folder = tree.root();
    check_refused(
        Server::try_start(command(
            io,
            &tree.root(),
            &["--access-log", folder.to_str().unwrap()],
        )),
        &[folder.to_str().unwrap()],
    );
    // A pipe that nobody has open isn't waited for.
    let pipe = tree.outside().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    match Server::try_start(command(
        io,
        &tree.root(),
        &["--access-log", pipe.to_str().unwrap()],
    )) {
        Ok(server) => {
            server.expect_alive("/hello.txt", HELLO);
            server.stop();
        }
        refused => check_refused(refused, &[pipe.to_str().unwrap()]),
    }
}

/// The "combined" format, a line for each answer, in a file and on standard output.
fn the_access_log(io: Io) {
    let tree = Tree::new();
    let file = tree.outside().join("access.log");
    std::fs::write(&file, "a line from before\n").unwrap();
    let ask = |server: &Server| {
        let mut client = server.connect();
        client.get("/hello.txt?a=b");
        let fields = ["User-Agent: \"quoted\"", "Referer: http://r/"];
        client.ask(&request("HEAD", "/nothing", &fields));
        client.ask(&request(
            "GET",
            "/hello.txt",
            &["Range: bytes=0-4", "User-Agent: x\\y"],
        ));
        client.send("BAD\r\n\r\n");
        client.response();
    };
    let check = |lines: &str| {
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        for (line, rest) in lines.iter().zip([
            "\"GET /hello.txt?a=b HTTP/1.1\" 200 14 \"-\" \"-\"",
            "\"HEAD /nothing HTTP/1.1\" 404 ",
            "\"GET /hello.txt HTTP/1.1\" 206 5 \"-\" ",
            " 400 ",
        ]) {
            assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
            assert!(line.contains(rest), "{line}: not {rest}");
        }
        // What a client sends can't end its field or the line.
        let agent = lines[1].rsplit_once("\"http://r/\" \"").expect(lines[1]).1;
        assert!(
            !agent.trim_end_matches('"').contains("\"q") && agent.contains("quoted"),
            "{agent}"
        );
    };
    let server = Server::serve(io, &tree.root(), &["--access-log", file.to_str().unwrap()]);
    ask(&server);
    server.stop();
    let text = std::fs::read_to_string(&file).unwrap();
    check(
        text.strip_prefix("a line from before\n")
            .expect("it is appended to"),
    );

    let server = Server::serve(io, &tree.root(), &["--access-log", "-"]);
    ask(&server);
    let ended = server.stop();
    let lines: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| line.contains(" - - ["))
        .collect();
    check(&lines.join("\n"));
}

fn two_listeners(io: Io) {
    let tree = Tree::new();
    tree.write("other/index.html", "the other one");
    let file = tree.outside().join("site.toml");
    let text = format!(
        "io = \"{}\"\nworkers = 2\n[listen.a]\naddress = \"127.0.0.1:0\"\nfiles = \"one\"\n\
         [listen.b]\naddress = [\"127.0.0.1:0\", \"[::1]:0\"]\nfiles = \"two\"\n\
         [files.one]\nroot = \"root\"\n[files.two]\nroot = \"root/other\"\ncharset = \"\"\n",
        io.word()
    );
    std::fs::write(&file, text).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_ringway"));
    run.args(["run", "--config"]).arg(&file);
    let server = Server::start(run);
    let mut bodies: Vec<(u16, Vec<u8>)> = Vec::new();
    for address in server.addresses(3) {
        // From both workers.
        for _ in 0..8 {
            let mut client = Client::connect(address);
            let response = client.get("/");
            bodies.push((address.port(), response.body.clone()));
            let other = response.body == b"the other one";
            let kind = if other {
                "text/html"
            } else {
                "text/html; charset=utf-8"
            };
            assert_eq!(response.field("Content-Type"), Some(kind));
            assert_eq!(
                client.get("/hello.txt").status,
                if other { 404 } else { 200 }
            );
        }
    }
    bodies.dedup();
    let others = bodies
        .iter()
        .filter(|(_, body)| body == b"the other one")
        .count();
    assert_eq!((bodies.len(), others), (3, 2), "{bodies:?}");
    server.stop();
}

fn ipv6(io: Io) {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return peers::skip("no IPv6 here");
    }
    let tree = Tree::new();
    let server = Server::start(command_on(
        io,
        &tree.root(),
        "[::1]:0",
        &["--access-log", "-"],
    ));
    assert!(server.address().is_ipv6());
    server.expect_alive("/hello.txt", HELLO);
    assert!(server.stop().stdout.starts_with("::1 - - ["));
}

/// A port of every address takes both families, each logged as itself.
fn both_families(io: Io) {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return peers::skip("no IPv6 here");
    }
    let tree = Tree::new();
    let server = Server::start(command_on(io, &tree.root(), ":0", &["--access-log", "-"]));
    let port = server.address().port();
    for address in [
        SocketAddr::from(([127, 0, 0, 1], port)),
        format!("[::1]:{port}").parse().unwrap(),
    ] {
        let mut client = Client::connect(address);
        assert_eq!(client.get("/hello.txt").body, HELLO);
    }
    let ended = server.stop();
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert!(lines[0].starts_with("127.0.0.1 - - ["), "{lines:?}");
    assert!(lines[1].starts_with("::1 - - ["), "{lines:?}");
}

/// Makes `count` connections, and keeps those that are served; the others are refused or wait.
fn served(connect: impl Fn() -> io::Result<Client>, count: usize) -> (Vec<Client>, Vec<Client>) {
    let (mut served, mut others) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let Ok(mut client) = connect() else {
            continue;
        };
        let sent = client.try_send(request("GET", "/hello.txt", &[])).is_ok();
        // The first one that isn't served is waited for, in case it is only slow.
        let time = Duration::from_millis(if others.is_empty() { 500 } else { 20 });
        match sent && client.is_answered_within(time) && client.has_input() {
            true => served.push(client),
            false => others.push(client),
        }
    }
    for client in &mut served {
        assert_eq!(client.response().body, HELLO);
    }
    (served, others)
}

/// Checks that of 20 connections `limit` are served, as soon as the earlier ones have gone, and
/// never more; gives those that are.
#[track_caller]
fn check_limit(connect: impl Fn() -> io::Result<Client>, limit: usize) -> Vec<Client> {
    eventually("there is room", || {
        let (inside, _others) = served(&connect, 20);
        assert!(
            inside.len() <= limit,
            "{} served, across both workers",
            inside.len()
        );
        (inside.len() == limit).then_some(inside)
    })
}

fn connection_limit(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--connections", "10"]);
    for _ in 0..3 {
        let mut inside = check_limit(|| server.try_connect(), 10);
        for client in &mut inside {
            assert_eq!(client.get("/hello.txt").body, HELLO);
        }
    }
    let errors = server.stop().stderr;
    assert!(errors.contains("(limits.connections) count="), "{errors}");
}

fn connection_limit_for_each_address(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &["--connections-per-address", "5"]);
    let from = |last: u8| {
        let server = &server;
        move || {
            let socket = ipv4_socket()?;
            bind(&socket, &SocketAddr::from(([127, 0, 0, last], 0)))?;
            connect(&socket, &server.address())?;
            Ok(Client::over(TcpStream::from(socket)))
        }
    };
    for _ in 0..3 {
        let mut first = check_limit(from(2), 5);
        // Others aren't concerned.
        let second = check_limit(from(3), 5);
        for client in first.iter_mut() {
            assert_eq!(client.get("/hello.txt").body, HELLO);
        }
        drop((first, second));
    }
    let errors = server.stop().stderr;
    assert!(
        errors.contains("(limits.connections_per_address) count="),
        "{errors}"
    );
}

/// What it says at start: an address to click on, the driver and why, the workers.
fn start_lines(io: Io) {
    let tree = Tree::new();
    let server = Server::serve(io, &tree.root(), &[]);
    let text = server.output() + &server.errors();
    assert!(
        text.contains(&format!("http://{}/", server.address())),
        "{text}"
    );
    let ended = server.stop();
    let text = ended.stdout + &ended.stderr;
    let driver = text
        .lines()
        .find(|line| line.starts_with("driver"))
        .expect("the driver");
    assert!(
        driver.contains(io.word()) && driver.contains("asked for"),
        "{text}"
    );
    assert!(text.contains("workers"), "{text}");
}
