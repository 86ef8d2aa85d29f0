//! Rings and buffer pools far too small for what they carry: nothing is lost, it only waits.

use crate::harness::{
    Case, Random, complete, connect, echo, listen, receive_exactly, settle, within,
};
use ringway_runtime::{Directory, DriverKind, Runtime, Symlinks, sleep, spawn, spawn_blocking};
use std::net::SocketAddr;
use std::time::Duration;

on_both_drivers! {
    tiny_rings_lose_nothing,
    bursts_on_a_tiny_ring_lose_nothing,
}

const CONNECTIONS: u64 = 200;

/// The completion queue overflows, the submission queue is always full and there is hardly a
/// buffer; every echoed byte is compared.
fn tiny_rings_lose_nothing(case: &Case) {
    for ring_entries in [2, 8] {
        let mut options = case.options();
        options.ring_entries = ring_entries;
        options.completion_entries = ring_entries;
        (options.receive_buffers, options.receive_buffer_bytes) = (4, 512);
        let mut runtime = Runtime::new(&options).unwrap();
        let (listener, address) = complete(&mut runtime, async { listen() });
        let clients = case.on_worker(move || async move {
            let tasks: Vec<_> = (0..CONNECTIONS)
                .map(|seed| spawn(ask(address, seed)))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
        complete(&mut runtime, async move {
            let mut tasks = Vec::new();
            for _ in 0..CONNECTIONS {
                tasks.push(spawn(echo(listener.accept().await.unwrap())));
            }
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            drop(listener);
            spawn_blocking(move || clients.join().unwrap())
                .await
                .unwrap();
        });
        settle(&mut runtime, 4);
        expect_overflows(&runtime);
    }
}

/// They happened, or this tests nothing; and they were survived.
fn expect_overflows(runtime: &Runtime) {
    let counters = runtime.counters();
    let is_ring = runtime.driver().unwrap().kind == DriverKind::Uring;
    assert_eq!(counters.overflows > 0, is_ring, "{counters:?}");
    assert_eq!(counters.lost, 0, "{counters:?}");
}

async fn ask(address: SocketAddr, seed: u64) {
    let mut stream = connect(address).await;
    for chunk in Random(seed).bytes(8 << 10).chunks(3000) {
        stream.send(chunk.to_vec()).await.unwrap();
        assert!(receive_exactly(&mut stream, chunk.len()).await == chunk);
    }
    stream.shutdown_write().unwrap();
    assert!(stream.receive().await.unwrap().is_none());
}

/// Hundreds of operations of every kind in one turn, beside timers and mail from other threads.
fn bursts_on_a_tiny_ring_lose_nothing(case: &Case) {
    let mut options = case.options();
    (options.ring_entries, options.completion_entries) = (2, 2);
    options.receive_buffers = 8;
    let mut runtime = Runtime::new(&options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for number in 0..50 {
        let text = format!("file {number}");
        std::fs::write(folder.path().join(number.to_string()), text).unwrap();
    }
    let root = Directory::open(folder.path()).unwrap();
    complete(&mut runtime, async move {
        let (listener, address) = listen();
        let mut tasks = Vec::new();
        for number in 0..100u64 {
            tasks.push(spawn(async move {
                let mut stream = connect(address).await;
                let bytes = Random(number).bytes(2000);
                stream.send(bytes.clone()).await.unwrap();
                assert!(receive_exactly(&mut stream, bytes.len()).await == bytes);
            }));
            let root = root.clone();
            tasks.push(spawn(async move {
                let name = (number % 50).to_string();
                let file = root
                    .open_beneath(name.as_bytes(), Symlinks::Deny)
                    .await
                    .unwrap();
                let (bytes, count) = file.read_at(vec![0; 100], 0).await.unwrap();
                assert_eq!(&bytes[..count], format!("file {name}").as_bytes());
            }));
            tasks.push(spawn(sleep(Duration::from_millis(number % 10))));
            tasks.push(spawn(async move {
                assert_eq!(spawn_blocking(move || number * 2).await, Ok(number * 2));
            }));
        }
        let server = spawn(async move {
            loop {
                spawn(echo(listener.accept().await.unwrap()));
            }
        });
        for task in tasks {
            within(task).await.unwrap();
        }
        server.cancel();
    });
    assert_eq!(runtime.panic_count(), 0);
    settle(&mut runtime, 8);
    expect_overflows(&runtime);
}
