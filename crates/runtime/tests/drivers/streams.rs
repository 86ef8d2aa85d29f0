//! Bytes through connections: large, chopped, gathered, half-closed, urgent.

use crate::harness::{
    Case, Pattern, Random, complete, connect, echo, give_up, listen, listen_with, pair,
    pair_with_std, receive_exactly, receive_to_end, settle, yield_often,
};
use ringway_runtime::{
    Chunk, DriverKind, ForwardOptions, ListenOptions, Outgoing, SocketOptions, TcpStream,
    TransferMethod, forward, spawn, spawn_blocking,
};
use rustix::net::SendFlags;
use rustix::net::sockopt::set_socket_linger;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

on_both_drivers! {
    large_transfers_both_ways_are_exact,
    every_kind_of_chunk_is_exact,
    a_gathered_send_may_exceed_the_socket_buffer,
    the_head_of_a_send_is_let_go_of_when_it_has_left,
    a_send_of_nothing_sends_nothing,
    send_now_takes_what_fits,
    a_half_closed_peer_still_receives_everything,
    our_half_close_follows_what_was_flushed,
    our_half_close_follows_what_is_under_way,
    a_wait_for_room_behind_a_send_ends,
    urgent_data_does_not_stop_a_stream,
    addresses_are_those_of_both_sides,
    a_refused_connection_says_so,
    a_reset_by_the_peer_ends_every_wait,
    what_a_peer_said_before_it_was_gone_is_heard,
}

/// In each direction.
const LARGE_BYTES: usize = 64 << 20;

fn large_transfers_both_ways_are_exact(case: &Case) {
    let mut runtime = case.runtime();
    let (listener, address) = complete(&mut runtime, async { listen() });
    let other = case.on_worker(move || async move {
        let stream = connect(address).await;
        Duplex::new(stream, 1, 2).run().await;
    });
    complete(&mut runtime, async move {
        let stream = listener.accept().await.unwrap();
        Duplex::new(stream, 2, 1).run().await;
    });
    other.join().unwrap();
    settle(&mut runtime, 256);
}

/// Sends one pattern in random pieces while it receives another, on one stream.
struct Duplex {
    stream: TcpStream,
    random: Random,
    out: Pattern,
    back: Pattern,
    submitted: usize,
    received: usize,
    next: Option<Outgoing>,
    is_shut: bool,
    is_at_end: bool,
}

impl Duplex {
    fn new(stream: TcpStream, out: u64, back: u64) -> Duplex {
        Duplex {
            stream,
            random: Random(out),
            out: Pattern::new(out),
            back: Pattern::new(back),
            submitted: 0,
            received: 0,
            next: None,
            is_shut: false,
            is_at_end: false,
        }
    }

    async fn run(mut self) {
        poll_fn(|context| self.poll(context)).await;
        assert_eq!((self.submitted, self.received), (LARGE_BYTES, LARGE_BYTES));
        assert_eq!(self.stream.sent_bytes(), LARGE_BYTES as u64);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.is_shut && self.poll_out(context).is_ready() {}
        while !self.is_at_end {
            let Poll::Ready(received) = self.stream.poll_receive(context) else {
                break;
            };
            match received.unwrap() {
                Some(buffer) => {
                    self.back.check(self.received, &buffer);
                    self.received += buffer.len();
                }
                None => self.is_at_end = true,
            }
        }
        if self.is_shut && self.is_at_end {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() && self.submitted < LARGE_BYTES {
            let count = (1 + self.random.below(1 << 18)).min(LARGE_BYTES - self.submitted);
            let bytes = self.out.chunk(self.submitted, count);
            self.submitted += count;
            self.next = Some(if self.random.below(2) == 0 {
                bytes.into()
            } else {
                let tail = bytes[count / 3..].to_vec();
                Outgoing::gathered(bytes[..count / 3].to_vec(), tail)
            });
        }
        if self.next.is_some() {
            return self
                .stream
                .poll_send(&mut self.next, context)
                .map(Result::unwrap);
        }
        self.stream.poll_flush(context).map(|flushed| {
            flushed.unwrap();
            self.stream.shutdown_write().unwrap();
            self.is_shut = true;
        })
    }
}

fn every_kind_of_chunk_is_exact(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut left, mut right) = pair().await;
        right.send(b"<received>".as_slice()).await.unwrap();
        let mut received = left.receive().await.unwrap().unwrap();
        received.advance(1);
        received.truncate(8);
        let shared: Rc<[u8]> = Rc::from(b"__shared__".as_slice());
        let whole: Rc<[u8]> = Rc::from(b"/whole".as_slice());
        left.send(Outgoing::gathered(
            b"static/".as_slice(),
            b"owned/".to_vec(),
        ))
        .await
        .unwrap();
        left.send(Outgoing::from(Chunk::part(Rc::clone(&shared), 2..8)).with_more_following())
            .await
            .unwrap();
        left.send(Outgoing::gathered(whole, Vec::new()))
            .await
            .unwrap();
        left.send(Outgoing::gathered(Vec::new(), b"/".to_vec()))
            .await
            .unwrap();
        left.send(Outgoing::gathered(Chunk::shared(&shared), received))
            .await
            .unwrap();
        left.flush().await.unwrap();
        left.shutdown_write().unwrap();
        let bytes = receive_to_end(&mut right).await.unwrap();
        let expect = "static/owned/shared/whole/__shared__received";
        assert_eq!(String::from_utf8(bytes).unwrap(), expect);
        assert_eq!(left.sent_bytes(), expect.len() as u64);
        assert_eq!(
            Rc::strong_count(&shared),
            1,
            "a send that is over holds nothing"
        );
    });
    settle(&mut runtime, 256);
}

fn a_gathered_send_may_exceed_the_socket_buffer(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let mut options = ListenOptions::default();
        options.socket.send_buffer = Some(4096);
        let (listener, address) = listen_with(&options);
        let mut reader = connect(address).await;
        let mut writer = listener.accept().await.unwrap();
        let pattern = Pattern::new(6);
        let (first, second) = (
            pattern.chunk(0, 1_500_001),
            pattern.chunk(1_500_001, 999_999),
        );
        let second: Rc<[u8]> = second.into();
        let kept = Rc::clone(&second);
        writer
            .send(Outgoing::gathered(first, second))
            .await
            .unwrap();
        assert!(writer.is_sending());
        assert_eq!(Rc::strong_count(&kept), 2, "the slot holds it");
        let bytes = receive_exactly(&mut reader, 2_500_000).await;
        pattern.check(0, &bytes);
        writer.flush().await.unwrap();
        assert_eq!((writer.is_sending(), Rc::strong_count(&kept)), (false, 1));
    });
    settle(&mut runtime, 256);
}

/// Where the driver sends part by part. The ring has one operation for both.
fn the_head_of_a_send_is_let_go_of_when_it_has_left(case: &Case) {
    let mut runtime = case.runtime();
    let is_epoll = case.kind() == DriverKind::Epoll;
    complete(&mut runtime, async move {
        let (mut writer, mut reader) = pair().await;
        let pattern = Pattern::new(8);
        let head: Rc<[u8]> = pattern.chunk(0, 100).into();
        let body = pattern.chunk(100, 20_000_000);
        let message = Outgoing::gathered(Rc::clone(&head), body);
        writer.send(message).await.unwrap();
        assert!(writer.is_sending());
        let holders = if is_epoll { 1 } else { 2 };
        assert_eq!(Rc::strong_count(&head), holders);
        let bytes = receive_exactly(&mut reader, 20_000_100).await;
        pattern.check(0, &bytes);
        writer.flush().await.unwrap();
        assert_eq!(Rc::strong_count(&head), 1);
    });
    settle(&mut runtime, 256);
}

fn a_send_of_nothing_sends_nothing(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut left, mut right) = pair().await;
        left.send(Vec::new()).await.unwrap();
        left.send(Outgoing::gathered(Vec::new(), b"".as_slice()))
            .await
            .unwrap();
        left.send(b"x".as_slice()).await.unwrap();
        assert_eq!(receive_exactly(&mut right, 1).await, b"x");
        left.flush().await.unwrap();
        assert_eq!(left.sent_bytes(), 1);
    });
    settle(&mut runtime, 256);
}

fn send_now_takes_what_fits(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut left, mut right) = pair().await;
        let pattern = Pattern::new(7);
        let mut sent = 0;
        let full = loop {
            match left.send_now(&pattern.chunk(sent, 50_000), false) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert_eq!(left.sent_bytes(), sent as u64);
        // A submitted send has its turn first.
        const MORE: usize = 16 << 20;
        left.send(pattern.chunk(sent, MORE)).await.unwrap();
        let refused = left.send_now(b"between", false).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        pattern.check(0, &receive_exactly(&mut right, sent + MORE).await);
        left.flush().await.unwrap();
        left.writable().await.unwrap();
        assert_eq!(left.send_now(b"held back, ", true).unwrap(), 11);
        assert_eq!(left.send_now(b"sent", false).unwrap(), 4);
        assert_eq!(receive_exactly(&mut right, 15).await, b"held back, sent");
    });
    settle(&mut runtime, 256);
}

fn a_half_closed_peer_still_receives_everything(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (stream, mut peer) = pair_with_std().await;
        let bytes = Random(8).bytes(2 << 20);
        let sent = bytes.clone();
        let client = spawn_blocking(move || {
            let mut reader = peer.try_clone().unwrap();
            let reading = std::thread::spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).map(|_| all)
            });
            peer.write_all(&sent).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            reading.join().unwrap().unwrap()
        });
        let server = spawn(echo(stream));
        assert!(client.await.unwrap() == bytes);
        server.await.unwrap().unwrap();
    });
    settle(&mut runtime, 256);
}

fn our_half_close_follows_what_was_flushed(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (listener, address) = listen();
        let server = spawn(async move { echo(listener.accept().await.unwrap()).await });
        let mut client = connect(address).await;
        let bytes = Random(11).bytes(200_000);
        client.send(bytes.clone()).await.unwrap();
        client.flush().await.unwrap();
        client.shutdown_write().unwrap();
        assert!(receive_to_end(&mut client).await.unwrap() == bytes);
        let too_late = match client.send(b"too late".as_slice()).await {
            Ok(()) => client.flush().await,
            error => error,
        };
        assert_eq!(too_late.unwrap_err().kind(), ErrorKind::BrokenPipe);
        server.await.unwrap().unwrap();
    });
    settle(&mut runtime, 256);
}

/// The kernel stops a read before the urgent byte, which it takes out of the stream: that is not
/// the end of what can be read.
fn our_half_close_follows_what_is_under_way(case: &Case) {
    const BYTES: usize = 16 << 20;
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut left, mut right) = pair().await;
        let pattern = Pattern::new(12);
        left.send(pattern.chunk(0, BYTES)).await.unwrap();
        left.shutdown_write().unwrap();
        assert!(left.is_sending(), "too little for this test");
        let bytes = receive_to_end(&mut right).await.unwrap();
        assert_eq!(bytes.len(), BYTES);
        pattern.check(0, &bytes);
        // The other direction goes on.
        right.send(b"well".as_slice()).await.unwrap();
        assert_eq!(receive_exactly(&mut left, 4).await, b"well");
        let too_late = match left.send(b"too late".as_slice()).await {
            Ok(()) => left.flush().await,
            error => error,
        };
        assert_eq!(too_late.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
    settle(&mut runtime, 256);
}

/// One edge tells of the room for both: what the send leaves, no other edge will announce.
fn a_wait_for_room_behind_a_send_ends(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, mut peer) = pair_with_std().await;
        let mut all = 0;
        loop {
            while let Ok(count) = stream.send_now(&[1; 65_536], false) {
                all += count;
            }
            stream.send(vec![2; 100]).await.unwrap();
            all += 100;
            let waited = give_up(5, stream.writable()).await;
            if stream.is_sending() && waited.is_none() {
                break;
            }
            // The kernel has moved some of it over to the peer's side: there is room again.
            stream.flush().await.unwrap();
        }
        let reader = std::thread::spawn(move || {
            peer.read_exact(&mut vec![0; all]).unwrap();
            peer
        });
        stream.writable().await.unwrap();
        stream.flush().await.unwrap();
        spawn_blocking(move || reader.join().unwrap())
            .await
            .unwrap();
    });
    settle(&mut runtime, 256);
}

fn urgent_data_does_not_stop_a_stream(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for is_armed in [false, true] {
            let (mut stream, mut peer) = pair_with_std().await;
            if is_armed {
                peer.write_all(b"first ").unwrap();
                assert_eq!(receive_exactly(&mut stream, 6).await, b"first ");
                yield_often().await;
            }
            peer.write_all(b"before").unwrap();
            rustix::net::send(&peer, b"!", SendFlags::OOB).unwrap();
            peer.write_all(b" after").unwrap();
            yield_often().await;
            let bytes = receive_exactly(&mut stream, 12).await;
            assert_eq!(String::from_utf8(bytes).unwrap(), "before after");
            rustix::net::send(&peer, b"!", SendFlags::OOB).unwrap();
            peer.write_all(b"last").unwrap();
            drop(peer);
            assert_eq!(receive_to_end(&mut stream).await.unwrap(), b"last");
        }
    });
    settle(&mut runtime, 256);
}

fn addresses_are_those_of_both_sides(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (stream, peer) = pair_with_std().await;
        assert_eq!(stream.peer_address().unwrap(), peer.local_addr().unwrap());
        assert_eq!(stream.local_address().unwrap(), peer.peer_addr().unwrap());
    });
    settle(&mut runtime, 256);
}

fn a_refused_connection_says_so(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (listener, address) = listen();
        drop(listener);
        yield_often().await;
        let refused = TcpStream::connect(address, &SocketOptions::default()).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
    settle(&mut runtime, 256);
}

fn a_reset_by_the_peer_ends_every_wait(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for waits_to_send in [false, true] {
            let (mut stream, peer) = pair().await;
            if waits_to_send {
                stream.send(vec![1; 64 << 20]).await.unwrap();
            }
            let waiting = spawn(async move {
                if waits_to_send {
                    stream.flush().await.unwrap_err()
                } else {
                    stream.receive().await.unwrap_err()
                }
            });
            yield_often().await;
            peer.reset();
            let kind = waiting.await.unwrap().kind();
            let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(expected.contains(&kind), "{kind:?}");
        }
    });
    settle(&mut runtime, 256);
}

/// Whether the peer ended its stream before the reset or not, and whether the send that finds it out
/// goes through user memory or is a splice: what is received tells a stream that was cut off.
fn what_a_peer_said_before_it_was_gone_is_heard(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        for (ends, splices) in [(true, false), (false, false), (true, true), (false, true)] {
            let (mut stream, mut peer) = pair_with_std().await;
            peer.write_all(b"answer").unwrap();
            if ends {
                peer.shutdown(Shutdown::Write).unwrap();
            }
            set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
            drop(peer);
            let failed = if splices {
                let (mut source, mut feed) = pair_with_std().await;
                feed.write_all(&[1; 100]).unwrap();
                let (mut reader, _) = source.split();
                let (_, mut writer) = stream.split();
                let options = ForwardOptions {
                    method: TransferMethod::Splice,
                    source_timeout: Duration::from_secs(50),
                    source_bytes: 1,
                    destination_timeout: Duration::from_secs(50),
                };
                forward(&mut reader, &mut writer, 100, options, |_| ())
                    .await
                    .map(drop)
                    .map_err(io::Error::from)
            } else {
                stream.send(b"request".as_slice()).await.unwrap();
                stream.flush().await
            };
            let kind = failed.unwrap_err().kind();
            let expected = match ends {
                true => ErrorKind::BrokenPipe,
                false => ErrorKind::ConnectionReset,
            };
            assert_eq!(kind, expected, "{splices}");
            let answer = stream.receive().await.unwrap().unwrap();
            assert_eq!(&answer[..], b"answer");
            match stream.receive().await {
                Ok(None) => assert!(ends, "a cut looks like an end"),
                Err(error) => assert!(!ends && error.kind() == expected, "{error}"),
                Ok(Some(more)) => panic!("{:?}", &more[..]),
            }
        }
    });
    settle(&mut runtime, 256);
}
