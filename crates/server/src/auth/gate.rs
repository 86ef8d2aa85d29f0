//! A worker's side of authentication: who was let in lately, and the wait for those who weren't.
//!
//! Whoever one worker has let in the others let in, too: the thread that has checked a password puts
//! the news into a queue of each of them, which they read when they meet somebody whom they don't
//! know. Else a user's second connection, at another worker, would have to queue with a flood of
//! wrong passwords, and be turned away with it.

use super::{Credentials, Mac, Passwords};
use crossbeam_queue::ArrayQueue;
use foldhash::fast::RandomState;
use ringway_http::head::{Method, RequestHead};
use ringway_runtime::{BlockingError, spawn_blocking_on};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Instant;

/// A password that has to be checked.
#[derive(Clone)]
pub(crate) struct Check {
    mac: Mac,
    credentials: Credentials,
}

/// What can be said at once of who asks.
pub(crate) enum Sight {
    /// All of it.
    Decided(Verdict),
    /// Nothing: the password has to be checked first.
    Unknown(Check),
}

/// Whether a request is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is: its user may have what is asked for, or everybody may.
    Admitted(Option<Rc<str>>),
    /// There are no credentials, or wrong ones.
    Refused,
    /// Too many passwords wait to be checked.
    Busy,
    /// The check failed.
    Failed,
}

/// A root's gate, as one worker keeps it.
pub(crate) struct Gate {
    passwords: Arc<Passwords>,
    /// Whom other workers have let in, not read yet.
    news: Arc<News>,
    remembered: RefCell<HashMap<Mac, Remembered, RandomState>>,
    underway: RefCell<HashMap<Mac, Rc<Underway>, RandomState>>,
}

/// Where other workers' threads tell a gate whom they have let in. What is too much for it drives
/// out the oldest: those have to be checked here.
pub(super) type News = ArrayQueue<LetIn>;

/// How many may be told to a worker before it reads of them.
const NEWS_COUNT: usize = 256;

/// Credentials that were right, as they are told to other workers.
#[derive(Clone, Debug)]
pub(super) struct LetIn {
    mac: Mac,
    user: Box<str>,
    until: Instant,
    version: u64,
}

/// Credentials that were right.
struct Remembered {
    user: Rc<str>,
    until: Instant,
    version: u64,
}

/// A check that others may wait for.
#[derive(Default)]
struct Underway {
    verdict: RefCell<Option<Verdict>>,
    is_over: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Gate {
    pub(crate) fn new(passwords: Arc<Passwords>) -> Gate {
        let news = Arc::new(News::new(passwords.remembered_count.min(NEWS_COUNT)));
        passwords.listen(&news);
        Gate {
            passwords,
            news,
            remembered: RefCell::default(),
            underway: RefCell::default(),
        }
    }

    /// Looks at who asks.
    pub(crate) fn look(&self, head: &RequestHead<'_>, now: Instant) -> Sight {
        // What can be asked is no secret, and a browser sends no credentials when it asks whether
        // a page of another site may (the Fetch standard, CORS-preflight fetch): it would never
        // come to ask for more.
        if head.method == Method::Options {
            return Sight::Decided(Verdict::Admitted(None));
        }
        let Some(value) = head.authorization else {
            return Sight::Decided(Verdict::Refused);
        };
        let mac = self.passwords.mac(value);
        if let Some(user) = self.recall(&mac, now) {
            return Sight::Decided(Verdict::Admitted(Some(user)));
        }
        match Credentials::parse(value) {
            Some(credentials) => Sight::Unknown(Check { mac, credentials }),
            None => Sight::Decided(Verdict::Refused),
        }
    }

    fn recall(&self, mac: &Mac, now: Instant) -> Option<Rc<str>> {
        let found = self.find(mac, now);
        if found.is_some() || self.news.is_empty() {
            return found;
        }
        while let Some(told) = self.news.pop() {
            let user = Rc::from(told.user);
            self.remember(told.mac, &user, told.version, told.until);
        }
        self.find(mac, now)
    }

    fn find(&self, mac: &Mac, now: Instant) -> Option<Rc<str>> {
        let remembered = self.remembered.borrow();
        let found = remembered.get(mac)?;
        let is_valid = now < found.until && found.version == self.passwords.version.load(Relaxed);
        is_valid.then(|| Rc::clone(&found.user))
    }

    /// Has a password checked. Of several requests with the same credentials one is, and the
    /// others wait for it: a browser sends six at once.
    pub(crate) async fn verify(&self, check: &Check) -> Verdict {
        loop {
            let underway = self.underway.borrow().get(&check.mac).map(Rc::clone);
            let Some(underway) = underway else { break };
            if let Some(verdict) = underway.verdict().await {
                return verdict;
            }
        }
        // One that went away during a wait has remembered nothing.
        if let Some(user) = self.recall(&check.mac, ringway_runtime::now()) {
            return Verdict::Admitted(Some(user));
        }
        let turn = Turn::begin(self, check.mac);
        let (passwords, credentials) = (Arc::clone(&self.passwords), check.credentials.clone());
        let (mac, news) = (check.mac, Arc::clone(&self.news));
        // From when the question came: nobody is let in for longer, however long it waits.
        let until = ringway_runtime::now() + self.passwords.remembered_for;
        let work = move || {
            let (is_right, version) = passwords.check(&credentials);
            if is_right {
                let user = credentials.user;
                passwords.tell(
                    &news,
                    &LetIn {
                        mac,
                        user,
                        until,
                        version,
                    },
                );
            }
            (is_right, version)
        };
        let verdict = match spawn_blocking_on(&self.passwords.pool, work).await {
            Ok((true, version)) => {
                let user: Rc<str> = Rc::from(&*check.credentials.user);
                let until = ringway_runtime::now() + self.passwords.remembered_for;
                self.remember(check.mac, &user, version, until);
                Verdict::Admitted(Some(user))
            }
            Ok((false, _)) => Verdict::Refused,
            Err(BlockingError::Full) => Verdict::Busy,
            Err(BlockingError::Panicked) => Verdict::Failed,
        };
        turn.end(verdict.clone());
        verdict
    }

    fn remember(&self, mac: Mac, user: &Rc<str>, version: u64, until: Instant) {
        let mut remembered = self.remembered.borrow_mut();
        let has_room = remembered.len() < self.passwords.remembered_count;
        if !has_room && !remembered.contains_key(&mac) {
            // As rare as a check, and cheap beside one.
            let oldest = remembered.iter().min_by_key(|(_, found)| found.until);
            let oldest = oldest.map(|(mac, _)| *mac);
            oldest.and_then(|mac| remembered.remove(&mac));
        }
        let user = Rc::clone(user);
        remembered.insert(
            mac,
            Remembered {
                user,
                until,
                version,
            },
        );
    }
}

impl Underway {
    /// What came of it; nothing when the request that had it checked went away.
    async fn verdict(&self) -> Option<Verdict> {
        poll_fn(|context| {
            if self.is_over.get() {
                return Poll::Ready(self.verdict.borrow().clone());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// The right and duty to have one credential checked; it ends however the check does.
struct Turn<'a> {
    gate: &'a Gate,
    mac: Mac,
    underway: Rc<Underway>,
}

impl<'a> Turn<'a> {
    fn begin(gate: &'a Gate, mac: Mac) -> Turn<'a> {
        let underway = Rc::new(Underway::default());
        let before = gate.underway.borrow_mut().insert(mac, Rc::clone(&underway));
        debug_assert!(before.is_none(), "one turn for each credential");
        Turn {
            gate,
            mac,
            underway,
        }
    }

    fn end(self, verdict: Verdict) {
        self.underway.verdict.replace(Some(verdict));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.underway.borrow_mut().remove(&self.mac);
        self.underway.is_over.set(true);
        let wakers = self.underway.wakers.take();
        wakers.into_iter().for_each(Waker::wake);
    }
}
