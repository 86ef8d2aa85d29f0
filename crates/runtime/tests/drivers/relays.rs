//! One socket's bytes to another, both ways.

use crate::harness::{Case, Pattern, Random, complete, pair_with_std, settle, within, yield_often};
use ringway_runtime::{RelayOptions, TransferMethod, relay, spawn, spawn_blocking};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

on_both_drivers! {
    both_ways_are_exact_and_ends_are_passed_on,
    one_way_goes_on_after_the_other_has_ended,
    a_side_that_does_not_read_stops_the_other,
    a_reset_ends_a_relay,
    silence_ends_a_relay,
    refused_splices_are_replaced_by_copying,
    more_relays_than_pipes,
}

const METHODS: [TransferMethod; 2] = [TransferMethod::Auto, TransferMethod::Copy];

fn with(method: TransferMethod) -> RelayOptions {
    RelayOptions {
        method,
        ..RelayOptions::default()
    }
}

/// Sends `count` known bytes in random pieces, then an end.
fn send(mut peer: TcpStream, seed: u64, count: usize) {
    let (pattern, mut random) = (Pattern::new(seed), Random(seed));
    let mut sent = 0;
    while sent < count {
        let piece = (1 + random.below(200_000)).min(count - sent);
        peer.write_all(&pattern.chunk(sent, piece)).unwrap();
        sent += piece;
    }
    peer.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end; how many bytes there were, all of them right.
fn receive(mut peer: TcpStream, seed: u64) -> usize {
    let (pattern, mut random) = (Pattern::new(seed), Random(seed + 1));
    let (mut count, mut space) = (0, vec![0; 150_000]);
    loop {
        let most = 1 + random.below(space.len());
        match peer.read(&mut space[..most]).unwrap() {
            0 => return count,
            more => {
                pattern.check(count, &space[..more]);
                count += more;
            }
        }
    }
}

fn both_ways_are_exact_and_ends_are_passed_on(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        const BYTES: [usize; 2] = [20_000_001, 9_999_999];
        for method in METHODS {
            let (mut first, one) = pair_with_std().await;
            let (mut second, other) = pair_with_std().await;
            // Received ahead of the relay, and to be sent on first.
            let (head, tail) = (Pattern::new(1).chunk(0, 10), one.try_clone().unwrap());
            (&one).write_all(&head[..4]).unwrap();
            let early = first.receive().await.unwrap().unwrap();
            assert_eq!(&*early, &head[..4]);
            second.send(early).await.unwrap();
            let senders = [
                spawn(spawn_blocking(move || {
                    let mut rest = tail;
                    rest.write_all(&Pattern::new(1).chunk(4, BYTES[0] - 4))
                        .unwrap();
                    rest.shutdown(Shutdown::Write).unwrap();
                })),
                {
                    let other = other.try_clone().unwrap();
                    spawn(spawn_blocking(move || send(other, 2, BYTES[1])))
                },
            ];
            let receivers = [
                spawn(spawn_blocking(move || receive(other, 1))),
                spawn(spawn_blocking(move || receive(one, 2))),
            ];
            let report = relay(&mut first, &mut second, with(method)).await.unwrap();
            for sender in senders {
                sender.await.unwrap().unwrap();
            }
            for (receiver, bytes) in receivers.into_iter().zip(BYTES) {
                assert_eq!(receiver.await.unwrap().unwrap(), bytes);
            }
            let moved = (report.there_bytes as usize, report.back_bytes as usize);
            assert_eq!(moved, (BYTES[0] - 4, BYTES[1]));
            assert_eq!(
                report.spliced_bytes > 1 << 20,
                method == TransferMethod::Auto
            );
        }
    });
    settle(&mut runtime, 256);
}

fn one_way_goes_on_after_the_other_has_ended(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut first, mut one) = pair_with_std().await;
            let (mut second, mut other) = pair_with_std().await;
            let relayed = spawn(async move { relay(&mut first, &mut second, with(method)).await });
            let talk = spawn_blocking(move || {
                one.write_all(b"question").unwrap();
                one.shutdown(Shutdown::Write).unwrap();
                let mut question = Vec::new();
                other.read_to_end(&mut question).unwrap();
                assert_eq!(question, b"question");
                // Only now, when the end of the question has come through.
                other.write_all(b"answer").unwrap();
                drop(other);
                let mut answer = Vec::new();
                one.read_to_end(&mut answer).unwrap();
                answer
            });
            assert_eq!(talk.await.unwrap(), b"answer");
            let report = relayed.await.unwrap().unwrap();
            assert_eq!((report.there_bytes, report.back_bytes), (8, 6));
        }
    });
    settle(&mut runtime, 256);
}

fn a_side_that_does_not_read_stops_the_other(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut first, one) = pair_with_std().await;
            let (mut second, other) = pair_with_std().await;
            let relayed = spawn(async move { relay(&mut first, &mut second, with(method)).await });
            one.set_nonblocking(true).unwrap();
            let mut sent = 0;
            let mut stalls = 0;
            while stalls < 20 {
                match (&one).write(&Pattern::new(3).chunk(sent, 100_000)) {
                    Ok(count) => (sent, stalls) = (sent + count, 0),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        stalls += 1;
                        yield_often().await;
                    }
                }
            }
            one.set_nonblocking(false).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            let received = spawn_blocking(move || {
                let copy = other.try_clone().unwrap();
                let count = receive(other, 3);
                drop(copy);
                count
            });
            assert_eq!(received.await.unwrap(), sent);
            within(relayed).await.unwrap().unwrap();
        }
    });
    settle(&mut runtime, 256);
}

fn a_reset_ends_a_relay(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut first, one) = pair_with_std().await;
            let (mut second, other) = pair_with_std().await;
            (&one).write_all(&[7; 1000]).unwrap();
            let relayed = spawn(async move { relay(&mut first, &mut second, with(method)).await });
            let other = spawn_blocking(move || {
                let mut other = other;
                other.read_exact(&mut [0; 1]).unwrap();
                other
            });
            // Bytes are left unread, so closing resets.
            drop(other.await.unwrap());
            let error = within(relayed).await.unwrap().unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{error}"
            );
        }
    });
    settle(&mut runtime, 256);
}

fn silence_ends_a_relay(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut first, _one) = pair_with_std().await;
            let (mut second, _other) = pair_with_std().await;
            let options = RelayOptions {
                idle_timeout: Duration::from_millis(20),
                method,
            };
            let error = relay(&mut first, &mut second, options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    });
    settle(&mut runtime, 256);
}

fn refused_splices_are_replaced_by_copying(case: &Case) {
    case.alone_without_transfer_calls(|| {
        let mut runtime = case.runtime();
        complete(&mut runtime, async {
            let (mut first, one) = pair_with_std().await;
            let (mut second, other) = pair_with_std().await;
            let copy = other.try_clone().unwrap();
            let sender = spawn(spawn_blocking(move || send(one, 4, 5_000_000)));
            let receiver = spawn(spawn_blocking(move || receive(other, 4)));
            copy.shutdown(Shutdown::Write).unwrap();
            let report = relay(&mut first, &mut second, RelayOptions::default()).await;
            assert_eq!(report.unwrap().spliced_bytes, 0);
            sender.await.unwrap().unwrap();
            assert_eq!(receiver.await.unwrap().unwrap(), 5_000_000);
        });
        settle(&mut runtime, 256);
    });
}

/// Stuck ones hold the pipes; whoever comes then is copied for.
fn more_relays_than_pipes(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let mut stuck = Vec::new();
        for _ in 0..20 {
            let (mut first, one) = pair_with_std().await;
            let (mut second, other) = pair_with_std().await;
            one.set_nonblocking(true).unwrap();
            let relayed =
                spawn(async move { relay(&mut first, &mut second, with(METHODS[0])).await });
            let mut stalls = 0;
            while stalls < 5 {
                match (&one).write(&[1; 100_000]) {
                    Ok(_) => stalls = 0,
                    Err(_) => stalls += 1,
                }
                yield_often().await;
            }
            stuck.push((relayed, one, other));
        }
        let (mut first, one) = pair_with_std().await;
        let (mut second, other) = pair_with_std().await;
        let copy = other.try_clone().unwrap();
        copy.shutdown(Shutdown::Write).unwrap();
        let sender = spawn(spawn_blocking(move || send(one, 5, 3_000_000)));
        let receiver = spawn(spawn_blocking(move || receive(other, 5)));
        let report = relay(&mut first, &mut second, RelayOptions::default()).await;
        assert_eq!(report.unwrap().there_bytes, 3_000_000);
        sender.await.unwrap().unwrap();
        assert_eq!(receiver.await.unwrap().unwrap(), 3_000_000);
        for (relayed, one, other) in stuck {
            drop((one, other));
            let _ = within(relayed).await.unwrap();
        }
    });
    settle(&mut runtime, 256);
}
