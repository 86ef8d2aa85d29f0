//! Listeners: addresses, groups of siblings, options, and running out of descriptors.

use crate::harness::{
    Case, complete, connect, listen, listen_with, pair_with_std, receive_exactly, settle, skip,
    std_connect,
};
use ringway_runtime::{
    Keepalive, ListenOptions, ListenSocket, Runtime, SocketOptions, TcpListener, TcpStream, sleep,
    spawn, spawn_blocking,
};
use rustix::net::sockopt;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getrlimit, setrlimit};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

on_both_drivers! {
    port_zero_is_a_free_port,
    a_taken_port_is_refused,
    ipv6_works_like_ipv4,
    a_dual_stack_wildcard_takes_both,
    a_group_spreads_over_two_workers,
    a_burst_of_connections_is_taken_whole,
    options_reach_accepted_sockets,
    running_out_of_descriptors_is_an_error_and_passes,
}

fn port_zero_is_a_free_port(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (first, one) = listen();
        let (second, two) = listen();
        assert!(one.port() != 0 && two.port() != 0 && one != two);
        drop((connect(one).await, connect(two).await));
        drop((
            first.accept().await.unwrap(),
            second.accept().await.unwrap(),
        ));
    });
    settle(&mut runtime, 256);
}

fn a_taken_port_is_refused(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (_listener, address) = listen();
        let second = TcpListener::bind(address, &ListenOptions::default());
        assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
    });
    settle(&mut runtime, 256);
}

/// A listener on IPv6, or `None` and a line that says why not.
fn listen_on_v6(name: &str, address: Ipv6Addr, only_v6: bool) -> Option<TcpListener> {
    let options = ListenOptions {
        only_v6,
        ..ListenOptions::default()
    };
    match TcpListener::bind(SocketAddr::from((address, 0)), &options) {
        Ok(listener) => Some(listener),
        Err(error) => {
            skip(name, &format!("no IPv6 here: {error}"));
            None
        }
    }
}

fn ipv6_works_like_ipv4(case: &Case) {
    let mut runtime = case.runtime();
    let name = case.name();
    complete(&mut runtime, async move {
        let Some(listener) = listen_on_v6(name, Ipv6Addr::LOCALHOST, true) else {
            return;
        };
        let address = listener.local_address().unwrap();
        let mut client = connect(address).await;
        let mut server = listener.accept().await.unwrap();
        assert_eq!(
            server.peer_address().unwrap(),
            client.local_address().unwrap()
        );
        client.send(b"six".as_slice()).await.unwrap();
        assert_eq!(receive_exactly(&mut server, 3).await, b"six");
    });
    settle(&mut runtime, 256);
}

fn a_dual_stack_wildcard_takes_both(case: &Case) {
    let mut runtime = case.runtime();
    let name = case.name();
    complete(&mut runtime, async move {
        let Some(both) = listen_on_v6(name, Ipv6Addr::UNSPECIFIED, false) else {
            return;
        };
        let port = both.local_address().unwrap().port();
        for target in [
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ] {
            let mut client: TcpStream = connect(target).await;
            let mut server = both.accept().await.unwrap();
            server.send(b"hello".as_slice()).await.unwrap();
            assert_eq!(receive_exactly(&mut client, 5).await, b"hello");
        }
        let only_v6 = listen_on_v6(name, Ipv6Addr::UNSPECIFIED, true).unwrap();
        let port = only_v6.local_address().unwrap().port();
        let v4 = (Ipv4Addr::LOCALHOST, port).into();
        let refused = TcpStream::connect(v4, &SocketOptions::default()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
    settle(&mut runtime, 256);
}

fn a_group_spreads_over_two_workers(case: &Case) {
    const CONNECTIONS: usize = 64;
    let any = "127.0.0.1:0".parse().unwrap();
    let group = ListenSocket::bind_group(any, 2, &ListenOptions::default()).unwrap();
    let address = group[0].local_address().unwrap();
    let counts: Vec<Arc<AtomicUsize>> = group.iter().map(|_| Arc::default()).collect();
    let mut stops = Vec::new();
    let mut workers = Vec::new();
    for (socket, count) in group.into_iter().zip(&counts) {
        let (stop, mut stopped) = ringway_runtime::mailbox::<()>(1);
        stops.push(stop);
        let count = Arc::clone(count);
        workers.push(case.on_worker(move || async move {
            let listener = TcpListener::adopt(socket).unwrap();
            let accepting = spawn(async move {
                loop {
                    let mut stream = listener.accept().await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    spawn(async move {
                        stream.send(b"!".as_slice()).await.unwrap();
                        stream.flush().await.unwrap();
                    });
                }
            });
            stopped.receive().await;
            accepting.cancel();
        }));
    }
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        for _ in 0..CONNECTIONS {
            let mut client = connect(address).await;
            assert_eq!(receive_exactly(&mut client, 1).await, b"!");
        }
    });
    drop(stops);
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    let counts: Vec<usize> = counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS);
    // All on one side happens once in 2^63 runs.
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// More than the reactor keeps at hand: accepting pauses, and goes on.
fn a_burst_of_connections_is_taken_whole(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (listener, address) = listen();
        let peers = spawn_blocking(move || (0..700).map(|_| std_connect(address)).collect());
        let peers: Vec<std::net::TcpStream> = peers.await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..peers.len() {
            streams.push(listener.accept().await.unwrap());
        }
        let accepted = streams.iter().map(|stream| stream.peer_address().unwrap());
        let mut accepted: Vec<SocketAddr> = accepted.collect();
        let mut expected: Vec<_> = peers
            .iter()
            .map(|peer| peer.local_addr().unwrap())
            .collect();
        accepted.sort();
        expected.sort();
        assert!(accepted == expected);
    });
    settle(&mut runtime, 256);
}

/// A second descriptor of the connection between two addresses, found by its inode.
fn descriptor_of(stream: &TcpStream) -> OwnedFd {
    let ours = stream.local_address().unwrap().port();
    let theirs = stream.peer_address().unwrap().port();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let inode = table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_port = |column: &str, port| column.ends_with(&format!(":{port:04X}"));
        (is_port(columns[1], ours) && is_port(columns[2], theirs)).then(|| columns[9].to_owned())
    });
    let link = format!("socket:[{}]", inode.unwrap());
    let number = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .find_map(|entry| {
            let path = entry.unwrap().path();
            let is_ours =
                std::fs::read_link(&path).is_ok_and(|target| target.to_str() == Some(&link));
            is_ours.then(|| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        });
    let this = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_getfd(this, number.unwrap(), PidfdGetfdFlags::empty()).unwrap()
}

fn options_reach_accepted_sockets(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let socket = SocketOptions {
            nodelay: true,
            notsent_lowat: Some(16_384),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(33),
                interval: Duration::from_secs(7),
                count: 5,
            }),
            user_timeout: Some(Duration::from_secs(21)),
            congestion: Some("reno".to_owned()),
            send_buffer: Some(20_000),
            receive_buffer: Some(30_000),
        };
        let options = ListenOptions {
            socket: socket.clone(),
            ..ListenOptions::default()
        };
        let (listener, address) = listen_with(&options);
        let client = TcpStream::connect(address, &socket).await.unwrap();
        let server = listener.accept().await.unwrap();
        for stream in [client, server] {
            let fd = descriptor_of(&stream);
            assert!(sockopt::tcp_nodelay(&fd).unwrap());
            assert!(sockopt::socket_keepalive(&fd).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&fd).unwrap(), Duration::from_secs(33));
            assert_eq!(sockopt::tcp_keepintvl(&fd).unwrap(), Duration::from_secs(7));
            assert_eq!(sockopt::tcp_keepcnt(&fd).unwrap(), 5);
            assert_eq!(sockopt::tcp_user_timeout(&fd).unwrap(), 21_000);
            assert_eq!(sockopt::tcp_congestion(&fd).unwrap(), "reno");
            // Linux doubles both, for its own book-keeping (socket(7)).
            assert_eq!(sockopt::socket_send_buffer_size(&fd).unwrap(), 40_000);
            assert_eq!(sockopt::socket_recv_buffer_size(&fd).unwrap(), 60_000);
        }
        let (plain, _peer) = pair_with_std().await;
        assert!(
            sockopt::tcp_nodelay(descriptor_of(&plain)).unwrap(),
            "the default"
        );
    });
    settle(&mut runtime, 256);
}

fn running_out_of_descriptors_is_an_error_and_passes(case: &Case) {
    case.alone(|| {
        let mut runtime = case.runtime();
        let (listener, address) = complete(&mut runtime, async { listen() });
        let mut peers: Vec<_> = (0..5).map(|_| std_connect(address)).collect();
        let normal = getrlimit(Resource::Nofile);
        // The lowest number that is free is the first that is not allowed.
        let first_free = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let limit = std::os::fd::AsRawFd::as_raw_fd(&first_free) as u64;
        drop(first_free);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(limit),
                ..normal
            },
        )
        .unwrap();
        let listener = complete(&mut runtime, async move {
            for _ in 0..5 {
                let error = listener.accept().await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(24), "{error}");
                sleep(Duration::from_millis(2)).await;
            }
            listener
        });
        assert_does_not_spin(&mut runtime);
        setrlimit(Resource::Nofile, normal).unwrap();
        peers
            .iter_mut()
            .for_each(|peer| peer.write_all(b"patient").unwrap());
        complete(&mut runtime, async move {
            for _ in 0..5 {
                let mut stream = loop {
                    match listener.accept().await {
                        Ok(stream) => break stream,
                        // One that was on its way before the limit was raised.
                        Err(_) => sleep(Duration::from_millis(2)).await,
                    }
                };
                assert_eq!(receive_exactly(&mut stream, 7).await, b"patient");
            }
        });
        settle(&mut runtime, 256);
    });
}

/// Nothing happens without anybody asking: a fifth of a second takes few turns.
fn assert_does_not_spin(runtime: &mut Runtime) {
    let end = Instant::now() + Duration::from_millis(200);
    let mut turns = 0;
    while Instant::now() < end {
        runtime.turn(Some(Duration::from_millis(200))).unwrap();
        turns += 1;
    }
    assert!(turns < 20, "{turns} turns");
}
