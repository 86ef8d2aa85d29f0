//! One making of a thing for all who ask for it meanwhile: a file that is looked up, a listing.
//!
//! Without it a crowd that comes before the first is kept would have a file read, or a directory,
//! once for each of them. What is made, and whether it may be shared, is its maker's business.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// What is being made, by its key.
pub(super) struct Flights<T>(RefCell<Vec<Entered<T>>>);

type Entered<T> = (Box<[u8]>, Rc<Flight<T>>);

impl<T> Default for Flights<T> {
    fn default() -> Flights<T> {
        Flights(RefCell::default())
    }
}

impl<T> Flights<T> {
    /// Nobody joins what is being made now any more.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Takes the making of `key` upon the caller, or says who has.
    pub(super) fn board(&self, key: &[u8]) -> Result<Pilot<'_, T>, Rc<Flight<T>>> {
        let mut flights = self.0.borrow_mut();
        if let Some((_, flight)) = flights.iter().find(|(known, _)| **known == *key) {
            return Err(Rc::clone(flight));
        }
        let flight = Rc::new(Flight::default());
        flights.push((key.into(), Rc::clone(&flight)));
        Ok(Pilot {
            flights: self,
            flight,
        })
    }
}

/// Whoever makes it. When that is dropped before it has landed, the others may try.
pub(super) struct Pilot<'f, T> {
    flights: &'f Flights<T>,
    flight: Rc<Flight<T>>,
}

impl<T> Pilot<'_, T> {
    pub(super) fn land(self, made: T) {
        self.flight.state.borrow_mut().made = Some(made);
    }
}

impl<T> Drop for Pilot<'_, T> {
    fn drop(&mut self) {
        let is_ours = |(_, flight): &Entered<T>| Rc::ptr_eq(flight, &self.flight);
        self.flights.0.borrow_mut().retain(|one| !is_ours(one));
        let mut state = self.flight.state.borrow_mut();
        state.is_over = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A making under way.
pub(super) struct Flight<T> {
    state: RefCell<State<T>>,
}

struct State<T> {
    is_over: bool,
    made: Option<T>,
    waiting: Vec<Waker>,
}

impl<T> Default for Flight<T> {
    fn default() -> Flight<T> {
        let state = State {
            is_over: false,
            made: None,
            waiting: Vec::new(),
        };
        Flight {
            state: RefCell::new(state),
        }
    }
}

impl<T: Clone> Flight<T> {
    /// Waits for its end; nothing when it was given up.
    pub(super) async fn landed(&self) -> Option<T> {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.is_over {
                return Poll::Ready(state.made.clone());
            }
            let is_ours = |waker: &Waker| waker.will_wake(context.waker());
            if !state.waiting.iter().any(is_ours) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn join(flights: &Flights<u8>, key: &[u8]) -> Rc<Flight<u8>> {
        flights.board(key).err().expect("somebody makes it")
    }

    #[test]
    fn one_makes_it_for_all() {
        let flights = Flights::default();
        let pilot = flights.board(b"a").ok().expect("the first");
        let (one, other) = (join(&flights, b"a"), join(&flights, b"a"));
        assert!(flights.board(b"b").is_ok());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut context = Context::from_waker(&waker);
        let (mut one, mut other) = (pin!(one.landed()), pin!(other.landed()));
        assert!(one.as_mut().poll(&mut context).is_pending());
        assert!(other.as_mut().poll(&mut context).is_pending());
        assert!(one.as_mut().poll(&mut context).is_pending());
        pilot.land(7);
        // One task waits, however often it looked.
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        for waiting in [one, other] {
            assert_eq!(waiting.poll(&mut context), Poll::Ready(Some(7)));
        }
        assert!(flights.board(b"a").is_ok(), "it is over");
    }

    #[test]
    fn nobody_joins_what_was_begun_before_it_was_cleared() {
        let flights = Flights::default();
        let pilot = flights.board(b"a").ok().expect("the first");
        let before = join(&flights, b"a");
        flights.clear();
        let next = flights.board(b"a").ok().expect("the first again");
        pilot.land(1);
        let after = join(&flights, b"a");
        next.land(2);
        let mut context = Context::from_waker(Waker::noop());
        for (flight, made) in [(before, 1), (after, 2)] {
            let landed = pin!(flight.landed()).poll(&mut context);
            assert_eq!(landed, Poll::Ready(Some(made)));
        }
    }

    #[test]
    fn when_it_is_given_up_another_may() {
        let flights: Flights<u8> = Flights::default();
        let pilot = flights.board(b"a").ok().expect("the first");
        let flight = join(&flights, b"a");
        let waker = Waker::from(Arc::new(Count::default()));
        let mut context = Context::from_waker(&waker);
        let mut landed = pin!(flight.landed());
        assert!(landed.as_mut().poll(&mut context).is_pending());
        drop(pilot);
        assert!(matches!(landed.poll(&mut context), Poll::Ready(None)));
        assert!(flights.board(b"a").is_ok());
    }
}
