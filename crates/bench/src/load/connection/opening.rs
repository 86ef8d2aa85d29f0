//! How the connections of a thread are begun: a few at a time.
//!
//! A server has only so much room for connections that wait to be accepted (listen(2): at most 4,096
//! unless told otherwise, and often 128 or 511). Where thousands come at once, the kernel drops the
//! rest, and those try again after 1, 3, 7, 15 and 31 seconds (RFC 6298, section 5): a run would measure
//! that. So the next are begun when those before them have been answered, which is what shows that they
//! were accepted; the handshake alone doesn't. Until all are begun each asks only once, or the first answers
//! would wait in line behind the others' next.

use super::{Shared, run};
use crate::load::plan::Pace;
use ringway_runtime::{sleep, spawn};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// As many connections, of all threads, wait for their first answer.
const AT_ONCE: usize = 64;
/// How often it is looked whether there are fewer.
const INTERVAL: Duration = Duration::from_millis(1);
/// A server that takes longer to answer is slow, which doesn't say that it accepts slowly: as many again
/// are begun. So ten thousand take 3 s at most.
const PATIENCE: Duration = Duration::from_millis(20);

/// How far a thread is with its connections.
#[derive(Default)]
pub(super) struct Beginning {
    /// Of which it isn't known yet whether the server has taken them.
    unknown: Cell<usize>,
    is_over: Cell<bool>,
    /// Connections that were answered and wait until all are begun.
    waiting: RefCell<Vec<Waker>>,
}

impl Beginning {
    /// Ready when all are begun.
    pub(super) async fn end(&self) {
        poll_fn(|context| {
            if self.is_over.get() {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn finish(&self) {
        self.is_over.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// A connection of which it isn't known yet whether the server has taken it, until this is dropped.
pub(in crate::load) struct Opening(Rc<Shared>);

impl Opening {
    fn new(shared: &Rc<Shared>) -> Opening {
        let unknown = &shared.beginning.unknown;
        unknown.set(unknown.get() + 1);
        Opening(Rc::clone(shared))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let unknown = &self.0.beginning.unknown;
        unknown.set(unknown.get() - 1);
    }
}

/// Begins the connections with these numbers; returns when all are begun, or the run is over.
///
/// By the clock they are begun at once: each waits until its first request is due.
pub(in crate::load) async fn open_all(numbers: Range<usize>, shared: &Rc<Shared>) {
    let at_once = match shared.plan.pace {
        Pace::Closed => (AT_ONCE / shared.plan.threads).max(1),
        Pace::Open(_) => usize::MAX,
    };
    open_some(numbers, shared, at_once, PATIENCE).await;
}

async fn open_some(
    mut numbers: Range<usize>,
    shared: &Rc<Shared>,
    at_once: usize,
    patience: Duration,
) {
    let mut last = Instant::now();
    loop {
        let room = match last.elapsed() >= patience {
            true => at_once,
            false => at_once.saturating_sub(shared.beginning.unknown.get()),
        };
        if room > 0 {
            last = Instant::now();
        }
        for number in numbers.by_ref().take(room) {
            drop(spawn(run(number, Rc::clone(shared), Opening::new(shared))));
        }
        if numbers.is_empty() || shared.is_over() {
            return shared.beginning.finish();
        }
        sleep(INTERVAL).await;
        shared.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Progress;
    use crate::load::plan::{Plan, Request, Talk, Target};
    use ringway_runtime::{Io, Runtime, RuntimeOptions};
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    const CONNECTIONS: usize = 20;
    const HOUR: Duration = Duration::from_secs(3600);
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    /// Whether the server is done or has failed.
    struct EndsTheRun(Arc<Progress>);

    impl Drop for EndsTheRun {
        fn drop(&mut self) {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Puts load on `serve` from connections that are begun so many at a time, until `serve` is done.
    fn run_against(
        at_once: usize,
        patience: Duration,
        serve: impl FnOnce(TcpListener) + Send + 'static,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let plan = Plan {
            talk: Talk::Http,
            requests: vec![Request::new("GET", &target, "/", &[], b"", true).unwrap()],
            target,
            connections: CONNECTIONS,
            threads: 1,
            pace: Pace::Closed,
            pipeline: 1,
            keep_alive: true,
            duration: HOUR,
            request_count: None,
            warm_up: Duration::ZERO,
            timeout: HOUR,
            io: Io::Auto,
        };
        let progress = Arc::new(Progress::default());
        let serving = {
            let progress = Arc::clone(&progress);
            std::thread::spawn(move || {
                let _ends = EndsTheRun(progress);
                serve(listener);
            })
        };
        let shared = move || Shared::new(Arc::new(plan), progress, CONNECTIONS, u64::MAX);
        let mut runtime = Runtime::new(&RuntimeOptions::default()).unwrap();
        let running = runtime.block_on(async move {
            let shared = Rc::new(shared());
            open_some(0..CONNECTIONS, &shared, at_once, patience).await;
            while !shared.is_over() {
                sleep(INTERVAL).await;
                shared.look();
            }
        });
        running.unwrap();
        serving.join().unwrap();
    }

    /// Answers the request that has come, or is to come.
    fn answer(connection: &mut TcpStream) {
        let mut piece = [0; 1024];
        assert!(connection.read(&mut piece).unwrap() > 0);
        connection.write_all(ANSWER).unwrap();
    }

    fn is_quiet(connection: &TcpStream) -> bool {
        connection.set_nonblocking(true).unwrap();
        let read = (&*connection).read(&mut [0; 1]);
        connection.set_nonblocking(false).unwrap();
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    #[test]
    fn the_next_connection_is_begun_when_one_was_answered() {
        const AT_ONCE: usize = 3;
        run_against(AT_ONCE, HOUR, |listener| {
            let accept = || listener.accept().map(|(connection, _)| connection);
            let mut waiting: Vec<_> = (0..AT_ONCE).map(|_| accept().unwrap()).collect();
            let mut answered = Vec::new();
            while answered.len() < CONNECTIONS {
                listener.set_nonblocking(true).unwrap();
                assert!(accept().is_err(), "one more is here than may be");
                listener.set_nonblocking(false).unwrap();
                let mut next = waiting.pop().unwrap();
                answer(&mut next);
                answered.push(next);
                if answered.len() + waiting.len() < CONNECTIONS {
                    waiting.push(accept().unwrap());
                }
                if answered.len() + waiting.len() < CONNECTIONS {
                    assert!(
                        answered.iter().all(is_quiet),
                        "one asks before all are begun"
                    );
                }
            }
        });
    }

    #[test]
    fn a_server_that_answers_when_all_are_there_gets_all() {
        run_against(3, 2 * INTERVAL, |listener| {
            let all = listener.incoming().take(CONNECTIONS);
            let mut all: Vec<_> = all.map(|connection| connection.unwrap()).collect();
            all.iter_mut().for_each(answer);
        });
    }
}
