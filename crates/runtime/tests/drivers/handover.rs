//! Connections that go from one worker to another.

use crate::harness::{
    Case, complete, connect, listen, pair_with_std, receive_exactly, settle, within, yield_now,
    yield_often,
};
use ringway_runtime::{Destination, SocketOptions, TcpStream, spawn, spawn_blocking};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

on_both_drivers! {
    a_connection_goes_on_with_another_worker,
    what_is_sent_on_the_way_arrives,
    only_a_connection_at_rest_can_go,
    a_quiet_connection_is_told_from_one_that_is_not,
    a_detached_connection_that_is_dropped_is_closed,
    unix_sockets_are_streams_too,
    a_path_that_leads_nowhere_is_an_error,
}

fn a_connection_goes_on_with_another_worker(case: &Case) {
    let mut runtime = case.runtime();
    let (listener, address) = complete(&mut runtime, async { listen() });
    let (to_other, detached) = mpsc::channel();
    let other = case.on_worker(move || async move {
        for _ in 0..10 {
            let detached = detached.recv().unwrap();
            let mut stream = TcpStream::adopt(detached).unwrap();
            stream.send(b"hello from there".as_slice()).await.unwrap();
            assert_eq!(receive_exactly(&mut stream, 5).await, b"again");
            assert!(stream.receive().await.unwrap().is_none());
        }
    });
    complete(&mut runtime, async move {
        for _ in 0..10 {
            let mut client = connect(address).await;
            let mut stream = listener.accept().await.unwrap();
            client.send(b"hello".as_slice()).await.unwrap();
            // So that a receive was armed, and is to be called back.
            assert_eq!(receive_exactly(&mut stream, 5).await, b"hello");
            to_other.send(stream.detach().await.unwrap()).unwrap();
            assert_eq!(receive_exactly(&mut client, 16).await, b"hello from there");
            client.send(b"again".as_slice()).await.unwrap();
            client.flush().await.unwrap();
        }
    });
    other.join().unwrap();
    settle(&mut runtime, 256);
}

fn what_is_sent_on_the_way_arrives(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (stream, mut peer) = pair_with_std().await;
        let detached = stream.detach().await.unwrap();
        peer.write_all(b"while nobody had it").unwrap();
        drop(peer);
        let mut stream = TcpStream::adopt(detached).unwrap();
        let received = receive_exactly(&mut stream, 19).await;
        assert_eq!(received, b"while nobody had it");
        assert!(stream.receive().await.unwrap().is_none());
    });
    settle(&mut runtime, 256);
}

fn only_a_connection_at_rest_can_go(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        // Something was received that nobody took.
        let (mut stream, mut peer) = pair_with_std().await;
        peer.write_all(b"one").unwrap();
        receive_exactly(&mut stream, 3).await;
        peer.write_all(b"two").unwrap();
        let arming = spawn(async move {
            yield_often().await;
            stream.detach().await
        });
        // Either it was received before the receive was called back, or it waits in the kernel.
        match within(arming).await.unwrap() {
            Ok(detached) => {
                let mut stream = TcpStream::adopt(detached).unwrap();
                assert_eq!(receive_exactly(&mut stream, 3).await, b"two");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        // It has ended.
        let (mut stream, peer) = pair_with_std().await;
        drop(peer);
        assert!(stream.receive().await.unwrap().is_none());
        let error = stream.detach().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
        // More was sent than the kernel has taken.
        let (mut stream, _peer) = pair_with_std().await;
        stream.send(vec![0; 32 << 20]).await.unwrap();
        let error = stream.detach().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
    settle(&mut runtime, 256);
}

fn a_quiet_connection_is_told_from_one_that_is_not(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for is_armed in [false, true] {
            let (mut stream, mut peer) = pair_with_std().await;
            if is_armed {
                peer.write_all(b"x").unwrap();
                receive_exactly(&mut stream, 1).await;
            }
            assert!(stream.is_quiet());
            peer.write_all(b"y").unwrap();
            until(|| !stream.is_quiet()).await;
            receive_exactly(&mut stream, 1).await;
            assert!(stream.is_quiet());
            drop(peer);
            until(|| !stream.is_quiet()).await;
        }
    });
    settle(&mut runtime, 256);
}

/// Gives the worker turns until it is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    within(async {
        while !is_so() {
            yield_now().await;
        }
    })
    .await;
}

fn a_detached_connection_that_is_dropped_is_closed(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (stream, mut peer) = pair_with_std().await;
        drop(stream.detach().await.unwrap());
        let end = spawn_blocking(move || peer.read(&mut [0; 1]).unwrap());
        assert_eq!(end.await.unwrap(), 0);
    });
    settle(&mut runtime, 256);
}

fn unix_sockets_are_streams_too(case: &Case) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        let destination = Destination::Unix(path);
        let options = SocketOptions::default();
        let mut stream = TcpStream::connect_to(&destination, &options).await.unwrap();
        let echo = spawn(spawn_blocking(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 300_000];
            peer.read_exact(&mut bytes).unwrap();
            peer.write_all(&bytes).unwrap();
        }));
        stream.send(vec![7; 300_000]).await.unwrap();
        assert!(receive_exactly(&mut stream, 300_000).await == vec![7; 300_000]);
        assert_eq!(stream.delivered_bytes(), 300_000);
        echo.await.unwrap().unwrap();
        assert!(stream.receive().await.unwrap().is_none());
        assert!(stream.peer_address().is_err());
    });
    settle(&mut runtime, 256);
}

fn a_path_that_leads_nowhere_is_an_error(case: &Case) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        let connect = async |path| {
            let options = SocketOptions::default();
            let destination = Destination::Unix(path);
            let stream = TcpStream::connect_to(&destination, &options).await;
            stream.unwrap_err().kind()
        };
        assert_eq!(connect(path.join("none")).await, ErrorKind::NotFound);
        let long = path.join("x".repeat(200));
        assert_eq!(connect(long).await, ErrorKind::InvalidInput);
        let stale = path.join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        assert_eq!(connect(stale).await, ErrorKind::ConnectionRefused);
    });
    settle(&mut runtime, 256);
}
