//! Buffers of several nodes, one of which no machine has.

mod interleavings;

use super::*;
use crate::numa::{Policy, memory_nodes};

/// A node that no machine has: its memory is wherever the kernel gives it.
const FARAWAY: u32 = 999;

fn pool(nodes: &[u32], count: u32) -> NumaPool {
    NumaPool::on_nodes(nodes, &NumaPoolOptions::new(100, count)).unwrap()
}

#[test]
fn nearer_nodes_come_first_and_unknown_ones_last() {
    let check = |from, row: &[(u32, u32)], expect: &[u32]| {
        let nodes = [0, 1, 8];
        let order = order(&nodes, from, &row.iter().copied().collect());
        let order: Vec<u32> = order.into_iter().map(|place| nodes[place]).collect();
        assert_eq!(order, expect);
    };
    check(1, &[(0, 21), (1, 10), (8, 31)], &[1, 0, 8]);
    check(8, &[(0, 31), (1, 21), (8, 10)], &[8, 1, 0]);
    // A node without memory of its own.
    check(3, &[(0, 31), (1, 21), (8, 31)], &[1, 0, 8]);
    check(1, &[], &[1, 0, 8]);
    check(5, &[(8, 11)], &[8, 0, 1]);
}

#[test]
fn other_nodes_help_out_and_buffers_find_home() {
    let near = memory_nodes()[0];
    let pool = pool(&[near, FARAWAY], 2);
    let lease = || pool.lease_near(near).unwrap();
    let buffers = [lease(), lease(), lease(), lease()];
    let nodes = [0, 1, 2, 3].map(|index: usize| buffers[index].node());
    assert_eq!(nodes, [near, near, FARAWAY, FARAWAY]);
    assert!(pool.lease().is_none(), "all are out");
    // Dropped by others, in another order.
    let [first, second, third, fourth] = buffers;
    std::thread::spawn(move || drop((fourth, first)))
        .join()
        .unwrap();
    assert_eq!((pool.free_count(near), pool.free_count(FARAWAY)), (1, 1));
    assert_eq!(pool.lease_near(FARAWAY).unwrap().node(), FARAWAY);
    drop((second, third));
    assert_eq!((pool.free_count(near), pool.free_count(FARAWAY)), (2, 2));
}

#[test]
fn buffers_do_not_overlap_and_are_as_long_as_asked() {
    let pool = pool(&[0, FARAWAY], 3);
    let mut buffers: Vec<NumaBuffer> = std::iter::from_fn(|| pool.lease()).collect();
    assert_eq!(buffers.len(), 6);
    for (mark, buffer) in buffers.iter_mut().enumerate() {
        assert_eq!(buffer.len(), pool.buffer_bytes());
        buffer.fill(mark as u8);
    }
    for (mark, buffer) in buffers.iter().enumerate() {
        assert!(buffer.iter().all(|&byte| byte == mark as u8));
    }
}

#[test]
fn each_node_s_memory_is_where_it_says() {
    let nodes = memory_nodes();
    let pool = pool(&nodes, 4);
    // A page for each buffer, however short.
    let pages = 4;
    for (node, report) in pool.memory() {
        if let Policy::Refused(why) = report.policy {
            return eprintln!("SKIP each_node_s_memory_is_where_it_says: {why}");
        }
        assert_eq!(report.pages, Ok([(node, pages)].into()));
    }
}

#[test]
fn threads_share_it_without_ever_sharing_a_buffer() {
    let pool = pool(&[0, FARAWAY], 2);
    std::thread::scope(|scope| {
        for mark in 0..4_u8 {
            let pool = pool.clone();
            scope.spawn(move || {
                for _ in 0..2000 {
                    let Some(mut buffer) = pool.lease() else {
                        std::thread::yield_now();
                        continue;
                    };
                    buffer.fill(mark);
                    assert!(buffer.iter().all(|&byte| byte == mark));
                }
            });
        }
    });
    assert_eq!((pool.free_count(0), pool.free_count(FARAWAY)), (2, 2));
}

#[test]
fn pools_of_nothing_are_refused() {
    let check = |nodes: &[u32], bytes, count| {
        let refused = NumaPool::on_nodes(nodes, &NumaPoolOptions::new(bytes, count));
        let kind = refused.map_err(|error| error.kind()).unwrap_err();
        assert_eq!(
            kind,
            io::ErrorKind::InvalidInput,
            "{nodes:?} {bytes} {count}"
        );
    };
    check(&[], 1, 1);
    check(&[0], 0, 1);
    check(&[0], 1, 0);
    check(&[0], usize::MAX, 1);
    check(&[0], usize::MAX / 2, 4);
}
