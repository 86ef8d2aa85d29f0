//! A pool of large buffers on every NUMA node, for all threads of a program.
//!
//! Whoever asks gets a buffer of the node it runs on; when there is none left, one of the nearest
//! node that has some. A buffer goes back to where it came from, whichever thread drops it, so that
//! the nodes stay as they were filled. Taking and giving back are a few atomic operations on the
//! node's own list: no lock, no system call beyond `getcpu` (which is none, on x86-64). What was
//! given back last is taken first, because it may still be in a cache.
//!
//! The workers of the runtime don't use it: each has memory of its own.

mod free_list;
#[cfg(test)]
mod interleavings;

/// What the list is made of: its own module, so that the tests can give it loom's atomics.
mod parts {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

use crate::arena::Arena;
use crate::numa::{self, MemoryOptions, MemoryReport, Pages};
use free_list::FreeList;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What a [`NumaPool`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumaPoolOptions {
    /// Bytes of each buffer; at least 1.
    pub buffer_bytes: usize,
    /// Buffers on each node; at least 1.
    pub buffers_per_node: u32,
    /// The pages that they are made of. Default: ordinary ones, of which the kernel may make huge
    /// ones.
    pub pages: Pages,
    /// Whether all memory is there from the start, so that no buffer costs a page fault when it is
    /// first used. Default: yes.
    pub is_populated: bool,
}

impl NumaPoolOptions {
    /// `buffers_per_node` buffers of `buffer_bytes`, with the defaults for the rest.
    pub const fn new(buffer_bytes: usize, buffers_per_node: u32) -> NumaPoolOptions {
        NumaPoolOptions {
            buffer_bytes,
            buffers_per_node,
            pages: Pages::Transparent,
            is_populated: true,
        }
    }
}

/// Buffers on every node; clones are the same pool.
///
/// ```
/// use ringway_kernel::{NumaPool, NumaPoolOptions};
///
/// // Four buffers of a mebibyte on each node that has memory.
/// let pool = NumaPool::new(&NumaPoolOptions::new(1 << 20, 4))?;
/// let mut buffer = pool.lease().expect("nobody else has one");
/// buffer[..5].copy_from_slice(b"hello");
/// // It may be used and dropped anywhere; it goes back to its node.
/// let home = buffer.node();
/// std::thread::spawn(move || drop(buffer)).join().unwrap();
/// assert_eq!(pool.free_count(home), 4);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct NumaPool {
    shared: Arc<Shared>,
}

struct Shared {
    homes: Vec<Home>,
    buffer_bytes: usize,
    /// Bytes from one buffer to the next: whole pages, so that none is shared.
    stride_bytes: usize,
    /// For each node that has been thought of, the homes from near to far, as indexes.
    orders: BTreeMap<u32, Vec<usize>>,
}

/// A node's part of the pool.
struct Home {
    node: u32,
    arena: Arena,
    free: FreeList,
}

impl NumaPool {
    /// Maps the buffers of every node that has memory. Where the kernel refuses to bind memory to
    /// nodes it is where it is touched first; [`NumaPool::memory`] says so.
    ///
    /// # Errors
    /// `InvalidInput` for a pool without buffers or bytes, or larger than the address space; else as
    /// `mmap(2)`.
    pub fn new(options: &NumaPoolOptions) -> io::Result<NumaPool> {
        NumaPool::on_nodes(&numa::memory_nodes(), options)
    }

    /// The same on these nodes alone.
    ///
    /// # Errors
    /// As [`NumaPool::new`]; `InvalidInput` without a node.
    pub fn on_nodes(nodes: &[u32], options: &NumaPoolOptions) -> io::Result<NumaPool> {
        let NumaPoolOptions {
            buffer_bytes,
            buffers_per_node: count,
            ..
        } = *options;
        if nodes.is_empty() || buffer_bytes == 0 || count == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let stride_bytes = buffer_bytes.checked_next_multiple_of(rustix::param::page_size());
        let sizes =
            stride_bytes.and_then(|stride| Some((stride, stride.checked_mul(count as usize)?)));
        let (stride_bytes, bytes) = sizes.ok_or(io::ErrorKind::InvalidInput)?;
        let home = |&node: &u32| {
            let memory = MemoryOptions {
                node: Some(node),
                pages: options.pages,
            };
            let arena = Arena::map_on(bytes, &memory)?;
            if options.is_populated {
                arena.populate();
            }
            let free = FreeList::full(count);
            Ok(Home { node, arena, free })
        };
        let homes: Vec<Home> = nodes.iter().map(home).collect::<io::Result<_>>()?;
        Ok(NumaPool {
            shared: Arc::new(Shared {
                orders: orders(nodes),
                homes,
                buffer_bytes,
                stride_bytes,
            }),
        })
    }

    /// A buffer as near to the calling thread as there is one; `None` while all are out.
    ///
    /// It holds what was written to it last, or zeroes.
    pub fn lease(&self) -> Option<NumaBuffer> {
        self.lease_near(numa::current_node())
    }

    /// A buffer as near to `node` as there is one; `None` while all are out.
    pub fn lease_near(&self, node: u32) -> Option<NumaBuffer> {
        let shared = &self.shared;
        let lease = |home: usize| {
            let index = shared.homes[home].free.take()?;
            Some(NumaBuffer {
                shared: Arc::clone(shared),
                home,
                index,
            })
        };
        match shared.orders.get(&node) {
            Some(order) => order.iter().copied().find_map(lease),
            // A node that wasn't there when the pool was made.
            None => (0..shared.homes.len()).find_map(lease),
        }
    }

    /// Buffers of a node that nobody has; 0 for a node that the pool has none on.
    pub fn free_count(&self, node: u32) -> usize {
        let homes = self.shared.homes.iter().filter(|home| home.node == node);
        homes.map(|home| home.free.len()).sum()
    }

    /// Bytes of each buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.shared.buffer_bytes
    }

    /// Where the memory of each node's buffers really is. Asks the kernel about every page: not for
    /// each lease.
    pub fn memory(&self) -> Vec<(u32, MemoryReport)> {
        let homes = self.shared.homes.iter();
        homes.map(|home| (home.node, home.arena.report())).collect()
    }
}

/// For each node that is online, or in the pool, the pool's nodes from near to far, as indexes.
fn orders(nodes: &[u32]) -> BTreeMap<u32, Vec<usize>> {
    let online = numa::distances(nodes[0]).into_keys();
    let all = online.chain(nodes.iter().copied());
    all.map(|from| (from, order(nodes, from, &numa::distances(from))))
        .collect()
}

/// The places in `nodes`, by the distance of what is there from `from`.
fn order(nodes: &[u32], from: u32, distances: &BTreeMap<u32, u32>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|&place| {
        let node = nodes[place];
        let distance = distances.get(&node).copied().unwrap_or(u32::MAX);
        (node != from, distance, node)
    });
    order
}

impl fmt::Debug for NumaPool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<u32> = self.shared.homes.iter().map(|home| home.node).collect();
        write!(out, "NumaPool(nodes {nodes:?})")
    }
}

/// A buffer of a [`NumaPool`]; it goes back to its node when it is dropped, on whatever thread.
pub struct NumaBuffer {
    shared: Arc<Shared>,
    home: usize,
    index: u32,
}

impl NumaBuffer {
    /// The node that it belongs to.
    pub fn node(&self) -> u32 {
        self.shared.homes[self.home].node
    }

    fn address(&self) -> *mut u8 {
        let offset = self.index as usize * self.shared.stride_bytes;
        self.shared.homes[self.home].arena.at(offset)
    }
}

impl Deref for NumaBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the buffer is `buffer_bytes` long, inside the arena, which lives as long as the
        // pool; initialised (zeroes, or what was last written); and of this handle alone, because
        // its index is out of the list until it is dropped.
        unsafe { std::slice::from_raw_parts(self.address(), self.shared.buffer_bytes) }
    }
}

impl DerefMut for NumaBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the handle is borrowed alone for as long.
        unsafe { std::slice::from_raw_parts_mut(self.address(), self.shared.buffer_bytes) }
    }
}

impl Drop for NumaBuffer {
    fn drop(&mut self) {
        self.shared.homes[self.home].free.give_back(self.index);
    }
}

impl fmt::Debug for NumaBuffer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NumaBuffer({} of node {})", self.index, self.node())
    }
}

#[cfg(test)]
mod tests {
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
}
