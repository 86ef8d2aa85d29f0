//! One worker's part of a server's pool: its idle connections, and those who wait for one here.
//!
//! The way of a request: [`Local::try_lease`], which nearly always has something; else
//! [`Local::poll_lease`], which waits. The way back is [`super::Lease::finish`]: to who waits here, else
//! to who waits elsewhere, else onto the worker's own stack, else into the exchange.
//!
//! Somebody has to look after what nobody asks for: that is the [`Keeper`], polled by a task of
//! the worker's own.

use super::bounded::Place;
use super::demand::Demand;
use super::lease::{Lease, Leased, Opening};
use super::parts::Queue;
use super::shared::{Connection, Exchanged, Link, PoolLimits, Shared, Standing};
use super::stats::{Count, Counts};
use super::waits::{Key, Left, Waits};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// How much longer than its own somebody in another worker must have waited, to be served first: a
/// quarter, and a millisecond. Moving a connection costs more than using it.
const PATIENCE_DIVISOR: u64 = 4;
const PATIENCE_NANOSECONDS: u64 = 1_000_000;

/// One worker's pool of connections to one server. Clones are handles to the same.
pub(crate) struct Local<C: Connection>(Rc<Inner<C>>);

/// What a worker must poll for its [`Local`]: see [`Keeper::poll_keep`].
#[must_use = "without it, nobody who waits is woken"]
pub(crate) struct Keeper<C: Connection>(Rc<Inner<C>>);

/// A request's place in the line, once it has joined it. Dropping it leaves: nothing stays behind,
/// and what it was just to get goes to the next.
pub(crate) struct Wait<C: Connection> {
    key: Option<Key>,
    pool: Rc<Inner<C>>,
}

/// As many requests wait for the server as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("as many requests as may wait for a connection to the server do so")
    }
}

impl Error for Refused {}

/// What somebody in line is served with.
enum Grant<C> {
    Idle(Box<Link<C>>, Source),
    Place(Place),
}

/// Where an idle connection came from.
#[derive(Clone, Copy)]
enum Source {
    Local,
    Exchange,
}

pub(super) struct Inner<C: Connection> {
    shared: Arc<Shared<C::Detached>>,
    worker: usize,
    /// The one given back last is the last, and is used first.
    idle: RefCell<Vec<Box<Link<C>>>>,
    waits: RefCell<Waits<Grant<C>>>,
    /// Whether others have been told that there may be idle connections.
    holds: Cell<bool>,
    /// Whether the keeper will come by itself, or has been rung to.
    is_kept: Cell<bool>,
    /// When it comes by itself.
    next_expiry: Cell<Option<Instant>>,
}

impl<C: Connection> Local<C> {
    /// The part of worker `worker`, counted from 0, and what has to be polled for it. A worker has
    /// one at a time.
    ///
    /// # Panics
    /// When the pool wasn't made for so many workers.
    pub(crate) fn new(shared: &Arc<Shared<C::Detached>>, worker: usize) -> (Local<C>, Keeper<C>) {
        assert!(worker < shared.nodes.len(), "no such worker");
        let inner = Rc::new(Inner {
            shared: Arc::clone(shared),
            worker,
            idle: RefCell::default(),
            waits: RefCell::new(Waits::new()),
            holds: Cell::new(false),
            is_kept: Cell::new(false),
            next_expiry: Cell::new(None),
        });
        (Local(Rc::clone(&inner)), Keeper(inner))
    }

    /// A connection or a place for one, if there is any to be had without waiting and without
    /// getting before somebody who waits.
    #[inline]
    pub(crate) fn try_lease(&self, now: Instant) -> Option<Leased<C>> {
        let inner = &self.0;
        if !inner.waits.borrow().is_empty() {
            return None;
        }
        if let Some(idle) = inner.take_idle(now) {
            return Some(inner.reused(idle, Count::ReusedLocal));
        }
        if inner.demand().is_another_hungry(inner.worker) {
            return None;
        }
        inner.take_supply(now).map(|grant| inner.leased(grant))
    }

    /// A request that hasn't joined the line yet; for [`Local::poll_lease`].
    pub(crate) fn wait(&self) -> Wait<C> {
        Wait {
            key: None,
            pool: Rc::clone(&self.0),
        }
    }

    /// A connection or a place for one, as soon as it is this request's turn. The first call joins
    /// the line, if it has to. Whoever has a deadline drops `wait` then.
    ///
    /// # Errors
    /// [`Refused`] at once, when too many are waiting.
    pub(crate) fn poll_lease(
        &self,
        wait: &mut Wait<C>,
        context: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Leased<C>, Refused>> {
        if wait.key.is_none() {
            if let Some(leased) = self.try_lease(now) {
                return Poll::Ready(Ok(leased));
            }
            if !self.0.demand().waiting.enter() {
                self.0.counts().count(Count::Refused);
                return Poll::Ready(Err(Refused));
            }
            wait.key = Some(self.0.join(context, now));
        }
        match wait.fetch(context) {
            Some(grant) => Poll::Ready(Ok(self.0.leased(grant))),
            None => Poll::Pending,
        }
    }
}

impl<C: Connection> Clone for Local<C> {
    fn clone(&self) -> Local<C> {
        Local(Rc::clone(&self.0))
    }
}

impl<C: Connection> fmt::Debug for Local<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.0.idle.borrow().len();
        write!(out, "Local(worker {}, {idle} idle)", self.0.worker)
    }
}

impl<C: Connection> Keeper<C> {
    /// Serves those who wait with what has become free elsewhere, gives away what others wait for,
    /// and closes what has been idle for too long.
    ///
    /// To be polled by one task from the start, again whenever its waker is woken, and at the time
    /// that is returned, if any.
    pub(crate) fn poll_keep(&mut self, context: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let inner = &self.0;
        // First of all: what comes after this rings again.
        inner.demand().answer(inner.worker, context.waker());
        let is_due = inner.next_expiry.get().is_some_and(|at| at <= now);
        if is_due {
            inner.next_expiry.set(None);
            inner.expire_idle(now);
            inner.expire_exchanged(now);
        }
        inner.serve(now);
        inner.give_to_others();
        // Under load the stack is empty now and then, and is so for long only where nobody comes.
        if is_due && inner.idle.borrow().is_empty() {
            inner.hold_nothing();
        }
        // What has come since may have to go sooner, and is closed late then; it isn't used again.
        if inner.next_expiry.get().is_none() {
            inner.next_expiry.set(inner.find_expiry(now));
        }
        let next = inner.next_expiry.get();
        inner.is_kept.set(next.is_some());
        next
    }
}

impl<C: Connection> Drop for Keeper<C> {
    fn drop(&mut self) {
        self.0.demand().leave(self.0.worker);
    }
}

impl<C: Connection> fmt::Debug for Keeper<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Keeper(worker {})", self.0.worker)
    }
}

impl<C: Connection> Wait<C> {
    fn fetch(&mut self, context: &Context<'_>) -> Option<Grant<C>> {
        let key = self.key?;
        let waker = context.waker().clone();
        let fetched = self.pool.waits.borrow_mut().fetch(key, waker);
        match fetched {
            Ok(grant) => {
                self.key = None;
                Some(grant)
            }
            Err(_former_waker) => None,
        }
    }
}

impl<C: Connection> Drop for Wait<C> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let left = self.pool.waits.borrow_mut().leave(key);
        match left {
            Left::Waiting(_waker) => self.pool.one_left(),
            Left::Served(Grant::Idle(idle, _)) => {
                self.pool.pass_on(idle, None);
            }
            // Whoever waits is told by the place itself.
            Left::Served(Grant::Place(place)) => drop(place),
        }
    }
}

impl<C: Connection> fmt::Debug for Wait<C> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Wait(in line: {})", self.key.is_some())
    }
}

impl<C: Connection> Inner<C> {
    #[inline]
    pub(super) fn counts(&self) -> &Counts {
        &self.shared.counts[self.worker]
    }

    #[inline]
    pub(super) fn limits(&self) -> &PoolLimits {
        &self.shared.limits
    }

    #[inline]
    fn demand(&self) -> &Arc<Demand> {
        &self.shared.demand
    }

    /// That of the own node.
    fn exchange(&self) -> &Queue<Exchanged<C::Detached>> {
        &self.shared.exchanges[self.shared.nodes[self.worker]]
    }

    /// Puts what was found or granted into the hands of a request.
    fn leased(self: &Rc<Self>, grant: Grant<C>) -> Leased<C> {
        match grant {
            Grant::Place(place) => Leased::Open(Opening::new(place, Rc::clone(self))),
            Grant::Idle(idle, Source::Local) => self.reused(idle, Count::ReusedLocal),
            Grant::Idle(idle, Source::Exchange) => self.reused(idle, Count::ReusedExchange),
        }
    }

    #[inline]
    fn reused(self: &Rc<Self>, idle: Box<Link<C>>, count: Count) -> Leased<C> {
        self.counts().count(count);
        Leased::Reused(Lease::new(idle, Rc::clone(self)))
    }

    /// The freshest connection of this worker that is still good.
    #[inline]
    fn take_idle(&self, now: Instant) -> Option<Box<Link<C>>> {
        loop {
            let mut idle = self.pop_idle()?;
            if self.is_usable(&mut idle, now) {
                return Some(idle);
            }
        }
    }

    #[inline]
    fn pop_idle(&self) -> Option<Box<Link<C>>> {
        let mut stack = self.idle.borrow_mut();
        let idle = stack.pop()?;
        self.counts().set_idle(stack.len());
        Some(idle)
    }

    #[inline]
    fn is_usable(&self, idle: &mut Link<C>, now: Instant) -> bool {
        let is_fresh = idle.standing.is_fresh(now);
        if is_fresh && idle.connection.is_alive() {
            return true;
        }
        self.counts().count(if is_fresh {
            Count::Dead
        } else {
            Count::Expired
        });
        false
    }

    /// Something out of the exchange, the own node's first, or a place.
    fn take_supply(&self, now: Instant) -> Option<Grant<C>> {
        let own = self.shared.nodes[self.worker];
        let count = self.shared.exchanges.len();
        for node in (0..count).map(|step| (own + step) % count) {
            while let Some(exchanged) = self.shared.exchanges[node].pop() {
                if let Some(idle) = self.attach(exchanged, now) {
                    return Some(Grant::Idle(idle, Source::Exchange));
                }
            }
        }
        Place::take(self.demand()).map(Grant::Place)
    }

    fn attach(&self, exchanged: Exchanged<C::Detached>, now: Instant) -> Option<Box<Link<C>>> {
        let Exchanged {
            connection,
            standing,
        } = exchanged;
        if !standing.is_fresh(now) {
            self.counts().count(Count::Expired);
            return None;
        }
        let Ok(connection) = C::attach(connection) else {
            self.counts().count(Count::Dead);
            return None;
        };
        let mut idle = Box::new(Link {
            connection,
            is_reused: true,
            standing,
        });
        self.is_usable(&mut idle, now).then_some(idle)
    }

    /// Joins the line, and looks for supply once more: what came before others could know that
    /// somebody waits here rang nobody.
    fn join(self: &Rc<Self>, context: &Context<'_>, now: Instant) -> Key {
        let waker = context.waker().clone();
        let since = self.shared.nanoseconds(now);
        let is_first = self.waits.borrow().is_empty();
        let key = self.waits.borrow_mut().join(waker, since);
        if is_first {
            self.demand().get_hungry(self.worker, since);
            if !self.demand().is_another_hungry(self.worker) {
                self.serve(now);
            } else if self.shared.has_supply() {
                // Whoever has waited longest gets it, which may be this worker.
                self.demand().announce();
            }
        }
        key
    }

    /// Serves those who wait here as long as there is supply.
    fn serve(self: &Rc<Self>, now: Instant) {
        while !self.waits.borrow().is_empty() {
            let Some(grant) = self.take_supply(now) else {
                return;
            };
            if let Err(grant) = self.grant(grant) {
                // Foreign code ran in between and somebody left: the next one's then.
                return self.regive(grant, now);
            }
        }
    }

    /// Serves the first in line; what it was served with comes back where there is nobody.
    fn grant(&self, grant: Grant<C>) -> Result<(), Grant<C>> {
        let waker = self.waits.borrow_mut().serve(grant)?;
        self.one_left();
        waker.wake();
        Ok(())
    }

    fn regive(self: &Rc<Self>, grant: Grant<C>, now: Instant) {
        match grant {
            Grant::Idle(idle, _) => self.pass_on(idle, Some(now)),
            Grant::Place(place) => drop(place),
        }
    }

    /// One of those who waited doesn't any more.
    fn one_left(&self) {
        self.demand().waiting.leave();
        let first_since = self.waits.borrow().first_since();
        match first_since {
            Some(since) => self.demand().note_first(self.worker, since),
            None => self.demand().sate(self.worker),
        }
    }

    /// A connection that has carried a request in good order.
    #[inline]
    pub(super) fn give_back(self: &Rc<Self>, mut idle: Box<Link<C>>, now: Instant) {
        idle.is_reused = true;
        if idle.standing.rest(&self.shared.limits, now) {
            self.pass_on(idle, Some(now));
        } else {
            self.counts().count(Count::Expired);
        }
    }

    /// Finds the one who needs an idle connection most. `now` is unknown where one is dropped.
    #[inline]
    fn pass_on(self: &Rc<Self>, idle: Box<Link<C>>, now: Option<Instant>) {
        let is_another_hungry = self.demand().is_another_hungry(self.worker);
        let first_since = self.waits.borrow().first_since();
        match first_since {
            None if is_another_hungry => self.give_away(*idle),
            None => self.keep(idle),
            Some(since) if is_another_hungry && self.is_anothers_turn(since, now) => {
                self.give_away(*idle);
            }
            // Somebody is in line, so it doesn't come back.
            Some(_) => drop(self.grant(Grant::Idle(idle, Source::Local)).err()),
        }
    }

    /// Whether somebody in another worker has waited so much longer than the first here that the
    /// connection should rather go there.
    fn is_anothers_turn(&self, since: u64, now: Option<Instant>) -> bool {
        if !self.exchange().is_empty() {
            return false; // it has been rung for that, and isn't as fast
        }
        let Some(other_since) = self.demand().longest_wait_of_another(self.worker) else {
            return false;
        };
        let now = now.map_or(since, |now| self.shared.nanoseconds(now));
        let own_wait = now.saturating_sub(since);
        let margin = own_wait / PATIENCE_DIVISOR + PATIENCE_NANOSECONDS;
        other_since.saturating_add(margin) < since
    }

    /// Onto the stack; into the exchange where that is full.
    #[inline]
    fn keep(self: &Rc<Self>, idle: Box<Link<C>>) {
        let mut stack = self.idle.borrow_mut();
        if stack.len() >= self.shared.limits.idle_per_worker {
            drop(stack);
            if self.limits().exchange == 0 {
                return self.counts().count(Count::Surplus);
            }
            return self.give_away(*idle);
        }
        stack.push(idle);
        self.counts().set_idle(stack.len());
        drop(stack);
        if !self.holds.replace(true) {
            self.demand().hold(self.worker);
        } else {
            self.want_keeper();
        }
    }

    /// Into the exchange, for whoever is hungry.
    fn give_away(self: &Rc<Self>, idle: Link<C>) {
        let Link {
            connection,
            standing,
            ..
        } = idle;
        let pool = Rc::clone(self);
        connection.detach(move |detached| match detached {
            Ok(connection) => pool.exchange_it(connection, standing),
            Err(_) => pool.counts().count(Count::Dead),
        });
    }

    /// Puts a connection that has left its worker into the exchange.
    fn exchange_it(&self, connection: C::Detached, standing: Standing) {
        let exchanged = Exchanged {
            connection,
            standing,
        };
        let exchange = self.exchange();
        if let Err(surplus) = exchange.push(exchanged) {
            self.counts().count(Count::Surplus);
            return drop(surplus);
        }
        self.counts().count(Count::Given);
        // Whoever comes for it looks after what is left, too. (And if this worker's keeper came as
        // well, it might take what is meant for others.)
        if !self.demand().announce() {
            self.want_keeper();
        }
    }

    /// Sees to it that the keeper comes: there is something that will expire.
    fn want_keeper(&self) {
        if !self.is_kept.replace(true) {
            self.demand().ring(self.worker);
        }
    }

    /// Gives idle connections to hungry workers, as many as wait there; and tells them of other
    /// supply, for which this worker may have been rung.
    fn give_to_others(self: &Rc<Self>) {
        if !self.waits.borrow().is_empty() {
            return; // and so nothing is idle here
        }
        let waiting = self.demand().waiting.count().max(1);
        for _ in 0..waiting {
            if !self.demand().is_another_hungry(self.worker) {
                return;
            }
            match self.pop_idle() {
                Some(idle) => self.give_away(*idle),
                None => {
                    self.hold_nothing();
                    break;
                }
            }
        }
        let has_supply = || self.shared.has_supply();
        self.demand().hand_on(self.worker, has_supply);
    }

    fn hold_nothing(&self) {
        if self.holds.replace(false) {
            self.demand().hold_nothing(self.worker);
        }
    }

    /// Closes what has been idle, or there, for too long.
    fn expire_idle(&self, now: Instant) {
        let mut stack = self.idle.borrow_mut();
        let expired: Vec<_> = stack
            .extract_if(.., |idle| !idle.standing.is_fresh(now))
            .collect();
        expired
            .iter()
            .for_each(|_| self.counts().count(Count::Expired));
        self.counts().set_idle(stack.len());
        drop(stack);
        // Closing is foreign code: outside of the borrow.
        drop(expired);
    }

    /// The same in the exchanges: everything in there is taken out once, and put back.
    fn expire_exchanged(&self, now: Instant) {
        let mut is_put_back = false;
        for exchange in &self.shared.exchanges {
            for _ in 0..exchange.len() {
                let Some(exchanged) = exchange.pop() else {
                    break;
                };
                if !exchanged.standing.is_fresh(now) {
                    self.counts().count(Count::Expired);
                    continue;
                }
                is_put_back = true;
                if let Err(surplus) = exchange.push(exchanged) {
                    self.counts().count(Count::Surplus);
                    drop(surplus);
                }
            }
        }
        if is_put_back {
            // Whoever looked meanwhile has missed some.
            self.demand().announce();
        }
    }

    /// When the keeper has to come next: when the first of those who are there has to be closed.
    fn find_expiry(&self, now: Instant) -> Option<Instant> {
        let limits = &self.shared.limits;
        let stack = self.idle.borrow();
        let own = stack.iter().map(|idle| idle.standing.expires);
        // What is in the exchange can't be looked at; its turn comes within half the time again.
        // So does that of what will be on the stack again in a moment.
        let is_exchanging = !self.shared.exchanges.iter().all(Queue::is_empty);
        let unseen = is_exchanging || (stack.is_empty() && self.holds.get());
        let half = limits.idle_timeout.min(limits.lifetime) / 2;
        let later = unseen.then(|| now.checked_add(half)).flatten();
        own.chain(later).min()
    }
}

impl<C: Connection> Drop for Inner<C> {
    fn drop(&mut self) {
        // Nobody waits any more: a `Wait` would hold this. What was idle frees its places.
        self.hold_nothing();
        self.counts().set_idle(0);
    }
}
