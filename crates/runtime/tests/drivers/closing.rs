//! Rule 2: a connection's end is seen at once, and a descriptor number's next owner sees nothing of
//! the one before.

use crate::harness::{
    Case, Pattern, Random, complete, connect, give_up, listen, listen_with, pair_with_std,
    receive_to_end, settle, std_connect, yield_often,
};
use ringway_runtime::{ListenOptions, SocketOptions, TcpStream, now, spawn, spawn_blocking};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

on_both_drivers! {
    a_drop_with_a_receive_in_flight_is_seen_at_once,
    a_drop_with_bytes_unread_is_seen_at_once,
    a_peer_who_has_filled_the_window_hears_of_it,
    a_reset_is_a_reset,
    a_reset_on_drop_can_be_taken_back,
    a_reset_on_drop_outlives_its_worker,
    what_was_flushed_arrives_before_the_end,
    a_send_dropped_in_flight_leaves_a_prefix,
    a_reused_descriptor_gets_nothing_of_its_predecessor,
    a_dropped_listener_refuses,
}

fn a_drop_with_a_receive_in_flight_is_seen_at_once(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for turns in [1, 2, 5] {
            let (mut stream, mut peer) = pair_with_std().await;
            assert!(give_up(turns, stream.receive()).await.is_none());
            drop(stream);
            let read = spawn_blocking(move || peer.read(&mut [0; 16]))
                .await
                .unwrap();
            assert_eq!(read.unwrap(), 0);
        }
    });
    settle(&mut runtime, 256);
}

fn a_drop_with_bytes_unread_is_seen_at_once(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, mut peer) = pair_with_std().await;
        peer.write_all(&[7; 100_000]).unwrap();
        drop(stream.receive().await.unwrap());
        yield_often().await;
        drop(stream);
        // Bytes that nobody read make a reset of it (RFC 9293, 3.10.4), or they were read in time.
        let read = spawn_blocking(move || peer.read(&mut [0; 16]))
            .await
            .unwrap();
        assert!(matches!(
            read.map_err(|error| error.kind()),
            Ok(0) | Err(ErrorKind::ConnectionReset)
        ));
    });
    settle(&mut runtime, 256);
}

/// A receive that is still in flight must not take what is there: only what is left unread makes the
/// kernel tell the peer, who else waits for a window that nobody opens any more.
fn a_peer_who_has_filled_the_window_hears_of_it(case: &Case) {
    for is_reset in [false, true] {
        let mut runtime = case.runtime();
        let peer = complete(&mut runtime, async move {
            let (mut stream, mut peer) = pair_with_std().await;
            assert!(give_up(5, stream.receive()).await.is_none());
            peer.set_nonblocking(true).unwrap();
            while peer.write(&[7; 64 << 10]).is_ok() {}
            if is_reset {
                stream.reset();
            } else {
                drop(stream);
            }
            peer
        });
        // The descriptor is closed then, and the loopback delivers at once. By itself the peer would
        // find out when it probes the window: after a fifth of a second, and later each time.
        settle(&mut runtime, 256);
        let told = peer.take_error().unwrap().map(|error| error.kind());
        let is_end = matches!(
            told,
            Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        );
        assert!(is_end, "{told:?} (reset: {is_reset})");
    }
}

fn a_reset_on_drop_can_be_taken_back(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for (wishes, expected) in [
            (&[true][..], Err(ErrorKind::ConnectionReset)),
            (&[true, true], Err(ErrorKind::ConnectionReset)),
            (&[true, false], Ok(0)),
            (&[false], Ok(0)),
        ] {
            for turns in [0, 1, 5] {
                let (mut stream, mut peer) = pair_with_std().await;
                assert!(give_up(turns, stream.receive()).await.is_none());
                for is_on in wishes {
                    stream.set_reset_on_drop(*is_on).unwrap();
                }
                drop(stream);
                let read = spawn_blocking(move || peer.read(&mut [0; 16]));
                let read = read.await.unwrap().map_err(|error| error.kind());
                assert_eq!(read, expected, "{wishes:?}, {turns} turns");
            }
        }
    });
    settle(&mut runtime, 256);
}

/// Not by a drop alone: tasks are dropped with their worker, wherever they are.
fn a_reset_on_drop_outlives_its_worker(case: &Case) {
    let mut runtime = case.runtime();
    let mut peer = complete(&mut runtime, async {
        let (mut stream, peer) = pair_with_std().await;
        stream.set_reset_on_drop(true).unwrap();
        spawn(async move { drop(stream.receive().await) });
        yield_often().await;
        peer
    });
    drop(runtime);
    let error = peer.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

fn a_reset_is_a_reset(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for turns in [0, 1, 5] {
            let (mut stream, mut peer) = pair_with_std().await;
            assert!(give_up(turns, stream.receive()).await.is_none());
            stream.reset();
            let read = spawn_blocking(move || peer.read(&mut [0; 16]))
                .await
                .unwrap();
            assert_eq!(
                read.unwrap_err().kind(),
                ErrorKind::ConnectionReset,
                "{turns} turns"
            );
        }
    });
    settle(&mut runtime, 256);
}

fn what_was_flushed_arrives_before_the_end(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, mut peer) = pair_with_std().await;
        let bytes = Random(5).bytes(3 << 20);
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        stream.send(bytes.clone()).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(stream.sent_bytes(), bytes.len() as u64);
        drop(stream);
        let all = spawn_blocking(move || reader.join().unwrap())
            .await
            .unwrap();
        assert!(all == bytes);
    });
    settle(&mut runtime, 256);
}

/// The slot keeps the bytes until the kernel lets go of them, and the peer, who reads slowly, gets
/// a true beginning of them.
fn a_send_dropped_in_flight_leaves_a_prefix(case: &Case) {
    let mut runtime = case.runtime();
    let pattern = Pattern::new(4);
    for round in 0..20 {
        let half = pattern.chunk(0, 4 << 20);
        let rest = pattern.chunk(4 << 20, 4 << 20);
        let (peer, sent) = complete(&mut runtime, async move {
            // So small that neither run of bytes fits the kernel's buffers.
            let mut options = ListenOptions::default();
            options.socket.send_buffer = Some(65_536);
            let (listener, address) = listen_with(&options);
            let peer = std_connect(address);
            let mut stream = listener.accept().await.unwrap();
            stream.send(half).await.unwrap();
            // The second one waits for the first: its future is dropped at several stages.
            assert!(give_up(round % 4, stream.send(rest)).await.is_none());
            let sent = stream.sent_bytes();
            drop(stream);
            (peer, sent)
        });
        // The slot is free although the peer hasn't read anything.
        settle(&mut runtime, 256);
        let mut peer = peer;
        let (mut offset, mut space) = (0, vec![0; 10_007]);
        while let Ok(count @ 1..) = peer.read(&mut space) {
            pattern.check(offset, &space[..count]);
            offset += count;
        }
        assert!(
            offset < 8 << 20,
            "everything was sent: the test is too small"
        );
        assert!(offset as u64 >= sent, "what the kernel had taken arrives");
    }
}

/// Every connection has a byte of its own and carries nothing else, in both directions, while
/// connections end at all stages and their numbers are taken again at once.
fn a_reused_descriptor_gets_nothing_of_its_predecessor(case: &Case) {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 120;
    let mut runtime = case.runtime_with_buffers(16);
    let (listener, address) = complete(&mut runtime, async { listen() });
    let clients = case.on_worker(move || async move {
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| {
                spawn(async move {
                    for round in 0..ROUNDS {
                        exchange_as_client(address, client * ROUNDS + round).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    complete(&mut runtime, async move {
        let mut tasks = Vec::new();
        for number in 0..CLIENTS * ROUNDS {
            let stream = listener.accept().await.unwrap();
            tasks.push(spawn(exchange_as_server(stream, number)));
        }
        for task in tasks {
            task.await.unwrap();
        }
        drop(listener);
        spawn_blocking(move || clients.join().unwrap())
            .await
            .unwrap();
    });
    assert_eq!(runtime.panic_count(), 0);
    settle(&mut runtime, 16);
}

async fn exchange_as_client(address: SocketAddr, number: usize) {
    let mut random = Random(number as u64);
    let mark = number as u8;
    let mut stream = connect(address).await;
    // Either side may be cut off by the other at any time.
    let _ = stream.send(vec![mark; 1 + random.below(50_000)]).await;
    if stream.flush().await.is_ok() && random.below(2) == 0 {
        let _ = stream.shutdown_write();
    }
    let mut left = random.below(60_000);
    while let Ok(Some(buffer)) = stream.receive().await {
        assert!(buffer.iter().all(|byte| *byte == mark), "a foreign byte");
        left = left.saturating_sub(buffer.len());
        if left == 0 {
            break;
        }
    }
}

async fn exchange_as_server(mut stream: TcpStream, number: usize) {
    let mut random = Random(!number as u64);
    let Ok(Some(first)) = stream.receive().await else {
        return;
    };
    let mark = first[0];
    // No more than it surely sends.
    let mut left = random.below(2);
    let mut next = Some(first);
    while let Some(buffer) = next {
        assert!(buffer.iter().all(|byte| *byte == mark), "a foreign byte");
        left = left.saturating_sub(buffer.len());
        if left == 0 || stream.send(buffer).await.is_err() {
            break;
        }
        next = stream.receive().await.ok().flatten();
    }
    // Ended with a send and a receive in flight, queued or done.
    let _ = stream.send(vec![mark; random.below(200_000)]).await;
    let turns = random.below(3);
    drop(give_up(turns, stream.receive()).await);
    if random.below(4) == 0 {
        stream.reset();
    }
}

fn a_dropped_listener_refuses(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (listener, address) = listen();
        assert!(give_up(5, listener.accept()).await.is_none());
        // One that was accepted by the kernel's operation, and not by anybody here.
        let mut waiting = connect(address).await;
        yield_often().await;
        drop(listener);
        yield_often().await;
        waiting.set_deadline(Some(now() + Duration::from_secs(30)));
        let end = receive_to_end(&mut waiting).await;
        assert!(
            matches!(&end, Ok(bytes) if bytes.is_empty())
                || matches!(&end, Err(error) if error.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
        let refused = TcpStream::connect(address, &SocketOptions::default()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // And the port is free again.
        let again = ringway_runtime::TcpListener::bind(address, &ListenOptions::default());
        assert_eq!(again.unwrap().local_address().unwrap(), address);
    });
    settle(&mut runtime, 256);
}
