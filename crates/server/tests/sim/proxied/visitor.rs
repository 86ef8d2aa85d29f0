//! A client of the proxy: sends its requests, at once or one after the other, and compares what comes
//! with what is due.

use super::plan::{Due, Plan};
use super::wire::{Framing, Head, Stop, Wire};
use crate::random::Random;
use ringway_runtime::{ReadHalf, SocketOptions, TcpStream, WriteHalf, sleep};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What a client does.
pub(crate) struct Visit {
    pub(crate) plans: Vec<Plan>,
    /// `1.1` or `1.0`.
    pub(crate) version: &'static str,
    /// Each request waits for the answer to the one before it.
    pub(crate) is_sequential: bool,
    /// It says that nothing more comes when all is sent.
    pub(crate) half_closes: bool,
    /// A pause of up to this before it reads on.
    pub(crate) reads_after: Duration,
    /// It goes after so long, whatever it has got; by a reset or not.
    pub(crate) leaves_after: Option<(Duration, bool)>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Whole(u16),
    Own(u16),
    /// Its answer had begun.
    Cut,
    /// Nothing of an answer came.
    Nothing,
}

/// What became of all of a visit's requests.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    /// Of each in turn, as far as there was something.
    pub(crate) got: Vec<Got>,
    /// The last answer said that it is the last.
    pub(crate) is_over: bool,
}

impl From<Due> for Got {
    fn from(due: Due) -> Got {
        match due {
            Due::Whole(status) => Got::Whole(status),
            Due::Own(status) => Got::Own(status),
            Due::Cut => Got::Cut,
        }
    }
}

/// What the side that writes is told by the one that reads.
#[derive(Clone, Copy)]
struct Heard<'v> {
    /// Requests that have their final answers.
    answered: &'v Cell<usize>,
    /// The last request, counted from 1, that may send its body.
    allowed: &'v Cell<usize>,
}

/// Makes a visit; what each request got. An error is what may never be, whatever the world does.
pub(crate) async fn visit(
    address: SocketAddr,
    visit: &Visit,
    mut random: Random,
) -> Result<Visited, String> {
    let mut stream = loop {
        match TcpStream::connect(address, &SocketOptions::default()).await {
            Ok(stream) => break stream,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    };
    let (answered, allowed) = (Cell::new(0), Cell::new(0));
    let heard = Heard {
        answered: &answered,
        allowed: &allowed,
    };
    let got = {
        let (reader, writer) = stream.split();
        let own = Random::new(random.next());
        let mut writing = pin!(write(writer, visit, heard, own));
        let mut reading = pin!(read(reader, visit, heard, &mut random));
        let mut leaving = pin!(leave(visit));
        let mut is_written = false;
        poll_fn(|context| {
            if !is_written {
                is_written = writing.as_mut().poll(context).is_ready();
            }
            if let Poll::Ready(got) = reading.as_mut().poll(context) {
                return Poll::Ready(Some(got));
            }
            leaving.as_mut().poll(context).map(|()| None)
        })
        .await
    };
    match (got, visit.leaves_after) {
        (Some(got), _) => got,
        (None, Some((_, true))) => {
            stream.reset();
            Ok(Visited::default())
        }
        (None, _) => Ok(Visited::default()),
    }
}

async fn leave(visit: &Visit) {
    match visit.leaves_after {
        Some((after, _)) => sleep(after).await,
        None => std::future::pending().await,
    }
}

async fn write(mut writer: WriteHalf<'_>, visit: &Visit, heard: Heard<'_>, mut random: Random) {
    for (index, plan) in visit.plans.iter().enumerate() {
        while (visit.is_sequential || plan.expects) && heard.answered.get() < index {
            sleep(Duration::from_millis(1)).await;
        }
        let (mut head, body) = plan.request_parts(visit.version);
        if plan.expects {
            if !send(&mut writer, &head, &mut random).await {
                return;
            }
            while heard.allowed.get() <= index {
                if heard.answered.get() > index {
                    // It is the last answer: nobody knows whether the body comes.
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
            head.clear();
        }
        head.extend(body);
        if !send(&mut writer, &head, &mut random).await {
            return;
        }
    }
    if visit.half_closes {
        let _ = writer.shutdown_write();
    }
}

/// Sends bytes in pieces. Whether they could be: if not, what comes back says what it was.
async fn send(writer: &mut WriteHalf<'_>, bytes: &[u8], random: &mut Random) -> bool {
    for piece in random.cut(bytes) {
        if writer.send(piece).await.is_err() {
            return false;
        }
        if random.one_in(6) {
            sleep(random.duration(Duration::from_millis(10))).await;
        }
    }
    true
}

async fn read(
    reader: ReadHalf<'_>,
    visit: &Visit,
    heard: Heard<'_>,
    random: &mut Random,
) -> Result<Visited, String> {
    let mut wire = Wire::new(reader);
    let mut visited = Visited::default();
    for plan in &visit.plans {
        if visit.reads_after > Duration::ZERO {
            sleep(random.duration(visit.reads_after)).await;
        }
        let allow = || heard.allowed.set(visited.got.len() + 1);
        let (got, is_last) = answer(&mut wire, plan, visit.version, allow).await?;
        visited.got.push(got);
        visited.is_over = is_last;
        heard.answered.set(visited.got.len());
        if matches!(got, Got::Cut | Got::Nothing) {
            // Whatever is there is a part.
            return Ok(visited);
        }
        if is_last {
            break;
        }
    }
    match wire.has_more() {
        true => Err(format!("more than the answers to {:?}", visit.plans)),
        false => Ok(visited),
    }
}

/// The answer to one request, and whether it is the last of the connection. `allow` hears of leave to
/// send the body.
async fn answer(
    wire: &mut Wire<'_>,
    plan: &Plan,
    version: &str,
    allow: impl Fn(),
) -> Result<(Got, bool), String> {
    let fault = |what: String| format!("{what} for {plan:?}");
    let mut hints = 0;
    let (head, status) = loop {
        let head = match wire.head().await {
            Ok(head) => head,
            Err(Stop::Malformed(what)) => return Err(fault(what)),
            Err(_) => return Ok((Got::Nothing, true)),
        };
        let status = head
            .line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse::<u16>().ok());
        let status = status.ok_or_else(|| fault(format!("no status in {head:?}")))?;
        if status >= 200 {
            break (head, status);
        }
        if status == 100 && plan.expects {
            allow();
            continue;
        }
        hints += 1;
        if status != 103 || hints > 16 || version == "1.0" {
            return Err(fault(format!("an interim answer too many: {head:?}")));
        }
    };
    let is_last = match head.field("connection") {
        Ok(Some("close")) => true,
        Ok(Some("keep-alive")) => false,
        Ok(None) => version == "1.0",
        other => return Err(fault(format!("{other:?}"))),
    };
    let id = head
        .field("x-id")
        .map_err(|stop| fault(format!("{stop:?}")))?;
    if id.is_some_and(|id| id != plan.id.to_string()) {
        return Err(fault(format!("the answer of another request, {head:?}")));
    }
    let is_own = id.is_none();
    let mut content = Vec::new();
    let read = match framing(&head, status, plan) {
        Ok(Some(framing)) => wire.content(framing, &mut content).await,
        Ok(None) => Ok(()),
        Err(stop) => Err(stop),
    };
    let is_whole = match read {
        Ok(()) => true,
        Err(Stop::Malformed(what)) => return Err(fault(what)),
        Err(Stop::End | Stop::Failed(_)) => false,
    };
    if is_own {
        let got = if is_whole { Got::Own(status) } else { Got::Cut };
        return Ok((got, is_last));
    }
    let due = plan.content();
    if !due.starts_with(&content) {
        return Err(fault(format!(
            "other content, from {} bytes on",
            content.len()
        )));
    }
    let is_bodiless = plan.is_head() || status == 204;
    if is_whole && !is_bodiless && content.len() != due.len() {
        // However it was delimited: it was promised whole.
        return Err(fault(format!(
            "{} bytes taken for the whole",
            content.len()
        )));
    }
    if !is_whole {
        return Ok((Got::Cut, is_last));
    }
    let is_chunked = matches!(head.framing(), Ok(Some(Framing::Chunks)));
    if is_chunked && wire.trailers != plan.trailer().unwrap_or_default() {
        return Err(fault(format!("the trailers {:?}", wire.trailers)));
    }
    Ok((Got::Whole(status), is_last))
}

fn framing(head: &Head, status: u16, plan: &Plan) -> Result<Option<Framing>, Stop> {
    let framing = head.framing()?;
    if plan.is_head() || status == 204 {
        return Ok(None);
    }
    Ok(Some(framing.unwrap_or(Framing::UntilClose)))
}
