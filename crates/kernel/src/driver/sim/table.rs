//! The descriptor table of a simulated process: shared by its workers, lowest free number first.

use super::endpoint::{EndpointId, Listener};
use super::operation::OperationKey;
use std::os::fd::RawFd;

/// Far above every number that the real kernel gives out, so that neither can be taken for the
/// other: a simulated one in a real call is `EBADF`, a real one in the simulator is unknown.
const FIRST: RawFd = 1 << 24;

/// What a descriptor stands for.
pub(super) enum Resource {
    Listener(Box<Listener>),
    Stream(EndpointId),
}

/// An open descriptor.
pub(super) struct Descriptor {
    pub(super) resource: Resource,
    /// Those in flight that name it, until their last completion was delivered.
    pub(super) operations: Vec<OperationKey>,
    /// The workers that have adopted it.
    pub(super) adopters: Vec<usize>,
}

#[derive(Default)]
pub(super) struct DescriptorTable {
    entries: Vec<Option<Descriptor>>,
    open: usize,
}

impl DescriptorTable {
    pub(super) fn insert(&mut self, resource: Resource) -> RawFd {
        let free = self.entries.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        let descriptor = Descriptor {
            resource,
            operations: Vec::new(),
            adopters: Vec::new(),
        };
        self.entries[index] = Some(descriptor);
        self.open += 1;
        FIRST + index as RawFd
    }

    pub(super) fn get(&self, number: RawFd) -> Option<&Descriptor> {
        self.entries.get(index(number)?)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: RawFd) -> Option<&mut Descriptor> {
        self.entries.get_mut(index(number)?)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: RawFd) -> Option<Descriptor> {
        let descriptor = self.entries.get_mut(index(number)?)?.take()?;
        self.open -= 1;
        Some(descriptor)
    }

    /// Those that are open, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &Descriptor)> {
        let numbered = self.entries.iter().zip(FIRST..);
        numbered.filter_map(|(entry, number)| Some((number, entry.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.open
    }
}

fn index(number: RawFd) -> Option<usize> {
    usize::try_from(number.checked_sub(FIRST)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_next() {
        let mut table = DescriptorTable::default();
        let numbers: Vec<RawFd> = (0..4)
            .map(|id| table.insert(Resource::Stream(id)))
            .collect();
        assert!(numbers.is_sorted());
        assert!(table.remove(numbers[2]).is_some());
        assert!(table.remove(numbers[1]).is_some());
        assert_eq!(table.insert(Resource::Stream(9)), numbers[1]);
        assert_eq!(table.len(), 3);
        assert!(table.get(numbers[2]).is_none());
        assert!(table.get(0).is_none());
        assert!(table.get(-1).is_none());
    }
}
