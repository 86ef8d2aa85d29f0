//! Rule 1: few receive buffers, many who want them, and some who are slow: everybody progresses.

use crate::harness::{
    Case, Pattern, Random, complete, connect, echo, hold_buffers, listen, pair, pair_with_std,
    receive_exactly, settle, std_connect, yield_often,
};
use ringway_runtime::{JoinHandle, TcpStream, spawn, spawn_blocking, timeout};
use std::cell::RefCell;
use std::future::pending;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

on_both_drivers! {
    slow_peers_starve_nobody,
    parked_receives_are_rearmed_in_order,
    an_idle_parked_receive_does_not_stand_before_one_with_bytes,
    below_a_quarter_bytes_are_copied_out,
    a_reader_that_falls_behind_loses_nothing,
}

const ECHOED: u64 = 24;

/// 24 echoed streams over 4 buffers, beside one whose peer never reads and one whose task never
/// receives.
fn slow_peers_starve_nobody(case: &Case) {
    let mut runtime = case.runtime_with_buffers(4);
    let (listener, address) = complete(&mut runtime, async { listen() });
    let clients = case.on_worker(move || async move {
        let mut stuck = connect(address).await;
        stuck.send(b"e".as_slice()).await.unwrap();
        receive_exactly(&mut stuck, 1).await;
        // More than all socket buffers hold: its echo comes to a halt.
        stuck.send(Random(1).bytes(32 << 20)).await.unwrap();
        let mut ignored = connect(address).await;
        ignored.send(b"-".as_slice()).await.unwrap();
        ignored.send(Random(2).bytes(1 << 20)).await.unwrap();
        let tasks: Vec<_> = (0..ECHOED).map(|seed| spawn(ask(address, seed))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    complete(&mut runtime, async move {
        for _ in 0..ECHOED + 2 {
            let stream = listener.accept().await.unwrap();
            spawn(echo_or_ignore(stream));
        }
        spawn_blocking(move || clients.join().unwrap())
            .await
            .unwrap();
    });
}

async fn ask(address: std::net::SocketAddr, seed: u64) {
    let mut stream = connect(address).await;
    stream.send(b"e".as_slice()).await.unwrap();
    receive_exactly(&mut stream, 1).await;
    for chunk in Random(seed).bytes(40 << 10).chunks(7000) {
        stream.send(chunk.to_vec()).await.unwrap();
        assert!(receive_exactly(&mut stream, chunk.len()).await == chunk);
    }
}

async fn echo_or_ignore(mut stream: TcpStream) {
    let first = stream.receive().await.unwrap().unwrap();
    if first[0] == b'-' {
        drop(first);
        return pending().await;
    }
    stream.send(first).await.unwrap();
    // The peer that never reads ends by a reset.
    let _ = echo(stream).await;
}

fn parked_receives_are_rearmed_in_order(case: &Case) {
    let mut runtime = case.runtime_with_buffers(4);
    complete(&mut runtime, async {
        // The last of the four can't be kept: below a quarter bytes are copied out.
        let kept = hold_buffers(3).await;
        let (listener, address) = listen();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        let (mut streams, mut peers) = (Vec::new(), Vec::new());
        for number in 0..8 {
            // The byte is there before the connection is accepted.
            let mut peer = std_connect(address);
            peer.write_all(b"y").unwrap();
            peers.push(peer);
            streams.push((number, listener.accept().await.unwrap()));
        }
        yield_often().await;
        // All in one turn: the first gets the buffer, and the others stand in line.
        for (number, mut stream) in streams {
            let order = Rc::clone(&order);
            tasks.push(spawn(async move {
                let buffer = stream.receive().await.unwrap().unwrap();
                order.borrow_mut().push(number);
                drop(buffer);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5, 6, 7]);
        drop(kept);
    });
    settle(&mut runtime, 4);
}

/// On io_uring a receive is parked for want of a buffer even when it has nothing to put into one.
fn an_idle_parked_receive_does_not_stand_before_one_with_bytes(case: &Case) {
    let mut runtime = case.runtime_with_buffers(4);
    complete(&mut runtime, async {
        let kept = hold_buffers(3).await;
        let (mut first, mut first_peer) = pair_with_std().await;
        let mut idle = Vec::new();
        for _ in 0..20 {
            idle.push(pair_with_std().await);
        }
        let (mut second, mut second_peer) = pair_with_std().await;
        first_peer.write_all(b"1").unwrap();
        second_peer.write_all(b"2").unwrap();
        yield_often().await;
        // All in one turn: the first gets the buffer, the idle ones and the second stand in line.
        let first = spawn(async move { first.receive().await.unwrap().unwrap().to_vec() });
        let idle: Vec<_> = idle
            .into_iter()
            .map(|(mut stream, peer)| {
                spawn(async move {
                    let _peer = peer;
                    drop(stream.receive().await);
                })
            })
            .collect();
        let second = spawn(async move { second.receive().await.unwrap().unwrap().to_vec() });
        assert_eq!(first.await, Ok(b"1".to_vec()));
        let bytes = timeout(Duration::from_secs(5), second).await;
        assert_eq!(bytes.expect("there is a free buffer"), Ok(b"2".to_vec()));
        idle.into_iter().for_each(JoinHandle::cancel);
        drop(kept);
    });
    settle(&mut runtime, 4);
}

fn below_a_quarter_bytes_are_copied_out(case: &Case) {
    let mut runtime = case.runtime_with_buffers(8);
    let (held, more) = complete(&mut runtime, async {
        let (held, ..) = hold_buffers(6).await;
        let (mut reader, mut writer) = pair().await;
        let mut more = Vec::new();
        for number in 0..20u8 {
            writer.send(vec![number; 100]).await.unwrap();
            more.push(reader.receive().await.unwrap().unwrap());
        }
        (held, more)
    });
    assert_eq!(
        runtime.free_buffer_count(),
        2,
        "what is kept is on the heap"
    );
    for (number, buffer) in more.iter().enumerate() {
        assert_eq!(**buffer, [number as u8; 100]);
    }
    drop(held);
    settle(&mut runtime, 8);
}

/// Its buffers go no further than the limit of a connection, and everything arrives.
fn a_reader_that_falls_behind_loses_nothing(case: &Case) {
    let mut runtime = case.runtime_with_buffers(64);
    let pattern = Rc::new(Pattern::new(3));
    complete(&mut runtime, async move {
        const BYTES: usize = 4 << 20;
        let (mut reader, mut writer) = pair().await;
        let bytes = pattern.chunk(0, BYTES);
        let sender = spawn(async move {
            writer.send(bytes).await.unwrap();
            writer.flush().await.unwrap();
        });
        let mut offset = 0;
        while let Some(buffer) = reader.receive().await.unwrap() {
            pattern.check(offset, &buffer);
            offset += buffer.len();
            drop(buffer);
            // Time for the next ones to pile up.
            if offset % 5 == 0 {
                yield_often().await;
            }
        }
        assert_eq!(offset, BYTES);
        sender.await.unwrap();
    });
    settle(&mut runtime, 64);
}
