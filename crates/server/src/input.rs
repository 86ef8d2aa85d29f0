//! What a connection has received and not yet used.

use ringway_runtime::Buffer;

/// Received bytes in order: as they came, in their pooled buffer, until a second buffer has to be
/// joined to a rest; then copied, so that the pooled ones go home.
#[derive(Default)]
pub(crate) struct Input {
    buffer: Option<Buffer>,
    /// A rest and what was joined to it; in use when not empty.
    joined: Vec<u8>,
    /// Bytes of `joined` that are used.
    used: usize,
}

impl Input {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_none() && self.joined.is_empty()
    }

    /// The bytes at hand.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => buffer,
            None => &self.joined[self.used..],
        }
    }

    /// Adds what was received next.
    #[inline]
    pub(crate) fn push(&mut self, next: Buffer) {
        if next.is_empty() {
            return;
        }
        if self.is_empty() {
            self.buffer = Some(next);
            return;
        }
        if let Some(rest) = self.buffer.take() {
            self.joined.extend_from_slice(&rest);
        }
        self.joined.extend_from_slice(&next);
    }

    /// Gives the pooled buffer back, if there is one, by copying its bytes: for a wait that may be
    /// long.
    pub(crate) fn release_buffer(&mut self) {
        if let Some(rest) = self.buffer.take() {
            self.joined.extend_from_slice(&rest);
        }
    }

    /// Takes the pooled buffer, if that is what holds the bytes at hand.
    pub(crate) fn take_buffer(&mut self) -> Option<Buffer> {
        self.buffer.take()
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.advance(count);
            if buffer.is_empty() {
                self.buffer = None;
            }
            return;
        }
        self.used += count;
        assert!(
            self.used <= self.joined.len(),
            "consumed more than was received"
        );
        if self.used == self.joined.len() {
            // Freed, not kept: most connections are idle most of the time.
            self.joined = Vec::new();
            self.used = 0;
        }
    }
}
