//! Time: sleeps, timeouts, and the deadlines of streams.

use crate::harness::{
    Case, complete, give_up, pair, pair_with_std, receive_exactly, settle, yield_now, yield_often,
};
use ringway_runtime::{Elapsed, now, sleep, spawn, spawn_blocking, timeout};
use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::time::Duration;

on_both_drivers! {
    sleeps_end_in_order_and_not_early,
    a_timeout_ends_what_lasts_and_nothing_else,
    a_deadline_ends_each_kind_of_wait,
    a_deadline_can_be_moved_later_many_times,
    a_stream_can_be_used_after_its_deadline,
    a_far_timer_does_not_delay_a_near_one,
    waits_beyond_every_clock_are_as_good_as_for_ever,
}

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

fn sleeps_end_in_order_and_not_early(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = [70, 10, 130, 1, 65, 40, 0, 20]
            .map(|milliseconds| {
                let order = Rc::clone(&order);
                spawn(async move {
                    let started = now();
                    let duration = Duration::from_millis(milliseconds);
                    sleep(duration).await;
                    assert!(now() - started >= duration);
                    order.borrow_mut().push(milliseconds);
                })
            })
            .into();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, 1, 10, 20, 40, 65, 70, 130]);
    });
    settle(&mut runtime, 256);
}

fn a_timeout_ends_what_lasts_and_nothing_else(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        assert_eq!(timeout(LONG, ready(1)).await, Ok(1));
        assert_eq!(
            timeout(Duration::ZERO, ready(2)).await,
            Ok(2),
            "done is done"
        );
        assert_eq!(timeout(SHORT, pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
        assert_eq!(
            timeout(LONG, timeout(SHORT, pending::<()>())).await,
            Ok(Err(Elapsed))
        );
        assert_eq!(
            timeout(SHORT, timeout(LONG, pending::<()>())).await,
            Err(Elapsed)
        );
    });
    settle(&mut runtime, 256);
}

fn a_deadline_ends_each_kind_of_wait(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, _peer) = pair().await;
        let late = |result: std::io::Result<()>| result.unwrap_err().kind();
        stream.set_deadline(Some(now() + SHORT));
        let received = stream.receive().await.map(drop);
        assert_eq!(late(received), ErrorKind::TimedOut);
        // It has passed: the next wait ends at once.
        assert_eq!(late(stream.receive().await.map(drop)), ErrorKind::TimedOut);
        loop {
            while stream.send_now(&[1; 65536], false).is_ok() {}
            stream.set_deadline(Some(now() + SHORT));
            match stream.writable().await {
                // The kernel has moved some of it over to the peer's side: there is room again.
                Ok(()) => {}
                waited => break assert_eq!(late(waited), ErrorKind::TimedOut),
            }
        }
        stream.set_deadline(Some(now() + SHORT));
        // More than the kernel takes while nobody reads.
        stream.send(vec![2; 64 << 20]).await.unwrap();
        assert_eq!(late(stream.flush().await), ErrorKind::TimedOut);
        stream.set_deadline(Some(now() + SHORT));
        let began = now();
        assert_eq!(late(stream.send(vec![3; 1000]).await), ErrorKind::TimedOut);
        assert!(now() - began >= SHORT);
    });
    settle(&mut runtime, 256);
}

/// As a server does for every request of a connection.
fn a_deadline_can_be_moved_later_many_times(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, mut peer) = pair().await;
        let began = now();
        let mut last = began;
        for round in 0..300u32 {
            last = now() + SHORT + Duration::from_millis(u64::from(round % 30));
            stream.set_deadline(Some(last));
            peer.send(b"?".as_slice()).await.unwrap();
            // Waits, so that the timer is set each time.
            assert_eq!(receive_exactly(&mut stream, 1).await, b"?");
            if round % 16 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let late = stream.receive().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert!(now() >= last, "the first deadlines were given up");
        stream.set_deadline(None);
        peer.send(b"!".as_slice()).await.unwrap();
        assert_eq!(receive_exactly(&mut stream, 1).await, b"!");
        // Nearer than the one before.
        stream.set_deadline(Some(now() + LONG));
        assert!(timeout(SHORT, stream.receive()).await.is_err());
        stream.set_deadline(Some(now() + SHORT));
        assert_eq!(
            stream.receive().await.unwrap_err().kind(),
            ErrorKind::TimedOut
        );
    });
    settle(&mut runtime, 256);
}

fn a_stream_can_be_used_after_its_deadline(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, mut peer) = pair_with_std().await;
        for _ in 0..3 {
            stream.set_deadline(Some(now() + Duration::from_millis(5)));
            assert_eq!(
                stream.receive().await.unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            stream.set_deadline(None);
            peer.write_all(b"late").unwrap();
            assert_eq!(receive_exactly(&mut stream, 4).await, b"late");
        }
        // Bytes that are there come before a deadline that has passed.
        peer.write_all(b"there").unwrap();
        yield_often().await;
        stream.set_deadline(Some(now()));
        yield_now().await;
        let there = timeout(Duration::from_secs(30), async {
            loop {
                match stream.receive().await {
                    Ok(buffer) => return buffer.unwrap().to_vec(),
                    Err(_) => yield_now().await,
                }
            }
        });
        assert_eq!(there.await.unwrap(), b"there");
    });
    settle(&mut runtime, 256);
}

/// The worker's wait is cut to the nearest timer, whichever was set first.
fn a_far_timer_does_not_delay_a_near_one(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let far = spawn(sleep(LONG));
        yield_often().await;
        for _ in 0..10 {
            sleep(Duration::from_millis(3)).await;
        }
        far.cancel();
        yield_often().await;
        sleep(SHORT).await;
    });
    settle(&mut runtime, 256);
}

fn waits_beyond_every_clock_are_as_good_as_for_ever(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        assert!(give_up(3, sleep(Duration::MAX)).await.is_none());
        assert_eq!(timeout(Duration::MAX, ready(1)).await, Ok(1));
    });
    settle(&mut runtime, 256);
    let done = Rc::new(Cell::new(false));
    let flag = Rc::clone(&done);
    runtime.spawn(async move {
        spawn_blocking(|| ()).await.unwrap();
        flag.set(true);
    });
    while !done.get() {
        runtime.turn(Some(Duration::MAX)).unwrap();
    }
}
