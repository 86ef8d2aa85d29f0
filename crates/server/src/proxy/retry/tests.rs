//! Every case of a failed request, and the budget under any load.

use super::{Budget, Failed, Progress, Verdict, Why, is_idempotent, judge};
use proptest::prelude::*;
use std::time::{Duration, Instant};

#[test]
fn methods_are_idempotent_by_the_rfc() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(is_idempotent(method.as_bytes()));
        assert!(!is_idempotent(method.to_lowercase().as_bytes()));
    }
    for method in ["POST", "PATCH", "CONNECT", "LOCK", "GETS", ""] {
        assert!(!is_idempotent(method.as_bytes()));
    }
}

/// All cases there are, with room in the budget; what is expected is said once more in other words.
#[test]
fn nothing_is_done_twice() {
    use Progress::{Answering, NothingSent, Sent};
    let now = Instant::now();
    for progress in [NothingSent, Sent, Answering] {
        for bits in 0..8 {
            let [is_idempotent, has_body, is_reused] = [0, 1, 2].map(|bit| bits >> bit & 1 == 1);
            for (attempts, stale_before) in (1..5).flat_map(|one| [(one, 0), (one, 1)]) {
                let failed = Failed {
                    is_idempotent,
                    progress,
                    has_body,
                    is_reused,
                    attempts,
                    stale_before,
                };
                let verdict = judge(&failed, 2, &mut Budget::new(0, 1, now), now);
                let is_safe = progress == NothingSent || (progress == Sent && is_idempotent);
                let was_stale = is_reused && stale_before == 0;
                let may = is_safe && has_body && (was_stale || attempts <= 2);
                let is_no = matches!(verdict, Verdict::No(_));
                assert_eq!(is_no, !may, "{failed:?}: {verdict:?}");
                assert_eq!(verdict == Verdict::Again, may && was_stale, "{failed:?}");
            }
        }
    }
}

fn check(failed: Failed, retries: u32, budget: u32, expect: Verdict) {
    let now = Instant::now();
    let mut budget = Budget::new(0, budget, now);
    assert_eq!(judge(&failed, retries, &mut budget, now), expect);
}

#[test]
fn each_refusal_says_why() {
    let failed = Failed {
        is_idempotent: true,
        progress: Progress::Sent,
        has_body: true,
        is_reused: false,
        attempts: 1,
        stale_before: 0,
    };
    check(failed, 1, 1, Verdict::Elsewhere);
    check(failed, 0, 1, Verdict::No(Why::Attempts));
    check(failed, 1, 0, Verdict::No(Why::Budget));
    let post = Failed {
        is_idempotent: false,
        ..failed
    };
    check(post, 1, 1, Verdict::No(Why::NotIdempotent));
    let refused = Failed {
        progress: Progress::NothingSent,
        ..post
    };
    check(refused, 1, 1, Verdict::Elsewhere);
    let answering = Failed {
        progress: Progress::Answering,
        ..failed
    };
    check(answering, 1, 1, Verdict::No(Why::Answering));
    let gone = Failed {
        has_body: false,
        ..failed
    };
    check(gone, 1, 1, Verdict::No(Why::BodyGone));
    let stale = Failed {
        is_reused: true,
        ..failed
    };
    // It is nobody's fault, so it costs nothing.
    check(stale, 0, 0, Verdict::Again);
    let stale_again = Failed {
        stale_before: 1,
        ..stale
    };
    check(stale_again, 0, 0, Verdict::No(Why::Attempts));
}

#[test]
fn a_share_of_the_requests_may_be_retried() {
    let now = Instant::now();
    let mut budget = Budget::new(20, 0, now);
    assert!(!budget.spend(now), "nothing has come yet");
    (0..100).for_each(|_| budget.earn(now));
    let spent = (0..100).filter(|_| budget.spend(now)).count();
    assert_eq!(spent, 20);
    // They count for ten seconds, and so do the retries.
    let later = now + Duration::from_secs(9);
    assert!(!budget.spend(later));
    (0..10).for_each(|_| budget.earn(later));
    let spent = (0..100).filter(|_| budget.spend(later)).count();
    assert_eq!(spent, 2);
    let much_later = now + Duration::from_secs(10);
    assert!(!budget.spend(much_later), "2 of 10");
}

#[test]
fn a_few_are_always_allowed() {
    let now = Instant::now();
    let mut budget = Budget::new(20, 3, now);
    let spent = (0..100).filter(|_| budget.spend(now)).count();
    assert_eq!(spent, 30);
    let later = now + Duration::from_secs(3600);
    assert_eq!((0..100).filter(|_| budget.spend(later)).count(), 30);
    // A time that was before changes nothing.
    assert!(!budget.spend(now));
}

proptest! {
    /// In any ten seconds, whatever comes when: never more than the share and the few.
    #[test]
    fn there_is_never_a_storm(
        percent in 0_u32..=100,
        per_second in 0_u32..4,
        steps in prop::collection::vec((0_u64..4000, 0_usize..8, 0_usize..30), 1..80),
    ) {
        let begin = Instant::now();
        let mut budget = Budget::new(percent, per_second, begin);
        // By second: requests and retries.
        let mut counts: Vec<(u64, u64)> = Vec::new();
        let mut passed = 0;
        for (milliseconds, requests, wishes) in steps {
            passed += milliseconds;
            let now = begin + Duration::from_millis(passed);
            counts.resize(passed as usize / 1000 + 1, (0, 0));
            (0..requests).for_each(|_| budget.earn(now));
            let spent = (0..wishes).filter(|_| budget.spend(now)).count();
            let last = counts.last_mut().unwrap();
            last.0 += requests as u64;
            last.1 += spent as u64;
            let window = &counts[counts.len().saturating_sub(10)..];
            let requests: u64 = window.iter().map(|second| second.0).sum();
            let retries: u64 = window.iter().map(|second| second.1).sum();
            let most = requests * u64::from(percent) / 100 + 10 * u64::from(per_second);
            // Requests that have left the window may have paid for retries that are still in it.
            prop_assert!(spent == 0 || retries <= most);
            prop_assert!(spent == wishes || retries >= most, "refused with some left");
        }
    }
}
