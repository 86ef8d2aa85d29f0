//! Rule 3: whatever future is dropped, at whatever stage, its slot, its buffer and its descriptor
//! come back.

use crate::harness::{
    Case, Random, complete, connect, give_up, listen, listen_with, pair, settle, yield_now,
};
use ringway_runtime::{
    Directory, ListenOptions, Outgoing, SocketOptions, Symlinks, TcpStream, sleep, timeout,
};
use std::time::Duration;

on_both_drivers! {
    dropped_receives_leave_nothing,
    dropped_sends_leave_nothing,
    dropped_connects_leave_nothing,
    dropped_accepts_leave_nothing,
    dropped_file_requests_leave_nothing,
    dropped_waits_leave_nothing,
    a_dropped_receive_loses_no_bytes,
}

const ROUNDS: usize = 100;

fn dropped_receives_leave_nothing(case: &Case) {
    let mut runtime = case.runtime_with_buffers(16);
    complete(&mut runtime, async {
        for round in 0..ROUNDS {
            let (mut reader, mut writer) = pair().await;
            if round % 2 == 0 {
                writer.send(Random(round as u64).bytes(5000)).await.unwrap();
            }
            drop(give_up(round % 5, reader.receive()).await);
            if round % 3 == 0 {
                yield_now().await;
            }
        }
    });
    settle(&mut runtime, 16);
}

fn dropped_sends_leave_nothing(case: &Case) {
    let mut runtime = case.runtime_with_buffers(16);
    complete(&mut runtime, async {
        for round in 0..ROUNDS {
            let (mut reader, mut writer) = pair().await;
            reader.send(b"to be sent back".as_slice()).await.unwrap();
            let received = writer.receive().await.unwrap().unwrap();
            if round % 2 == 0 {
                while writer.send_now(&[1; 65536], false).is_ok() {}
            }
            let gathered = Outgoing::gathered(vec![2; 10_000], received);
            drop(give_up(round % 5, writer.send(gathered)).await);
            drop(give_up(round % 3, writer.send(vec![3; 100_000])).await);
            drop(give_up(round % 4, writer.flush()).await);
        }
    });
    settle(&mut runtime, 16);
}

fn dropped_connects_leave_nothing(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let options = SocketOptions::default();
        let (listener, address) = listen();
        for round in 0..ROUNDS {
            drop(give_up(round % 5, TcpStream::connect(address, &options)).await);
        }
        drop(listener);
        for round in 0..ROUNDS {
            drop(give_up(round % 5, TcpStream::connect(address, &options)).await);
        }
        // Where the queue is full, a handshake is not answered.
        let (_full, address) = listen_with(&ListenOptions {
            backlog: 1,
            ..Default::default()
        });
        let mut waiting = Vec::new();
        loop {
            let connect = TcpStream::connect(address, &options);
            match timeout(Duration::from_millis(200), connect).await {
                Ok(stream) => waiting.push(stream.unwrap()),
                Err(_) => break,
            }
            assert!(waiting.len() < 100, "a queue of one is never full");
        }
        for round in 0..ROUNDS {
            let pending = give_up(round % 5, TcpStream::connect(address, &options)).await;
            assert!(pending.is_none(), "{pending:?}");
        }
    });
    settle(&mut runtime, 256);
}

fn dropped_accepts_leave_nothing(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for round in 0..ROUNDS {
            let (listener, address) = listen();
            drop(give_up(round % 5, listener.accept()).await);
            let mut clients = Vec::new();
            for _ in 0..round % 4 {
                clients.push(connect(address).await);
            }
            drop(give_up(round % 3, listener.accept()).await);
        }
    });
    settle(&mut runtime, 256);
}

fn dropped_file_requests_leave_nothing(case: &Case) {
    let mut runtime = case.runtime();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), vec![7; 100_000]).unwrap();
    let root = Directory::open(folder.path()).unwrap();
    complete(&mut runtime, async move {
        for round in 0..ROUNDS {
            // A name that the kernel has never seen has to be looked up on the disk.
            let unknown = format!("unknown-{round}");
            let open = root.open_beneath(unknown.as_bytes(), Symlinks::Beneath);
            drop(give_up(round % 4, open).await);
            drop(give_up(round % 4, root.open_beneath(b"file", Symlinks::Beneath)).await);
            let file = root.open_beneath(b"file", Symlinks::Beneath).await.unwrap();
            drop(give_up(round % 4, file.read_at(vec![0; 50_000], 10)).await);
        }
    });
    settle(&mut runtime, 256);
}

fn dropped_waits_leave_nothing(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for round in 0..ROUNDS {
            assert!(
                give_up(round % 3, sleep(Duration::from_secs(1000)))
                    .await
                    .is_none()
            );
            let (mut stream, _peer) = pair().await;
            while stream.send_now(&[1; 65536], false).is_ok() {}
            stream.set_deadline(Some(ringway_runtime::now() + Duration::from_secs(1000)));
            drop(give_up(round % 4, stream.writable()).await);
            drop(give_up(round % 4, stream.receive()).await);
        }
    });
    settle(&mut runtime, 256);
}

/// The operation goes on without the future; the next call gets what came meanwhile.
fn a_dropped_receive_loses_no_bytes(case: &Case) {
    let mut runtime = case.runtime_with_buffers(8);
    complete(&mut runtime, async {
        let (mut reader, mut writer) = pair().await;
        let bytes = Random(9).bytes(300_000);
        writer.send(bytes.clone()).await.unwrap();
        let mut received = Vec::new();
        let mut turns = 0;
        while received.len() < bytes.len() {
            turns = (turns + 1) % 4;
            if let Some(buffer) = give_up(turns, reader.receive()).await {
                received.extend_from_slice(&buffer.unwrap().unwrap());
            }
        }
        assert!(received == bytes);
    });
    settle(&mut runtime, 8);
}
