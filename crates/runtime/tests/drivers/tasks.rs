//! Rules 5 and 7: tasks stay on their thread, whoever wakes them; a panic ends one of them; the
//! end of a worker ends all of them, in order.

use crate::harness::{
    Case, PATIENCE, complete, give_up, pair_with_std, settle, yield_now, yield_often,
};
use ringway_runtime::{JoinError, Runtime, sleep, spawn, spawn_blocking};
use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

on_both_drivers! {
    results_come_back,
    a_cancelled_task_is_dropped,
    a_dropped_handle_lets_its_task_go_on,
    a_panic_ends_its_task_alone,
    a_panic_ends_its_task_s_connection,
    a_waker_wakes_a_sleeping_worker,
    no_wake_up_from_other_threads_is_lost,
    wakers_outlive_their_worker,
    wakers_race_with_the_end_of_their_worker,
    a_destructor_that_panics_ends_the_process,
    a_destructor_may_use_the_reactor_and_spawn,
    a_displaced_waker_may_use_the_worker,
    workers_nest_on_one_thread,
}

/// Counts when it is dropped.
struct Guard(Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn injected_panic() -> ! {
    // Without the hook's message.
    resume_unwind(Box::new("injected"))
}

fn results_come_back(case: &Case) {
    let mut runtime = case.runtime();
    let early = runtime.spawn(async { 1 });
    let sum = complete(&mut runtime, async move {
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                spawn(async move {
                    for _ in 0..number % 7 {
                        yield_now().await;
                    }
                    number
                })
            })
            .collect();
        let mut sum = early.await.unwrap();
        for task in tasks {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 1 + 99 * 100 / 2);
    settle(&mut runtime, 256);
}

fn a_cancelled_task_is_dropped(case: &Case) {
    let mut runtime = case.runtime();
    let dropped = Rc::new(Cell::new(0));
    let counter = Rc::clone(&dropped);
    complete(&mut runtime, async move {
        for turns in 0..4 {
            let guard = Guard(Rc::clone(&counter));
            let task = spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
            for _ in 0..turns {
                yield_now().await;
            }
            task.cancel();
            yield_often().await;
            assert_eq!(counter.get(), turns + 1);
        }
        let done = spawn(async {});
        yield_often().await;
        done.cancel();
    });
    assert_eq!(dropped.get(), 4);
    settle(&mut runtime, 256);
}

fn a_dropped_handle_lets_its_task_go_on(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let done = Rc::new(Cell::new(false));
        let flag = Rc::clone(&done);
        drop(spawn(async move {
            yield_now().await;
            flag.set(true);
        }));
        while !done.get() {
            yield_now().await;
        }
    });
}

fn a_panic_ends_its_task_alone(case: &Case) {
    let mut runtime = case.runtime();
    let dropped = Rc::new(Cell::new(0));
    let counter = Rc::clone(&dropped);
    complete(&mut runtime, async move {
        let guard = Guard(Rc::clone(&counter));
        let first = spawn(async move {
            let _guard = guard;
            yield_now().await;
            injected_panic();
        });
        let neighbour = spawn(async {
            yield_often().await;
            7
        });
        assert_eq!(first.await, Err::<(), _>(JoinError));
        assert_eq!(counter.get(), 1, "its future was dropped");
        assert_eq!(neighbour.await, Ok(7));
    });
    assert_eq!(runtime.panic_count(), 1);
    settle(&mut runtime, 256);
}

fn a_panic_ends_its_task_s_connection(case: &Case) {
    let mut runtime = case.runtime();
    complete(&mut runtime, async {
        let (mut stream, mut peer) = pair_with_std().await;
        spawn(async move {
            stream.send(b"last words".as_slice()).await.unwrap();
            stream.flush().await.unwrap();
            injected_panic();
        });
        let heard = spawn_blocking(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).map(|_| all)
        });
        assert_eq!(heard.await.unwrap().unwrap(), b"last words");
    });
    assert_eq!(runtime.panic_count(), 1);
    settle(&mut runtime, 256);
}

/// Ready when `flag` is set; leaves its waker in `place` before it waits.
async fn flagged(flag: Arc<AtomicBool>, place: mpsc::Sender<Waker>) {
    poll_fn(move |context| {
        if flag.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        place.send(context.waker().clone()).unwrap();
        Poll::Pending
    })
    .await;
}

/// Waits until a thread of this process sleeps in the kernel.
fn wait_until_asleep(thread: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
        let (_, state) = stat.rsplit_once(") ").unwrap();
        if state.starts_with('S') {
            return;
        }
        assert!(Instant::now() < deadline, "the worker never sleeps");
        thread::yield_now();
    }
}

fn a_waker_wakes_a_sleeping_worker(case: &Case) {
    let mut runtime = case.runtime();
    let worker = std::fs::read_link("/proc/thread-self").unwrap();
    let worker = worker.to_str().unwrap().to_owned();
    for _ in 0..20 {
        let flag = Arc::new(AtomicBool::new(false));
        let (place, wakers) = mpsc::channel::<Waker>();
        let (setter, worker) = (Arc::clone(&flag), worker.clone());
        let other = thread::spawn(move || {
            let waker = wakers.recv().unwrap();
            wait_until_asleep(&worker);
            setter.store(true, Ordering::Release);
            waker.wake();
        });
        let started = Instant::now();
        complete(&mut runtime, flagged(flag, place));
        // The bound's own timer would wake it too.
        assert!(started.elapsed() < PATIENCE / 2, "the wake-up was lost");
        other.join().unwrap();
    }
}

fn no_wake_up_from_other_threads_is_lost(case: &Case) {
    const THREADS: u64 = 3;
    const WAKES: u64 = 3000;
    let mut runtime = case.runtime();
    let count = Arc::new(AtomicU64::new(0));
    let (place, wakers) = mpsc::channel::<Waker>();
    let counted = Arc::clone(&count);
    let tasks = complete(&mut runtime, async move {
        let waiting = spawn(poll_fn(move |context| {
            // Every one of them is posted again, so a lost wake-up is a hang.
            if counted.load(Ordering::Acquire) == THREADS * WAKES {
                return Poll::Ready(());
            }
            let _ = place.send(context.waker().clone());
            Poll::Pending
        }));
        let waker = loop {
            yield_now().await;
            if let Ok(waker) = wakers.try_recv() {
                break waker;
            }
        };
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (waker, count) = (waker.clone(), Arc::clone(&count));
                thread::spawn(move || {
                    for _ in 0..WAKES {
                        let clone = waker.clone();
                        count.fetch_add(1, Ordering::AcqRel);
                        clone.wake();
                    }
                })
            })
            .collect();
        drop(waker);
        waiting.await.unwrap();
        threads
    });
    for task in tasks {
        task.join().unwrap();
    }
    settle(&mut runtime, 256);
}

fn wakers_outlive_their_worker(case: &Case) {
    let dropped = Rc::new(Cell::new(0));
    let mut runtime = case.runtime();
    let guard = Guard(Rc::clone(&dropped));
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let place = Rc::clone(&wakers);
    let handle = runtime.spawn(async move {
        let _guard = guard;
        poll_fn(|context| {
            place
                .borrow_mut()
                .extend((0..8).map(|_| context.waker().clone()));
            Poll::<()>::Pending
        })
        .await;
    });
    complete(&mut runtime, yield_often());
    let wakers = wakers.take();
    assert_eq!(wakers.len(), 8);
    drop(runtime);
    assert_eq!(dropped.get(), 1, "the task was dropped here");
    let other = thread::spawn(move || {
        for (number, waker) in wakers.into_iter().enumerate() {
            match number % 3 {
                0 => waker.wake(),
                1 => waker.wake_by_ref(),
                _ => drop(waker),
            }
        }
    });
    other.join().unwrap();
    handle.cancel();
}

/// A task may be neither polled nor dropped by the thread that wakes it, not even while its worker
/// is being torn down: async-task would panic there.
fn wakers_race_with_the_end_of_their_worker(case: &Case) {
    for _ in 0..300 {
        let mut runtime = case.runtime_with_buffers(4);
        let dropped = Rc::new(Cell::new(0));
        let (place, wakers) = mpsc::channel::<Waker>();
        for _ in 0..8 {
            let (guard, place) = (Guard(Rc::clone(&dropped)), place.clone());
            runtime.spawn(async move {
                let _guard = guard;
                flagged(Arc::default(), place).await;
            });
        }
        drop(place);
        runtime.turn(Some(Duration::ZERO)).unwrap();
        let wakers: Vec<Waker> = wakers.try_iter().collect();
        assert_eq!(wakers.len(), 8);
        let (ready, is_ready) = mpsc::channel();
        let other = thread::spawn(move || {
            ready.send(()).unwrap();
            wakers.into_iter().for_each(Waker::wake);
        });
        is_ready.recv().unwrap();
        drop(runtime);
        assert_eq!(dropped.get(), 8);
        other.join().expect("a task was dropped on another thread");
    }
}

/// Rule 7: there is no going on from it, so the process ends instead of running on in doubt.
fn a_destructor_that_panics_ends_the_process(case: &Case) {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            injected_panic();
        }
    }
    let status = case.alone_until_it_ends(|| {
        let mut runtime = case.runtime();
        runtime.spawn(async {
            let _panics = Panics;
            pending::<()>().await;
        });
        complete(&mut runtime, yield_often());
        drop(runtime);
    });
    const SIGABRT: i32 = 6;
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
}

fn a_destructor_may_use_the_reactor_and_spawn(case: &Case) {
    struct LastWords {
        stream: ringway_runtime::TcpStream,
        dropped: Rc<Cell<u32>>,
    }
    impl Drop for LastWords {
        fn drop(&mut self) {
            self.stream.send_now(b"bye", false).unwrap();
            let guard = Guard(Rc::clone(&self.dropped));
            spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            });
        }
    }
    let mut runtime = case.runtime();
    let dropped = Rc::new(Cell::new(0));
    let counter = Rc::clone(&dropped);
    let mut peer = complete(&mut runtime, async move {
        let (stream, peer) = pair_with_std().await;
        let last = LastWords {
            stream,
            dropped: counter,
        };
        spawn(async move {
            let mut last = last;
            let _ = last.stream.receive().await;
        });
        yield_often().await;
        peer
    });
    drop(runtime);
    assert_eq!(dropped.get(), 1, "what a destructor spawns is dropped too");
    let mut heard = Vec::new();
    peer.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"bye");
}

/// A waker that sleeps, in a manner of speaking, when its last clone is dropped.
struct Sleepy(Arc<AtomicU64>);

impl Wake for Sleepy {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Sleepy {
    fn drop(&mut self) {
        drop(sleep(Duration::from_secs(1)));
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn a_displaced_waker_may_use_the_worker(case: &Case) {
    let mut runtime = case.runtime();
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    complete(&mut runtime, async move {
        let (mut stream, _peer) = pair_with_std().await;
        let mut receive = pin!(stream.receive());
        let mut timer = pin!(sleep(Duration::from_secs(3600)));
        for _ in 0..2 {
            let waker = Waker::from(Arc::new(Sleepy(Arc::clone(&counter))));
            let mut context = Context::from_waker(&waker);
            assert!(receive.as_mut().poll(&mut context).is_pending());
            drop(waker);
            assert!(give_up(1, receive.as_mut()).await.is_none());

            let waker = Waker::from(Arc::new(Sleepy(Arc::clone(&counter))));
            let mut context = Context::from_waker(&waker);
            assert!(timer.as_mut().poll(&mut context).is_pending());
            drop(waker);
            assert!(give_up(1, timer.as_mut()).await.is_none());
        }
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 4);
    assert_eq!(runtime.panic_count(), 0);
    settle(&mut runtime, 256);
}

fn workers_nest_on_one_thread(case: &Case) {
    let mut outer = case.runtime();
    let mut inner: Runtime = case.runtime();
    let done = Rc::new(Cell::new(0));
    let (ours, theirs) = (Rc::clone(&done), Rc::clone(&done));
    let sum = complete(&mut outer, async move {
        let task = spawn(async move { ours.set(ours.get() + 1) });
        // Its turn ends, and ours goes on.
        let theirs = inner.block_on(async move {
            spawn(async move { theirs.set(theirs.get() + 10) })
                .await
                .unwrap();
            100
        });
        drop(inner);
        task.await.unwrap();
        theirs.unwrap()
    });
    assert_eq!((sum, done.get()), (100, 11));
    settle(&mut outer, 256);
}
