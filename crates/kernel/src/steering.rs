//! Which listener of a group gets a connection: the one of the worker on whose CPU it came in.
//!
//! The kernel spreads connections over sockets of one port by a hash of their addresses. Two of its
//! mechanisms do better. With `SO_INCOMING_CPU` a listener names its CPU; the kernel has honoured
//! that for TCP up to 4.5 and again since 6.2 (commit b261eda84ec1, and some stable kernels before).
//! A classic BPF program on the group (`SO_ATTACH_REUSEPORT_CBPF`, 4.6) returns the place of a
//! listener in the group. When one of them closes, the last one takes the place that became free
//! (`__reuseport_detach_sock`), so whoever wants it to stay exact has to know in which order they
//! close: a [`ProgramGroup`] does. Which one works is found out by trying it, never by version.
//!
//! What isn't for any worker's CPU is spread by the hash, with all three. Nothing here moves a
//! connection that was accepted already.

use crate::cpu;
use crate::socket::{self, ListenOptions, ListenSocket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_incoming_cpu;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// CPUs that the self-test connects from: with more it would only take longer.
const TESTED_CPUS: usize = 4;
/// Connections from each of them. A hash over two listeners sends 16 to the right ones once in
/// 65,536 times.
const CONNECTIONS: usize = 8;
/// How long a connection over loopback may take.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// No program is longer (`BPF_MAXINSNS`, linux/bpf_common.h).
const MOST_INSTRUCTIONS: usize = 4096;

/// How connections find their listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Each listener names its CPU (`SO_INCOMING_CPU`).
    IncomingCpu,
    /// A classic BPF program chooses by the CPU.
    Program,
    /// A hash of the addresses.
    Hash,
}

impl Steering {
    /// The word for it in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Steering::IncomingCpu => "incoming-cpu",
            Steering::Program => "bpf",
            Steering::Hash => "hash",
        }
    }
}

/// How connections find their listener, and why that way; prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteeringChoice {
    /// The way.
    pub kind: Steering,
    /// Why, for people.
    pub reason: String,
}

impl SteeringChoice {
    /// The hash, for this reason.
    pub fn hash(reason: impl Into<String>) -> SteeringChoice {
        SteeringChoice {
            kind: Steering::Hash,
            reason: reason.into(),
        }
    }

    /// The best way that works here, by a self-test over loopback with threads on some of these
    /// CPUs; it takes some milliseconds.
    pub fn by_self_test(cpus: &[usize]) -> SteeringChoice {
        let mut refusals = Vec::new();
        for kind in [Steering::IncomingCpu, Steering::Program] {
            match try_out(kind, cpus) {
                Ok(()) => {
                    let passed = "the self-test passed".to_owned();
                    refusals.insert(0, passed);
                    let reason = refusals.join("; ");
                    return SteeringChoice { kind, reason };
                }
                Err(why) => refusals.push(format!("{}: {why}", kind.name())),
            }
        }
        SteeringChoice::hash(refusals.join("; "))
    }
}

impl fmt::Display for SteeringChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.name(), self.reason)
    }
}

impl ListenSocket {
    /// Steers connections to the listeners of a group, each for the CPU of the same index. The group
    /// is whole and in the order in which it was bound.
    ///
    /// # Errors
    /// As `setsockopt(2)`; `InvalidInput` for [`Steering::Program`] with more than some 2,000 CPUs.
    pub fn steer_group(group: &[&ListenSocket], cpus: &[usize], kind: Steering) -> io::Result<()> {
        match kind {
            Steering::Hash => Ok(()),
            Steering::IncomingCpu => std::iter::zip(group, cpus)
                .try_for_each(|(listener, &cpu)| listener.prefer_cpu(cpu)),
            Steering::Program => match group.first() {
                Some(listener) => listener.attach(&program(cpus)),
                None => Ok(()),
            },
        }
    }

    /// Names the CPU whose connections this listener is for.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn prefer_cpu(&self, cpu: usize) -> io::Result<()> {
        let cpu = u32::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(set_socket_incoming_cpu(self.as_fd(), cpu)?)
    }

    /// Takes the program off the group that this listener belongs to: the hash decides again.
    ///
    /// # Errors
    /// As `setsockopt(2)`: there is none, or the kernel is older than 5.3.
    pub fn detach_program(&self) -> io::Result<()> {
        let nothing = 0_i32;
        let size = size_of::<i32>() as libc::socklen_t;
        // SAFETY: `nothing` lives across the call and `size` is its size; the kernel only reads it.
        let result = unsafe {
            libc::setsockopt(
                self.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_DETACH_REUSEPORT_BPF,
                (&raw const nothing).cast(),
                size,
            )
        };
        result_of(result)
    }

    fn attach(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        if program.len() > MOST_INSTRUCTIONS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let program = libc::sock_fprog {
            len: program.len() as libc::c_ushort,
            filter: program.as_ptr().cast_mut(),
        };
        let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
        // SAFETY: `program` is a `sock_fprog` of that size, and `len` instructions lie at `filter`;
        // both live across the call, and the kernel copies them without writing.
        let result = unsafe {
            libc::setsockopt(
                self.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                (&raw const program).cast(),
                size,
            )
        };
        result_of(result)
    }
}

/// A group that a program steers, while its listeners come and go.
///
/// The program answers with places, and the place of a listener that goes is the last one's then. A
/// worker that fails lets go of its listener when its ring does, some time later, and of two that
/// fail at once nobody could say which went first. So each listener is held here, too, and taken out
/// from here ([`ProgramGroup::remove`]), whoever else has it open still.
///
/// Not for the end of a server: a listener that is held here goes on listening after its worker
/// closed it.
#[derive(Debug, Default)]
pub struct ProgramGroup {
    /// In the order of their places.
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    cpu: usize,
    listener: ListenSocket,
}

impl ProgramGroup {
    /// Steers a group, which is whole and in the order in which it was bound; each of its listeners is
    /// for the CPU of the same index, and no two are for the same.
    ///
    /// # Errors
    /// As [`ListenSocket::steer_group`], and when there are no descriptors left.
    pub fn new(group: &[ListenSocket], cpus: &[usize]) -> io::Result<ProgramGroup> {
        let mut steered = ProgramGroup::default();
        for (listener, &cpu) in std::iter::zip(group, cpus) {
            let listener = listener.try_clone()?;
            steered.members.push(Member { cpu, listener });
        }
        steered.renew()?;
        Ok(steered)
    }

    /// Takes the listener of this CPU out: it listens no more, and what waits in its queue is reset.
    /// The others stay exact.
    ///
    /// # Errors
    /// As `setsockopt(2)`: it is out, and the program may lead to wrong listeners.
    pub fn remove(&mut self, cpu: usize) -> io::Result<()> {
        let Some(place) = self.members.iter().position(|member| member.cpu == cpu) else {
            return Ok(());
        };
        let gone = self.members.swap_remove(place);
        // Of a listener it means to stop. Refused, it had stopped already.
        let _ = socket::shutdown(gone.listener.as_fd(), Shutdown::Both);
        self.renew()
    }

    /// Adds one that was bound beside the others, or first when none is left; before any other is.
    ///
    /// # Errors
    /// As [`ProgramGroup::new`]; it isn't held then.
    pub fn add(&mut self, listener: &ListenSocket, cpu: usize) -> io::Result<()> {
        let listener = listener.try_clone()?;
        self.members.push(Member { cpu, listener });
        let renewed = self.renew();
        if renewed.is_err() {
            self.members.pop();
        }
        renewed
    }

    fn renew(&self) -> io::Result<()> {
        let cpus: Vec<usize> = self.members.iter().map(|member| member.cpu).collect();
        match self.members.first() {
            Some(member) => member.listener.attach(&program(&cpus)),
            None => Ok(()),
        }
    }
}

fn result_of(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Compares the CPU with each of these in turn, and returns the place of the one that it is, or one
/// that doesn't exist.
fn program(cpus: &[usize]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, skip_unless: u8, value: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: skip_unless,
        k: value,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let answer = libc::BPF_RET | libc::BPF_K;
    let compare = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    // The kernel's own numbers lie beyond any packet.
    let cpu_number = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let mut program = vec![instruction(load, 0, cpu_number)];
    for (place, &cpu) in cpus.iter().enumerate() {
        program.push(instruction(compare, 1, cpu as u32));
        program.push(instruction(answer, 0, place as u32));
    }
    program.push(instruction(answer, 0, u32::MAX));
    program
}

/// Connects from some of the CPUs, and looks which listener each connection arrives at.
fn try_out(kind: Steering, cpus: &[usize]) -> Result<(), String> {
    let step = cpus.len().div_ceil(TESTED_CPUS).max(1);
    let cpus: Vec<usize> = cpus.iter().copied().step_by(step).collect();
    let explain = |what: &str, error: io::Error| format!("{what}: {error}");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let group = ListenSocket::bind_group(any, cpus.len(), &ListenOptions::default())
        .map_err(|error| explain("listening on loopback", error))?;
    let listeners: Vec<&ListenSocket> = group.iter().collect();
    ListenSocket::steer_group(&listeners, &cpus, kind)
        .map_err(|error| explain("setsockopt", error))?;
    let address = group.first().map_or(Ok(any), ListenSocket::local_address);
    let address = address.map_err(|error| explain("getsockname", error))?;
    let attempt = |(place, &cpu): (usize, &usize)| {
        // A thread of its own, so that this one stays where it is.
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| connect_from(cpu, address, &group, place));
            connecting
                .join()
                .unwrap_or_else(|_| Err("the self-test panicked".to_owned()))
        })
    };
    cpus.iter().enumerate().try_for_each(attempt)
}

/// Connects from one CPU; each connection has to arrive at the listener with index `place`.
fn connect_from(
    cpu: usize,
    address: SocketAddr,
    group: &[ListenSocket],
    place: usize,
) -> Result<(), String> {
    cpu::pin_current_thread(cpu).map_err(|error| format!("CPU {cpu}: {error}"))?;
    for _ in 0..CONNECTIONS {
        let connected = TcpStream::connect(address);
        let _client = connected.map_err(|error| format!("connecting over loopback: {error}"))?;
        let mut arrivals: Vec<PollFd<'_>> = group
            .iter()
            .map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN))
            .collect();
        poll(&mut arrivals, Some(&PATIENCE)).map_err(|error| format!("poll: {error}"))?;
        let arrived = arrivals.iter().position(|one| !one.revents().is_empty());
        if arrived != Some(place) {
            return Err("connections don't arrive at the listener of their CPU".to_owned());
        }
        let accepted = rustix::net::accept(group[place].as_fd());
        accepted.map_err(|error| format!("accept: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_cpus(test: &str) -> Option<Vec<usize>> {
        let cpus = cpu::allowed().unwrap();
        if cpus.len() < 2 {
            println!("SKIP {test}: one CPU alone is allowed");
            return None;
        }
        Some(cpus)
    }

    #[test]
    fn both_mechanisms_lead_to_the_listener_of_the_cpu() {
        let Some(cpus) = two_cpus("both_mechanisms_lead_to_the_listener_of_the_cpu") else {
            return;
        };
        // The program works wherever the tests run; the option not before 6.2.
        assert_eq!(try_out(Steering::Program, &cpus), Ok(()));
        let choice = SteeringChoice::by_self_test(&cpus);
        assert_ne!(choice.kind, Steering::Hash, "{choice}");
    }

    /// What the self-test is worth: without steering, and with the wrong one, it fails.
    #[test]
    fn the_self_test_tells_a_hash_from_steering() {
        let Some(cpus) = two_cpus("the_self_test_tells_a_hash_from_steering") else {
            return;
        };
        let why = "connections don't arrive at the listener of their CPU".to_owned();
        assert_eq!(try_out(Steering::Hash, &cpus), Err(why.clone()));
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let group = ListenSocket::bind_group(any, 2, &ListenOptions::default()).unwrap();
        group[0].attach(&program(&[cpus[1], cpus[0]])).unwrap();
        let address = group[0].local_address().unwrap();
        let connecting = std::thread::spawn(move || connect_from(cpus[0], address, &group, 0));
        assert_eq!(connecting.join().unwrap(), Err(why));
    }

    #[test]
    fn a_program_can_be_taken_off_again() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let group = ListenSocket::bind_group(any, 2, &ListenOptions::default()).unwrap();
        assert!(group[1].detach_program().is_err(), "there is none");
        group[0].attach(&program(&[0, 1])).unwrap();
        group[1].detach_program().unwrap();
    }

    /// Connections from a CPU arrive at the listener that is for it, and at none of the others.
    #[track_caller]
    fn check_arrival(live: &[(usize, ListenSocket)], cpu: usize) {
        let place = live.iter().position(|one| one.0 == cpu).unwrap();
        let group: Vec<ListenSocket> = live.iter().map(|one| one.1.try_clone().unwrap()).collect();
        let address = group[0].local_address().unwrap();
        let arrived = std::thread::scope(|scope| {
            let connecting = scope.spawn(|| connect_from(cpu, address, &group, place));
            connecting.join().unwrap()
        });
        assert_eq!(arrived, Ok(()), "CPU {cpu}");
    }

    /// Whichever of four goes and comes again, while it is open elsewhere still: connections of the
    /// CPUs that are left find their listeners, and those of the new one find that.
    #[test]
    fn a_program_goes_on_when_listeners_go_and_come() {
        let Some(cpus) = two_cpus("a_program_goes_on_when_listeners_go_and_come") else {
            return;
        };
        let (first, second) = (cpus[0], cpus[1]);
        // The other two are for CPUs that don't exist.
        for (order, gone) in [
            ([first, 9000, second, 9001], first),
            ([9000, first, 9001, second], first),
            ([first, second, 9000, 9001], second),
            ([9000, 9001, second, first], first),
        ] {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let options = ListenOptions::default();
            let group = ListenSocket::bind_group(any, 4, &options).unwrap();
            let address = group[0].local_address().unwrap();
            let mut steered = ProgramGroup::new(&group, &order).unwrap();
            let mut live: Vec<(usize, ListenSocket)> = order.into_iter().zip(group).collect();
            let left = if gone == first { second } else { first };
            // What went is open still, as with a ring that has yet to let go of it.
            let mut open = Vec::new();
            for cpu in [gone, 9001] {
                steered.remove(cpu).unwrap();
                let place = live.iter().position(|one| one.0 == cpu).unwrap();
                open.push(live.remove(place));
                check_arrival(&live, left);
            }
            for cpu in [9001, gone] {
                let again = ListenSocket::bind_sibling(address, &options).unwrap();
                steered.add(&again, cpu).unwrap();
                live.push((cpu, again));
                check_arrival(&live, left);
            }
            drop(open);
            check_arrival(&live, left);
            check_arrival(&live, gone);
        }
    }

    #[test]
    fn a_program_begins_again_when_all_listeners_went() {
        let Some(cpus) = two_cpus("a_program_begins_again_when_all_listeners_went") else {
            return;
        };
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = ListenOptions::default();
        let group = ListenSocket::bind_group(any, 2, &options).unwrap();
        let address = group[0].local_address().unwrap();
        let mut steered = ProgramGroup::new(&group, &cpus[..2]).unwrap();
        for &cpu in &cpus[..2] {
            steered.remove(cpu).unwrap();
            // Once more is nothing more.
            steered.remove(cpu).unwrap();
        }
        drop(group);
        // The other way round.
        let later = ListenSocket::bind_first(address, &options).unwrap();
        steered.add(&later, cpus[1]).unwrap();
        let mut live = vec![(cpus[1], later)];
        check_arrival(&live, cpus[1]);
        let last = ListenSocket::bind_sibling(address, &options).unwrap();
        steered.add(&last, cpus[0]).unwrap();
        live.push((cpus[0], last));
        check_arrival(&live, cpus[0]);
        check_arrival(&live, cpus[1]);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_told() {
        let choice = SteeringChoice::by_self_test(&[0, 9000]);
        assert_eq!(choice.kind, Steering::Hash);
        assert!(choice.reason.contains("CPU 9000: "), "{choice}");
    }

    #[test]
    fn more_cpus_than_a_program_can_compare_are_refused() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let group = ListenSocket::bind_group(any, 2, &ListenOptions::default()).unwrap();
        let cpus: Vec<usize> = (0..2048).collect();
        let refused = group[0].attach(&program(&cpus)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        group[0].attach(&program(&cpus[..1024])).unwrap();
    }
}
