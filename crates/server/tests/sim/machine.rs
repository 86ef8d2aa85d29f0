//! A simulated machine: one world, its workers, and the clock, which moves when all are idle.

use crate::random::Random;
use ringway_runtime::{Runtime, RuntimeOptions, SimDescriptor, SimOptions, SimWorld};
use ringway_server::Served;
use ringway_server::config::Config;
use ringway_server::extensions::Extensions;
use ringway_server::stats::{Counter, Snapshot, WorkerStats};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Turns after which a run counts as a hang; a long one takes a hundredth.
const TURNS: usize = 20_000_000;

pub(crate) struct Machine {
    pub(crate) world: SimWorld,
    /// What the order of turns is drawn from.
    random: Random,
    pub(crate) servers: Vec<Runtime>,
    pub(crate) clients: Vec<Runtime>,
    pub(crate) address: SocketAddr,
    /// What each server counts.
    stats: Vec<Arc<WorkerStats>>,
    buffers: u16,
    /// Of each worker, whatever happens: one for each server of an upstream, whose idle connections
    /// it ends.
    timers: usize,
}

impl Machine {
    /// A machine with servers and client workers, which have receive buffers of these counts and
    /// sizes.
    pub(crate) fn new(
        (seed, options): (u64, SimOptions),
        (config, server_count): (&Config, usize),
        [server_buffers, client_buffers]: [(u16, usize); 2],
    ) -> Machine {
        let world = SimWorld::with_options(seed, options);
        let runtime = |(receive_buffers, receive_buffer_bytes)| {
            let options = RuntimeOptions {
                receive_buffers,
                receive_buffer_bytes,
                ..RuntimeOptions::default()
            };
            Runtime::simulated(&world, &options)
        };
        let servers: Vec<Runtime> = (0..server_count).map(|_| runtime(server_buffers)).collect();
        let served = Extensions::new().serve_on_each(&servers, config.clone());
        let served: Vec<Served> = served.unwrap();
        Machine {
            clients: (0..2).map(|_| runtime(client_buffers)).collect(),
            random: Random::new(!seed),
            buffers: server_buffers.0,
            timers: config
                .upstreams
                .iter()
                .map(|upstream| upstream.servers.len())
                .sum(),
            world,
            servers,
            address: served[0].address,
            stats: served.into_iter().map(|served| served.stats).collect(),
        }
    }

    /// Gives turns and moves the clock until `is_done`, or until nothing can happen before `limit`
    /// any more. Whether it is done.
    pub(crate) fn run(&mut self, limit: Duration, is_done: impl Fn() -> bool) -> bool {
        let limit = self.world.now() + limit;
        for _ in 0..TURNS {
            let mut order: Vec<&mut Runtime> =
                self.servers.iter_mut().chain(&mut self.clients).collect();
            self.random.shuffle(&mut order);
            for runtime in &mut order {
                runtime.turn(Some(Duration::ZERO)).unwrap();
            }
            if is_done() {
                return true;
            }
            let now = self.world.now();
            let next_event = self.world.next_event();
            if order.iter().any(|runtime| runtime.has_ready())
                || next_event.is_some_and(|next| next <= now)
            {
                continue;
            }
            let timers = order.iter().filter_map(|runtime| runtime.next_expiry());
            match timers.chain(next_event).min() {
                Some(next) if next <= limit => self.world.advance(next),
                _ => {
                    self.world.advance(limit);
                    return false;
                }
            }
        }
        panic!("no end after {TURNS} turns");
    }

    /// What all servers have counted, and isn't zero.
    pub(crate) fn counts(&self) -> Vec<(Counter, u64)> {
        let mut sum = Snapshot::default();
        self.stats.iter().for_each(|stats| sum += stats.snapshot());
        sum.iter().filter(|(_, value)| *value > 0).collect()
    }

    /// The clients go; past all deadlines nothing but the listeners may be left, and without the
    /// servers nothing at all.
    pub(crate) fn expect_rest(mut self) {
        for client in &self.clients {
            assert_eq!(client.panic_count(), 0, "a client panicked");
        }
        self.clients.clear();
        self.run(Duration::from_secs(300), || false);
        for server in &self.servers {
            let left = (
                server.live_count(),
                server.timer_count(),
                server.free_buffer_count(),
            );
            assert_eq!(
                left,
                (1, self.timers, self.buffers),
                "(slots, timers, free buffers) at rest"
            );
            assert_eq!(server.next_expiry(), None, "it would wake at rest");
            assert!(!server.has_ready());
            assert_eq!(server.panic_count(), 0, "a server's task panicked");
        }
        let listeners = vec![SimDescriptor::Listener(self.address); self.servers.len()];
        assert_eq!(self.world.open_descriptors(), listeners);
        assert_eq!(
            self.world.operations_in_flight(),
            self.servers.len(),
            "one accept each"
        );
        self.servers.clear();
        assert_eq!(self.world.open_descriptors(), []);
        assert_eq!(self.world.operations_in_flight(), 0);
    }
}
