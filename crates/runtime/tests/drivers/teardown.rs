//! Rule 6: a worker that is dropped calls back what is in flight, soon, and leaves no descriptor.

use crate::harness::{
    Case, complete, connect, listen, listen_with, pair_with_std, yield_now, yield_often,
};
use ringway_runtime::{
    Directory, ListenOptions, Runtime, SocketOptions, Symlinks, TcpStream, process, sleep, spawn,
};
use std::future::pending;
use std::io::Read;
use std::sync::mpsc;
use std::time::{Duration, Instant};

on_both_drivers! {
    thousands_of_operations_in_flight_end_with_their_worker,
    a_worker_can_be_dropped_before_its_first_turn,
    streams_may_outlive_their_worker,
    peers_see_the_end_of_a_worker,
    a_worker_that_was_busy_elsewhere_is_drained_like_others,
}

/// Far below the five seconds after which a reactor gives up and leaks.
const SOON: Duration = Duration::from_secs(4);

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn thousands_of_operations_in_flight_end_with_their_worker(case: &Case) {
    case.alone(|| {
        process::raise_descriptor_limit().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), vec![7; 1 << 20]).unwrap();
        // What the process opens once and keeps, it has now.
        drop(case.runtime());
        let before = open_descriptors();
        for _ in 0..2 {
            let mut runtime = case.runtime();
            let root = Directory::open(folder.path()).unwrap();
            start_operations(&mut runtime, root);
            let live = runtime.live_count();
            assert!(live > 2_000, "{live} live");
            let started = Instant::now();
            drop(runtime);
            let taken = started.elapsed();
            assert!(taken < SOON, "{taken:?}");
            assert_eq!(open_descriptors(), before);
        }
    });
}

fn start_operations(runtime: &mut Runtime, root: Directory) {
    complete(runtime, async move {
        let (listener, address) = listen();
        for number in 0..1000 {
            let mut writer = connect(address).await;
            let mut reader = listener.accept().await.unwrap();
            spawn(async move {
                if number % 25 != 0 {
                    drop(reader.receive().await);
                }
                sleep(Duration::from_secs(1000)).await;
            });
            spawn(async move {
                if number % 25 == 0 {
                    writer.send(vec![1; 8 << 20]).await.unwrap();
                    writer.flush().await.unwrap();
                }
                drop(writer.receive().await);
            });
        }
        let (full, address) = listen_with(&ListenOptions {
            backlog: 1,
            ..Default::default()
        });
        for _ in 0..50 {
            spawn(async move {
                let stream = TcpStream::connect(address, &SocketOptions::default()).await;
                pending::<()>().await;
                drop(stream);
            });
        }
        spawn(async move {
            let _full = full;
            pending::<()>().await;
        });
        spawn(async move { drop(listener.accept().await) });
        yield_often().await;
        for number in 0..200 {
            let (root, unknown) = (root.clone(), root.clone());
            spawn(async move {
                let name = format!("unknown-{number}");
                drop(
                    unknown
                        .open_beneath(name.as_bytes(), Symlinks::Beneath)
                        .await,
                );
            });
            spawn(async move {
                let file = root.open_beneath(b"file", Symlinks::Beneath).await.unwrap();
                drop(file.read_at(vec![0; 1 << 20], 0).await);
                pending::<()>().await;
            });
        }
        yield_often().await;
        // Begun, and not answered: what they open is for nobody.
        for _ in 0..100 {
            let root = root.clone();
            spawn(async move {
                drop(root.open_beneath(b"file", Symlinks::Beneath).await);
                pending::<()>().await;
            });
        }
        yield_now().await;
    });
}

fn a_worker_can_be_dropped_before_its_first_turn(case: &Case) {
    let runtime = case.runtime();
    runtime.spawn(async {
        let (listener, address) = listen();
        let _client = connect(address).await;
        drop(listener.accept().await);
    });
    drop(runtime);
    drop(case.runtime());
}

/// What is kept outside of tasks keeps its reactor; the last one drains it.
fn streams_may_outlive_their_worker(case: &Case) {
    let mut runtime = case.runtime();
    let (mut stream, mut peer, buffer) = complete(&mut runtime, async {
        let (mut stream, mut peer) = pair_with_std().await;
        std::io::Write::write_all(&mut peer, b"kept").unwrap();
        let buffer = stream.receive().await.unwrap().unwrap();
        yield_often().await;
        (stream, peer, buffer)
    });
    drop(runtime);
    assert_eq!(stream.send_now(b"still here", false).unwrap(), 10);
    drop(stream);
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"still here");
    assert_eq!(&*buffer, b"kept");
}

fn peers_see_the_end_of_a_worker(case: &Case) {
    let mut runtime = case.runtime();
    let mut peers = complete(&mut runtime, async {
        let mut peers = Vec::new();
        for number in 0..20 {
            let (mut stream, peer) = pair_with_std().await;
            peers.push(peer);
            spawn(async move {
                if number % 2 == 0 {
                    stream.send(vec![5; 32 << 20]).await.unwrap();
                }
                drop(stream.receive().await);
                pending::<()>().await;
            });
        }
        yield_often().await;
        peers
    });
    drop(runtime);
    for (number, peer) in peers.iter_mut().enumerate() {
        let mut heard = Vec::new();
        let end = peer.read_to_end(&mut heard);
        assert!(end.is_ok() || number % 2 == 0, "{end:?}");
        assert!(heard.iter().all(|byte| *byte == 5));
    }
}

/// The time that a worker may take to be drained begins with its end, not with its last turn.
fn a_worker_that_was_busy_elsewhere_is_drained_like_others(case: &Case) {
    case.alone(|| {
        let mut options = case.options();
        // So few completions fit that draining takes many turns.
        options.ring_entries = 2;
        drop(Runtime::new(&options).unwrap());
        let before = open_descriptors();
        let mut runtime = Runtime::new(&options).unwrap();
        let peers = complete(&mut runtime, async {
            let mut peers = Vec::new();
            for _ in 0..200 {
                let (mut stream, peer) = pair_with_std().await;
                spawn(async move { drop(stream.receive().await) });
                peers.push(peer);
            }
            yield_often().await;
            peers
        });
        // Longer than the five seconds after which a reactor gives up and leaks.
        let (_kept, nothing) = mpsc::channel::<()>();
        let busy = nothing.recv_timeout(Duration::from_millis(5200));
        assert!(busy.is_err());
        drop(runtime);
        drop(peers);
        assert_eq!(open_descriptors(), before);
    });
}
