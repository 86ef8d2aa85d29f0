//! Connections and the worker on whose CPU they come in. Over loopback that is the CPU of the client.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ringway_runtime::cpu;
use serde_json::Value;

use crate::backend::expect_event;
use crate::client::{Client, request};
use crate::peers;
use crate::server::{Io, PATIENCE, Server, command, eventually, on_both_drivers, run_by};
use crate::tree::{HELLO, Tree};

on_both_drivers!(
    connections_go_to_the_worker_of_their_cpu,
    without_steering_connections_go_anywhere,
    a_worker_that_is_started_anew_gets_its_own_again,
    what_can_not_be_steered_is_told,
);

/// Connections from each CPU. That a hash sends so many of one CPU to one worker of two happens once
/// in 2^32 times.
const CONNECTIONS: usize = 32;

/// A server with a worker on each of two CPUs, in this order.
struct Site {
    server: Server,
    cpus: [usize; 2],
    socket: PathBuf,
    _tree: Tree,
}

impl Site {
    /// `None`, and the test is skipped, where there is one CPU alone.
    fn start(io: Io, flags: &[&str]) -> Option<Site> {
        Site::start_without(None, io, flags)
    }

    /// With this call refused, as an older kernel or a container would.
    fn start_without(refused: Option<&str>, io: Io, flags: &[&str]) -> Option<Site> {
        let allowed = cpu::allowed().unwrap();
        let &[first, second, ..] = &allowed[..] else {
            peers::skip("one CPU alone is allowed");
            return None;
        };
        let tree = Tree::new();
        let socket = tree.outside().join("admin.sock");
        let admin = format!("unix:{}", socket.display());
        let list = format!("{first},{second}");
        let own = ["--worker-cpus", &list, "--admin", &admin];
        let serve = command(io, &tree.root(), &[&own, flags].concat());
        let server = Server::start(match refused {
            None => serve,
            Some(call) => run_by(peers::refuse_calls(), &[call], &serve),
        });
        let mut site = Site {
            server,
            cpus: [first, second],
            socket,
            _tree: tree,
        };
        // The planner's order may be another.
        let workers = &site.status()["workers"];
        let placed = [0, 1].map(|index| workers[index]["cpu"].as_u64().unwrap() as usize);
        site.cpus = placed;
        Some(site)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&ask(&self.socket, "/status")).unwrap()
    }

    /// Connections that are open at each worker.
    fn connections(&self) -> [u64; 2] {
        let workers = &self.status()["workers"];
        [0, 1].map(|index| workers[index]["connections"].as_u64().unwrap())
    }
}

/// The body of the admin listener's answer.
pub(crate) fn ask(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Clients that have connected from this CPU, and been answered.
fn clients_from(cpu: usize, address: SocketAddr, count: usize) -> Vec<Client> {
    let connect = move || {
        cpu::pin_current_thread(cpu).unwrap();
        let client = || {
            let mut client = Client::connect(address);
            assert_eq!(client.get("/hello.txt").body, HELLO);
            client
        };
        (0..count).map(|_| client()).collect()
    };
    std::thread::spawn(connect).join().unwrap()
}

/// Both ways to steer: listeners that name their CPU, and the program where that is refused.
const WAYS: [(Option<&str>, &str); 2] = [(None, "incoming-cpu"), (Some("incoming_cpu"), "bpf")];

fn connections_go_to_the_worker_of_their_cpu(io: Io) {
    for (refused, kind) in WAYS {
        check_steering(io, refused, kind);
    }
}

fn check_steering(io: Io, refused: Option<&str>, kind: &str) {
    let Some(site) = Site::start_without(refused, io, &["--steer", "on"]) else {
        return;
    };
    let address = site.server.address();
    let _first = clients_from(site.cpus[0], address, CONNECTIONS);
    assert_eq!(site.connections(), [CONNECTIONS as u64, 0]);
    let _second = clients_from(site.cpus[1], address, 2 * CONNECTIONS);
    assert_eq!(
        site.connections(),
        [1, 2].map(|times| times * CONNECTIONS as u64)
    );
    let status = site.status();
    let steering = &status["steering"];
    // Kernels before 6.2 have the program alone.
    assert!(
        steering["kind"] == kind || steering["kind"] == "bpf",
        "{status}"
    );
    assert_eq!(steering["live"], 1.0);
    let arrived = &status["counters"]["connections_arrived"];
    assert_eq!(arrived["own"], 3 * CONNECTIONS);
    assert_eq!(arrived["other"], 0);
    let metrics = ask(&site.socket, "/metrics");
    assert!(metrics.contains("\nringway_steer_live 1.0\n"), "{metrics}");
    expect_event(&site.server, &["how connections find their worker"]);
}

/// By itself nothing is steered on loopback: one busy client would keep one worker busy.
fn without_steering_connections_go_anywhere(io: Io) {
    for flags in [&["--steer", "off"][..], &[]] {
        let Some(site) = Site::start(io, flags) else {
            return;
        };
        assert_eq!(site.status()["steering"]["live"], Value::Null);
        let _clients = clients_from(site.cpus[0], site.server.address(), CONNECTIONS);
        let [own, other] = site.connections();
        assert!(own > 0 && other > 0, "{own}, {other}");
        assert_eq!(own + other, CONNECTIONS as u64);
        let status = site.status();
        assert_eq!(status["steering"]["kind"], "hash");
        let live = status["steering"]["live"].as_f64().unwrap();
        assert_eq!(live, own as f64 / CONNECTIONS as f64);
    }
}

/// Whichever worker fails, and when both did: the others' places in a program's group change each time.
fn a_worker_that_is_started_anew_gets_its_own_again(io: Io) {
    if !cfg!(debug_assertions) {
        return peers::skip("a release build has no --inject-panic");
    }
    for (refused, _) in WAYS {
        let flags = ["--steer", "on", "--inject-panic", "/fault"];
        let Some(site) = Site::start_without(refused, io, &flags) else {
            return;
        };
        let before = site.status();
        for failing in [0, 1] {
            fail_and_return(&site, failing);
            check_places(&site, &before);
        }
    }
}

/// Makes a worker fail, by a connection from its CPU, and waits until it runs again.
fn fail_and_return(site: &Site, failing: usize) {
    let (address, cpu) = (site.server.address(), site.cpus[failing]);
    let fail = move || {
        cpu::pin_current_thread(cpu).unwrap();
        let mut client = Client::connect(address);
        client.send(request("GET", "/fault/failure", &[]));
        client.expect_cut();
    };
    std::thread::spawn(fail).join().unwrap();
    eventually("a worker runs again", || {
        let worker = &site.status()["workers"][failing];
        (worker["restarts"] == 1 && worker["is_running"] == true).then_some(())
    });
}

/// What is told of places is what was told at the start, and connections come in there.
fn check_places(site: &Site, before: &Value) {
    let status = site.status();
    for key in ["kind", "reason"] {
        assert_eq!(status["steering"][key], before["steering"][key]);
    }
    assert_eq!(status["placement"], before["placement"]);
    for index in [0, 1] {
        let (worker, then) = (&status["workers"][index], &before["workers"][index]);
        assert!(worker["memory"]["policy"].is_string(), "{worker}");
        for key in ["cpu", "node", "memory", "driver"] {
            assert_eq!(worker[key], then[key], "{key} of worker {index}");
        }
    }
    eventually("those of before are closed", || {
        (site.connections() == [0, 0]).then_some(())
    });
    let _first = clients_from(site.cpus[0], site.server.address(), CONNECTIONS);
    assert_eq!(site.connections(), [CONNECTIONS as u64, 0]);
    let _second = clients_from(site.cpus[1], site.server.address(), CONNECTIONS);
    assert_eq!(site.connections(), [CONNECTIONS as u64; 2]);
}

fn what_can_not_be_steered_is_told(io: Io) {
    let Some(site) = Site::start(io, &["--steer", "on", "--workers", "3"]) else {
        return;
    };
    assert_eq!(site.status()["steering"]["reason"], "workers share CPUs");
    let told = [
        "WARN connections aren't steered",
        "hash: workers share CPUs",
    ];
    expect_event(&site.server, &told);
    // Both share the first CPU, as was asked.
    let notes = site.status()["placement"]["notes"].to_string();
    assert!(
        notes.contains("3 workers share 2 processors, as was asked"),
        "{notes}"
    );
}
