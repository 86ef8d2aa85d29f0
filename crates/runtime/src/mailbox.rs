//! Mail between workers and other threads: the only way they tell each other anything.

use crossbeam_queue::ArrayQueue;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// A bounded mailbox: any number of senders on any threads, one receiver.
///
/// # Panics
/// When `capacity` is zero.
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        letters: ArrayQueue::new(capacity),
        waker: Mutex::new(None),
        senders: AtomicUsize::new(1),
    });
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

struct Shared<T> {
    letters: ArrayQueue<T>,
    waker: Mutex<Option<Waker>>,
    senders: AtomicUsize,
}

impl<T> Shared<T> {
    fn swap_waker(&self, waker: Option<Waker>) -> Option<Waker> {
        let mut place = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, waker)
    }

    fn wake(&self) {
        if let Some(waker) = self.swap_waker(None) {
            waker.wake();
        }
    }
}

/// Puts letters into a mailbox; cheap to clone.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Posts a letter and wakes the receiver.
    ///
    /// # Errors
    /// The letter itself, when the mailbox is full.
    pub fn send(&self, letter: T) -> Result<(), T> {
        self.shared.letters.push(letter)?;
        self.shared.wake();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Sender {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.wake();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Sender({} letters)", self.shared.letters.len())
    }
}

/// Takes letters out of a mailbox.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// The next letter; `None` when there is none and every sender is gone.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// As [`Receiver::receive`].
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(letter) = self.shared.letters.pop() {
            return Poll::Ready(Some(letter));
        }
        drop(self.shared.swap_waker(Some(context.waker().clone())));
        // Whoever posted between the two looks at the waker afterwards, or is seen here.
        let is_over = self.shared.senders.load(Ordering::Acquire) == 0;
        match self.shared.letters.pop() {
            Some(letter) => Poll::Ready(Some(letter)),
            None if is_over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Receiver({} letters)", self.shared.letters.len())
    }
}
