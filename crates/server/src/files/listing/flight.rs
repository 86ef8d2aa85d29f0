//! One making of a listing for all who ask for it meanwhile.
//!
//! Without it a crowd that comes before the first listing is kept would have a directory read once
//! for each of them.

use crate::files::entry::Entry;
use ringway_http::StatusCode;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

type Made = Result<Rc<Entry>, StatusCode>;

/// The listings that are being made.
#[derive(Default)]
pub(in crate::files) struct Flights(RefCell<Vec<Entered>>);

/// By the key of what is made.
type Entered = (Box<[u8]>, Rc<Flight>);

impl Flights {
    /// Takes the making of `key` upon the caller, or says who has.
    pub(super) fn board(&self, key: &[u8]) -> Result<Pilot<'_>, Rc<Flight>> {
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
pub(super) struct Pilot<'f> {
    flights: &'f Flights,
    flight: Rc<Flight>,
}

impl Pilot<'_> {
    pub(super) fn land(self, made: Made) {
        self.flight.state.borrow_mut().made = Some(made);
    }
}

impl Drop for Pilot<'_> {
    fn drop(&mut self) {
        let is_ours = |(_, flight): &Entered| Rc::ptr_eq(flight, &self.flight);
        self.flights.0.borrow_mut().retain(|one| !is_ours(one));
        let mut state = self.flight.state.borrow_mut();
        state.is_over = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A making under way.
#[derive(Default)]
pub(super) struct Flight {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    is_over: bool,
    made: Option<Made>,
    waiting: Vec<Waker>,
}

impl Flight {
    /// Waits for its end; nothing when it was given up.
    pub(super) async fn landed(&self) -> Option<Made> {
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

    fn join(flights: &Flights, key: &[u8]) -> Rc<Flight> {
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
        pilot.land(Err(StatusCode::FORBIDDEN));
        // One task waits, however often it looked.
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        for waiting in [one, other] {
            let Poll::Ready(Some(Err(status))) = waiting.poll(&mut context) else {
                panic!("no result");
            };
            assert_eq!(status, StatusCode::FORBIDDEN);
        }
        assert!(flights.board(b"a").is_ok(), "it is over");
    }

    #[test]
    fn when_it_is_given_up_another_may() {
        let flights = Flights::default();
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
