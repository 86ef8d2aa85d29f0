//! Clients that change their minds: they leave behind a body that was taken, or stop within one whose
//! answer has already begun.
//!
//! One connection to the server is all that the proxy may have: the request after each is answered, so
//! none was left behind, nor used again half-way through.

use super::Got;
use super::cuts::{SOON, ask, calm, complete};
use super::plan::{Act, Plan};
use super::servers;
use ringway_runtime::{ListenOptions, SocketOptions, TcpListener, TcpStream, now, sleep, spawn};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What a body is framed by, and how it begins.
const FRAMINGS: [(&str, &str); 2] = [
    ("Content-Length: 100000", "some of it"),
    ("Transfer-Encoding: chunked", "a\r\nsome of it\r\n"),
];
/// In how many pieces an answer comes, with a pause before each: more than a client may stop for
/// within its body (`body_stall_timeout`).
const PIECES: usize = 30;
const PIECE: &str = "piece";
const PAUSE: Duration = Duration::from_secs(2);

async fn connect(address: SocketAddr) -> TcpStream {
    let options = SocketOptions::default();
    TcpStream::connect(address, &options).await.unwrap()
}

/// The head and the body of a request, each as a whole.
fn upload(framing: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("POST /upload HTTP/1.1\r\nHost: app\r\n{framing}\r\n\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

/// A server that answers well what is none of these uploads, and has `served` serve them.
async fn serve<F: Future<Output = ()> + 'static>(served: impl Fn(TcpStream) -> F + 'static) {
    let listener = TcpListener::bind(servers(1)[0], &ListenOptions::default()).unwrap();
    let served = Rc::new(served);
    loop {
        let mut stream = listener.accept().await.unwrap();
        let served = Rc::clone(&served);
        drop(spawn(async move {
            while let Ok(Some(buffer)) = stream.receive().await {
                if buffer.starts_with(b"POST") {
                    drop(buffer);
                    return served(stream).await;
                }
                let answer = Plan::new(1, Act::Sized, 40).answer();
                stream.send(answer).await.unwrap();
            }
        }));
    }
}

/// The server has to be told that nobody waits any more, or it works for nobody.
#[test]
fn clients_that_reset_behind_their_body_are_noticed() {
    let (machine, ended) = (calm(), Rc::<Cell<Option<Instant>>>::default());
    let noted = Rc::clone(&ended);
    drop(machine.clients[1].spawn(serve(move |mut stream| {
        let ended = Rc::clone(&noted);
        async move {
            while let Ok(Some(_)) = stream.receive().await {}
            ended.set(Some(now()));
        }
    })));
    let address = machine.address;
    let sized = upload("Content-Length: 100000", [b'a'; 100_000]);
    let chunked = upload("Transfer-Encoding: chunked", "1\r\na\r\n0\r\n\r\n");
    let at_hand = upload("Content-Length: 1", "a");
    complete(machine, async move {
        for request in [sized, chunked, at_hand] {
            ended.set(None);
            let mut stream = connect(address).await;
            stream.send(request).await.unwrap();
            stream.flush().await.unwrap();
            sleep(SOON).await;
            assert_eq!(ended.get(), None, "it still waits");
            stream.reset();
            sleep(SOON).await;
            assert!(ended.get().is_some(), "the server was left waiting");
            let plan = Plan::new(1, Act::Sized, 40);
            assert_eq!(ask(address, plan).await, Got::Whole(200));
        }
    });
}

/// RFC 9112 §9.5: a client that sees an answer within its body should stop sending, and end its side.
/// It is still to get all of that answer, however long that takes.
#[test]
fn early_answers_go_on_when_their_clients_stop() {
    let machine = calm();
    drop(machine.clients[1].spawn(serve(|mut stream| async move {
        let bytes = PIECES * PIECE.len();
        let head = format!("HTTP/1.1 413 Content Too Large\r\nContent-Length: {bytes}\r\n\r\n");
        stream.send(head.into_bytes()).await.unwrap();
        for _ in 0..PIECES {
            sleep(PAUSE).await;
            stream.send(PIECE.as_bytes().to_vec()).await.unwrap();
        }
        while let Ok(Some(_)) = stream.receive().await {}
    })));
    let address = machine.address;
    complete(machine, async move {
        for (framing, body) in FRAMINGS {
            for half_closes in [false, true] {
                let mut stream = connect(address).await;
                stream.send(upload(framing, body)).await.unwrap();
                let head = stream.receive().await.unwrap().expect("a head");
                assert!(head.starts_with(b"HTTP/1.1 413 "));
                drop(head);
                if half_closes {
                    stream.shutdown_write().unwrap();
                }
                let mut content = Vec::new();
                while let Some(buffer) = stream.receive().await.unwrap() {
                    content.extend_from_slice(&buffer);
                }
                let content = String::from_utf8(content).unwrap();
                assert_eq!(content, PIECE.repeat(PIECES), "{framing}, {half_closes}");
                drop(stream);
                let plan = Plan::new(1, Act::Sized, 40);
                assert_eq!(ask(address, plan).await, Got::Whole(200));
            }
        }
    });
}
