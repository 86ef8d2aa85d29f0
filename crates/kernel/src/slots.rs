//! Slots that never move: a slab in fixed chunks, each slot with a generation.
//!
//! A slot owns what the kernel reads and writes for its operations, and is emptied only by their
//! last completion. It keeps its address while it is occupied: growing copies nothing, however many
//! connections there are. The generation tells a completion of the present occupant from one that
//! was meant for an earlier one.

/// Slots in a chunk; a chunk is allocated whole and kept until the slab is dropped.
const CHUNK_SLOTS: usize = 64;

/// Where a slot is, and which of its occupants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A slab of `T` whose occupied slots keep their address.
pub(crate) struct Slots<T> {
    chunks: Vec<Box<[Slot<T>; CHUNK_SLOTS]>>,
    free: Vec<u32>,
    occupied: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots::new()
    }
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Slots<T> {
        Slots {
            chunks: Vec::new(),
            free: Vec::new(),
            occupied: 0,
        }
    }

    /// How many slots are occupied.
    pub(crate) fn len(&self) -> usize {
        self.occupied
    }

    pub(crate) fn insert(&mut self, value: T) -> SlotKey {
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop().expect("grow adds free slots");
        let slot = self.slot_mut(index).expect("a free index lies in a chunk");
        slot.value = Some(value);
        let generation = slot.generation;
        self.occupied += 1;
        SlotKey { index, generation }
    }

    pub(crate) fn get(&self, key: SlotKey) -> Option<&T> {
        let index = key.index as usize;
        let slot = &self.chunks.get(index / CHUNK_SLOTS)?[index % CHUNK_SLOTS];
        if slot.generation == key.generation {
            slot.value.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation == key.generation {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the occupant out; its key, and every copy of it, is stale from here on.
    pub(crate) fn remove(&mut self, key: SlotKey) -> Option<T> {
        let slot = self.slot_mut(key.index)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        // Generations live in 24 bits of a token; they wrap there.
        slot.generation = (slot.generation + 1) & crate::driver::GENERATION_MASK;
        self.free.push(key.index);
        self.occupied -= 1;
        Some(value)
    }

    /// The keys of all occupants, in index order.
    pub(crate) fn keys(&self) -> Vec<SlotKey> {
        let slots = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .enumerate();
        slots
            .filter(|(_, slot)| slot.value.is_some())
            .map(|(index, slot)| SlotKey {
                index: index as u32,
                generation: slot.generation,
            })
            .collect()
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        let chunk = self.chunks.get_mut(index / CHUNK_SLOTS)?;
        Some(&mut chunk[index % CHUNK_SLOTS])
    }

    fn grow(&mut self) {
        let first = self.chunks.len() * CHUNK_SLOTS;
        let chunk: Vec<Slot<T>> = (0..CHUNK_SLOTS)
            .map(|_| Slot {
                generation: 0,
                value: None,
            })
            .collect();
        let Ok(chunk) = chunk.into_boxed_slice().try_into() else {
            unreachable!("a chunk has as many slots as were made");
        };
        self.chunks.push(chunk);
        self.free
            .extend((first..first + CHUNK_SLOTS).rev().map(|index| index as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_key_is_stale_even_when_its_slot_is_taken_again() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(first.index, second.index);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn an_occupant_keeps_its_address_while_others_come() {
        let mut slots = Slots::new();
        let key = slots.insert([7u8; 32]);
        let address = std::ptr::from_ref(slots.get(key).unwrap());
        for _ in 0..1000 {
            slots.insert([0; 32]);
        }
        assert_eq!(std::ptr::from_ref(slots.get(key).unwrap()), address);
    }
}
