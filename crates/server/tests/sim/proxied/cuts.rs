//! Every place to cut: servers that end their connection behind every byte of an answer, and clients
//! behind every byte of a request.
//!
//! One connection to the server is all that the proxy may have, so that a place which isn't given back
//! shows at once: the request after each cut is answered.

use super::plan::{Act, Plan};
use super::visitor::{self, Got, Visit};
use super::{config, servers};
use crate::machine::Machine;
use crate::random::Random;
use ringway_runtime::{
    ListenOptions, SimOptions, SocketOptions, TcpListener, TcpStream, sleep, spawn,
};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// Longer than anything takes in a calm world.
pub(super) const SOON: Duration = Duration::from_millis(50);

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Orderly,
    Reset,
}

pub(super) fn calm() -> Machine {
    let keys = "max_connections = 1\nretries = 1\nretry_budget = 100";
    let options = (0, SimOptions::calm());
    Machine::new(options, (&config(&servers(1), keys), 1), [(256, 4096); 2])
}

/// Runs a client's task to its end; at rest nothing may be left.
pub(super) fn complete(mut machine: Machine, client: impl Future<Output = ()> + 'static) {
    let is_done = Rc::new(Cell::new(false));
    let done = Rc::clone(&is_done);
    drop(machine.clients[0].spawn(async move {
        client.await;
        done.set(true);
    }));
    let ended = Rc::clone(&is_done);
    machine.run(Duration::from_secs(100_000), move || ended.get());
    // A panic ends the task only.
    assert!(is_done.get(), "see above");
    machine.expect_rest();
}

/// A client with one request.
pub(super) fn plain(plan: Plan) -> Visit {
    Visit {
        plans: vec![plan],
        version: "1.1",
        is_sequential: true,
        half_closes: false,
        reads_after: Duration::ZERO,
        leaves_after: None,
    }
}

pub(super) async fn ask(address: SocketAddr, plan: Plan) -> Got {
    let visited = visitor::visit(address, &plain(plan), Random::new(7)).await;
    visited.unwrap().got[0]
}

/// What a server does next: how much of its answer it sends, and how it ends its connection then.
/// `None` is to answer whatever comes in good health.
pub(super) type Next = Rc<RefCell<Option<(usize, Cut)>>>;

/// A server that does with each connection what `next` says, with this answer or one in good health.
pub(super) async fn serve(answers: [Vec<u8>; 2], next: Next, asked: Rc<Cell<usize>>) {
    let listener = TcpListener::bind(servers(1)[0], &ListenOptions::default()).unwrap();
    loop {
        let mut stream = listener.accept().await.unwrap();
        let (answers, next, asked) = (answers.clone(), Rc::clone(&next), Rc::clone(&asked));
        drop(spawn(async move {
            let mut received = Vec::new();
            loop {
                while !received.ends_with(b"\r\n\r\n") {
                    match stream.receive().await {
                        Ok(Some(buffer)) => received.extend_from_slice(&buffer),
                        _ => return,
                    }
                }
                received.clear();
                asked.set(asked.get() + 1);
                let cut = *next.borrow();
                let [answer, healthy] = &answers;
                let Some((count, cut)) = cut else {
                    stream.send(healthy.clone()).await.unwrap();
                    continue;
                };
                stream.send(answer[..count].to_vec()).await.unwrap();
                stream.flush().await.unwrap();
                // A reset would overtake it.
                sleep(SOON / 10).await;
                return match cut {
                    Cut::Orderly => drop(stream),
                    Cut::Reset => stream.reset(),
                };
            }
        }));
    }
}

/// What a client gets where its server ends an answer behind `count` bytes of it.
fn due(plan: &Plan, count: usize, cut: Cut) -> Got {
    let answer = plan.answer();
    let find = |from: usize| {
        answer[from..]
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
    };
    let mut head_bytes = find(0).unwrap() + 4;
    if plan.act == Act::Hints {
        for _ in 0..3 {
            head_bytes += find(head_bytes).unwrap() + 4;
        }
    }
    if count < head_bytes {
        return Got::Own(502);
    }
    match (plan.act, cut) {
        _ if count == answer.len() && plan.act != Act::UntilClose => Got::Whole(200),
        // Where the end of the connection is the end of the content, that is all of it.
        (Act::UntilClose, Cut::Orderly) if count == answer.len() => Got::Whole(200),
        _ => Got::Cut,
    }
}

#[track_caller]
fn check_answer(act: Act) {
    let plan = Plan::new(1, act, 40);
    let machine = calm();
    let (next, asked) = (Next::default(), Rc::<Cell<_>>::default());
    let healthy = Plan::new(plan.id, Act::Sized, plan.answer_bytes);
    let answers = [plan.answer(), healthy.answer()];
    let serving = serve(answers, Rc::clone(&next), Rc::clone(&asked));
    drop(machine.clients[1].spawn(serving));
    let address = machine.address;
    complete(machine, async move {
        // So that each of the others finds a connection that was used before.
        assert_eq!(ask(address, plan.clone()).await, Got::Whole(200));
        for cut in [Cut::Orderly, Cut::Reset] {
            for count in 0..=plan.answer().len() {
                if act == Act::UntilClose && cut == Cut::Orderly && count < plan.answer().len() {
                    // Nobody can tell it from a shorter one.
                    let head = due(&plan, count, cut);
                    if head == Got::Cut {
                        continue;
                    }
                }
                *next.borrow_mut() = Some((count, cut));
                asked.set(0);
                let got = ask(address, plan.clone()).await;
                assert_eq!(got, due(&plan, count, cut), "{cut:?} behind {count} bytes");
                // It is asked once more, on a new connection, where nothing of an answer had come.
                let times = if count == 0 { 2 } else { 1 };
                assert_eq!(asked.get(), times, "{cut:?} behind {count} bytes");
                *next.borrow_mut() = None;
                let after = ask(address, plan.clone()).await;
                assert_eq!(after, Got::Whole(200), "after {cut:?} behind {count} bytes");
            }
        }
    });
}

#[test]
fn servers_that_end_behind_every_byte_of_a_sized_answer() {
    check_answer(Act::Sized);
}

#[test]
fn servers_that_end_behind_every_byte_of_chunks() {
    check_answer(Act::Chunked);
}

#[test]
fn servers_that_end_behind_every_byte_of_trailers() {
    check_answer(Act::Trailers);
}

#[test]
fn servers_that_end_behind_every_byte_of_an_answer_until_the_close() {
    check_answer(Act::UntilClose);
}

#[test]
fn servers_that_end_behind_every_byte_of_interim_answers() {
    check_answer(Act::Hints);
}

/// A client ends its side behind every byte of its request, or resets there; what the server gets is a
/// whole request or none, and the next client is served.
#[track_caller]
fn check_request(in_chunks: bool) {
    let plan = Plan {
        method: "POST",
        body_bytes: 40,
        in_chunks,
        ..Plan::new(1, Act::Sized, 40)
    };
    let machine = calm();
    let record: Rc<RefCell<super::Record>> = Rc::default();
    let manner = super::Manner {
        seed: 0,
        is_choppy: false,
    };
    let serving = super::origin::serve(servers(1)[0], Rc::clone(&record), manner);
    drop(machine.clients[1].spawn(serving));
    let address = machine.address;
    complete(machine, async move {
        let request = plan.request("1.1");
        for cut in [Cut::Orderly, Cut::Reset] {
            for count in 0..=request.len() {
                record.borrow_mut().seen.clear();
                let options = SocketOptions::default();
                let mut stream = TcpStream::connect(address, &options).await.unwrap();
                stream.send(request[..count].to_vec()).await.unwrap();
                stream.flush().await.unwrap();
                sleep(SOON).await;
                match cut {
                    Cut::Reset => stream.reset(),
                    Cut::Orderly => {
                        stream.shutdown_write().unwrap();
                        let answered = receive_to_end(&mut stream).await;
                        let is_whole = count == request.len();
                        let expect = if is_whole { "HTTP/1.1 200 OK" } else { "" };
                        assert!(
                            answered.starts_with(expect),
                            "behind {count} bytes: {answered}"
                        );
                        assert_eq!(answered.is_empty(), !is_whole, "behind {count}: {answered}");
                    }
                }
                sleep(SOON).await;
                let seen = record.borrow().seen.get(&plan.id).copied();
                let is_whole = count == request.len();
                assert_eq!(seen, is_whole.then_some(1), "{cut:?} behind {count} bytes");
                let after = ask(address, Plan::new(2, Act::Sized, 40)).await;
                assert_eq!(after, Got::Whole(200), "after {cut:?} behind {count} bytes");
            }
        }
        assert_eq!(record.borrow().faults, [""; 0], "what the server got");
    });
}

/// Everything that comes, as text, until the end or a failure.
async fn receive_to_end(stream: &mut TcpStream) -> String {
    let mut received = Vec::new();
    while let Ok(Some(buffer)) = stream.receive().await {
        received.extend_from_slice(&buffer);
    }
    String::from_utf8_lossy(&received).into_owned()
}

#[test]
fn clients_that_end_behind_every_byte_of_a_sized_body() {
    check_request(false);
}

#[test]
fn clients_that_end_behind_every_byte_of_chunks() {
    check_request(true);
}

/// What a server sends behind its answer is nobody's: not in the same segment, and not a while later,
/// to a connection that waits to be used again.
#[test]
fn longer_answers_than_announced_reach_nobody_else() {
    let plan = Plan::new(1, Act::Sized, 40);
    let machine = calm();
    let (served, pause) = (plan.clone(), Rc::new(Cell::new(Duration::ZERO)));
    let wait = Rc::clone(&pause);
    drop(machine.clients[1].spawn(async move {
        let listener = TcpListener::bind(servers(1)[0], &ListenOptions::default()).unwrap();
        loop {
            let mut stream = listener.accept().await.unwrap();
            let (mut answer, wait) = (served.answer(), wait.get());
            drop(spawn(async move {
                let _ = stream.receive().await;
                let more = Plan::new(666, Act::Sized, 5).answer();
                if wait == Duration::ZERO {
                    answer.extend_from_slice(&more);
                    let _ = stream.send(answer).await;
                } else {
                    let _ = stream.send(answer).await;
                    sleep(wait).await;
                    let _ = stream.send(more).await;
                }
                while let Ok(Some(_)) = stream.receive().await {}
            }));
        }
    }));
    let address = machine.address;
    complete(machine, async move {
        for wait in [Duration::ZERO, SOON] {
            pause.set(wait);
            for _ in 0..3 {
                assert_eq!(
                    ask(address, plan.clone()).await,
                    Got::Whole(200),
                    "{wait:?}"
                );
                sleep(2 * SOON).await;
            }
        }
    });
}

/// More of a chunk is to come than what is spliced from, which isn't the end of the content.
#[test]
fn long_chunks_reach_old_clients_whole() {
    let machine = calm();
    let record: Rc<RefCell<super::Record>> = Rc::default();
    let manner = super::Manner {
        seed: 0,
        is_choppy: true,
    };
    let serving = super::origin::serve(servers(1)[0], Rc::clone(&record), manner);
    drop(machine.clients[1].spawn(serving));
    let address = machine.address;
    complete(machine, async move {
        for id in 1..=8 {
            let plan = Plan::new(id, Act::Chunked, 300_000);
            let visit = Visit {
                version: "1.0",
                ..plain(plan)
            };
            let visited = visitor::visit(address, &visit, Random::new(id)).await;
            assert_eq!(visited.unwrap().got, [Got::Whole(200)], "{id}");
        }
        assert_eq!(record.borrow().faults, [""; 0], "what the server got");
    });
}
