//! The free list again, on loom's atomics: every interleaving of a few threads, and every value that
//! the memory model lets a load return.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

mod parts {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}
#[expect(clippy::duplicate_mod, reason = "the same code on other atomics")]
#[path = "../free_list.rs"]
mod free_list;

use free_list::FreeList;

/// The list, and what its indexes stand for. Two threads at one thing, or one that doesn't see what
/// the last did to it, lose a change.
struct Things {
    free: FreeList,
    things: Vec<AtomicU32>,
}

/// A load and a store, which nothing orders.
fn change(thing: &AtomicU32) {
    thing.store(thing.load(Relaxed) + 1, Relaxed);
}

impl Things {
    fn new(count: u32) -> Arc<Things> {
        Arc::new(Things {
            free: FreeList::full(count),
            things: (0..count).map(|_| AtomicU32::new(0)).collect(),
        })
    }

    /// Takes one, changes it and gives it back.
    fn visit(&self) -> bool {
        let Some(index) = self.free.take() else {
            return false;
        };
        change(&self.things[index as usize]);
        self.free.give_back(index);
        true
    }

    /// When nobody has any: all are in the list, each once.
    fn changes(&self) -> u32 {
        assert_eq!(self.free.len(), self.things.len());
        let mut taken: Vec<u32> = std::iter::from_fn(|| self.free.take()).collect();
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..self.things.len() as u32));
        assert_eq!(self.free.len(), 0);
        let things = self.things.iter();
        things.map(|thing| thing.load(Relaxed)).sum()
    }
}

/// Up to three preemptions in a run: what the top that went and came back takes.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn one_thing_is_never_two_threads_at_once() {
    explore(|| {
        let things = Things::new(1);
        let others = [0; 2].map(|_| {
            let things = things.clone();
            loom::thread::spawn(move || u32::from(things.visit()))
        });
        let visits = others.map(|other| other.join().unwrap());
        assert!(visits[0] + visits[1] >= 1, "the first finds it");
        assert_eq!(things.changes(), visits[0] + visits[1]);
    });
}

/// One takes two and gives back the first alone, while another has read the top and what is below.
#[test]
fn a_top_that_went_and_came_back_is_another() {
    explore(|| {
        let things = Things::new(3);
        let other = {
            let things = things.clone();
            loom::thread::spawn(move || {
                let (first, second) = (things.free.take(), things.free.take());
                let [first, second] = [first, second].map(|index| index.expect("one of three"));
                things.free.give_back(first);
                change(&things.things[second as usize]);
                things.free.give_back(second);
            })
        };
        let visits = u32::from(things.visit()) + u32::from(things.visit());
        other.join().unwrap();
        assert_eq!(visits, 2, "there was always one left");
        assert_eq!(things.changes(), 3);
    });
}
