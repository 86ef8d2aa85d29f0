//! The transfer engine: every method, byte for byte, whatever the client and the file do.

use crate::harness::{
    Case, PATIENCE, Pattern, Random, complete, give_up, listen_with, pair_with_std, settle,
    std_connect, within, yield_now, yield_often,
};
use ringway_runtime::{
    Directory, DriverKind, File, FileTransfer, ListenOptions, SocketOptions, Step, Symlinks,
    TcpStream, TransferError, TransferMethod, TransferOptions, TransferReport, TransferThresholds,
    spawn, spawn_blocking,
};
use rustix::fs::Advice;
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

on_both_drivers! {
    every_method_sends_the_same_bytes,
    every_method_stands_a_slow_reader,
    cold_files_are_sent_like_warm_ones,
    a_file_that_shrinks_is_told_from_one_that_ends,
    a_reset_is_the_client_s_fault,
    a_transfer_may_be_given_up_at_any_time,
    a_deadline_ends_a_step_and_not_the_transfer,
    refused_calls_are_replaced_by_copying,
    readers_that_do_not_read_hold_no_memory,
    zero_copy_sends_leave_blocks_to_others,
    others_have_their_turn,
    bytes_in_memory_go_every_way,
    a_closed_connection_s_bytes_arrive_and_are_let_go_of,
    a_reset_connection_s_bytes_are_let_go_of,
}

const BYTES: usize = 3_000_001;
const FROM: usize = 4_097;

/// A file of known bytes.
struct Served {
    _folder: tempfile::TempDir,
    path: PathBuf,
    file: File,
}

async fn served(bytes: usize) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, Pattern::new(1).chunk(0, bytes)).unwrap();
    let root = Directory::open(folder.path()).unwrap();
    let file = root.open_beneath(b"file", Symlinks::Deny).await.unwrap();
    Served {
        _folder: folder,
        path,
        file,
    }
}

/// Reads to the end in random pieces, and checks each; how many bytes there were.
fn read_all(mut peer: std::net::TcpStream, from: usize, most: usize) -> usize {
    let (pattern, mut random) = (Pattern::new(1), Random(5));
    let (mut count, mut space) = (0, vec![0; most]);
    loop {
        let piece = 1 + random.below(most);
        match peer.read(&mut space[..piece]) {
            Ok(0) => return count,
            Ok(more) => {
                pattern.check(from + count, &space[..more]);
                count += more;
            }
            Err(error) => panic!("after {count} bytes: {error}"),
        }
    }
}

/// Two ends of a connection whose server side has as small a send buffer as there is.
async fn narrow_pair() -> (TcpStream, std::net::TcpStream) {
    let socket = SocketOptions {
        send_buffer: Some(1),
        ..SocketOptions::default()
    };
    let (listener, address) = listen_with(&ListenOptions {
        socket,
        ..ListenOptions::default()
    });
    let peer = std_connect(address);
    (listener.accept().await.unwrap(), peer)
}

/// What a method turns out to be for a large file.
fn effective(kind: DriverKind, method: TransferMethod) -> TransferMethod {
    match method {
        TransferMethod::Auto => TransferMethod::SendFile,
        TransferMethod::Gathered => TransferMethod::Copy,
        TransferMethod::ZeroCopy if kind == DriverKind::Epoll => TransferMethod::NoticedZeroCopy,
        method => method,
    }
}

fn is_zero_copy(method: TransferMethod) -> bool {
    matches!(
        method,
        TransferMethod::ZeroCopy | TransferMethod::NoticedZeroCopy
    )
}

fn every_method_sends_the_same_bytes(case: &Case) {
    let mut runtime = case.runtime();
    let expect = |method| effective(case.kind(), method);
    let expected = TransferMethod::ALL.map(|method| (method, expect(method)));
    complete(&mut runtime, async move {
        let served = served(BYTES).await;
        for (method, expect) in expected {
            let (mut stream, peer) = pair_with_std().await;
            let reader = spawn(spawn_blocking(move || read_all(peer, FROM, 1 << 20)));
            let range = FROM as u64..BYTES as u64;
            let report = stream.send_file(&served.file, range, method).await.unwrap();
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), BYTES - FROM, "{method}");
            assert_eq!(
                (report.method, report.bytes),
                (expect, (BYTES - FROM) as u64)
            );
            assert_eq!(report.zero_copy_sends > 0, is_zero_copy(method), "{method}");
            // The loopback delivers a copy, and both ways of sending have to say so.
            assert_eq!(report.copied_sends, report.zero_copy_sends, "{method}");
        }
    });
    settle(&mut runtime, 256);
}

fn every_method_stands_a_slow_reader(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        const BYTES: usize = 400_000;
        let served = served(BYTES).await;
        for method in TransferMethod::ALL {
            let (mut stream, peer) = narrow_pair().await;
            let reader = spawn(spawn_blocking(move || read_all(peer, 0, 3_000)));
            let range = 0..BYTES as u64;
            stream.send_file(&served.file, range, method).await.unwrap();
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), BYTES, "{method}");
        }
    });
    settle(&mut runtime, 256);
}

/// Puts the file's bytes on the disk and, where the file system allows it, out of memory.
fn cool(served: &Served) {
    let file = std::fs::File::open(&served.path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
}

fn cold_files_are_sent_like_warm_ones(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        let served = served(BYTES).await;
        for method in TransferMethod::ALL {
            cool(&served);
            let (mut stream, peer) = pair_with_std().await;
            let reader = spawn(spawn_blocking(move || read_all(peer, 0, 1 << 20)));
            let range = 0..BYTES as u64;
            let report = stream.send_file(&served.file, range, method).await.unwrap();
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), BYTES, "{method}");
            let stays_inside = matches!(
                report.method,
                TransferMethod::SendFile | TransferMethod::Splice
            );
            assert!(stays_inside || report.warmed_bytes == 0, "{report:?}");
        }
    });
    settle(&mut runtime, 256);
}

/// Steps until the client's buffers are full, which a step tells by waiting.
async fn fill(transfer: &mut FileTransfer, stream: &mut TcpStream) -> u64 {
    loop {
        match transfer.step(stream).await.unwrap() {
            Step::Sent(_) | Step::Waited => {}
            Step::Full if give_up(20, transfer.wait(stream)).await.is_none() => break,
            Step::Full => {}
            Step::Done => panic!("the client took everything"),
        }
    }
    transfer.report().bytes
}

/// Goes on until it can't.
async fn fail(transfer: &mut FileTransfer, stream: &mut TcpStream) -> TransferError {
    let ended = transfer.finish(stream).await;
    ended.expect_err("more was sent than there is, or than was taken")
}

fn a_file_that_shrinks_is_told_from_one_that_ends(case: &Case) {
    let mut runtime = case.runtime();
    let kind = case.kind();
    let effective = move |method| effective(kind, method);
    complete(&mut runtime, async move {
        for method in TransferMethod::ALL {
            const BYTES: usize = 16 << 20;
            let served = served(BYTES).await;
            let (mut stream, peer) = pair_with_std().await;
            let mut transfer = FileTransfer::new(&served.file, 0..BYTES as u64, method);
            fill(&mut transfer, &mut stream).await;
            let shorter = std::fs::OpenOptions::new()
                .write(true)
                .open(&served.path)
                .unwrap();
            // Whole pages: of a part of one a mapping would show the rest as zeroes.
            shorter.set_len(4096).unwrap();
            let expect = effective(method);
            let stays_inside = matches!(expect, TransferMethod::SendFile | TransferMethod::Splice);
            let reader = spawn(spawn_blocking(move || {
                if stays_inside {
                    // What is under way are the file's own pages, and those have changed.
                    return std::io::copy(&mut { peer }, &mut std::io::sink()).unwrap() as usize;
                }
                read_all(peer, 0, 1 << 20)
            }));
            let ended = fail(&mut transfer, &mut stream).await;
            assert!(
                matches!(ended, TransferError::Truncated),
                "{method}: {ended}"
            );
            let sent = transfer.report().bytes as usize;
            drop((transfer, stream));
            assert_eq!(reader.await.unwrap().unwrap(), sent, "{method}");
        }
        let short = served(100_000).await;
        for method in TransferMethod::ALL {
            let (mut stream, peer) = pair_with_std().await;
            let reader = spawn(spawn_blocking(move || read_all(peer, 0, 1 << 20)));
            let sent = stream.send_file(&short.file, 0..0, method).await.unwrap();
            assert_eq!(sent.bytes, 0, "{method}");
            let sent = stream.send_file(&short.file, 200_000..200_001, method);
            let ended = sent.await.unwrap_err();
            assert!(
                matches!(ended, TransferError::Truncated),
                "{method}: {ended}"
            );
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), 0);
        }
    });
    settle(&mut runtime, 256);
}

fn a_reset_is_the_client_s_fault(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        const BYTES: usize = 16 << 20;
        let served = served(BYTES).await;
        for method in TransferMethod::ALL {
            let (mut stream, peer) = pair_with_std().await;
            let mut transfer = FileTransfer::new(&served.file, 0..BYTES as u64, method);
            fill(&mut transfer, &mut stream).await;
            // Bytes are left unread, so closing resets.
            drop(peer);
            let ended = fail(&mut transfer, &mut stream).await;
            let TransferError::Stream(error) = ended else {
                panic!("{method}: {ended}");
            };
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{method}: {error}"
            );
        }
    });
    settle(&mut runtime, 256);
}

fn a_transfer_may_be_given_up_at_any_time(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        let served = served(BYTES).await;
        for method in TransferMethod::ALL {
            for turns in 0..6 {
                cool(&served);
                let (mut stream, peer) = pair_with_std().await;
                let mut transfer = FileTransfer::new(&served.file, 0..BYTES as u64, method);
                let _ = give_up(turns, transfer.finish(&mut stream)).await;
                drop((transfer, stream));
                let sent = spawn_blocking(move || read_all(peer, 0, 1 << 20)).await;
                assert!(sent.unwrap() <= BYTES);
            }
        }
    });
    settle(&mut runtime, 256);
}

fn a_deadline_ends_a_step_and_not_the_transfer(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        const BYTES: usize = 16 << 20;
        let served = served(BYTES).await;
        for method in TransferMethod::ALL {
            let (mut stream, peer) = pair_with_std().await;
            let mut transfer = FileTransfer::new(&served.file, 0..BYTES as u64, method);
            fill(&mut transfer, &mut stream).await;
            stream.set_deadline(Some(stream.now() + Duration::from_millis(20)));
            let ended = fail(&mut transfer, &mut stream).await;
            let TransferError::Stream(error) = ended else {
                panic!("{method}: {ended}");
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{method}");
            stream.set_deadline(None);
            let reader = spawn(spawn_blocking(move || read_all(peer, 0, 1 << 20)));
            let report = transfer.finish(&mut stream).await.unwrap();
            assert_eq!(report.bytes, BYTES as u64);
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), BYTES, "{method}");
        }
    });
    settle(&mut runtime, 256);
}

fn refused_calls_are_replaced_by_copying(case: &Case) {
    case.alone_without_transfer_calls(|| {
        let mut runtime = case.runtime();
        let is_uring = case.kind() == DriverKind::Uring;
        complete(&mut runtime, async move {
            let served = served(BYTES).await;
            for method in TransferMethod::ALL {
                let (mut stream, peer) = pair_with_std().await;
                let reader = spawn(spawn_blocking(move || read_all(peer, 0, 1 << 20)));
                let range = 0..BYTES as u64;
                let report = stream.send_file(&served.file, range, method).await.unwrap();
                drop(stream);
                assert_eq!(reader.await.unwrap().unwrap(), BYTES, "{method}");
                let expect = match method {
                    TransferMethod::NaiveCopy
                    | TransferMethod::Map
                    | TransferMethod::Registered => method,
                    // An operation of the ring is out of a filter's reach.
                    TransferMethod::ZeroCopy if is_uring => method,
                    _ => TransferMethod::Copy,
                };
                assert_eq!(report.method, expect, "{method}");
            }
        });
        settle(&mut runtime, 256);
    });
}

fn readers_that_do_not_read_hold_no_memory(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        const BYTES: usize = 16 << 20;
        let served = Rc::new(served(BYTES).await);
        let mut stalled = Vec::new();
        for method in [TransferMethod::Copy, TransferMethod::Splice] {
            for _ in 0..20 {
                let (mut stream, peer) = narrow_pair().await;
                let served = Rc::clone(&served);
                let task = spawn(async move {
                    let range = 0..BYTES as u64;
                    stream.send_file(&served.file, range, method).await
                });
                stalled.push((task, peer));
            }
        }
        for _ in 0..50 {
            yield_often().await;
        }
        // More than there are blocks and pipes stand still, and yet others get on.
        for method in [TransferMethod::Copy, TransferMethod::Splice] {
            let (mut stream, peer) = pair_with_std().await;
            let reader = spawn(spawn_blocking(move || read_all(peer, 0, 1 << 20)));
            let range = 0..BYTES as u64;
            let sent = stream.send_file(&served.file, range, method);
            assert_eq!(within(sent).await.unwrap().bytes, BYTES as u64);
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), BYTES);
        }
        for (task, peer) in stalled {
            drop(peer);
            assert!(task.await.unwrap().is_err());
        }
    });
    settle(&mut runtime, 256);
}

/// A worker has sixteen blocks, and each of these clients keeps one for as long as it likes.
fn zero_copy_sends_leave_blocks_to_others(case: &Case) {
    for method in [TransferMethod::ZeroCopy, TransferMethod::NoticedZeroCopy] {
        let mut runtime = case.runtime();
        complete(&mut runtime, async move {
            let served = served(BYTES).await;
            let mut stalled = Vec::new();
            for _ in 0..16 {
                let (mut stream, peer) = narrow_pair().await;
                let options = TransferOptions {
                    method,
                    ..TransferOptions::default()
                };
                let mut transfer = FileTransfer::new(&served.file, 0..BYTES as u64, options);
                fill(&mut transfer, &mut stream).await;
                stalled.push((transfer, stream, peer));
            }
            let methods = stalled
                .iter()
                .map(|(transfer, ..)| transfer.report().method);
            let are_without_copy: Vec<bool> = methods.map(is_zero_copy).collect();
            assert_eq!(
                are_without_copy,
                [[true; 12].as_slice(), &[false; 4]].concat()
            );
        });
        settle(&mut runtime, 256);
    }
}

fn others_have_their_turn(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        const BYTES: usize = 32 << 20;
        let served = served(BYTES).await;
        let (mut stream, peer) = pair_with_std().await;
        let reader = spawn(spawn_blocking(move || read_all(peer, 0, 1 << 20)));
        let thresholds = TransferThresholds {
            turn_bytes: 1 << 20,
            ..TransferThresholds::default()
        };
        let options = TransferOptions {
            thresholds,
            ..TransferOptions::default()
        };
        let mut turns = 0;
        let other = spawn(async move {
            loop {
                turns += 1;
                if turns == 32 {
                    return;
                }
                yield_now().await;
            }
        });
        let range = 0..BYTES as u64;
        let sent = stream.send_file(&served.file, range, options).await;
        assert_eq!(sent.unwrap().bytes, BYTES as u64);
        // It had as many turns as the transfer, which had one for each mebibyte at least.
        assert!(give_up(1, other).await.is_some());
        drop(stream);
        assert_eq!(reader.await.unwrap().unwrap(), BYTES);
    });
    settle(&mut runtime, 256);
}

async fn send_bytes(
    stream: &mut TcpStream,
    method: TransferMethod,
    count: usize,
) -> TransferReport {
    let bytes: Rc<[u8]> = Pattern::new(1).chunk(0, count).into();
    stream.send_bytes(&bytes, 0..count, method).await.unwrap()
}

fn bytes_in_memory_go_every_way(case: &Case) {
    let mut runtime = case.runtime();
    let is_uring = case.kind() == DriverKind::Uring;
    complete(&mut runtime, async move {
        for (method, expect) in [
            // The loopback copies, and so isn't tried.
            (TransferMethod::Auto, TransferMethod::Gathered),
            (TransferMethod::Gathered, TransferMethod::Gathered),
            (
                TransferMethod::NoticedZeroCopy,
                TransferMethod::NoticedZeroCopy,
            ),
            (
                TransferMethod::ZeroCopy,
                if is_uring {
                    TransferMethod::ZeroCopy
                } else {
                    TransferMethod::NoticedZeroCopy
                },
            ),
        ] {
            let (mut stream, peer) = narrow_pair().await;
            let reader = spawn(spawn_blocking(move || read_all(peer, 0, 100_000)));
            let report = send_bytes(&mut stream, method, BYTES).await;
            assert_eq!((report.method, report.bytes), (expect, BYTES as u64));
            assert_eq!(report.copied_sends, report.zero_copy_sends);
            drop(stream);
            assert_eq!(reader.await.unwrap().unwrap(), BYTES, "{method}");
        }
    });
    settle(&mut runtime, 256);
}

const ZERO_COPY: [TransferMethod; 2] = [TransferMethod::NoticedZeroCopy, TransferMethod::ZeroCopy];

fn a_closed_connection_s_bytes_arrive_and_are_let_go_of(case: &Case) {
    for method in ZERO_COPY {
        let mut runtime = case.runtime();
        let peer = complete(&mut runtime, async move {
            let served = served(BYTES).await;
            let (mut stream, peer) = pair_with_std().await;
            let mut transfer = FileTransfer::new(&served.file, 0..BYTES as u64, method);
            while transfer.report().bytes == 0 {
                transfer.step(&mut stream).await.unwrap();
                transfer.wait(&mut stream).await.unwrap();
            }
            (peer, transfer.report().bytes as usize)
        });
        let (peer, sent) = peer;
        let reader = std::thread::spawn(move || read_all(peer, 0, 100_000));
        settle(&mut runtime, 256);
        assert_eq!(reader.join().unwrap(), sent, "{method}");
    }
}

/// The client never reads, so that nothing but the reset makes the kernel let go.
fn a_reset_connection_s_bytes_are_let_go_of(case: &Case) {
    for method in ZERO_COPY {
        let mut runtime = case.runtime();
        let start = Instant::now();
        let mut peer = complete(&mut runtime, async move {
            let served = served(16 << 20).await;
            let (mut stream, peer) = pair_with_std().await;
            let mut transfer = FileTransfer::new(&served.file, 0..16 << 20, method);
            fill(&mut transfer, &mut stream).await;
            drop(transfer);
            stream.reset();
            peer
        });
        settle(&mut runtime, 256);
        assert!(start.elapsed() < PATIENCE);
        let ended = std::iter::repeat_with(|| peer.read(&mut [0; 65_536]))
            .find_map(Result::err)
            .unwrap();
        assert_eq!(ended.kind(), ErrorKind::ConnectionReset, "{method}");
    }
}
