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
        self.release_buffer();
        self.join(&next);
    }

    fn join(&mut self, next: &[u8]) {
        self.drop_used();
        self.joined.extend_from_slice(next);
    }

    /// Makes room of what is used, once it is as much as the rest: each byte is moved about once, and
    /// no more is kept than twice the rest. (A client whose every packet ends one request and begins
    /// the next would else have all that it ever sent kept.)
    fn drop_used(&mut self) {
        if self.used >= self.joined.len() - self.used {
            self.joined.drain(..self.used);
            self.used = 0;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_not_kept() {
        let mut input = Input::default();
        input.join(b"G");
        for _ in 0..10_000 {
            // The end of one request and the beginning of the next.
            input.join(b"ET / HTTP/1.1\r\nHost: a\r\n\r\nG");
            assert_eq!(&input.bytes()[..5], b"GET /");
            input.consume(input.bytes().len() - 1);
            assert_eq!(input.bytes(), b"G");
        }
        assert!(input.joined.capacity() < 200, "{}", input.joined.capacity());
    }

    #[test]
    fn a_long_rest_is_not_moved_for_each_request_in_it() {
        let mut input = Input::default();
        for number in 0..100_u8 {
            input.join(&[number; 100]);
        }
        for number in 0..100_u8 {
            assert_eq!(input.bytes()[..100], [number; 100]);
            input.consume(100);
            input.join(&[number + 100; 100]);
            assert!(input.joined.len() <= 2 * (input.joined.len() - input.used) + 100);
        }
        assert_eq!(input.bytes().len(), 100 * 100);
        assert_eq!(input.bytes()[..100], [100; 100]);
    }
}
