//! One connection of the load generator: asks, reads the answers, tells the tally.

mod bulk;
mod opening;

use opening::Beginning;
pub(super) use opening::{Opening, open_all};

use super::Progress;
use super::plan::{Pace, Plan, Request, Talk};
use super::tally::{Failure, Tally};
use ringway_http::body::{BodyDecoder, BodyLimits, Step};
use ringway_http::head::{Framing, HeadScan, Method};
use ringway_http::received::{ReceivedFraming, ReceivedLimits, parse_received};
use ringway_runtime::{Buffer, Chunk, SocketOptions, TcpStream, sleep, timeout};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The pause after a failure, doubled by each that follows at once.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the connections of a thread share.
pub(super) struct Shared {
    plan: Arc<Plan>,
    /// What is sent: each request, or as many as are pipelined together.
    batches: Vec<Batch>,
    tally: RefCell<Tally>,
    progress: Arc<Progress>,
    begin: Instant,
    measured_from: Instant,
    until: Cell<Instant>,
    /// Requests of this thread's share that haven't been sent.
    left: Cell<u64>,
    /// Connections that still ask.
    active: Cell<usize>,
    /// Requests that were due while the one before hadn't been answered.
    late: Cell<u64>,
    /// Connections that hold, of those that send without end.
    holding: Cell<u64>,
    beginning: Beginning,
}

/// Requests that leave together.
struct Batch {
    bytes: Rc<[u8]>,
    methods: Vec<Method<'static>>,
}

impl Shared {
    /// Of the thread with `connections` connections, which may send `requests` requests.
    pub(super) fn new(
        plan: Arc<Plan>,
        progress: Arc<Progress>,
        connections: usize,
        requests: u64,
    ) -> Shared {
        let begin = Instant::now();
        let measured_from = begin + plan.warm_up;
        Shared {
            batches: batches(&plan),
            tally: RefCell::new(Tally::new()),
            progress,
            begin,
            measured_from,
            until: Cell::new(measured_from + plan.duration),
            left: Cell::new(requests),
            active: Cell::new(connections),
            late: Cell::new(0),
            holding: Cell::new(0),
            beginning: Beginning::default(),
            plan,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.active.get() == 0 || Instant::now() >= self.until.get()
    }

    /// Ends the run when that is asked for.
    pub(super) fn look(&self) {
        if self.progress.stop.load(Ordering::Relaxed) {
            self.until.set(self.until.get().min(Instant::now()));
        }
    }

    /// Whether another so many requests may be sent, which are due then. Those of the warm-up are
    /// beside the number that was asked for.
    fn take(&self, count: usize, due: Instant) -> bool {
        if self.is_beside(due) {
            return true;
        }
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether a request that is due then is none of the number that was asked for.
    fn is_beside(&self, due: Instant) -> bool {
        self.plan.request_count.is_some() && due < self.measured_from
    }

    /// What was counted. What is still under way isn't waited for.
    pub(super) fn finish(&self) -> Tally {
        let mut tally = self.tally.replace(Tally::new());
        let until = self.until.get().min(Instant::now());
        tally.elapsed = until.saturating_duration_since(self.measured_from);
        tally.late = self.late.get();
        tally.holding = self.holding.get();
        tally
    }

    fn answer(&self, answer: &Answer, turn: &Turn, now: Instant) {
        self.progress.answers.fetch_add(1, Ordering::Relaxed);
        if now >= self.measured_from && !self.is_beside(turn.due) {
            let latency = now.saturating_duration_since(turn.from);
            let mut tally = self.tally.borrow_mut();
            tally.answer(answer.status, answer.bytes, latency);
        }
    }

    fn failure(&self, failure: Failure) {
        self.progress.failures.fetch_add(1, Ordering::Relaxed);
        // With nobody there, the warm-up is all there is.
        let is_alone = self.progress.connects.load(Ordering::Relaxed) == 0;
        if is_alone || Instant::now() >= self.measured_from {
            self.tally.borrow_mut().failure(failure);
        }
    }
}

/// Every batch that comes up until the first request begins one again.
fn batches(plan: &Plan) -> Vec<Batch> {
    let size = match plan.pace {
        Pace::Closed if plan.keep_alive => plan.pipeline.max(1),
        _ => 1,
    };
    let mut batches = Vec::new();
    let mut start = 0;
    loop {
        let taken: Vec<&Request> = plan
            .requests
            .iter()
            .cycle()
            .skip(start)
            .take(size)
            .collect();
        batches.push(Batch {
            bytes: taken
                .iter()
                .flat_map(|request| &request.bytes)
                .copied()
                .collect(),
            methods: taken.iter().map(|request| request.method()).collect(),
        });
        start = (start + size) % plan.requests.len();
        if start == 0 {
            return batches;
        }
    }
}

/// Asks until the time is over. `number` is that of the connection among all.
pub(super) async fn run(number: usize, shared: Rc<Shared>, opening: Opening) {
    let mut connection = Connection {
        number,
        next: number % shared.batches.len(),
        open: None,
        opening: Some(opening),
        shared: Rc::clone(&shared),
    };
    match (shared.plan.talk, shared.plan.pace) {
        (Talk::Bulk(_), _) => connection.pour().await,
        (_, Pace::Closed) => connection.ask_when_answered().await,
        (_, Pace::Open(per_second)) => connection.ask_by_the_clock(per_second).await,
    }
    shared.active.set(shared.active.get() - 1);
}

struct Connection {
    number: usize,
    /// Which batch is next.
    next: usize,
    open: Option<Open>,
    /// Until its first answer has come, or hasn't.
    opening: Option<Opening>,
    shared: Rc<Shared>,
}

/// A connection that stands.
struct Open {
    stream: TcpStream,
    /// What was received and not yet read.
    buffer: Option<Buffer>,
    /// The part of a head that came without its end.
    partial: Vec<u8>,
    progress: Arc<Progress>,
}

/// When requests that leave together are sent.
struct Turn {
    /// When they are due.
    due: Instant,
    /// From when on their latency counts.
    from: Instant,
}

/// What an answer was.
struct Answer {
    /// Nothing where HTTP isn't spoken.
    status: Option<u16>,
    bytes: u64,
    keep_alive: bool,
}

impl Connection {
    async fn ask_when_answered(&mut self) {
        let mut pause = PAUSE_FIRST;
        while !self.shared.is_over() {
            let due = Instant::now();
            if !self.may_ask(due) {
                return;
            }
            if self.ask(Turn { due, from: due }).await {
                pause = PAUSE_FIRST;
                self.shared.beginning.end().await;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Requests are due at fixed times, those of the connections evenly between each other.
    async fn ask_by_the_clock(&mut self, per_second: f64) {
        let plan = &self.shared.plan;
        let interval = plan.connections as f64 / per_second;
        let phase = self.number as f64 / per_second;
        let (begin, mut count) = (self.shared.begin, 0u64);
        loop {
            let due = begin + Duration::from_secs_f64(phase + interval * count as f64);
            if due >= self.shared.until.get() || !self.may_ask(due) {
                return;
            }
            count += 1;
            let now = Instant::now();
            let mut from = due;
            if now < due {
                sleep(due - now).await;
                // The timer's own lateness isn't the server's.
                from = Instant::now();
            } else {
                self.shared.late.set(self.shared.late.get() + 1);
            }
            self.ask(Turn { due, from }).await;
        }
    }

    fn may_ask(&self, due: Instant) -> bool {
        let shared = &self.shared;
        shared.take(shared.batches[self.next].methods.len(), due)
    }

    /// Sends the next batch and reads its answers. Whether all went well.
    async fn ask(&mut self, turn: Turn) -> bool {
        let shared = Rc::clone(&self.shared);
        let batch = &shared.batches[self.next];
        self.next = (self.next + 1) % shared.batches.len();
        let outcome = self.exchange(batch, &turn).await;
        self.opening = None;
        if let Err(failure) = outcome {
            self.open = None;
            shared.failure(failure);
        }
        outcome.is_ok()
    }

    async fn exchange(&mut self, batch: &Batch, turn: &Turn) -> Result<(), Failure> {
        let shared = Rc::clone(&self.shared);
        let plan = &shared.plan;
        if self.open.is_none() {
            self.open = Some(Open::new(self.connect().await?, &shared.progress));
        }
        let open = self.open.as_mut().expect("it was opened just now");
        open.stream
            .set_deadline(Some(ringway_runtime::now() + plan.timeout));
        let bytes = Chunk::shared(&batch.bytes);
        let sent = open.stream.send(bytes).await;
        sent.map_err(|error| failure_of(&error, false))?;
        let mut keep_alive = plan.keep_alive;
        for method in &batch.methods {
            let answer = match plan.talk {
                Talk::Http => open.read_answer(*method).await?,
                Talk::PingPong(_) | Talk::Bulk(_) => open.read_echo(&batch.bytes).await?,
            };
            shared.answer(&answer, turn, Instant::now());
            keep_alive &= answer.keep_alive;
        }
        if !keep_alive {
            self.open = None;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        let shared = &self.shared;
        let plan = &shared.plan;
        let address = plan.target.addresses[self.number % plan.target.addresses.len()];
        let options = SocketOptions::default();
        let connecting = timeout(plan.timeout, TcpStream::connect(address, &options));
        let connected = connecting.await.map_err(|_| Failure::Timeout)?;
        let stream = connected.map_err(|error| failure_of(&error, true))?;
        shared.tally.borrow_mut().connects += 1;
        shared.progress.connects.fetch_add(1, Ordering::Relaxed);
        Ok(stream)
    }
}

impl Open {
    fn new(stream: TcpStream, progress: &Arc<Progress>) -> Open {
        Open {
            stream,
            buffer: None,
            partial: Vec::new(),
            progress: Arc::clone(progress),
        }
    }

    /// Reads one answer to its end; interim ones are read over.
    async fn read_answer(&mut self, method: Method<'_>) -> Result<Answer, Failure> {
        let mut bytes = 0;
        loop {
            let (status, framing, keep_alive, head_bytes) = self.read_head(method).await?;
            bytes += head_bytes;
            if status < 200 && status != 101 {
                continue;
            }
            bytes += self.skip_body(framing).await?;
            return Ok(Answer {
                status: Some(status),
                bytes,
                keep_alive,
            });
        }
    }

    /// Reads the bytes that were sent, and nothing else.
    async fn read_echo(&mut self, sent: &[u8]) -> Result<Answer, Failure> {
        let mut left = sent;
        while !left.is_empty() {
            let buffer = self.bytes().await?;
            left = left.strip_prefix(&*buffer).ok_or(Failure::Different)?;
        }
        Ok(Answer {
            status: None,
            bytes: sent.len() as u64,
            keep_alive: true,
        })
    }

    async fn read_head(
        &mut self,
        method: Method<'_>,
    ) -> Result<(u16, ReceivedFraming, bool, u64), Failure> {
        let mut scan = HeadScan::default();
        let limits = ReceivedLimits::default();
        loop {
            let mut buffer = self.bytes().await?;
            let before = self.partial.len();
            if before > 0 {
                self.partial.extend_from_slice(&buffer);
            }
            let bytes: &[u8] = if before > 0 { &self.partial } else { &buffer };
            match parse_received(bytes, &mut scan, &limits, method) {
                Err(_) => return Err(Failure::Malformed),
                Ok(Some((head, length))) => {
                    let found = (head.status, head.framing, head.keep_alive, length as u64);
                    self.partial.clear();
                    buffer.advance(length - before);
                    self.keep(buffer);
                    return Ok(found);
                }
                Ok(None) if before == 0 => self.partial.extend_from_slice(&buffer),
                Ok(None) => {}
            }
        }
    }

    /// Reads the content and throws it away; how many bytes it took.
    async fn skip_body(&mut self, framing: ReceivedFraming) -> Result<u64, Failure> {
        match framing {
            ReceivedFraming::None => Ok(0),
            ReceivedFraming::Length(length) => self.skip(length).await,
            ReceivedFraming::Chunked => self.skip_chunks().await,
            ReceivedFraming::UntilClose => {
                let mut bytes = 0;
                loop {
                    match self.bytes().await {
                        Ok(buffer) => bytes += buffer.len() as u64,
                        Err(Failure::Closed) => return Ok(bytes),
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
    }

    async fn skip(&mut self, length: u64) -> Result<u64, Failure> {
        let mut left = length;
        while left > 0 {
            let mut buffer = self.bytes().await?;
            let taken = left.min(buffer.len() as u64);
            buffer.advance(taken as usize);
            left -= taken;
            self.keep(buffer);
        }
        Ok(length)
    }

    async fn skip_chunks(&mut self) -> Result<u64, Failure> {
        let limits = BodyLimits {
            body_bytes: u64::MAX,
            ..BodyLimits::default()
        };
        let mut decoder =
            BodyDecoder::new(Framing::Chunked, &limits).map_err(|_| Failure::Malformed)?;
        let mut bytes = 0;
        while !decoder.is_done() {
            let mut buffer = self.bytes().await?;
            while !buffer.is_empty() && !decoder.is_done() {
                let step = decoder.decode(&buffer).map_err(|_| Failure::Malformed)?;
                let (Step::Data { consumed, .. }
                | Step::More { consumed }
                | Step::End { consumed }) = step;
                bytes += consumed as u64;
                buffer.advance(consumed);
            }
            self.keep(buffer);
        }
        Ok(bytes)
    }

    /// The bytes at hand, or the next that come.
    async fn bytes(&mut self) -> Result<Buffer, Failure> {
        match self.buffer.take() {
            Some(buffer) => Ok(buffer),
            None => match self.stream.receive().await {
                Ok(Some(buffer)) => {
                    let bytes = buffer.len() as u64;
                    self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                    Ok(buffer)
                }
                Ok(None) => Err(Failure::Closed),
                Err(error) => Err(failure_of(&error, false)),
            },
        }
    }

    fn keep(&mut self, buffer: Buffer) {
        self.buffer = Some(buffer).filter(|buffer| !buffer.is_empty());
    }
}

fn failure_of(error: &io::Error, connecting: bool) -> Failure {
    use io::ErrorKind;
    /// `EMFILE`, `ENFILE`: no descriptors.
    const NO_DESCRIPTORS: [i32; 2] = [24, 23];
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::TimedOut => Failure::Timeout,
        // `EADDRNOTAVAIL` when connecting: every port of this address is in use.
        ErrorKind::AddrNotAvailable => Failure::Exhausted,
        _ if error
            .raw_os_error()
            .is_some_and(|errno| NO_DESCRIPTORS.contains(&errno)) =>
        {
            Failure::Exhausted
        }
        _ if connecting => Failure::Connect,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
        _ => Failure::Closed,
    }
}
