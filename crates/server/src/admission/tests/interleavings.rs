//! The table again, on loom's atomics and with sets of two cells: every interleaving of a few
//! threads, and every value that the memory model lets a load return.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::AcqRel;

mod parts {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    pub(super) const SET_CELLS: usize = 2;
}
#[expect(clippy::duplicate_mod, reason = "the same code on other atomics")]
#[path = "../table.rs"]
mod table;

use table::Table;

const OTHER: u64 = 7 << 32;
const TAG: u64 = 9 << 32;

/// Up to two preemptions in a run: enough for every fault that the check after the fence is for,
/// and seconds in place of many minutes.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// Enters, checks that nobody else is in beyond the limit, and leaves.
fn visit(table: &Table, inside: &AtomicU32, limit: u32) {
    if let Some(Some(place)) = table.enter(TAG, limit) {
        assert!(inside.fetch_add(1, AcqRel) < limit);
        inside.fetch_sub(1, AcqRel);
        table.leave(place);
    }
}

#[test]
fn two_cells_for_one_address_do_not_double_its_limit() {
    explore(|| {
        let table = Arc::new(Table::new(1));
        let inside = Arc::new(AtomicU32::new(0));
        // The first cell is another's, and freed while two enter for one address.
        let other = table.enter(OTHER, 1).unwrap().unwrap();
        let visitor = {
            let (table, inside) = (Arc::clone(&table), Arc::clone(&inside));
            loom::thread::spawn(move || visit(&table, &inside, 1))
        };
        let leaver = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || table.leave(other))
        };
        visit(&table, &inside, 1);
        visitor.join().unwrap();
        leaver.join().unwrap();
        assert_eq!(table.sum(), 0, "all places came back");
        assert!(table.enter(TAG, 1).unwrap().is_some());
    });
}

#[test]
fn a_cell_freed_and_taken_by_another_loses_no_count() {
    explore(|| {
        let table = Arc::new(Table::new(1));
        // Three addresses in two cells: whoever finds none goes uncounted.
        let enter_and_leave = |table: &Table, tags: [u64; 2]| {
            let places = tags.map(|tag| table.enter(tag, 2).unwrap());
            for place in places.into_iter().flatten() {
                table.leave(place);
            }
        };
        let other = {
            let table = Arc::clone(&table);
            loom::thread::spawn(move || enter_and_leave(&table, [TAG, OTHER]))
        };
        enter_and_leave(&table, [TAG, 1 << 32]);
        other.join().unwrap();
        assert_eq!(table.sum(), 0);
    });
}
