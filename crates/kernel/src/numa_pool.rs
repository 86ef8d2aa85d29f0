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
mod tests;

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
