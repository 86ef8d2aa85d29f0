//! How many requests find a connection that is open already, where many clients share few of them
//! and two workers have to hand them over to each other.

use super::Setting;
use super::server::counts;
use crate::contestants::proxies;
use crate::process::{Server, on_cpu};
use anyhow::{Context, Result, ensure};

const CLIENTS: u32 = 256;
/// What the server is asked with, at most.
const CONNECTIONS: u32 = 32;

/// Measures both drivers. Counted by the server that is asked, not by the proxy.
pub(super) fn run(setting: &Setting<'_>) -> Result<()> {
    let seconds = if setting.options.quick { 2 } else { 10 };
    println!(
        "\nreuse: two workers, {CLIENTS} clients, at most {CONNECTIONS} connections to the server, \
         {seconds} s"
    );
    println!(
        "{:20}{:>12}{:>14}{:>10}",
        "", "requests", "connections", "reused"
    );
    for driver in ["uring", "epoll"] {
        measure(setting, driver, seconds).with_context(|| driver.to_owned())?;
    }
    Ok(())
}

fn measure(setting: &Setting<'_>, driver: &str, seconds: u32) -> Result<()> {
    let upstream = setting.start_counting()?;
    let course = setting.course(&upstream, "1k")?;
    let mut proxy = proxies::ringway(&setting.programs, driver, course).context("no program")?;
    // The last one counts.
    proxy.command.pop();
    let proxy = proxy
        .argument("2")
        .argument("--max-connections")
        .argument(CONNECTIONS.to_string());
    let cpus = [setting.proxy_cpu, setting.load_cpu];
    let log = setting.scratch.join("proxy.log");
    let server = Server::start_on(&proxy.command, proxy.port, &cpus, &log)?;
    let load = on_cpu(setting.load_cpu, "wrk")
        .args(["--threads", "1", "--connections", &CLIENTS.to_string()])
        .args(["--duration", &format!("{seconds}s")])
        .arg(format!("http://127.0.0.1:{}/1k", proxy.port))
        .output()
        .context("cannot run wrk")?;
    let counts = counts(upstream.port)?;
    server.stop()?;
    upstream.server.stop()?;
    let text = String::from_utf8_lossy(&load.stdout);
    let is_sound = load.status.success() && !text.contains("Non-2xx");
    ensure!(is_sound && counts.requests > 0, "wrk said: {text}");
    println!(
        "{:20}{:>12}{:>14}{:>9.3}%",
        proxy.name,
        counts.requests,
        counts.connections,
        100.0 * (counts.requests - counts.connections) as f64 / counts.requests as f64
    );
    Ok(())
}
