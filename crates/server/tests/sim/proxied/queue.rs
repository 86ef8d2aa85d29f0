//! A crowd that waits for one connection to a server: as many as may wait are answered, and whoever
//! comes then is turned away at once.

use super::cuts::plain;
use super::plan::{Act, Plan};
use super::visitor::{self, Got};
use super::{config, servers};
use crate::machine::Machine;
use crate::random::Random;
use ringway_runtime::{ListenOptions, SimOptions, TcpListener, sleep, spawn};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// How many may wait, in both workers together.
const QUEUE: usize = 10_000;
/// How many come beyond that, and one that doesn't wait.
const SURPLUS: usize = 100;
/// By when all of them have asked, in a calm world.
const PAUSE: Duration = Duration::from_secs(2);

/// A server that lets its first request wait until everybody is in line. How many connections it has
/// had at once shows that the bound holds.
async fn serve(answer: Vec<u8>, most: Rc<Cell<usize>>) {
    let listener = TcpListener::bind(servers(1)[0], &ListenOptions::default()).unwrap();
    let open = Rc::<Cell<usize>>::default();
    let mut pause = PAUSE;
    loop {
        let mut stream = listener.accept().await.unwrap();
        let (answer, open, most) = (answer.clone(), Rc::clone(&open), Rc::clone(&most));
        let pause = std::mem::take(&mut pause);
        drop(spawn(async move {
            open.set(open.get() + 1);
            most.set(most.get().max(open.get()));
            let mut pause = Some(pause);
            while let Ok(Some(_)) = stream.receive().await {
                // Plain requests come in one piece.
                sleep(pause.take().unwrap_or_default()).await;
                if stream.send(answer.clone()).await.is_err() {
                    break;
                }
            }
            open.set(open.get() - 1);
        }));
    }
}

#[test]
fn ten_thousand_wait_and_are_answered() {
    let keys = format!("max_connections = 1\nqueue = {QUEUE}\nqueue_timeout = \"1h\"");
    let config = config(&servers(1), &keys);
    let options = (0, SimOptions::calm());
    let mut machine = Machine::new(options, (&config, 2), [(256, 4096); 2]);
    let plan = Plan::new(1, Act::Sized, 40);
    let (most, ended) = (
        Rc::<Cell<usize>>::default(),
        Rc::<RefCell<Vec<Got>>>::default(),
    );
    let serving = serve(plan.answer(), Rc::clone(&most));
    drop(machine.clients[1].spawn(serving));
    let (address, count) = (machine.address, 1 + QUEUE + SURPLUS);
    for number in 0..count {
        let (plan, ended) = (plan.clone(), Rc::clone(&ended));
        drop(machine.clients[number % 2].spawn(async move {
            let visit = plain(plan);
            let visited = visitor::visit(address, &visit, Random::new(number as u64)).await;
            ended.borrow_mut().push(visited.unwrap().got[0]);
        }));
    }
    let is_done = machine.run(Duration::from_secs(1_000), || ended.borrow().len() == count);
    let ended = ended.take();
    assert!(is_done, "{} of {count} have an answer", ended.len());
    // Who is turned away doesn't wait for those who do.
    assert_eq!(ended[..SURPLUS], [Got::Own(503); SURPLUS]);
    assert_eq!(ended[SURPLUS..], [Got::Whole(200); 1 + QUEUE]);
    assert_eq!(most.get(), 1, "connections to the server at once");
    machine.expect_rest();
}
