//! Who may have a connection: the limit of all connections, and the limit for one address.
//!
//! `Bound` says what the first is. Both are counted across all workers, without a lock: a total, and
//! a table of addresses. A worker asks once for each accepted connection and keeps the [`Ticket`] as
//! long as the connection lives; dropping it gives both places back, whatever ended the connection.
//! What is done with a refused connection, and what is counted of it, is the worker's business.

mod table;
#[cfg(test)]
mod tests;

/// What the table is made of: its own module, so that the tests can give it loom's atomics.
mod parts {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};

    /// The cells an address may stand in: what fits a cache line of 64 bytes.
    pub(super) const SET_CELLS: usize = 8;
}

use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use table::{Place, Table};

/// The most sets of [`parts::SET_CELLS`] cells: 1 MiB in all, and never more.
///
/// With 131,072 cells, the limit holds for practically every address until some 65,000 different
/// ones are connected at once; then more and more of them go uncounted (see [`table`]).
const SETS_MAX: u32 = 1 << 14;

/// The most connections that are accepted before they are refused, while the bound is reached:
/// what a listener hands over in one turn. They take descriptors as well, for a moment.
const REFUSALS_AT_ONCE: u64 = 256;
/// With a default below this, the start says so.
const FEW: u32 = 512;

/// How many connections there may be, by what was asked for and the descriptors that there are.
///
/// A connection needs one for its socket and, while a file is sent from disk, one for that. Who
/// names no number gets as many as can have both; who names one is taken at his word as long as
/// there are descriptors for the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) connections: u32,
    /// How many can have a file, too.
    with_files: u32,
}

impl Bound {
    /// For `wanted` connections (0: as many as is good) in a process that may have `descriptors`,
    /// and has `own` of them whatever it does. At least one.
    pub(crate) fn new(wanted: u32, descriptors: u64, own: u64) -> Bound {
        let free = descriptors.saturating_sub(own);
        let free = free - REFUSALS_AT_ONCE.min(free / 8);
        let count = |number: u64| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
        let with_files = count(free / 2);
        let connections = match wanted {
            0 => with_files,
            wanted => wanted.min(count(free)),
        };
        Bound {
            connections,
            with_files,
        }
    }

    /// The descriptors with which `wanted` connections can have a file each; 0 where none are
    /// wanted in particular.
    pub(crate) fn descriptors_for(wanted: u32, own: u64) -> u64 {
        match wanted {
            0 => 0,
            wanted => own + 2 * u64::from(wanted) + REFUSALS_AT_ONCE,
        }
    }

    /// What whoever asked for `wanted` connections should know.
    pub(crate) fn advice(self, wanted: u32, descriptors: u64) -> Option<String> {
        let Bound {
            connections,
            with_files,
        } = self;
        let what = if wanted > connections {
            format!("connections are limited to {connections}, not {wanted}")
        } else if wanted > with_files {
            format!(
                "files may be answered 503 when there are more than {with_files} of the {wanted} \
                 connections"
            )
        } else if wanted == 0 && connections < FEW {
            format!("connections are limited to {connections}")
        } else {
            return None;
        };
        Some(format!(
            "{what}: this process may have {descriptors} descriptors; raise the hard limit (ulimit \
             -Hn, LimitNOFILE=) to have more"
        ))
    }
}

/// The connections there are, and how many there may be; one for the whole server.
///
/// ```
/// use ringway_server::admission::{Admission, Refusal};
///
/// let admission = Admission::new(100, 1);
/// let peer = "192.0.2.1".parse().expect("an address");
/// let ticket = admission.admit(peer)?;
/// assert_eq!(admission.admit(peer).err(), Some(Refusal::Address));
/// drop(ticket);
/// admission.admit(peer)?;
/// # Ok::<(), Refusal>(())
/// ```
// Everything a call needs lies on one or two cache lines together with the `Arc`'s count, which
// it writes anyway: padding the total would only add a line.
#[derive(Debug)]
pub struct Admission {
    total: AtomicU32,
    total_limit: u32,
    addresses: Option<Addresses>,
}

#[derive(Debug)]
struct Addresses {
    table: Table,
    limit: u32,
    /// Keyed anew in each process, so that nobody can choose addresses that share a set.
    hasher: RandomState,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server has as many connections as it may have.
    Total,
    /// The address has as many connections as one may have.
    Address,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Refusal::Total => "there are as many as there may be (limits.connections)",
            Refusal::Address => {
                "an address has as many as it may have (limits.connections_per_address)"
            }
        })
    }
}

impl Error for Refusal {}

/// The places of one admitted connection, given back by dropping it, on any thread.
#[derive(Debug)]
#[must_use = "dropping the ticket gives the places back at once"]
pub struct Ticket {
    admission: Arc<Admission>,
    /// Where its address is counted, if it is.
    place: Option<Place>,
}

impl Admission {
    /// Nobody is connected yet. A `per_address_limit` of 0 is no limit of its own, nor is one that
    /// the total doesn't leave room for.
    ///
    /// # Panics
    /// When `total_limit` is 0, which has no meaning of its own here.
    pub fn new(total_limit: u32, per_address_limit: u32) -> Arc<Admission> {
        assert!(
            total_limit > 0,
            "the limit of connections is resolved before"
        );
        // Two cells for each possible connection, where that is less than the most.
        let sets = total_limit.div_ceil(parts::SET_CELLS as u32 / 2);
        let has_own = (1..total_limit).contains(&per_address_limit);
        let addresses = has_own.then(|| Addresses {
            table: Table::new(sets.min(SETS_MAX).next_power_of_two()),
            limit: per_address_limit,
            hasher: RandomState::new(),
        });
        Arc::new(Admission {
            total: AtomicU32::new(0),
            total_limit,
            addresses,
        })
    }

    /// Takes a place for a connection from `peer`.
    ///
    /// An IPv6 client is counted by its /64, the least that one subscriber is given (RFC 6177),
    /// and an IPv4 client in IPv6's clothes (`::ffff:192.0.2.1`) as what it is.
    ///
    /// Neither limit is ever exceeded. A refusal is exact for the total. For the address it can be
    /// early by one in the moment when a connection of the same address is refused by another
    /// worker, and it isn't made at all where the table has no cell left.
    ///
    /// # Errors
    /// Which limit is reached; the address's own where both are.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Ticket, Refusal> {
        let place = match &self.addresses {
            Some(addresses) => addresses.enter(peer).ok_or(Refusal::Address)?,
            None => None,
        };
        let below_limit = |total| (total < self.total_limit).then_some(total + 1);
        // Adding and undoing would refuse others in between; a retry is cheaper than that.
        let entered = self
            .total
            .try_update(Ordering::Acquire, Ordering::Relaxed, below_limit);
        if entered.is_err() {
            self.leave_address(place);
            return Err(Refusal::Total);
        }
        Ok(Ticket {
            admission: Arc::clone(self),
            place,
        })
    }

    /// Connections admitted and not ended.
    pub fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    fn leave_address(&self, place: Option<Place>) {
        if let (Some(addresses), Some(place)) = (&self.addresses, place) {
            addresses.table.leave(place);
        }
    }
}

impl Addresses {
    /// `None` when the address is at its limit, `Some(None)` when it couldn't be counted.
    fn enter(&self, peer: IpAddr) -> Option<Option<Place>> {
        let hash = self.hasher.hash_one(client(peer));
        self.table.enter(hash, self.limit)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Last in, first out: whoever gets the total's place finds the address's free as well.
        self.admission.leave_address(self.place);
        self.admission.total.fetch_sub(1, Ordering::Release);
    }
}

/// Whom an address stands for: its family, and the bits that tell one client from another.
fn client(peer: IpAddr) -> (bool, u64) {
    match peer.to_canonical() {
        IpAddr::V4(address) => (false, u64::from(address.to_bits())),
        IpAddr::V6(address) => (true, (address.to_bits() >> 64) as u64),
    }
}
