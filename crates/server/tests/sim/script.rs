//! Scripts at random: which requests, cut where, read how, left when.

use crate::answers::Answers;
use crate::client::{End, Leave, Outcome, Pace, Piece, Script};
use crate::random::Random;
use crate::request::{Expected, Request};
use crate::site::{BODY_STALL_TIMEOUT, HEAD_DEADLINE, IDLE_TIMEOUT, Site};
use std::time::Duration;

/// All pauses of a script together: less than the time for which the server lingers after its last
/// answer, and than any of its deadlines.
const PAUSES: Duration = Duration::from_millis(1500);
/// How far off a deadline may seem: the server counts from where an answer begins to leave, the
/// client from where it has come, over a slow network.
const LATENESS: Duration = Duration::from_secs(2);

/// How a script ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With a request that is answered.
    Whole,
    /// In the middle of a head or a body, and with silence.
    SilentIn(Part),
    /// The same, and the client says that nothing more comes.
    ClosedIn(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    Body,
}

/// What a connection has to come to.
pub(crate) struct Verdict {
    /// Neither the client nor its network gives the server a reason to cut the connection.
    is_strict: bool,
    /// Reading a file may fail, also in the middle of an answer.
    files_fail: bool,
    /// Its client sees at once what comes, so it can tell how long something took.
    is_timed: bool,
    leave: Leave,
    ending: Ending,
}

/// What a world is like, for a client.
#[derive(Clone, Copy)]
pub(crate) struct Conditions {
    /// The file system fails at times.
    pub(crate) files_fail: bool,
    /// The network resets connections.
    pub(crate) network_resets: bool,
    /// After so many requests the server ends a connection; 0: never.
    pub(crate) requests_limit: usize,
}

pub(crate) fn write(site: &Site, conditions: Conditions, random: &mut Random) -> (Script, Verdict) {
    let mut requests: Vec<Request> = (0..1 + random.below(8))
        .map(|_| Request::ordinary(site, random))
        .collect();
    if random.one_in(3) {
        requests.push(Request::final_one(site, random));
    }
    if let Some(limit) = conditions.requests_limit.checked_sub(1)
        && let Some(request) = requests.get_mut(limit)
    {
        request.expected.is_last = true;
    }
    let is_over = requests.iter().any(|request| request.expected.is_last);
    let has_body = requests
        .last()
        .is_some_and(|request| request.body.len() > 1);
    let part = if has_body { Part::Body } else { Part::Head };
    let ending = match random.below(10) {
        _ if is_over => Ending::Whole,
        0 => Ending::SilentIn(part),
        1 => Ending::ClosedIn(part),
        _ => Ending::Whole,
    };
    let leave = match ending {
        Ending::SilentIn(_) => Leave::AfterServer,
        Ending::ClosedIn(_) => Leave::HalfClosed,
        Ending::Whole => match random.below(8) {
            0..3 => Leave::WhenDone,
            3 | 4 => Leave::HalfClosed,
            5 => Leave::AfterServer,
            _ => {
                let most = random.pick(&[1, 1_000, 100_000]);
                Leave::Vanish {
                    after: random.below(most),
                    by_reset: random.one_in(2),
                }
            }
        },
    };
    let pace = match random.below(6) {
        0 => Pace::Slow(Duration::from_millis(30)),
        1 => Pace::Stalls(random.below(20_000)),
        _ => Pace::Eager,
    };
    if matches!(pace, Pace::Stalls(_)) {
        // It wouldn't read that it may, until its body is too late.
        requests
            .iter_mut()
            .for_each(|request| request.waits_to_continue = false);
    }
    let pieces = cut(&requests, ending, random);
    let mut expected: Vec<Expected> = requests
        .into_iter()
        .map(|request| request.expected)
        .collect();
    if ending != Ending::Whole
        && let Some(last) = expected.last_mut()
    {
        let refused = Expected {
            asks_to_continue: last.asks_to_continue && part == Part::Body,
            is_head: last.is_head && part == Part::Body,
            is_cut: matches!(ending, Ending::ClosedIn(_)),
            may_fail: last.asks_to_continue && part == Part::Body,
            ..Expected::last(408)
        };
        *last = refused;
    }
    let is_strict = !conditions.network_resets
        && !matches!(leave, Leave::Vanish { .. })
        && !matches!(pace, Pace::Stalls(_));
    let answers = Answers::new(expected, conditions.files_fail);
    (
        Script {
            pieces,
            pace,
            leave,
            answers,
        },
        Verdict {
            is_strict,
            files_fail: conditions.files_fail,
            is_timed: pace == Pace::Eager,
            leave,
            ending,
        },
    )
}

fn cut(requests: &[Request], ending: Ending, random: &mut Random) -> Vec<Piece> {
    let is_sequential = random.one_in(3);
    let mut pieces = Vec::new();
    let mut continues = 0;
    let mut joined = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let is_end = index + 1 == requests.len();
        let (mut head, mut body) = (&*request.head, &*request.body);
        match ending {
            Ending::SilentIn(Part::Head) | Ending::ClosedIn(Part::Head) if is_end => {
                (head, body) = (&head[..1 + random.below(head.len() - 1)], &[]);
            }
            Ending::SilentIn(Part::Body) | Ending::ClosedIn(Part::Body) if is_end => {
                body = &body[..random.below(body.len())];
            }
            _ => {}
        }
        let answers = if is_sequential { index } else { 0 };
        joined.extend_from_slice(head);
        let waits = request.waits_to_continue && request.expected.asks_to_continue;
        if waits || is_sequential || random.one_in(2) || is_end {
            flush(
                &mut pieces,
                &mut joined,
                (answers, continues),
                index + 1,
                random,
            );
        }
        if waits {
            continues += 1;
        }
        joined.extend_from_slice(body);
        if is_sequential || waits || is_end {
            flush(
                &mut pieces,
                &mut joined,
                (answers, continues),
                index + 1,
                random,
            );
        }
    }
    pieces
}

/// Cuts what was joined into pieces.
fn flush(
    pieces: &mut Vec<Piece>,
    joined: &mut Vec<u8>,
    after: (usize, usize),
    begun: usize,
    random: &mut Random,
) {
    let mut left = PAUSES / 8;
    for bytes in random.cut(&std::mem::take(joined)) {
        let pause = if random.one_in(4) {
            random.duration(left)
        } else {
            Duration::ZERO
        };
        left -= pause;
        pieces.push(Piece {
            bytes,
            pause,
            after,
            begun,
        });
    }
}

impl Verdict {
    /// Judges what is known only at the end; the answers themselves were compared as they came.
    pub(crate) fn judge(&self, outcome: &Outcome) -> Result<(), String> {
        let Outcome {
            answers,
            end,
            silence,
            ..
        } = outcome;
        let fault = |what: &str| {
            let (count, is_cut) = (answers.count, answers.is_cut());
            Err(format!(
                "{what}: {end:?} after {count} answers and {silence:?} of silence, \
                 cut {is_cut}, script ends {:?}, leaves {:?}",
                self.ending, self.leave
            ))
        };
        if !self.is_strict {
            return Ok(());
        }
        if answers.is_cut() {
            return match self.files_fail {
                true => Ok(()),
                false => fault("an answer was cut"),
            };
        }
        if !answers.is_complete() {
            return fault("a request was never answered");
        }
        let silence_of = match (self.leave, self.ending) {
            (Leave::WhenDone, _) if !answers.is_over() => {
                return if *end == End::Left {
                    Ok(())
                } else {
                    fault("ended too early")
                };
            }
            (_, Ending::SilentIn(_)) => Duration::ZERO,
            (Leave::AfterServer, _) if !answers.is_over() => IDLE_TIMEOUT,
            _ => Duration::ZERO,
        };
        if *end != End::InOrder {
            return fault("no orderly end");
        }
        let wait = match self.ending {
            _ if answers.is_over_early() => Duration::ZERO,
            Ending::SilentIn(Part::Head) => HEAD_DEADLINE,
            Ending::SilentIn(Part::Body) => BODY_STALL_TIMEOUT,
            _ => Duration::ZERO,
        };
        let is_about = |time: Duration, expected: Duration| {
            time + LATENESS >= expected && time <= expected + LATENESS
        };
        let is_on_time = is_about(*silence, silence_of) && is_about(outcome.longest_wait, wait);
        if self.is_timed && !is_on_time {
            return fault(&format!("at the wrong time ({:?})", outcome.longest_wait));
        }
        Ok(())
    }
}
