//! What a person reads at the start: where it is served, on what, and what to look at.
//!
//! Standard output may be the access log's, which programs read, and events may be JSON for
//! programs: the lines go where they are in nobody's way. Nothing is decided here.

use super::Server;
use crate::config::{AccessLog, Config, EventFormat, Route};
use crate::control::Prepared;
use crate::route::Action;
use ringway_host::cpulist::CpuList;
use std::io::{self, Write as _};
use std::net::SocketAddr;

impl Server {
    /// Says that it is ready. As lines, of which the first has the address to click, on standard
    /// output, or on standard error where the other has the access log; as events where those are
    /// JSON.
    pub(super) fn announce(&self) {
        // A reader that has gone doesn't want to know.
        let _ = match (self.config.log.events, &self.config.log.access) {
            (EventFormat::Json, _) => {
                self.announce_as_events();
                Ok(())
            }
            (EventFormat::Text, AccessLog::Stdout) => {
                io::stderr().write_all(self.lines().as_bytes())
            }
            (EventFormat::Text, _) => io::stdout().write_all(self.lines().as_bytes()),
        };
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        for (address, listener) in &self.facts.bound {
            let what = self.describe(*listener);
            text += &format!("{what} at {}\n", url(*address));
        }
        let workers = self.config.workers;
        for (choice, count) in &self.drivers {
            text += &match self.drivers.len() {
                1 => format!("driver  {choice}\n"),
                _ => format!("driver  {choice} ({count} of {workers} workers)\n"),
            };
        }
        let plural = if workers == 1 { "" } else { "s" };
        text += &format!("workers {workers} thread{plural}, {}\n", self.places());
        if let Some(address) = self.admin_address() {
            text += &format!("admin   at {address}\n");
        }
        for note in self.config.notes() {
            text += &format!("note    {note}\n");
        }
        text
    }

    fn announce_as_events(&self) {
        for (address, listener) in &self.facts.bound {
            tracing::info!(
                url = url(*address),
                listener = self.config.listeners[*listener].name,
                "{}",
                self.describe(*listener)
            );
        }
        for (choice, count) in &self.drivers {
            tracing::info!(driver = %choice, workers = count, "workers run: {}", self.places());
        }
        if let Some(address) = self.admin_address() {
            tracing::info!(%address, "the admin listener is there");
        }
        for note in self.config.notes() {
            tracing::warn!("{note}");
        }
    }

    fn admin_address(&self) -> Option<String> {
        let prepared = self.prepared.as_ref();
        let address = prepared.and_then(Prepared::admin_address)?;
        Some(address.to_string())
    }

    /// Which CPUs the workers are on.
    fn places(&self) -> String {
        let cpus = (0..self.config.workers).map(|index| self.facts.cpu(index));
        let cpus: Option<Vec<usize>> = cpus.collect();
        cpus.map_or_else(|| "not pinned".to_owned(), places)
    }

    /// What is done at a listener, in a few words.
    fn describe(&self, listener: usize) -> String {
        describe(&self.config, listener)
    }
}

fn describe(config: &Config, listener: usize) -> String {
    let is_here = |route: &&Route| route.listeners.contains(&listener);
    let routes = match config.routes.iter().filter(is_here).count() {
        0 => String::new(),
        1 => " and a route".to_owned(),
        count => format!(" and {count} routes"),
    };
    let rest = match &config.listeners[listener].catch_all {
        Some(Action::Files(root)) => {
            format!("serving {}", config.roots[*root].root.display())
        }
        Some(Action::Proxy(upstream)) => {
            let upstream = &config.upstreams[*upstream];
            let servers: Vec<String> = upstream
                .servers
                .iter()
                .map(|server| server.address.to_string())
                .collect();
            format!("passing on to {}", servers.join(", "))
        }
        _ => return format!("serving{}", routes.replacen(" and", "", 1)),
    };
    rest + &routes
}

/// Where workers are, by the CPU of each.
fn places(mut cpus: Vec<usize>) -> String {
    cpus.sort_unstable();
    let most = cpus
        .chunk_by(|one, next| one == next)
        .map(<[usize]>::len)
        .max();
    let text = format!(
        "on CPU {}",
        cpus.iter().map(|cpu| *cpu as u32).collect::<CpuList>()
    );
    match most {
        Some(most @ 2..) => format!("{text}, up to {most} on each"),
        _ => text,
    }
}

/// The address as a browser on this machine can use it.
fn url(address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("http://localhost:{}/", address.port()),
        false => format!("http://{address}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn places_are_ranges_however_many_workers_there_are() {
        for (cpus, expect) in [
            (vec![0], "on CPU 0"),
            (vec![1, 0], "on CPU 0-1"),
            (vec![0, 1, 2, 3, 8, 10, 11], "on CPU 0-3,8,10-11"),
            ([0, 2].repeat(250), "on CPU 0,2, up to 250 on each"),
            (vec![4, 5, 4], "on CPU 4-5, up to 2 on each"),
        ] {
            assert_eq!(places(cpus), expect);
        }
    }
}
