//! A request's body as a connection reads it, which is to no end yet: no service takes one, so it
//! is read to where the next request begins, and thrown away.

use super::end::Refusal;
use super::{Connection, End};
use ringway_http::body::{BodyDecoder, Step};
use ringway_http::head::Framing;
use ringway_http::response::CONTINUE;
use std::io;
use std::rc::Rc;

impl Connection {
    /// Reads a request's body and throws it away, unless it is refused.
    pub(super) async fn discard_body(
        &mut self,
        framing: Framing,
        expects_continue: bool,
    ) -> Result<Result<(), Refusal>, End> {
        let worker = Rc::clone(&self.worker);
        let limits = worker.limits;
        let mut decoder = match BodyDecoder::new(framing, &worker.body_limits) {
            Ok(decoder) => decoder,
            Err(error) => return Ok(Err(error.into())),
        };
        if expects_continue && self.input.is_empty() {
            self.send(CONTINUE).await?;
        }
        let mut stall_at = self.stream.now() + limits.body_stall_timeout;
        let mut progress = 0;
        loop {
            while !self.input.is_empty() {
                let consumed = match decoder.decode(self.input.bytes()) {
                    Ok(
                        Step::Data { consumed, .. }
                        | Step::More { consumed }
                        | Step::End { consumed },
                    ) => consumed,
                    Err(error) => return Ok(Err(error.into())),
                };
                self.input.consume(consumed);
                progress += consumed as u64;
                // Not only when the decoder says so: the body may end where the input does.
                if decoder.is_done() {
                    return Ok(Ok(()));
                }
            }
            if !self.gathered.is_empty() {
                // The client may wait for earlier answers, or for being told to continue. While it
                // doesn't take them its body isn't read, so that isn't held against it.
                self.flush_gathered().await?;
                stall_at = self.stream.now() + limits.body_stall_timeout;
            }
            if progress >= limits.body_stall_bytes {
                stall_at = self.stream.now() + limits.body_stall_timeout;
                progress = 0;
            }
            self.stream.set_deadline(Some(stall_at));
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
