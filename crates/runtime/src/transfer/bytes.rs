//! Bytes in memory, to a socket.

use super::zero_copy::ZeroCopySends;
use super::{Sent, TransferError, TransferMethod, TransferOptions, TransferReport, is_zero_copy};
use crate::net::TcpStream;
use ringway_kernel::Chunk;
use std::ops::Range;
use std::rc::Rc;

impl TcpStream {
    /// Sends a range of bytes that others on this worker may hold too, and waits until the kernel
    /// has taken all of them; when they went without a copy, until it has let go of them.
    ///
    /// # Errors
    /// [`TransferError::Stream`].
    ///
    /// # Panics
    /// When the range is not one of the bytes, or goes beyond 4 GiB.
    pub async fn send_bytes(
        &mut self,
        bytes: &Rc<[u8]>,
        range: Range<usize>,
        options: impl Into<TransferOptions>,
    ) -> Result<TransferReport, TransferError> {
        let options = options.into();
        assert!(range.start <= range.end && range.end <= bytes.len());
        let mut range = u32::try_from(range.start).expect("within 4 GiB")
            ..u32::try_from(range.end).expect("within 4 GiB");
        self.flush().await?;
        let mut report = TransferReport::default();
        let mut zero_copy = ZeroCopySends::default();
        while !range.is_empty() {
            report.method = self.way_of(u64::from(range.end - range.start), &options)?;
            let part = range.clone();
            let chunk = || Chunk::part(Rc::clone(bytes), part.clone());
            if !is_zero_copy(report.method) {
                self.send(chunk()).await?;
                self.flush().await?;
                report.bytes += u64::from(range.end - range.start);
                break;
            }
            let in_flight = options.thresholds.zero_copy_in_flight;
            let sent = zero_copy.send(self, report.method, chunk, in_flight, &mut report);
            match sent? {
                Sent::Bytes(count) => {
                    range.start += count as u32;
                    report.bytes += count as u64;
                }
                Sent::Full => zero_copy.wait(self, in_flight, &mut report).await?,
                Sent::Waited | Sent::Again => {}
            }
        }
        zero_copy.settle(self, &mut report).await?;
        Ok(report)
    }

    fn way_of(
        &self,
        count: u64,
        options: &TransferOptions,
    ) -> Result<TransferMethod, TransferError> {
        let experience = &self.socket.worker.transfers;
        let (kind, now, has_operation) = self.socket.worker.reactor.enter(|reactor| {
            let has_operation = reactor.has_zero_copy_operation();
            (reactor.kind(), reactor.now(), has_operation)
        });
        let method = match options.method {
            TransferMethod::Auto => {
                let addresses = (self.local_address()?.ip(), self.peer_address()?.ip());
                experience.choose_for_bytes(count, &options.thresholds, kind, addresses, now)
            }
            TransferMethod::ZeroCopy if !has_operation => {
                experience.allowed(TransferMethod::NoticedZeroCopy)
            }
            method => experience.allowed(method),
        };
        Ok(if is_zero_copy(method) {
            method
        } else {
            TransferMethod::Gathered
        })
    }
}
