//! A request's body as a connection reads it, at the pace that its client has to keep.

use super::end::Refusal;
use super::{Connection, End};
use ringway_http::body::{BodyDecoder, Step};
use ringway_http::head::Framing;
use ringway_http::response::CONTINUE;
use std::io;
use std::rc::Rc;
use std::time::Instant;

/// A body under way.
pub(super) struct BodyReader {
    decoder: BodyDecoder,
    /// When more has to have come.
    stall_at: Instant,
    /// How much has.
    progress: u64,
    /// When nobody wanted more for the time being.
    left_at: Instant,
}

impl BodyReader {
    pub(super) fn is_done(&self) -> bool {
        self.decoder.is_done()
    }
}

impl Connection {
    /// Begins to read a body, by giving a client leave to send it that asks for that.
    pub(super) async fn begin_body(
        &mut self,
        framing: Framing,
        expects_continue: bool,
    ) -> Result<Result<BodyReader, Refusal>, End> {
        let decoder = match BodyDecoder::new(framing, &self.worker.body_limits) {
            Ok(decoder) => decoder,
            Err(error) => return Ok(Err(error.into())),
        };
        if expects_continue && self.input.is_empty() {
            self.send(CONTINUE).await?;
        }
        let now = self.stream.now();
        Ok(Ok(BodyReader {
            decoder,
            stall_at: now + self.worker.limits.body_stall_timeout,
            progress: 0,
            left_at: now,
        }))
    }

    /// Reads on: to the end where the content isn't wanted, else until there is some of it, and no
    /// more than about `most` bytes.
    pub(super) async fn next_of_body(
        &mut self,
        reader: &mut BodyReader,
        mut content: Option<&mut Vec<u8>>,
        most: usize,
    ) -> Result<Result<(), Refusal>, End> {
        let worker = Rc::clone(&self.worker);
        let limits = worker.limits;
        // What others took their time for isn't the client's.
        reader.stall_at += self.stream.now().saturating_duration_since(reader.left_at);
        loop {
            while !self.input.is_empty() && !reader.is_done() {
                let (data, consumed) = match reader.decoder.decode(self.input.bytes()) {
                    Ok(Step::Data { data, consumed }) => (data, consumed),
                    Ok(Step::More { consumed } | Step::End { consumed }) => (&[][..], consumed),
                    Err(error) => return Ok(Err(error.into())),
                };
                if let Some(content) = &mut content {
                    content.extend_from_slice(data);
                }
                self.input.consume(consumed);
                reader.progress += consumed as u64;
                if content
                    .as_ref()
                    .is_some_and(|content| content.len() >= most)
                {
                    break;
                }
            }
            // Not only when the decoder says so: the body may end where the input does.
            let has_some = content.as_ref().is_some_and(|content| !content.is_empty());
            if reader.is_done() || has_some {
                reader.left_at = self.stream.now();
                return Ok(Ok(()));
            }
            if !self.gathered.is_empty() {
                // The client may wait for earlier answers, or for being told to continue. While it
                // doesn't take them its body isn't read, so that isn't held against it.
                self.flush_gathered().await?;
                reader.stall_at = self.stream.now() + limits.body_stall_timeout;
            }
            if reader.progress >= limits.body_stall_bytes {
                reader.stall_at = self.stream.now() + limits.body_stall_timeout;
                reader.progress = 0;
            }
            self.stream.set_deadline(Some(reader.stall_at));
            match self.stream.receive().await {
                Ok(Some(buffer)) => self.input.push(buffer),
                Ok(None) => {
                    self.flush().await?;
                    return Err(End::Broken);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(Err(Refusal::SLOW_BODY));
                }
                Err(_) => return Err(End::Broken),
            }
        }
    }
}
