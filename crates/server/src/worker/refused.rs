//! System calls that this machine refuses, as a seccomp profile does: what is sent goes another way,
//! which costs more, and is told once for the whole process. `/status` and the metrics have it from
//! here.

use ringway_runtime::TransferMethod;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Which replacements were told, a bit for each pair of methods. All workers share it.
#[derive(Debug, Default)]
pub(crate) struct Refused([AtomicU16; TransferMethod::ALL.len()]);

impl Refused {
    /// Tells of each method in `refusals` that nobody has told of, with what takes its place.
    pub(super) fn tell(
        &self,
        refusals: impl IntoIterator<Item = (TransferMethod, TransferMethod)>,
    ) {
        for (method, instead) in refusals {
            if self.is_new(method, instead) {
                tracing::warn!(
                    %method,
                    %instead,
                    "refused here, most likely by the container's seccomp profile"
                );
            }
        }
    }

    /// Each method that some worker was refused, with what takes its place.
    pub(crate) fn known(&self) -> impl Iterator<Item = (TransferMethod, TransferMethod)> {
        let methods = TransferMethod::ALL.into_iter().zip(&self.0);
        methods.filter_map(|(method, told)| {
            let told = told.load(Relaxed);
            // The list has what takes the place of the others, copying, before them.
            let mut all = TransferMethod::ALL.into_iter().enumerate();
            let (_, instead) = all.find(|(position, _)| told & 1 << position != 0)?;
            Some((method, instead))
        })
    }

    /// Whether this is to be told. What takes its place may be refused later: then it is news again.
    fn is_new(&self, method: TransferMethod, instead: TransferMethod) -> bool {
        let position = |wanted: TransferMethod| {
            let mut all = TransferMethod::ALL.iter();
            let position = all.position(|other| *other == wanted);
            position.expect("all of them are in the list")
        };
        let bit = 1 << position(instead);
        // Relaxed: nothing else depends on it.
        self.0[position(method)].fetch_or(bit, Relaxed) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransferMethod::{Copy, NoticedZeroCopy, SendFile, Splice, ZeroCopy};

    #[test]
    fn each_is_news_once_and_again_when_its_replacement_changes() {
        let refused = Refused::default();
        assert!(refused.is_new(SendFile, Splice));
        assert!(!refused.is_new(SendFile, Splice));
        assert!(refused.is_new(SendFile, Copy));
        assert!(!refused.is_new(SendFile, Copy));
        assert!(refused.is_new(Splice, Copy));
        assert!(refused.is_new(ZeroCopy, NoticedZeroCopy));
        assert!(refused.is_new(NoticedZeroCopy, Copy));
        assert!(refused.is_new(ZeroCopy, Copy));
        assert!(!refused.is_new(ZeroCopy, Copy));
    }

    #[test]
    fn what_is_known_is_the_last_that_takes_the_place() {
        let refused = Refused::default();
        let known = || refused.known().collect::<Vec<_>>();
        assert_eq!(known(), []);
        refused.tell([(SendFile, Splice)]);
        assert_eq!(known(), [(SendFile, Splice)]);
        // Another worker has come further, or the same one later.
        refused.tell([(SendFile, Copy), (Splice, Copy)]);
        refused.tell([(SendFile, Splice)]);
        assert_eq!(known(), [(SendFile, Copy), (Splice, Copy)]);
        refused.tell([(ZeroCopy, NoticedZeroCopy)]);
        assert_eq!(known()[2..], [(ZeroCopy, NoticedZeroCopy)]);
        refused.tell([(ZeroCopy, Copy), (NoticedZeroCopy, Copy)]);
        assert_eq!(known()[2..], [(NoticedZeroCopy, Copy), (ZeroCopy, Copy)]);
    }
}
