//! The end of a reactor: cancel, drain, then free; never free while something is in flight.

use super::{ListenerKey, Reactor, RequestKey, SocketKey};
use crate::abort::AbortOnUnwind;
use std::time::Duration;

/// How long a reactor that is dropped waits for the kernel to let go of its memory.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

impl Reactor {
    /// Closes everything and takes completions until nothing is in flight, at most for
    /// `patience`. Returns whether all came back.
    fn drain(&mut self, patience: Duration) -> bool {
        for key in self.sockets.keys() {
            self.close(SocketKey(key), false);
        }
        for key in self.listeners.keys() {
            self.close_listener(ListenerKey(key));
        }
        for key in self.requests.keys() {
            self.abandon_request(RequestKey(key));
        }
        let mut woken = Vec::new();
        // The last turn may be long ago, and drivers look at the clock only in turns: patience
        // begins with this one.
        if self.turn(Some(Duration::ZERO), &mut woken).is_err() {
            return false;
        }
        let deadline = self.now + patience;
        self.hasten_lingering(self.now + patience / 2);
        while self.live_count() > 0 {
            // The tasks of these wakers are gone already; there is nothing left to wake.
            self.woken.clear();
            let left = deadline.saturating_duration_since(self.now);
            if left.is_zero() || self.turn(Some(left), &mut woken).is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Reactor {
    /// Drains. What is still in flight after some seconds (a hung disk) keeps its memory for ever:
    /// slots and buffers are leaked, because the kernel may still write to them.
    fn drop(&mut self) {
        let kind = self.kind();
        let armed = AbortOnUnwind(&kind);
        if !self.drain(DRAIN_PATIENCE) {
            std::mem::forget(std::mem::take(&mut self.sockets));
            std::mem::forget(std::mem::take(&mut self.listeners));
            std::mem::forget(std::mem::take(&mut self.requests));
            std::mem::forget(std::rc::Rc::clone(&self.buffers));
            self.leak_transfers();
        }
        self.close_pipes();
        armed.disarm();
    }
}
