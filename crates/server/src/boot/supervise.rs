//! While the server runs: signals, workers that fail and are started anew, and the end.
//!
//! One thread hears all of it as [`Event`]s, in one queue. It is never waited for: workers serve
//! whatever happens here.

use super::{Post, Running, Server, ServerError, State, untold};
use crate::files;
use crate::log::LogThread;
use crate::proxy::SharedUpstream;
use crate::stats::{Counter, Snapshot};
use crate::worker::{Drained, Ending, Started};
use ringway_runtime::Directory;
use ringway_runtime::process::Signal;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// After the drain's own deadline, how long a worker may take to call back what the kernel holds.
const TEARDOWN_PATIENCE: Duration = Duration::from_secs(8);
/// After a second signal, how long workers may take to let go of what they have, and log it.
const CUT_PATIENCE: Duration = Duration::from_millis(500);
/// How long the access log may take to write what it has when the server ends.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// What the control thread hears.
pub(super) enum Event {
    Ready(usize, Started),
    Ended(usize, Ending),
    Signal(Signal),
    /// An upstream, by its index, has these servers now.
    Servers(usize, Arc<SharedUpstream>),
    /// The path of a root, by its index, leads to another directory now.
    Replaced(usize, Directory),
}

impl Server {
    /// Serves until it is told to end, or can't go on; then ends in good order.
    pub(super) fn supervise(mut self) -> Result<(), ServerError> {
        let served = self.serve().and_then(|()| self.drain());
        if let Some(control) = self.control.take() {
            control.finish();
        }
        if let Some(log) = self.log.take() {
            log.finish(LOG_PATIENCE);
        }
        served.map(tell)
    }

    /// Listens to changes of files, and of what the roots' paths lead to. Roots whose file system may
    /// take its time are looked at by a thread of their own: the others don't wait for them.
    pub(super) fn watch(&self) -> Result<(), ServerError> {
        let places = self.directories.iter().cloned().enumerate();
        let (distant, near): (Vec<_>, Vec<_>) =
            places.partition(|(_, directory)| directory.may_wait());
        if !distant.is_empty() {
            self.watch_places(distant, false)?;
        }
        self.watch_places(near, true)
    }

    fn watch_places(
        &self,
        places: Vec<(usize, Directory)>,
        listens: bool,
    ) -> Result<(), ServerError> {
        let (config, files) = (Arc::clone(&self.config), Arc::clone(&self.files));
        let events = self.events.0.clone();
        std::thread::Builder::new()
            .name("ringway-watch".to_owned())
            .spawn(move || {
                let swapped = |root, new| events.send(Event::Replaced(root, new)).is_ok();
                let watches = files.watches.as_deref().filter(|_| listens);
                files::watch(&config, places, watches, swapped);
            })
            .map_err(ServerError::Thread)?;
        Ok(())
    }

    fn replace(&mut self, root: usize, directory: &Directory) {
        let path = self.config.roots[root].root.display();
        tracing::info!(root = %path, "the path leads to another directory now");
        self.directories[root] = directory.clone();
        self.running()
            .for_each(|running| running.untold.add_root(root));
        self.tell_workers();
    }

    fn replace_servers(&mut self, upstream: usize, shared: &Arc<SharedUpstream>) {
        self.upstreams[upstream] = Arc::clone(shared);
        let running = self.running();
        running.for_each(|running| running.untold.add_upstream(upstream));
        self.tell_workers();
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Running> {
        let workers = self.workers.iter_mut();
        workers.filter_map(|post| match &mut post.state {
            State::Running(running) => Some(running),
            State::Resting(_) | State::Ended => None,
        })
    }

    /// Offers the workers what they don't know yet.
    fn tell_workers(&mut self) {
        let now = Instant::now();
        for (index, post) in self.workers.iter_mut().enumerate() {
            if let State::Running(Running { orders, untold, .. }) = &mut post.state
                && untold.post(orders, &self.directories, &self.upstreams, now)
            {
                tracing::error!(
                    worker = index,
                    "a worker doesn't read its orders: it goes on with what it has until it does"
                );
            }
        }
    }

    /// Until a signal says that it is enough.
    ///
    /// # Errors
    /// When no worker runs, and there is no hope for any.
    fn serve(&mut self) -> Result<(), ServerError> {
        loop {
            match self.next_event(self.next_turn()) {
                Some(Event::Signal(Signal::Terminate)) => return Ok(()),
                Some(Event::Signal(Signal::Reopen)) => self.reopen_log(),
                Some(Event::Ready(index, started)) => {
                    let driver = &started.driver;
                    tracing::info!(worker = index, %driver, "a worker runs again");
                    self.facts.set_started(index, Some(started));
                }
                Some(Event::Ended(index, ending)) => {
                    if matches!(ending, Ending::Panicked) {
                        self.facts.stats[index].count(Counter::Panics);
                    }
                    self.put_to_rest(index, &ending.to_string())?;
                }
                Some(Event::Replaced(root, directory)) => self.replace(root, &directory),
                Some(Event::Servers(upstream, shared)) => self.replace_servers(upstream, &shared),
                None => {
                    self.tell_workers();
                    self.start_rested()?;
                }
            }
        }
    }

    /// The next event, or `None` when there is none until then.
    pub(super) fn next_event(&self, until: Option<Instant>) -> Option<Event> {
        let events = &self.events.1;
        let Some(until) = until else {
            return Some(events.recv().expect("a sender is kept beside the receiver"));
        };
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                unreachable!("a sender is kept beside the receiver")
            }
        }
    }

    /// When a worker is to be started anew or told something again, if one is.
    fn next_turn(&self) -> Option<Instant> {
        let turns = self.workers.iter().filter_map(|post| match &post.state {
            State::Resting(until) => Some(*until),
            State::Running(running) if !running.untold.is_empty() => {
                Some(Instant::now() + untold::AGAIN)
            }
            State::Running(_) | State::Ended => None,
        });
        turns.min()
    }

    /// Takes a worker that has failed, or could not be started, out of service for a while.
    fn put_to_rest(&mut self, index: usize, reason: &str) -> Result<(), ServerError> {
        let now = Instant::now();
        self.facts.set_started(index, None);
        let cpu = self.facts.cpu(index);
        self.groups.iter_mut().for_each(|group| group.remove(cpu));
        let post = &mut self.workers[index];
        let ran = match std::mem::replace(&mut post.state, State::Ended) {
            State::Running(running) => {
                // It has sent its last event.
                let _ = running.thread.join();
                now - running.since
            }
            State::Resting(_) | State::Ended => Duration::ZERO,
        };
        let pause = post.back_off.fail(ran);
        post.state = State::Resting(now + pause);
        let is_lost =
            |post: &Post| !matches!(post.state, State::Running(_)) && post.back_off.is_hopeless();
        if self.workers.iter().all(is_lost) {
            let reason = reason.to_owned();
            return Err(ServerError::Workers { reason });
        }
        tracing::error!(
            worker = index,
            reason,
            pause_seconds = pause.as_secs_f64(),
            "a worker is down, to be started anew after a pause"
        );
        Ok(())
    }

    /// Starts those whose pause is over.
    fn start_rested(&mut self) -> Result<(), ServerError> {
        let now = Instant::now();
        for index in 0..self.workers.len() {
            if !matches!(self.workers[index].state, State::Resting(until) if until <= now) {
                continue;
            }
            match self.start_again(index) {
                Ok(running) => self.workers[index].state = State::Running(running),
                Err(error) => self.put_to_rest(index, &error.to_string())?,
            }
        }
        Ok(())
    }

    fn start_again(&mut self, index: usize) -> Result<Running, ServerError> {
        let listeners = self.rebind(index)?;
        // Before it runs: from then on its counters are its own.
        self.facts.stats[index].count(Counter::Restarts);
        self.spawn(index, listeners)
    }

    fn reopen_log(&self) {
        if !self.log.as_ref().is_some_and(LogThread::reopen) {
            tracing::info!(
                "SIGHUP: there is no access log file to open anew, and a configuration is read \
                 at the start only"
            );
        }
    }

    /// Ends the workers: what is under way is finished, as far as patience allows.
    ///
    /// # Errors
    /// When a second signal cut that short. That patience ran out is none: it was configured.
    fn drain(&mut self) -> Result<Drained, ServerError> {
        self.facts.drain();
        let patience = self.config.shutdown_timeout;
        tracing::info!(
            connections = self.open_count(),
            patience_seconds = patience.as_secs_f64(),
            "ending: no more connections are taken, answers under way are finished"
        );
        for post in &mut self.workers {
            if let State::Resting(_) = &post.state {
                post.state = State::Ended;
            }
        }
        // Held, a listener would go on listening after its worker closed it.
        self.groups.clear();
        let mut until = Instant::now() + patience + TEARDOWN_PATIENCE;
        let mut drained = Drained::default();
        let mut cut = None;
        self.tell_end(patience);
        while self.is_any_running() {
            // Their mailboxes may be full: they are offered it until they take it, or have ended.
            let turn = self.next_turn().map_or(until, |again| again.min(until));
            match self.next_event(Some(turn)) {
                Some(Event::Signal(Signal::Terminate)) => match self.open_count() {
                    // Nothing was cut: only the workers hadn't said so yet.
                    0 => break,
                    // Enough is enough.
                    _ if cut.is_some() => break,
                    connections => {
                        cut = Some(connections);
                        until = Instant::now() + CUT_PATIENCE;
                        self.tell_end(Duration::ZERO);
                    }
                },
                Some(Event::Signal(Signal::Reopen)) => self.reopen_log(),
                Some(Event::Ready(..) | Event::Replaced(..) | Event::Servers(..)) => {}
                Some(Event::Ended(index, ending)) => drained += self.bury(index, ending),
                None if Instant::now() < until => self.tell_workers(),
                // What a worker still holds ends with the process.
                None => {
                    tracing::warn!("a worker could not be ended in time");
                    break;
                }
            }
        }
        match cut {
            None => Ok(drained),
            Some(connections) => Err(ServerError::Cut { connections }),
        }
    }

    /// Tells the workers to end within this time.
    fn tell_end(&mut self, patience: Duration) {
        let running = self.running();
        running.for_each(|running| running.untold.set_end(patience));
        self.tell_workers();
    }

    /// Takes note of a worker's end, which was to come.
    fn bury(&mut self, index: usize, ending: Ending) -> Drained {
        self.workers[index].state = State::Ended;
        self.facts.set_started(index, None);
        match ending {
            Ending::Drained(drained) => drained,
            failure => {
                tracing::error!(worker = index, reason = %failure, "a worker failed while it was ending");
                Drained::default()
            }
        }
    }

    fn is_any_running(&self) -> bool {
        let is_running = |post: &Post| matches!(post.state, State::Running(_));
        self.workers.iter().any(is_running)
    }

    /// Connections open now.
    fn open_count(&self) -> u64 {
        let mut sum = Snapshot::default();
        for stats in &self.facts.stats {
            sum += stats.snapshot();
        }
        sum.value(Counter::Open)
    }
}

/// What became of the connections.
fn tell(drained: Drained) {
    let Drained { idle, busy, cut } = drained;
    if cut > 0 {
        tracing::warn!(
            idle,
            finished = busy - cut,
            cut,
            "ended: connections were cut, their time was up"
        );
    } else {
        tracing::info!(idle, finished = busy, cut, "ended");
    }
}
