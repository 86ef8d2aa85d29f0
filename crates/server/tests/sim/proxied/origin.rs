//! Servers that are played: each request is looked at as a recipient of RFC 9112 would, and then
//! what its target says is done.

use super::plan::{Act, Plan};
use super::wire::{Framing, Stop, Wire};
use crate::random::Random;
use ringway_runtime::{ListenOptions, TcpListener, TcpStream, WriteHalf, sleep, spawn};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What all servers have seen together.
#[derive(Default)]
pub(crate) struct Record {
    /// How often each request came whole.
    pub(crate) seen: HashMap<u64, u32>,
    /// What was wrong with requests.
    pub(crate) faults: Vec<String>,
}

impl Record {
    /// A connection has ended like this.
    fn note(&mut self, stop: Stop) {
        match stop {
            Stop::Malformed(what) => self.faults.push(what),
            // The proxy is done with it, or its client has gone.
            Stop::End | Stop::Failed(_) => {}
        }
    }
}

/// How a server's answers leave it.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) seed: u64,
    /// In pieces with pauses.
    pub(crate) is_choppy: bool,
}

pub(crate) async fn serve(address: SocketAddr, record: Rc<RefCell<Record>>, manner: Manner) {
    let listener = loop {
        match TcpListener::bind(address, &ListenOptions::default()) {
            Ok(listener) => break listener,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    let mut random = Random::new(manner.seed);
    loop {
        let Ok(stream) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let manner = Manner {
            seed: random.next(),
            ..manner
        };
        drop(spawn(converse(stream, Rc::clone(&record), manner)));
    }
}

async fn converse(mut stream: TcpStream, record: Rc<RefCell<Record>>, manner: Manner) {
    let mut random = Random::new(manner.seed);
    let (reader, mut writer) = stream.split();
    let mut wire = Wire::new(reader);
    let is_reset = loop {
        let (plan, framing) = match receive(&mut wire, &mut writer).await {
            Ok(received) => received,
            Err(stop) => {
                record.borrow_mut().note(stop);
                break false;
            }
        };
        *record.borrow_mut().seen.entry(plan.id).or_default() += 1;
        let answer = plan.answer();
        let sent = send(&mut writer, &answer, manner.is_choppy, &mut random).await;
        match plan.act {
            _ if sent.is_err() => break false,
            Act::Sized | Act::Chunked | Act::Empty | Act::Hints | Act::Trailers => {}
            Act::Early => {
                if let Err(stop) = take_body(&mut wire, &plan, framing).await {
                    record.borrow_mut().note(stop);
                    break false;
                }
            }
            Act::Reset => break true,
            Act::Close | Act::Stale | Act::UntilClose | Act::Short => break false,
            // Until the proxy has had enough.
            _ => {
                while wire.more().await.is_ok() {}
                break false;
            }
        }
    };
    if is_reset {
        stream.reset();
    }
}

/// The next request, whole unless it is to be answered before that; and how its body is delimited.
async fn receive(wire: &mut Wire<'_>, writer: &mut WriteHalf<'_>) -> Result<(Plan, Framing), Stop> {
    let head = wire.head().await?;
    let fault = |what: &str| Stop::Malformed(format!("{what} in {head:?}"));
    let mut words = head.line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let plan = Plan::of_target(method.unwrap_or_default(), target.unwrap_or_default());
    let plan = plan.ok_or_else(|| fault("a request that nobody has sent"))?;
    if version != Some("HTTP/1.1") || words.next().is_some() {
        return Err(fault("another version"));
    }
    if head.field("host")? != Some("app") || head.field("x-forwarded-for")?.is_none() {
        return Err(fault("no host or client"));
    }
    let framing = match head.framing()? {
        Some(framing) => framing,
        None => Framing::Length(0),
    };
    if plan.in_chunks != (framing == Framing::Chunks) {
        return Err(fault("another framing"));
    }
    if plan.expects != head.field("expect")?.is_some() {
        return Err(fault("another expectation"));
    }
    if plan.act != Act::Early {
        if plan.expects {
            let leave = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            // Where that fails, so does what is read next.
            let _ = writer.send(leave).await;
        }
        take_body(wire, &plan, framing).await?;
    }
    Ok((plan, framing))
}

async fn take_body(wire: &mut Wire<'_>, plan: &Plan, framing: Framing) -> Result<(), Stop> {
    let mut body = Vec::new();
    wire.content(framing, &mut body).await?;
    match body == plan.body() {
        true => Ok(()),
        false => Err(Stop::Malformed(format!("another body for {plan:?}"))),
    }
}

async fn send(
    writer: &mut WriteHalf<'_>,
    answer: &[u8],
    is_choppy: bool,
    random: &mut Random,
) -> std::io::Result<()> {
    if !is_choppy {
        writer.send(answer.to_vec()).await?;
        return writer.flush().await;
    }
    for piece in random.cut(answer) {
        writer.send(piece).await?;
        if random.one_in(8) {
            sleep(random.duration(Duration::from_millis(20))).await;
        }
    }
    writer.flush().await
}
