//! What a worker has learnt: which ways are refused here, and where zero-copy sends are copied.

use super::{TransferMethod, TransferThresholds};
use ringway_kernel::DriverKind;
use ringway_kernel::errno::{ENOSYS, EOPNOTSUPP, EPERM};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Copied sends in a row, on one address, after which zero-copy isn't tried there for a while.
const COPIED_LIMIT: u32 = 3;

/// How long that is: routes and devices change.
const COPIED_PAUSE: Duration = Duration::from_secs(600);

/// Local addresses that are remembered.
const ADDRESSES_LIMIT: usize = 64;

/// What one worker has learnt from its transfers.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    /// A bit for each method that was refused for good.
    refused: Cell<u16>,
    /// By local address, which stands for the interface below.
    addresses: RefCell<BTreeMap<IpAddr, Address>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Address {
    copied_in_a_row: u32,
    paused_until: Option<Instant>,
}

impl Experience {
    /// Whether a method was refused on this worker.
    pub(crate) fn is_refused(&self, method: TransferMethod) -> bool {
        self.refused.get() & bit(method) != 0
    }

    /// The methods that were refused, each with what takes its place.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (TransferMethod, TransferMethod)> {
        TransferMethod::ALL
            .into_iter()
            .filter(|method| self.is_refused(*method))
            .map(|method| (method, self.allowed(method)))
    }

    /// Remembers a refusal, if `error` is one: a call that doesn't exist, or that a seccomp profile
    /// forbids, won't be there later.
    pub(crate) fn note_refusal(&self, method: TransferMethod, error: &io::Error) -> bool {
        // SEND_ZC came in Linux 6.0, its report in 6.2.
        let is_too_old =
            method == TransferMethod::ZeroCopy && error.kind() == io::ErrorKind::InvalidInput;
        let is_refusal = is_refusal(error) || is_too_old;
        if is_refusal {
            self.refused.set(self.refused.get() | bit(method));
        }
        is_refusal
    }

    /// Learns from a zero-copy send what the interface of `local` is worth.
    pub(crate) fn note_release(&self, local: IpAddr, was_copied: bool, now: Instant) {
        let mut addresses = self.addresses.borrow_mut();
        if addresses.len() >= ADDRESSES_LIMIT && !addresses.contains_key(&local) {
            addresses.pop_first();
        }
        let address = addresses.entry(local).or_default();
        if !was_copied {
            *address = Address::default();
            return;
        }
        address.copied_in_a_row += 1;
        if address.copied_in_a_row >= COPIED_LIMIT {
            *address = Address {
                // One more copied send, when the pause is over, begins the next.
                copied_in_a_row: COPIED_LIMIT - 1,
                paused_until: Some(now + COPIED_PAUSE),
            };
        }
    }

    /// How bytes in memory go between two addresses.
    pub(crate) fn choose_for_bytes(
        &self,
        count: u64,
        thresholds: &TransferThresholds,
        driver: DriverKind,
        (local, peer): (IpAddr, IpAddr),
        now: Instant,
    ) -> TransferMethod {
        let is_local = local == peer || peer.to_canonical().is_loopback();
        let is_worth_it = count >= thresholds.zero_copy_min_bytes && !is_local;
        let addresses = self.addresses.borrow();
        let paused_until = addresses.get(&local).and_then(|it| it.paused_until);
        if !is_worth_it || paused_until.is_some_and(|until| now < until) {
            return TransferMethod::Gathered;
        }
        let ways = match driver {
            DriverKind::Epoll => &[TransferMethod::NoticedZeroCopy][..],
            _ => &[TransferMethod::ZeroCopy, TransferMethod::NoticedZeroCopy],
        };
        let allowed = ways.iter().find(|method| !self.is_refused(**method));
        allowed.copied().unwrap_or(TransferMethod::Gathered)
    }

    /// How a range of a file goes when nobody has asked for a way.
    pub(crate) fn choose_for_file(
        &self,
        count: u64,
        thresholds: &TransferThresholds,
    ) -> TransferMethod {
        if count <= thresholds.copy_max_bytes {
            return TransferMethod::Copy;
        }
        self.allowed(TransferMethod::SendFile)
    }

    /// `method`, or what takes its place where it is refused.
    pub(crate) fn allowed(&self, method: TransferMethod) -> TransferMethod {
        let mut method = method;
        while self.is_refused(method) {
            method = match method {
                TransferMethod::SendFile => TransferMethod::Splice,
                TransferMethod::ZeroCopy => TransferMethod::NoticedZeroCopy,
                _ => return TransferMethod::Copy,
            };
        }
        method
    }
}

fn bit(method: TransferMethod) -> u16 {
    1 << method as u16
}

/// The call itself isn't to be had: no such call, or one that a filter answers.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EPERM | ENOSYS | EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_kernel::errno::EPIPE;

    const ELSEWHERE: (&str, &str) = ("192.0.2.1", "198.51.100.7");

    fn choose(
        experience: &Experience,
        driver: DriverKind,
        (local, peer): (&str, &str),
        now: Instant,
    ) -> TransferMethod {
        let addresses = (local.parse().unwrap(), peer.parse().unwrap());
        let thresholds = TransferThresholds::default();
        experience.choose_for_bytes(1 << 20, &thresholds, driver, addresses, now)
    }

    #[test]
    fn the_loopback_is_never_tried() {
        let (experience, now) = (Experience::default(), Instant::now());
        for addresses in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
            ("192.0.2.1", "192.0.2.1"),
        ] {
            let method = choose(&experience, DriverKind::Uring, addresses, now);
            assert_eq!(method, TransferMethod::Gathered, "{addresses:?}");
        }
        let method = choose(&experience, DriverKind::Uring, ELSEWHERE, now);
        assert_eq!(method, TransferMethod::ZeroCopy);
        let method = choose(&experience, DriverKind::Epoll, ELSEWHERE, now);
        assert_eq!(method, TransferMethod::NoticedZeroCopy);
    }

    #[test]
    fn three_copied_sends_in_a_row_end_it_for_ten_minutes() {
        let (experience, start) = (Experience::default(), Instant::now());
        let local = ELSEWHERE.0.parse().unwrap();
        let method = |now| choose(&experience, DriverKind::Uring, ELSEWHERE, now);
        for was_copied in [true, true, false, true, true] {
            experience.note_release(local, was_copied, start);
            assert_eq!(method(start), TransferMethod::ZeroCopy);
        }
        experience.note_release(local, true, start);
        assert_eq!(method(start), TransferMethod::Gathered);
        let later = start + Duration::from_secs(600);
        assert_eq!(method(later), TransferMethod::ZeroCopy);
        experience.note_release(local, true, later);
        assert_eq!(method(later), TransferMethod::Gathered);
    }

    #[test]
    fn what_is_refused_is_replaced_for_good() {
        let experience = Experience::default();
        let refused = io::Error::from_raw_os_error(EPERM);
        let thresholds = TransferThresholds::default();
        let method = || experience.choose_for_file(1 << 20, &thresholds);
        assert_eq!(method(), TransferMethod::SendFile);
        let broken = io::Error::from_raw_os_error(EPIPE);
        assert!(!experience.note_refusal(TransferMethod::SendFile, &broken));
        assert_eq!(method(), TransferMethod::SendFile);
        assert!(experience.note_refusal(TransferMethod::SendFile, &refused));
        assert_eq!(method(), TransferMethod::Splice);
        let known: Vec<_> = experience.refusals().collect();
        assert_eq!(known, [(TransferMethod::SendFile, TransferMethod::Splice)]);
        assert!(experience.note_refusal(TransferMethod::Splice, &refused));
        assert_eq!(method(), TransferMethod::Copy);
        let known: Vec<_> = experience.refusals().collect();
        let copied = [TransferMethod::SendFile, TransferMethod::Splice];
        assert_eq!(known, copied.map(|method| (method, TransferMethod::Copy)));
    }

    #[test]
    fn small_files_are_read_and_sent() {
        let experience = Experience::default();
        let thresholds = TransferThresholds {
            copy_max_bytes: 1000,
            ..TransferThresholds::default()
        };
        for (count, expect) in [
            (1, TransferMethod::Copy),
            (1000, TransferMethod::Copy),
            (1001, TransferMethod::SendFile),
        ] {
            assert_eq!(experience.choose_for_file(count, &thresholds), expect);
        }
    }
}
