//! Credentials as clients send them, and the gate with a pool whose threads are held.

use super::*;
use crate::config::Config;
use ringway_http::head::{HeadLimits, HeadScan, parse_head};
use ringway_runtime::{Runtime, RuntimeOptions, spawn};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Instant;

const SECRET: &str = "$argon2id$v=19$m=32,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg\
                      $UbwNcvhR/pppSRNYTpRcuOs8cr2s6f69+GyF1Cbq50Q";

#[track_caller]
fn check_credentials(value: &str, expect: Option<(&str, &[u8])>) {
    let credentials = Credentials::parse(value.as_bytes());
    let found = credentials.as_ref();
    assert_eq!(
        found.map(|found| (&*found.user, &*found.password)),
        expect,
        "{value:?}"
    );
}

#[test]
fn credentials() {
    // RFC 7617 §2 and §2.1.
    let aladdin = Some(("Aladdin", &b"open sesame"[..]));
    check_credentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", aladdin);
    check_credentials("bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ== ", aladdin);
    check_credentials("Basic dGVzdDoxMjPCow==", Some(("test", "123£".as_bytes())));
    // The first colon ends the name; either may be empty.
    check_credentials("Basic YTpiOmM=", Some(("a", b"b:c")));
    check_credentials("Basic Og==", Some(("", b"")));
    for malformed in [
        "",
        "Basic",
        "Basic ",
        "BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ= =",
        "Basic !!!!",
        // No colon; a name that isn't UTF-8.
        "Basic YWJj",
        "Basic /zph",
    ] {
        check_credentials(malformed, None);
    }
    assert!(Credentials::parse(b"Basic \xff\xff\xff\xff").is_none());
}

#[test]
fn the_realm_is_quoted() {
    let text = "[files.site]\nroot = \"/usr\"\nrealm = 'a \"b\" \\c'\nusers = \"a:";
    let config = Config::from_toml(&format!("{text}{SECRET}\"\n")).unwrap();
    assert_eq!(
        challenge(&config.roots[0]),
        (*b"Basic realm=\"a \\\"b\\\" \\\\c\", charset=\"UTF-8\"").into()
    );
}

/// The users alice and bob, whose password is "secret"; `lines` are more of their table.
fn passwords(lines: &str, pool: &BlockingPool, remembered: usize) -> Arc<Passwords> {
    let text = format!(
        "[listen.main]\naddress = \"127.0.0.1:0\"\n[files.site]\nroot = \"/usr\"\n\
         users = [\"alice:{SECRET}\", \"bob:{SECRET}\"]\n{lines}"
    );
    let config = Config::from_toml(&text).unwrap();
    Passwords::open(&config.roots[0], remembered, pool)
        .unwrap()
        .unwrap()
}

/// What a gate makes of these credentials at once.
fn look(gate: &Gate, credentials: &str, now: Instant) -> Sight {
    let value = Base64::encode_string(credentials.as_bytes());
    look_at(
        gate,
        &format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {value}\r\n\r\n"),
        now,
    )
}

fn look_at(gate: &Gate, head: &str, now: Instant) -> Sight {
    let mut scan = HeadScan::default();
    let parsed = parse_head(head.as_bytes(), &mut scan, &HeadLimits::default());
    gate.look(&parsed.unwrap().unwrap().0, now)
}

fn is_known(gate: &Gate, credentials: &str, now: Instant) -> bool {
    matches!(
        look(gate, credentials, now),
        Sight::Decided(Verdict::Admitted(Some(_)))
    )
}

async fn verify(gate: &Gate, credentials: &str) -> Verdict {
    match look(gate, credentials, ringway_runtime::now()) {
        Sight::Unknown(check) => gate.verify(&check).await,
        Sight::Decided(verdict) => verdict,
    }
}

fn run<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    let mut runtime = Runtime::new(&RuntimeOptions::default()).unwrap();
    runtime.block_on(work).unwrap()
}

fn known(user: &str) -> Verdict {
    Verdict::Admitted(Some(Rc::from(user)))
}

#[test]
fn what_was_right_is_remembered_for_a_while() {
    let pool = BlockingPool::new(1, 4);
    let gate = Gate::new(passwords("password_cache = \"5s\"\n", &pool, 2));
    run(async move {
        let now = ringway_runtime::now();
        assert!(!is_known(&gate, "alice:secret", now));
        assert_eq!(verify(&gate, "alice:secret").await, known("alice"));
        let now = ringway_runtime::now();
        assert!(is_known(&gate, "alice:secret", now));
        assert!(!is_known(&gate, "alice:Secret", now) && !is_known(&gate, "bob:secret", now));
        assert!(!is_known(
            &gate,
            "alice:secret",
            now + Duration::from_secs(5)
        ));
        for wrong in ["alice:Secret", "carol:secret", ":", "alice:"] {
            assert_eq!(verify(&gate, wrong).await, Verdict::Refused, "{wrong}");
            assert!(!is_known(&gate, wrong, now), "{wrong}");
        }
    });
}

#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let pool = BlockingPool::new(1, 4);
    let gate = Gate::new(passwords("", &pool, 1));
    run(async move {
        assert_eq!(verify(&gate, "alice:secret").await, known("alice"));
        assert_eq!(verify(&gate, "bob:secret").await, known("bob"));
        let now = ringway_runtime::now();
        assert!(!is_known(&gate, "alice:secret", now) && is_known(&gate, "bob:secret", now));
    });
}

#[test]
fn options_are_for_everybody_and_nothing_else_is() {
    let pool = BlockingPool::new(1, 4);
    let gate = Gate::new(passwords("", &pool, 1));
    let now = Instant::now();
    let options = look_at(&gate, "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", now);
    assert!(matches!(options, Sight::Decided(Verdict::Admitted(None))));
    for method in ["GET", "HEAD", "POST", "BREW"] {
        let sight = look_at(
            &gate,
            &format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            now,
        );
        assert!(
            matches!(sight, Sight::Decided(Verdict::Refused)),
            "{method}"
        );
    }
}

/// Keeps the pool's only thread busy until it is sent something.
fn hold(pool: &BlockingPool) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    pool.submit(move || {
        begin.send(()).unwrap();
        held.recv().unwrap();
    })
    .unwrap();
    begun.recv().unwrap();
    release
}

/// While the pool's only thread is held, many ask with the same password and take one place of
/// the queue; those with others fill it, and one more is refused.
#[test]
fn a_flood_has_a_bound_and_the_same_password_is_checked_once() {
    let pool = BlockingPool::new(1, 3);
    let release = hold(&pool);
    let gate = Rc::new(Gate::new(passwords("", &pool, 8)));
    run(async move {
        let ask = |credentials: &'static str| {
            let gate = Rc::clone(&gate);
            spawn(async move { verify(&gate, credentials).await })
        };
        let same: Vec<_> = (0..20).map(|_| ask("alice:secret")).collect();
        let wrong: Vec<_> = ["x:1", "x:2"].into_iter().map(ask).collect();
        let beyond = ask("bob:secret");
        assert_eq!(beyond.await.unwrap(), Verdict::Busy);
        release.send(()).unwrap();
        for task in same {
            assert_eq!(task.await.unwrap(), known("alice"));
        }
        for task in wrong {
            assert_eq!(task.await.unwrap(), Verdict::Refused);
        }
        assert_eq!(verify(&gate, "bob:secret").await, known("bob"));
    });
}

/// A worker that has never seen the user has all it needs, while the pool and its queue are full.
#[test]
fn who_was_let_in_by_one_worker_is_known_to_the_others_in_a_flood() {
    let pool = BlockingPool::new(1, 2);
    let passwords = passwords("", &pool, 8);
    let gates = [(); 3].map(|()| Gate::new(Arc::clone(&passwords)));
    run(async move {
        assert_eq!(verify(&gates[0], "alice:secret").await, known("alice"));
        assert_eq!(verify(&gates[0], "x:1").await, Verdict::Refused);
        let release = hold(&pool);
        while pool.submit(|| {}).is_ok() {}
        assert_eq!(verify(&gates[1], "bob:secret").await, Verdict::Busy);
        for gate in &gates {
            assert_eq!(verify(gate, "alice:secret").await, known("alice"));
            let later = ringway_runtime::now() + Duration::from_secs(60);
            assert!(!is_known(gate, "alice:secret", later), "no longer");
        }
        assert_eq!(verify(&gates[2], "alice:Secret").await, Verdict::Busy);
        release.send(()).unwrap();
    });
}

/// A worker that nobody asks keeps the news of those who came last.
#[test]
fn news_that_nobody_reads_has_a_bound() {
    let pool = BlockingPool::new(1, 4);
    let passwords = passwords("", &pool, 1);
    let gates = [(); 2].map(|()| Gate::new(Arc::clone(&passwords)));
    run(async move {
        for user in ["alice", "bob"] {
            let credentials = format!("{user}:secret");
            assert_eq!(verify(&gates[0], &credentials).await, known(user));
        }
        let now = ringway_runtime::now();
        assert!(!is_known(&gates[1], "alice:secret", now));
        assert!(is_known(&gates[1], "bob:secret", now));
    });
}

/// The one whose check others wait for goes away: the others have their own.
#[test]
fn who_waits_for_another_is_not_left_waiting() {
    let pool = BlockingPool::new(1, 4);
    let (release, held) = mpsc::channel::<()>();
    pool.submit(move || held.recv().unwrap()).unwrap();
    let gate = Rc::new(Gate::new(passwords("", &pool, 8)));
    run(async move {
        let ask = || {
            let gate = Rc::clone(&gate);
            spawn(async move { verify(&gate, "alice:secret").await })
        };
        let (first, second) = (ask(), ask());
        ringway_runtime::sleep(Duration::ZERO).await;
        first.cancel();
        ringway_runtime::sleep(Duration::ZERO).await;
        release.send(()).unwrap();
        assert_eq!(second.await.unwrap(), known("alice"));
    });
}

#[test]
fn a_changed_password_file_forgets_who_was_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users");
    std::fs::write(&path, format!("carol:{SECRET}\n")).unwrap();
    let pool = BlockingPool::new(1, 4);
    let line = format!("users_file = {path:?}\n");
    let gate = Gate::new(passwords(&line, &pool, 8));
    run(async move {
        assert_eq!(verify(&gate, "carol:secret").await, known("carol"));
        assert!(is_known(&gate, "carol:secret", ringway_runtime::now()));
        let new = folder.path().join("new");
        std::fs::write(&new, format!("dave:{SECRET}\n")).unwrap();
        std::fs::rename(&new, &path).unwrap();
        // Anybody's check finds the new file.
        assert_eq!(verify(&gate, "dave:secret").await, known("dave"));
        assert!(!is_known(&gate, "carol:secret", ringway_runtime::now()));
        assert_eq!(verify(&gate, "carol:secret").await, Verdict::Refused);
        assert_eq!(verify(&gate, "alice:secret").await, known("alice"));
    });
}
