//! Single cases of waiting: what has to be sent before a wait, and what a wait may not cut short.

use crate::machine::Machine;
use crate::site::{BODY_STALL_TIMEOUT, CACHED_BYTES, IDLE_TIMEOUT, MODIFIED, Site};
use ringway_runtime::{SimOptions, SocketOptions, TcpStream, now, sleep, timeout};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

const SOON: Duration = Duration::from_secs(1);

/// Runs a client of a calm machine to its end.
fn run<F: Future<Output = ()> + 'static>(
    options: SimOptions,
    client: impl FnOnce(TcpStream, Vec<u8>) -> F + 'static,
) {
    let site = Site::new();
    // Its client has room for 512 bytes.
    let sizes = [(256, 4096), (64, 64)];
    let mut machine = Machine::new((0, options), (&site.config("", ""), 1), sizes);
    let body = site.page("/small-5.txt").bytes.clone();
    assert_eq!(body.len(), CACHED_BYTES);
    let is_done = Rc::new(Cell::new(false));
    let (address, done) = (machine.address, Rc::clone(&is_done));
    drop(machine.clients[0].spawn(async move {
        let stream = TcpStream::connect(address, &SocketOptions::default())
            .await
            .unwrap();
        client(stream, body).await;
        done.set(true);
    }));
    let ended = Rc::clone(&is_done);
    machine.run(Duration::from_secs(3_600), move || ended.get());
    assert!(is_done.get(), "see above");
    machine.expect_rest();
}

/// Receives until `end` has come.
async fn receive_through(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut received = Vec::new();
    while !received.ends_with(end) {
        received.extend_from_slice(&stream.receive().await.unwrap().expect("an early end"));
    }
    received
}

async fn receive_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    while let Some(buffer) = stream.receive().await.unwrap() {
        received.extend_from_slice(&buffer);
    }
    received
}

#[test]
fn an_answer_does_not_wait_for_the_next_request_s_body() {
    run(SimOptions::calm(), |mut stream, body| async move {
        let requests = b"GET /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n\
            HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1";
        stream.send(requests.as_slice()).await.unwrap();
        let answer = timeout(SOON, receive_through(&mut stream, &body)).await;
        assert!(
            answer
                .expect("the answer is kept back")
                .starts_with(b"HTTP/1.1 200 ")
        );
    });
}

#[test]
fn being_told_to_continue_does_not_wait_for_earlier_answers() {
    run(SimOptions::calm(), |mut stream, _| async move {
        let requests = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n\
            HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        stream.send(requests.as_slice()).await.unwrap();
        let told = b"HTTP/1.1 100 Continue\r\n\r\n";
        let received = timeout(SOON, receive_through(&mut stream, told)).await;
        assert!(
            received
                .expect("it isn't told")
                .starts_with(b"HTTP/1.1 200 ")
        );
    });
}

#[test]
fn a_body_that_ends_with_what_is_at_hand_is_over() {
    for body in [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        run(SimOptions::calm(), move |mut stream, _| async move {
            let request = format!("HEAD / HTTP/1.1\r\nHost: a\r\n{body}");
            stream.send(request.into_bytes()).await.unwrap();
            let answer = timeout(SOON, receive_through(&mut stream, b"\r\n\r\n")).await;
            assert!(
                answer
                    .expect("it waits for more")
                    .starts_with(b"HTTP/1.1 200 ")
            );
        });
    }
}

/// A world in which a cached answer doesn't fit what is buffered between the two.
fn narrow() -> SimOptions {
    let mut options = SimOptions::calm();
    options.socket_buffer_bytes = 512..=512;
    options
}

#[test]
fn what_was_asked_before_half_a_request_is_answered_in_full() {
    let halves = [
        "GET / HT",
        "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n123",
    ];
    for half in halves {
        run(narrow(), move |mut stream, body| async move {
            let requests = format!("GET /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n{half}");
            stream.send(requests.into_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.shutdown_write().unwrap();
            let answer = receive_to_end(&mut stream).await;
            assert!(answer.ends_with(&body), "cut after {} bytes", answer.len());
        });
    }
}

#[test]
fn whoever_reads_slowly_gets_it_all() {
    run(narrow(), |mut stream, body| async move {
        let begin = now();
        let request = b"GET /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.send(request.as_slice()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(&body) {
            sleep(Duration::from_millis(1_250)).await;
            let received = stream.receive().await.unwrap();
            let (time, count) = (now() - begin, answer.len());
            let received =
                received.unwrap_or_else(|| panic!("cut after {time:?} and {count} bytes"));
            answer.extend_from_slice(&received);
        }
        assert!(now() - begin > 2 * IDLE_TIMEOUT, "this was not slow");
        assert_eq!(receive_to_end(&mut stream).await, b"");
    });
}

#[test]
fn whoever_stops_reading_is_cut() {
    run(narrow(), |mut stream, body| async move {
        let request = b"GET /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.send(request.as_slice()).await.unwrap();
        sleep(2 * IDLE_TIMEOUT).await;
        let mut received = 0;
        while let Ok(Some(buffer)) = stream.receive().await {
            received += buffer.len();
        }
        assert!(received > 0 && received < body.len(), "{received} bytes");
    });
}

#[test]
fn a_body_is_not_late_while_earlier_answers_are_not_taken() {
    run(narrow(), |mut stream, body| async move {
        let request = b"GET /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.send(request.as_slice()).await.unwrap();
        sleep(SOON).await;
        // The second answer has to wait for the first, which doesn't fit.
        let half = b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1";
        let more = [request.as_slice(), half].concat();
        stream.send(more).await.unwrap();
        sleep(BODY_STALL_TIMEOUT - 5 * SOON).await;
        let mut answers = receive_through(&mut stream, &body).await;
        // Unless the end of the first came together with the second.
        if answers.len() < 2 * body.len() {
            answers.extend(receive_through(&mut stream, &body).await);
        }
        sleep(10 * SOON).await;
        stream.send(b"2345".as_slice()).await.unwrap();
        let answer = receive_through(&mut stream, b"\r\n\r\n").await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

#[test]
fn head_with_a_body_that_is_refused_gets_no_content() {
    run(SimOptions::calm(), |mut stream, _| async move {
        let request = b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
        stream.send(request.as_slice()).await.unwrap();
        let answer = receive_to_end(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 413 ") && answer.ends_with(b"\r\n\r\n"));
    });
}

#[test]
fn a_worker_that_is_dropped_long_after_its_last_turn_leaves_nothing() {
    let site = Site::new();
    let sizes = [(256, 4096); 2];
    let options = SimOptions::calm();
    let mut machine = Machine::new((0, options), (&site.config("", ""), 2), sizes);
    machine.run(SOON, || false);
    machine.world.advance(machine.world.now() + IDLE_TIMEOUT);
    machine.servers.clear();
    assert_eq!(machine.world.open_descriptors(), []);
    assert_eq!(machine.world.operations_in_flight(), 0);
}

#[test]
fn dates_follow_the_wall_clock_and_deadlines_do_not() {
    let site = Site::new();
    let options = (0, SimOptions::calm());
    let mut machine = Machine::new(options, (&site.config("", ""), 1), [(256, 4096); 2]);
    let world = machine.world.clone();
    let is_done = Rc::new(Cell::new(false));
    let (address, done) = (machine.address, Rc::clone(&is_done));
    drop(machine.clients[0].spawn(async move {
        let options = SocketOptions::default();
        let mut stream = TcpStream::connect(address, &options).await.unwrap();
        for _ in 0..2 {
            // Back by many years, the second time by a minute.
            world.set_wall_clock(UNIX_EPOCH + Duration::from_secs(MODIFIED.1));
            sleep(IDLE_TIMEOUT - 15 * SOON).await;
            let request = b"HEAD /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.send(request.as_slice()).await.unwrap();
            let answer = receive_through(&mut stream, b"\r\n\r\n").await;
            let answer = String::from_utf8(answer).unwrap();
            // A minute after that time.
            let date = "\r\nDate: Tue, 14 Nov 2023 22:14:20 GMT\r\n";
            assert!(answer.contains(date), "{answer}");
        }
        done.set(true);
    }));
    let ended = Rc::clone(&is_done);
    assert!(machine.run(4 * IDLE_TIMEOUT, move || ended.get()));
    machine.expect_rest();
}

/// What came behind a request's body, in the same buffer, may wait as long as the answer takes.
#[test]
fn a_download_keeps_no_buffer_behind_a_body() {
    let site = Site::new();
    let sizes = [(256, 4096), (64, 64)];
    let mut machine = Machine::new((0, narrow()), (&site.config("", ""), 1), sizes);
    let (is_waiting, is_done) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (waiting, done) = (Rc::clone(&is_waiting), Rc::clone(&is_done));
    let address = machine.address;
    drop(machine.clients[0].spawn(async move {
        let options = SocketOptions::default();
        let mut stream = TcpStream::connect(address, &options).await.unwrap();
        let begun = b"GET /large-2.bin HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1";
        stream.send(begun.as_slice()).await.unwrap();
        sleep(SOON).await;
        let rest = b"2345HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.send(rest.as_slice()).await.unwrap();
        sleep(SOON).await;
        waiting.set(true);
        sleep(SOON).await;
        let answers = receive_to_end(&mut stream).await;
        assert!(answers.len() > 70_000 && answers.ends_with(b"\r\n\r\n"));
        done.set(true);
    }));
    let flag = Rc::clone(&is_waiting);
    assert!(machine.run(10 * SOON, move || flag.get()));
    assert_eq!(machine.servers[0].free_buffer_count(), 256);
    let flag = Rc::clone(&is_done);
    assert!(machine.run(60 * SOON, move || flag.get()));
    machine.expect_rest();
}

/// How often something is opened when so many clients ask for the same file at once.
fn opened_for(count: usize) -> usize {
    let site = Site::new();
    let sizes = [(256, 4096), (64, 4096)];
    let calm = SimOptions::calm();
    let mut machine = Machine::new((0, calm), (&site.config("", ""), 1), sizes);
    machine.world.record_trace();
    let body = Rc::new(site.page("/small-5.txt").bytes.clone());
    let (address, answered) = (machine.address, Rc::new(Cell::new(0)));
    for _ in 0..count {
        let (body, answered) = (Rc::clone(&body), Rc::clone(&answered));
        drop(machine.clients[0].spawn(async move {
            let options = SocketOptions::default();
            let mut stream = TcpStream::connect(address, &options).await.unwrap();
            let request = b"GET /small-5.txt HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.send(request.as_slice()).await.unwrap();
            let answer = receive_through(&mut stream, &body).await;
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
            answered.set(answered.get() + 1);
        }));
    }
    assert!(machine.run(60 * SOON, move || answered.get() == count));
    let is_opened = |line: &&String| line.contains(" Open ") && line.contains("delivers");
    let opened = machine.world.trace().iter().filter(is_opened).count();
    machine.expect_rest();
    opened
}

/// A crowd that asks for a file before it is kept has it looked up once.
#[test]
fn misses_of_one_file_are_one_look() {
    let alone = opened_for(1);
    assert!(alone > 0, "a file is opened to be looked at");
    assert_eq!(opened_for(8), alone);
}
