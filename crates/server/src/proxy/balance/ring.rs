//! Consistent hashing: a ring of points, many for each server; a key belongs to the next one.
//!
//! A ring, because it says for each key who is next when the first can't have it, at no cost: that
//! is what a bounded load needs, and servers that come and go. Maglev's table has no second choice
//! and moves more keys; rendezvous hashing has both, but hashes each server anew for each request.
//! A point is 16 bytes: 200 servers are half a megabyte for each worker.

use super::ServerOptions;
use super::random::mix;

/// Points of a server of average weight: with 160, as in ketama, its share is within a tenth of
/// what it should be, mostly.
const POINTS: u64 = 160;
/// The least points of one with little weight.
const POINTS_MIN: u64 = 4;

/// The hash of a key, the same everywhere and always: FNV-1a, its bits mixed.
///
/// Anybody can find keys that share a server. That gains nothing: the load of each is bounded.
pub(crate) fn key_of(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[derive(Debug)]
pub(super) struct Ring {
    /// Where each point is, and whose; in their order.
    points: Box<[(u64, u32)]>,
}

impl Ring {
    pub(super) fn new(servers: &[ServerOptions]) -> Ring {
        let weights: u64 = servers.iter().map(|server| u64::from(server.weight)).sum();
        let mut points = Vec::new();
        for (index, server) in (0..).zip(servers) {
            let wanted = POINTS * servers.len() as u64 * u64::from(server.weight) / weights;
            for number in 0..wanted.max(POINTS_MIN) {
                points.push((mix(mix(server.identity) ^ mix(number)), index));
            }
        }
        points.sort_unstable();
        Ring {
            points: points.into(),
        }
    }

    /// The first server at or after the key that takes it; `None` when none on the ring does.
    pub(super) fn find(&self, key: u64, takes_it: impl Fn(usize) -> bool) -> Option<usize> {
        let begin = self.points.partition_point(|&(point, _)| point < key);
        let (before, after) = self.points.split_at(begin);
        let mut last = None;
        for &(_, server) in after.iter().chain(before) {
            // Neighbours of one server are often together.
            if last != Some(server) && takes_it(server as usize) {
                return Some(server as usize);
            }
            last = Some(server);
        }
        None
    }
}
