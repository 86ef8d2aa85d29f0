//! What an upstream keeps when its servers change.

use super::*;
use crate::config::Config;
use ringway_runtime::{Io, Runtime, RuntimeOptions};

fn shared(config: &config::Upstream, before: Option<&SharedUpstream>) -> Arc<SharedUpstream> {
    let servers = config.servers.iter().enumerate();
    let known = servers.filter_map(|(index, server)| KnownServer::fixed(index, server));
    let known = known.collect();
    Arc::new(SharedUpstream::new(
        config,
        known,
        1,
        &[0; 32],
        now(),
        before,
    ))
}

/// Otherwise a name that leads elsewhere again and again would allow as many retries as one likes.
#[test]
fn other_servers_bring_no_other_budget() {
    let options = RuntimeOptions {
        io: Io::Epoll,
        ..RuntimeOptions::default()
    };
    let mut runtime = Runtime::new(&options).unwrap();
    let changed = runtime.block_on(async {
        let text = "[upstream.app]\nservers = [\"10.0.0.1:80\", \"10.0.0.2:80\"]";
        let mut config = Config::from_toml(text).unwrap().upstreams.remove(0);
        let before = shared(&config, None);
        let upstream = Upstream::new(config.clone(), &before, 0);
        while upstream.budget.borrow_mut().spend(now()) {}
        config.servers.remove(0);
        let other = upstream.with_servers(&shared(&config, Some(&before)));
        let may_retry = other.budget.borrow_mut().spend(now());
        assert!(!may_retry, "the budget began anew");
    });
    changed.unwrap();
}
