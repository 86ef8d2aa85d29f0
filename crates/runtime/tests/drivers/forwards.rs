//! A known number of bytes from one socket to another, with whatever stands behind them left alone.

use crate::harness::{
    Case, Pattern, complete, pair_with_std, receive_exactly, settle, within, yield_often,
};
use ringway_runtime::{
    ForwardError, ForwardOptions, Forwarded, TcpStream, TransferMethod, forward, sleep, spawn,
    spawn_blocking,
};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

on_both_drivers! {
    exactly_so_many_bytes_go,
    what_stands_behind_them_is_given_back,
    of_the_next_body_nothing_is_received_ahead,
    an_early_end_is_the_source_s_fault,
    a_silent_source_is_given_up,
    a_source_that_trickles_is_given_up,
    what_the_destination_takes_its_time_for_is_not_the_source_s,
    a_destination_that_takes_nothing_is_given_up,
}

const METHODS: [TransferMethod; 2] = [TransferMethod::Auto, TransferMethod::Copy];

fn with(method: TransferMethod) -> ForwardOptions {
    ForwardOptions {
        method,
        source_timeout: Duration::from_secs(50),
        source_bytes: 1,
        destination_timeout: Duration::from_secs(50),
    }
}

async fn forward_from(
    from: &mut TcpStream,
    to: &mut TcpStream,
    bytes: u64,
    options: ForwardOptions,
) -> Result<Forwarded, ForwardError> {
    let (mut reader, _) = from.split();
    let (_, mut writer) = to.split();
    forward(&mut reader, &mut writer, bytes, options, |_| ()).await
}

fn exactly_so_many_bytes_go(case: &Case) {
    const BYTES: usize = 9_000_001;
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut from, source) = pair_with_std().await;
            let (mut to, mut destination) = pair_with_std().await;
            let sender = spawn_blocking(move || {
                (&source)
                    .write_all(&Pattern::new(1).chunk(0, BYTES))
                    .unwrap();
                source
            });
            let receiver = spawn(spawn_blocking(move || {
                let mut bytes = vec![0; BYTES];
                destination.read_exact(&mut bytes).unwrap();
                Pattern::new(1).check(0, &bytes);
                destination
            }));
            let mut heard = 0;
            let forwarded = {
                let (mut reader, _) = from.split();
                let (_, mut writer) = to.split();
                let hear = |bytes| heard += bytes;
                spawn(sender);
                forward(&mut reader, &mut writer, BYTES as u64, with(method), hear).await
            };
            let forwarded = forwarded.unwrap();
            assert_eq!(heard, BYTES as u64);
            assert!(forwarded.rest.is_none());
            let is_spliced = forwarded.spliced_bytes > 1 << 20;
            assert_eq!(is_spliced, method == TransferMethod::Auto);
            // Both streams go on afterwards.
            let mut destination = receiver.await.unwrap().unwrap();
            to.send(b"more".as_slice()).await.unwrap();
            let more = spawn_blocking(move || {
                let mut bytes = [0; 4];
                destination.read_exact(&mut bytes).unwrap();
                bytes
            });
            assert_eq!(&more.await.unwrap(), b"more");
        }
    });
    settle(&mut runtime, 256);
}

fn what_stands_behind_them_is_given_back(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut from, mut source) = pair_with_std().await;
            let (mut to, mut destination) = pair_with_std().await;
            source.write_all(b"request").unwrap();
            // So that all of it is received ahead.
            let first = receive_exactly(&mut from, 7).await;
            assert_eq!(first, b"request");
            let listening = spawn(async move {
                let early = from.receive().await.unwrap().unwrap();
                (from, early)
            });
            yield_often().await;
            source.write_all(b"body, next").unwrap();
            let (mut from, early) = within(listening).await.unwrap();
            assert_eq!(&early[..], b"body, next");
            source.write_all(b"BODY, NEXT").unwrap();
            let forwarded = forward_from(&mut from, &mut to, 4, with(method)).await;
            let mut behind = forwarded
                .unwrap()
                .rest
                .map_or_else(Vec::new, |rest| rest.to_vec());
            if behind.len() < 6 {
                behind.extend(receive_exactly(&mut from, 6 - behind.len()).await);
            }
            assert_eq!(behind, b", NEXT");
            let read = spawn_blocking(move || {
                let mut bytes = [0; 4];
                destination.read_exact(&mut bytes).unwrap();
                bytes
            });
            assert_eq!(&read.await.unwrap(), b"BODY");
        }
    });
    settle(&mut runtime, 256);
}

/// What was received for nothing has to be copied: of a hundred kilobytes that used to be most.
fn of_the_next_body_nothing_is_received_ahead(case: &Case) {
    const BYTES: usize = 100_000;
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut from, mut source) = pair_with_std().await;
        let (mut to, mut destination) = pair_with_std().await;
        let receiver = spawn(spawn_blocking(move || {
            let mut bytes = vec![0; 2 * BYTES];
            destination.read_exact(&mut bytes).unwrap();
            bytes
        }));
        let auto = with(TransferMethod::Auto);
        source.write_all(&Pattern::new(1).chunk(0, BYTES)).unwrap();
        let first = forward_from(&mut from, &mut to, BYTES as u64, auto).await;
        assert!(first.unwrap().rest.is_none());
        source
            .write_all(&Pattern::new(1).chunk(BYTES, BYTES))
            .unwrap();
        let head = from.receive().await.unwrap().unwrap();
        // Time to receive more, were that under way.
        yield_often().await;
        let rest = (BYTES - head.len()) as u64;
        to.send(head).await.unwrap();
        let forwarded = forward_from(&mut from, &mut to, rest, auto).await;
        assert_eq!(forwarded.unwrap().spliced_bytes, rest);
        Pattern::new(1).check(0, &receiver.await.unwrap().unwrap());
    });
    settle(&mut runtime, 256);
}

fn an_early_end_is_the_source_s_fault(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut from, mut source) = pair_with_std().await;
            let (mut to, _destination) = pair_with_std().await;
            source.write_all(&[1; 999]).unwrap();
            drop(source);
            let error = forward_from(&mut from, &mut to, 1000, with(method)).await;
            assert!(
                matches!(&error, Err(ForwardError::Source(error)) if error.kind() == ErrorKind::UnexpectedEof),
                "{error:?}"
            );
        }
    });
    settle(&mut runtime, 256);
}

fn a_silent_source_is_given_up(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut from, mut source) = pair_with_std().await;
            let (mut to, _destination) = pair_with_std().await;
            source.write_all(&[1; 999]).unwrap();
            let mut options = with(method);
            options.source_timeout = Duration::from_millis(20);
            let error = forward_from(&mut from, &mut to, 1000, options).await;
            assert!(
                matches!(&error, Err(ForwardError::Source(error)) if error.kind() == ErrorKind::TimedOut),
                "{error:?}"
            );
        }
    });
    settle(&mut runtime, 256);
}

/// Waits for that long, if the other side neither sends anything nor goes.
fn is_silent_for(stream: &mut std::net::TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).unwrap();
    let heard = stream.read(&mut [0]);
    stream.set_read_timeout(None).unwrap();
    heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Bytes come all the time, but too few of them.
fn a_source_that_trickles_is_given_up(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for (source_bytes, is_enough) in [(1, true), (1000, false)] {
            let (mut from, mut source) = pair_with_std().await;
            let (mut to, _destination) = pair_with_std().await;
            let options = ForwardOptions {
                source_bytes,
                source_timeout: Duration::from_millis(400),
                ..with(TransferMethod::Splice)
            };
            let feeding = spawn(spawn_blocking(move || {
                for _ in 0..100 {
                    let is_sent = source.write_all(&[1]).is_ok();
                    if !is_sent || !is_silent_for(&mut source, Duration::from_millis(6)) {
                        break;
                    }
                }
                source
            }));
            let ended = forward_from(&mut from, &mut to, 100, options).await;
            match ended {
                Ok(_) => assert!(is_enough, "too few bytes, and nobody minds"),
                Err(ForwardError::Source(error)) => {
                    assert!(!is_enough && error.kind() == ErrorKind::TimedOut, "{error}");
                }
                Err(error) => panic!("{error}"),
            }
            from.reset();
            feeding.await.unwrap().unwrap();
        }
    });
    settle(&mut runtime, 256);
}

fn what_the_destination_takes_its_time_for_is_not_the_source_s(case: &Case) {
    const BYTES: usize = 30 << 20;
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut from, mut source) = pair_with_std().await;
        let (mut to, mut destination) = pair_with_std().await;
        let options = ForwardOptions {
            source_bytes: u64::MAX,
            source_timeout: Duration::from_secs(3),
            ..with(TransferMethod::Splice)
        };
        let feeding = spawn(spawn_blocking(move || {
            source.write_all(&vec![1; BYTES]).unwrap();
            source
        }));
        let reading = spawn(async move {
            // Longer than the source has, and all of it is the destination's.
            sleep(Duration::from_secs(4)).await;
            spawn_blocking(move || destination.read_exact(&mut vec![0; BYTES]).unwrap()).await
        });
        forward_from(&mut from, &mut to, BYTES as u64, options)
            .await
            .unwrap();
        feeding.await.unwrap().unwrap();
        reading.await.unwrap().unwrap();
    });
    settle(&mut runtime, 256);
}

fn a_destination_that_takes_nothing_is_given_up(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for method in METHODS {
            let (mut from, source) = pair_with_std().await;
            let (mut to, _destination) = pair_with_std().await;
            let mut options = with(method);
            options.destination_timeout = Duration::from_millis(50);
            let feeding = spawn(spawn_blocking(move || {
                // Until its connection is reset.
                while (&source).write(&[1; 100_000]).is_ok() {}
            }));
            let error = forward_from(&mut from, &mut to, u64::MAX / 4, options).await;
            assert!(
                matches!(&error, Err(ForwardError::Destination(error)) if error.kind() == ErrorKind::TimedOut),
                "{error:?}"
            );
            from.reset();
            to.reset();
            feeding.await.unwrap().unwrap();
        }
    });
    settle(&mut runtime, 256);
}
