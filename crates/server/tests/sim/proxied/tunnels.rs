//! Upgrades, and every place to cut them: a server that ends its connection behind every byte of its
//! answer and of what follows in the tunnel, and a client behind every byte of its request and of
//! what it sends.
//!
//! One connection to the server is all that the proxy may have: the request after each cut is
//! answered, so each tunnel has given its place back.

use super::cuts::{Cut, Next, SOON, ask, calm, complete, serve};
use super::plan::{Act, Plan};
use super::{Got, servers};
use ringway_runtime::{
    ListenOptions, SimOptions, SocketOptions, TcpListener, TcpStream, sleep, spawn,
};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const REQUEST: &str =
    "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const ANSWER: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
/// What the side that is cut has sent in the tunnel.
const SAID: &str = "of the tunnel";
/// What the other side sends when it has seen an end in good order.
const LAST: &str = "all of it";

/// What was received until the connection ended, and how it did.
type Received = (String, Cut);

async fn receive_all(stream: &mut TcpStream) -> Received {
    let mut received = Vec::new();
    let cut = loop {
        match stream.receive().await {
            Ok(Some(buffer)) => received.extend_from_slice(&buffer),
            Ok(None) => break Cut::Orderly,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                break Cut::Reset;
            }
        }
    };
    (String::from_utf8(received).unwrap(), cut)
}

/// A head, and what has come with it.
async fn receive_head(stream: &mut TcpStream) -> String {
    let mut received = String::new();
    while !received.contains("\r\n\r\n") {
        let buffer = stream.receive().await.unwrap();
        let buffer = buffer.expect("a whole head");
        received.push_str(std::str::from_utf8(&buffer).unwrap());
    }
    received
}

async fn connect(address: SocketAddr) -> TcpStream {
    let options = SocketOptions::default();
    TcpStream::connect(address, &options).await.unwrap()
}

/// The head that a client got, which says what the server's said, and what came behind it.
#[track_caller]
fn tunnelled(received: &str) -> &str {
    let (head, rest) = received.split_once("\r\n\r\n").expect("a whole head");
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines[1..].sort_unstable();
    let expect = [
        "HTTP/1.1 101 Switching Protocols",
        "Connection: Upgrade",
        "Upgrade: echo",
    ];
    assert_eq!(lines, expect);
    rest
}

#[test]
fn servers_that_end_behind_every_byte_of_an_upgrade() {
    let machine = calm();
    let (next, asked) = (Next::default(), Rc::<Cell<usize>>::default());
    let healthy = Plan::new(1, Act::Sized, 40);
    let whole = format!("{ANSWER}{SAID}");
    let answers = [whole.clone().into_bytes(), healthy.answer()];
    let serving = serve(answers, Rc::clone(&next), Rc::clone(&asked));
    drop(machine.clients[1].spawn(serving));
    let address = machine.address;
    complete(machine, async move {
        // So that each of the others finds a connection that was used before.
        assert_eq!(ask(address, healthy.clone()).await, Got::Whole(200));
        for cut in [Cut::Orderly, Cut::Reset] {
            for count in 0..=whole.len() {
                *next.borrow_mut() = Some((count, cut));
                asked.set(0);
                let mut client = connect(address).await;
                client.send(REQUEST.as_bytes().to_vec()).await.unwrap();
                if count < ANSWER.len() {
                    let head = receive_head(&mut client).await;
                    assert!(head.starts_with("HTTP/1.1 502 "), "behind {count}: {head}");
                } else {
                    let (received, end) = receive_all(&mut client).await;
                    let said = tunnelled(&received);
                    assert_eq!((said, end), (&whole[ANSWER.len()..count], cut));
                }
                drop(client);
                // Nothing had come of an answer: it is safe to ask once more.
                let times = if count == 0 { 2 } else { 1 };
                assert_eq!(asked.get(), times, "{cut:?} behind {count} bytes");
                *next.borrow_mut() = None;
                let after = ask(address, healthy.clone()).await;
                assert_eq!(after, Got::Whole(200), "after {cut:?} behind {count} bytes");
            }
        }
    });
}

/// A server that makes each connection a tunnel and tells what came through it and how that ended.
/// To an end in good order it has a last word.
async fn listen_to(heard: Rc<RefCell<Vec<Received>>>) {
    let listener = TcpListener::bind(servers(1)[0], &ListenOptions::default()).unwrap();
    loop {
        let mut stream = listener.accept().await.unwrap();
        let heard = Rc::clone(&heard);
        drop(spawn(async move {
            let head = receive_to_tunnel(&mut stream).await;
            let Some(said) = head else { return };
            stream.send(ANSWER.as_bytes().to_vec()).await.unwrap();
            let (more, end) = receive_all(&mut stream).await;
            heard.borrow_mut().push((said + &more, end));
            if end == Cut::Orderly {
                stream.send(LAST.as_bytes().to_vec()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }));
    }
}

/// Receives a request's head; what came behind it, or `None` where none has come.
async fn receive_to_tunnel(stream: &mut TcpStream) -> Option<String> {
    let mut received = String::new();
    loop {
        let buffer = stream.receive().await.ok()??;
        received.push_str(std::str::from_utf8(&buffer).unwrap());
        if let Some((_, said)) = received.split_once("\r\n\r\n") {
            return Some(said.to_owned());
        }
    }
}

/// A client that ends behind `count` bytes of its request and of what it says in the tunnel, which
/// it doesn't wait for if it `is_hasty`.
async fn tunnel(address: SocketAddr, count: usize, is_hasty: bool, cut: Cut) -> Option<Received> {
    let mut client = connect(address).await;
    let mut before = String::new();
    let whole = format!("{REQUEST}{SAID}");
    if is_hasty {
        client
            .send(whole.as_bytes()[..count].to_vec())
            .await
            .unwrap();
    } else {
        client.send(REQUEST.as_bytes().to_vec()).await.unwrap();
        before = receive_head(&mut client).await;
        let said = whole.as_bytes()[REQUEST.len()..count].to_vec();
        client.send(said).await.unwrap();
    }
    client.flush().await.unwrap();
    // A reset would overtake it.
    sleep(SOON).await;
    match cut {
        Cut::Reset => {
            client.reset();
            None
        }
        Cut::Orderly => {
            client.shutdown_write().unwrap();
            let (received, end) = receive_all(&mut client).await;
            Some((before + &received, end))
        }
    }
}

#[track_caller]
fn check_client(is_hasty: bool) {
    let machine = calm();
    let heard = Rc::<RefCell<Vec<Received>>>::default();
    drop(machine.clients[1].spawn(listen_to(Rc::clone(&heard))));
    let address = machine.address;
    complete(machine, async move {
        let first = if is_hasty { 0 } else { REQUEST.len() };
        for cut in [Cut::Orderly, Cut::Reset] {
            for count in first..=REQUEST.len() + SAID.len() {
                let received = tunnel(address, count, is_hasty, cut).await;
                sleep(SOON).await;
                let heard = std::mem::take(&mut *heard.borrow_mut());
                let Some(said_bytes) = count.checked_sub(REQUEST.len()) else {
                    assert_eq!(heard, [], "{cut:?} behind {count} bytes of a request");
                    let nothing = (String::new(), Cut::Orderly);
                    assert!(received.is_none_or(|received| received == nothing));
                    continue;
                };
                // One place: had the tunnel before it kept that, there would be none for this.
                let expect = (SAID[..said_bytes].to_owned(), cut);
                assert_eq!(heard, [expect], "{cut:?} behind {count} bytes");
                if let Some((received, end)) = received {
                    assert_eq!((tunnelled(&received), end), (LAST, Cut::Orderly));
                }
            }
        }
    });
}

#[test]
fn clients_that_end_behind_every_byte_of_a_tunnel() {
    check_client(false);
}

#[test]
fn clients_that_end_behind_every_byte_of_what_they_send_ahead() {
    check_client(true);
}

/// What came behind the head of an upgrade waits no longer for a client that reads nothing than what
/// comes later: the place at the server is the next one's.
#[test]
fn a_client_that_reads_nothing_of_an_upgrade() {
    let machine = calm();
    machine.world.set_options(SimOptions {
        socket_buffer_bytes: 4096..=4096,
        ..SimOptions::calm()
    });
    let (next, asked) = (Next::default(), Rc::<Cell<usize>>::default());
    let healthy = Plan::new(1, Act::Sized, 40);
    // More than the sockets hold, so that the head is still on its way.
    let (head, last) = ANSWER.split_at(ANSWER.len() - 2);
    let long = format!("{head}X-Long: {}\r\n{last}{SAID}", "x".repeat(20_000));
    let count = long.len();
    let serving = serve(
        [long.into_bytes(), healthy.answer()],
        Rc::clone(&next),
        asked,
    );
    drop(machine.clients[1].spawn(serving));
    let address = machine.address;
    complete(machine, async move {
        *next.borrow_mut() = Some((count, Cut::Orderly));
        let mut client = connect(address).await;
        client.send(REQUEST.as_bytes().to_vec()).await.unwrap();
        client.flush().await.unwrap();
        // Of `tunnel_idle_timeout`, by default.
        sleep(Duration::from_secs(3_600) + SOON).await;
        *next.borrow_mut() = None;
        assert_eq!(ask(address, healthy).await, Got::Whole(200));
        let cut = loop {
            match client.receive().await {
                Ok(Some(_)) => {}
                end => break end.map(drop),
            }
        };
        assert!(cut.is_err(), "an end in good order");
    });
}
