//! What a driver's answers do to the slots.

use super::requests::ACCEPT_LIMIT;
use super::sockets::BACKLOG_LIMIT;
use super::{ListenerKey, Reactor, RequestKey, SocketKey};
use crate::buffers::Buffer;
use crate::driver::{Completion, Descriptor, Lane, Token};
use std::net::Shutdown;

impl Reactor {
    pub(super) fn complete(&mut self, completion: Completion) {
        let key = completion.token.key();
        match completion.token.lane() {
            Lane::Receive => self.complete_receive(SocketKey(key), completion),
            Lane::Send => self.complete_send(SocketKey(key), completion.result),
            Lane::Ready => self.complete_ready(SocketKey(key), completion.result),
            Lane::Connect => self.complete_connect(SocketKey(key), completion.result),
            Lane::Accept => self.complete_accept(ListenerKey(key), completion),
            Lane::Open | Lane::Read | Lane::Warm | Lane::ReadBlock => {
                self.complete_request(RequestKey(key), completion.result);
            }
            Lane::ZeroCopy => self.complete_zero_copy(RequestKey(key), completion),
            Lane::ReadReady => self.complete_readable(SocketKey(key), completion.result),
            Lane::Notice => self.complete_notice(SocketKey(key), completion),
            Lane::None => {}
        }
    }

    fn complete_receive(&mut self, key: SocketKey, completion: Completion) {
        let result = completion.result;
        let filled = completion.buffer.inspect(|id| self.buffers.lend(*id));
        let Some(socket) = self.sockets.get_mut(key.0) else {
            // Stale: its buffer still has to go home.
            filled.into_iter().for_each(|id| self.buffers.give_back(id));
            return;
        };
        if !completion.more {
            socket.in_flight.remove(Lane::Receive);
        }
        match filled {
            Some(id) if result <= 0 || socket.is_closing => self.buffers.give_back(id),
            Some(id) if socket.spilled.is_none() && !self.buffers.is_low() => {
                socket.backlog.push(&self.buffers, id, result as u32);
            }
            Some(id) => {
                self.counters.spilled += 1;
                let copy = self.spill(id, result as u32);
                let socket = self.sockets.get_mut(key.0).expect("found above");
                socket.push_spilled(copy);
            }
            None => {}
        }
        let socket = self.sockets.get_mut(key.0).expect("found above");
        match result {
            // Our own shutdown makes a 0 too; nobody reads it then.
            0 => socket.is_at_end = true,
            _ if result == -libc::ENOBUFS && !socket.is_closing => {
                socket.is_parked = true;
                self.parked.push_back(key);
                self.counters.parked += 1;
                return;
            }
            _ if result == -libc::ECANCELED || result > 0 || result == -libc::ENOBUFS => {}
            errno => socket.receive_error = -errno,
        }
        if socket.is_closing {
            if socket.in_flight.is_empty() {
                self.finish_close(key);
            }
            return;
        }
        if socket.backlog_len() >= BACKLOG_LIMIT && completion.more && !socket.is_paused {
            socket.is_paused = true;
            self.driver
                .cancel(Token::new(Lane::Receive, key.0), Some(&socket.fd));
        }
        // The reader polls again and re-arms; without one, nothing is received ahead of need.
        self.woken.extend(socket.reader.take());
    }

    /// Copies scarce pooled bytes to the heap, so that the buffer can go home.
    fn spill(&self, id: u16, length: u32) -> Box<[u8]> {
        let buffer = Buffer::from_lent(&self.buffers, id, length);
        buffer.to_vec().into_boxed_slice()
    }

    /// Gives the buffers that came home to the receives that wait for one: first come first
    /// served, and at most one for each buffer.
    pub(super) fn rearm_parked(&mut self) {
        let mut budget = self.buffers.free_count();
        while budget > 0 {
            let Some(key) = self.parked.pop_front() else {
                return;
            };
            let Some(socket) = self.sockets.get_mut(key.0) else {
                continue;
            };
            // A reader that has fallen behind arms it itself when it has caught up: here it would
            // get more and more to keep.
            let is_behind = socket.backlog_len() >= BACKLOG_LIMIT;
            if !std::mem::take(&mut socket.is_parked) || socket.is_closing || is_behind {
                continue;
            }
            self.arm_receive(key);
            budget -= 1;
        }
    }

    fn complete_send(&mut self, key: SocketKey, result: i32) {
        if self.take_send_result(key, result) {
            self.submit_rest(key);
        }
    }

    /// Accounts for one send; true when the rest has to be sent.
    pub(super) fn take_send_result(&mut self, key: SocketKey, result: i32) -> bool {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return false;
        };
        let taken = result.max(0) as usize;
        socket.sent_total += taken as u64;
        if let Some(sending) = &mut socket.sending {
            sending.sent += taken;
            let is_part = taken > 0 && sending.sent < sending.outgoing.byte_count();
            // A send of no bytes takes none; that can't happen here, and would never end.
            let is_interrupted = result == -libc::EINTR || result == -libc::EAGAIN;
            if (is_part || is_interrupted) && !socket.is_closing {
                sending.sent = sending.outgoing.release_sent(sending.sent);
                return true;
            }
        }
        socket.in_flight.remove(Lane::Send);
        socket.sending = None;
        if std::mem::take(&mut socket.ends_after_send) && !socket.is_closing {
            // Its error says what the next receive will.
            let _ = self.driver.shutdown(&socket.fd, Shutdown::Write);
        }
        if result <= 0 {
            socket.note_send_error(if result == 0 { libc::EPIPE } else { -result });
            self.woken.extend(socket.reader.take());
        }
        self.woken.extend(socket.writer.take());
        if socket.is_closing && socket.in_flight.is_empty() {
            self.finish_close(key);
        }
        false
    }

    fn complete_ready(&mut self, key: SocketKey, result: i32) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        socket.in_flight.remove(Lane::Ready);
        socket.ready_result = Some(result);
        self.wake_writer_or_close(key);
    }

    fn complete_connect(&mut self, key: SocketKey, result: i32) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        socket.in_flight.remove(Lane::Connect);
        socket.connecting = None;
        if result < 0 {
            socket.send_error = -result;
        }
        self.wake_writer_or_close(key);
    }

    fn wake_writer_or_close(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key.0) else {
            return;
        };
        self.woken.extend(socket.writer.take());
        if socket.is_closing && socket.in_flight.is_empty() {
            self.finish_close(key);
        }
    }

    fn complete_accept(&mut self, key: ListenerKey, completion: Completion) {
        let result = completion.result;
        let accepted = (result >= 0).then(|| {
            // SAFETY: an accept's completion hands over a new descriptor, and it is taken once.
            unsafe { Descriptor::from_raw(result) }
        });
        let Some(listener) = self.listeners.get_mut(key.0) else {
            // Stale: nobody will take this connection.
            if let Some(accepted) = accepted {
                self.driver.close(accepted);
            }
            return;
        };
        listener.is_accepting = completion.more;
        if let Some(accepted) = accepted {
            listener.accepted.push_back(accepted);
        } else if result != -libc::ECANCELED {
            listener.error = -result;
        }
        self.woken.extend(listener.waker.take());
        if listener.is_closing {
            if !listener.is_accepting {
                self.finish_close_listener(key);
            }
        } else if listener.accepted.len() == ACCEPT_LIMIT && listener.is_accepting {
            self.driver
                .cancel(Token::new(Lane::Accept, key.0), Some(&listener.fd));
        }
    }

    fn complete_request(&mut self, key: RequestKey, result: i32) {
        let Some(request) = self.requests.get_mut(key.0) else {
            return;
        };
        request.result = Some(result);
        self.woken.extend(request.waker.take());
        if request.is_orphaned {
            self.release_request(key, result);
        }
    }
}
