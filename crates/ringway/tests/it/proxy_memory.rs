//! Twenty thousand connections to the proxy of a process that may have little memory: it lets in as many
//! as it is told to, refuses the others, and isn't killed.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{bind, connect};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{Client, ipv4_socket, request};
use crate::peers;
use crate::server::{Io, Server, eventually, on_both_drivers, run_by};
use crate::upstream::{self, Upstream};

on_both_drivers!(many_connections_and_little_memory);

const CONNECTIONS: usize = 20_000;
/// Descriptors that other tests of this process may need meanwhile.
const OTHERS: usize = 4_000;
/// For all that the process has, what the kernel keeps for its sockets included.
const MEMORY_BYTES: usize = 128 << 20;

/// A control group whose memory is limited.
struct Group(PathBuf);

impl Group {
    /// `None`, and the test is skipped, where none is to be had.
    fn new(io: Io) -> Option<Group> {
        let name = format!("ringway-{}-{}", std::process::id(), io.word());
        let first = Path::new("/sys/fs/cgroup/memory");
        let (parent, file) = match first.join("memory.limit_in_bytes").exists() {
            true => (first, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let group = Group(parent.join(name));
        let made = std::fs::create_dir(&group.0);
        let limited =
            made.and_then(|()| std::fs::write(group.0.join(file), MEMORY_BYTES.to_string()));
        match limited {
            Ok(()) => Some(group),
            Err(error) => {
                drop(group);
                peers::skip(&format!("no control group for memory: {error}"));
                None
            }
        }
    }

    /// How often the kernel has killed for want of memory.
    fn kills(&self) -> u64 {
        let events = ["memory.oom_control", "memory.events"]
            .iter()
            .find_map(|file| std::fs::read_to_string(self.0.join(file)).ok());
        let events = events.unwrap_or_default();
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        kills.map_or(0, |count| count.trim().parse().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // When its last process is gone, which the test has waited for.
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// How many connections there are to be: fewer where this process may not have the descriptors for
/// them, and for what other tests need meanwhile.
fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let most = limit.maximum.map_or(usize::MAX, |most| most as usize);
    CONNECTIONS.min(most.saturating_sub(OTHERS))
}

/// A client from one of a few addresses: each has ports for some thousands.
fn connect_from(address: SocketAddr, number: usize) -> std::io::Result<Client> {
    let socket = ipv4_socket()?;
    let own: SocketAddr = format!("127.0.2.{}:0", number % 8 + 1).parse().unwrap();
    bind(&socket, &own)?;
    connect(&socket, &address)?;
    Ok(Client::over(TcpStream::from(socket)))
}

fn many_connections_and_little_memory(io: Io) {
    if !peers::is_root() {
        return;
    }
    // One at a time: both would take more descriptors than there are.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let all = connections();
    if all < 10_000 {
        return peers::skip("not so many descriptors are to be had");
    }
    // Of these, so many may be in.
    let inside_count = all * 3 / 4;
    let Some(group) = Group::new(io) else { return };
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let ours = Arc::clone(&gate);
    let upstream = Upstream::start(move |mut peer| {
        while peer.request().is_some() {
            let (is_open, opened) = &*ours;
            let closed = is_open.lock().unwrap();
            drop(opened.wait_while(closed, |is_open| !*is_open).unwrap());
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        }
    });
    let keys = format!(
        "max_connections = 16\nqueue = 100000\nqueue_timeout = \"1h\"\nfirst_byte_timeout = \"1h\"\n\
         [limits]\nconnections = {inside_count}\nhead_deadline = \"10m\"\nidle_timeout = \"10m\""
    );
    let servers = [upstream.address().to_string()];
    let (command, _folder) = upstream::command(io, 2, &upstream::config(&servers, &keys));
    let processes = group.0.join("cgroup.procs");
    let script = format!("echo $$ > {} && exec \"$0\" \"$@\"", processes.display());
    let server = Server::start(run_by("sh", &["-c", &script], &command));
    let mut inside = Vec::new();
    for number in 0..all {
        let Ok(mut client) = connect_from(server.address(), number) else {
            continue;
        };
        // A third waits for an answer, a third has begun to ask, a third says nothing yet.
        let sent = match number % 3 {
            0 => client.try_send(request("GET", "/", &[])),
            1 => client.try_send("GET / HTTP/1.1\r\nHost: h\r\nX-Long: "),
            _ => Ok(()),
        };
        if sent.is_ok() {
            inside.push((number, client));
        }
    }
    assert_eq!(group.kills(), 0, "{}", server.errors());
    // Those who wait are answered when the server answers.
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    let mut answered = 0;
    for (_, client) in inside.iter_mut().filter(|(number, _)| number % 3 == 0) {
        // Others were refused after they had connected.
        if client.is_answered_within(Duration::from_secs(20)) && client.has_input() {
            assert_eq!(client.response().body, b"good");
            answered += 1;
        }
    }
    assert!(answered >= inside_count / 3 - 100, "{answered} answers");
    let grown = server.sockets();
    assert!(grown <= inside_count + 100, "{grown} sockets");
    drop(inside);
    eventually("all of them are gone", || {
        (server.sockets() < 100).then_some(())
    });
    assert_eq!(server.get("/").body, b"good");
    assert_eq!(group.kills(), 0);
    server.stop();
}
