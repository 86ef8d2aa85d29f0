//! Between threads: mailboxes, and work that waits.

use crate::harness::{Case, complete, settle, within, yield_often};
use ringway_runtime::{BlockingError, BlockingPool, Runtime, mailbox, spawn, spawn_blocking};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

on_both_drivers! {
    letters_arrive_in_order,
    two_workers_play_ping_pong,
    a_full_mailbox_gives_the_letter_back,
    a_mailbox_without_senders_ends,
    blocking_work_has_a_result,
    a_full_pool_refuses,
    blocking_work_that_panics_is_an_error,
    blocking_work_goes_on_without_its_future,
}

const LETTERS: u32 = 20_000;

fn letters_arrive_in_order(case: &Case) {
    const SENDERS: u32 = 3;
    let mut runtime = case.runtime();
    let (sender, mut receiver) = mailbox::<(u32, u32)>(64);
    let senders: Vec<_> = (0..SENDERS)
        .map(|who| {
            let sender = sender.clone();
            thread::spawn(move || {
                for number in 0..LETTERS / SENDERS {
                    let mut letter = (who, number);
                    while let Err(back) = sender.send(letter) {
                        letter = back;
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    drop(sender);
    complete(&mut runtime, async move {
        let mut next = [0; SENDERS as usize];
        while let Some((who, number)) = receiver.receive().await {
            assert_eq!(next[who as usize], number);
            next[who as usize] += 1;
        }
        assert_eq!(next, [LETTERS / SENDERS; SENDERS as usize]);
    });
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    settle(&mut runtime, 256);
}

fn two_workers_play_ping_pong(case: &Case) {
    let (to_them, mut from_us) = mailbox::<u32>(1);
    let (to_us, mut from_them) = mailbox::<u32>(1);
    let other = case.on_worker(move || async move {
        while let Some(number) = from_us.receive().await {
            to_us.send(number + 1).unwrap();
        }
    });
    let mut runtime = case.runtime();
    complete(&mut runtime, async move {
        for number in 0..2000 {
            to_them.send(number).unwrap();
            assert_eq!(from_them.receive().await, Some(number + 1));
        }
        drop(to_them);
        assert_eq!(from_them.receive().await, None);
    });
    other.join().unwrap();
    settle(&mut runtime, 256);
}

fn a_full_mailbox_gives_the_letter_back(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (sender, mut receiver) = mailbox(2);
        assert_eq!((sender.send("a"), sender.send("b")), (Ok(()), Ok(())));
        assert_eq!(sender.send("c"), Err("c"));
        assert_eq!(receiver.receive().await, Some("a"));
        assert_eq!(sender.send("d"), Ok(()));
        drop(sender);
        assert_eq!(receiver.receive().await, Some("b"));
        assert_eq!(receiver.receive().await, Some("d"));
        assert_eq!(receiver.receive().await, None);
    });
    settle(&mut runtime, 256);
}

fn a_mailbox_without_senders_ends(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (sender, mut receiver) = mailbox::<u8>(1);
        let waiting = spawn(async move { receiver.receive().await });
        yield_often().await;
        let clone = sender.clone();
        drop(sender);
        yield_often().await;
        thread::spawn(move || drop(clone)).join().unwrap();
        assert_eq!(within(waiting).await, Ok(None));
        let (sender, receiver) = mailbox::<u8>(1);
        drop(receiver);
        assert_eq!(sender.send(1), Ok(()), "into the void");
    });
    settle(&mut runtime, 256);
}

fn blocking_work_has_a_result(case: &Case) {
    let mut runtime = case.runtime();
    let worker = thread::current().id();
    complete(&mut runtime, async move {
        let tasks: Vec<_> = (0..100u64)
            .map(|number| spawn(spawn_blocking(move || (number * 2, thread::current().id()))))
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            let (result, thread) = task.await.unwrap().unwrap();
            assert_eq!(result, number as u64 * 2);
            assert_ne!(thread, worker);
        }
    });
    settle(&mut runtime, 256);
}

fn a_full_pool_refuses(case: &Case) {
    let mut options = case.options();
    options.blocking = BlockingPool::new(1, 1);
    let mut runtime = Runtime::new(&options).unwrap();
    complete(&mut runtime, async {
        let (started, mut has_started) = mailbox(1);
        let (release, gate) = mpsc::channel::<()>();
        let first = spawn(spawn_blocking(move || {
            started.send(()).unwrap();
            gate.recv().unwrap();
            1
        }));
        has_started.receive().await;
        let second = spawn(spawn_blocking(|| 2));
        yield_often().await;
        assert_eq!(spawn_blocking(|| 3).await, Err(BlockingError::Full));
        release.send(()).unwrap();
        assert_eq!((first.await, second.await), (Ok(Ok(1)), Ok(Ok(2))));
        assert_eq!(spawn_blocking(|| 4).await, Ok(4));
    });
    settle(&mut runtime, 256);
}

fn blocking_work_that_panics_is_an_error(case: &Case) {
    let mut options = case.options();
    options.blocking = BlockingPool::new(1, 8);
    let mut runtime = Runtime::new(&options).unwrap();
    complete(&mut runtime, async {
        for number in 0..10 {
            let failed = spawn_blocking(|| std::panic::resume_unwind(Box::new("injected")));
            assert_eq!(failed.await, Err::<(), _>(BlockingError::Panicked));
            // The one thread that there may be is lost, and comes again.
            assert_eq!(spawn_blocking(move || number).await, Ok(number));
        }
    });
    settle(&mut runtime, 256);
}

fn blocking_work_goes_on_without_its_future(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let is_done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_done);
        let (release, gate) = mpsc::channel::<()>();
        let task = spawn(spawn_blocking(move || {
            gate.recv().unwrap();
            flag.store(true, Ordering::Release);
        }));
        yield_often().await;
        task.cancel();
        yield_often().await;
        release.send(()).unwrap();
        while !is_done.load(Ordering::Acquire) {
            yield_often().await;
        }
    });
    settle(&mut runtime, 256);
}
