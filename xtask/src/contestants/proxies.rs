//! Who passes requests on: the relays that are the yardsticks of it, the program on each driver,
//! nginx and HAProxy.
//!
//! All have one worker or thread, keep connections alive on both sides, log nothing, and ask a server
//! on a port of loopback. All but the relays tell it who the client is in `X-Forwarded-For`.

use super::{Contestant, Nginx};
use crate::build::Programs;
use crate::process::find;
use anyhow::{Context, Result};
use std::path::Path;

/// Where a proxy listens, whom it asks, and for what it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    pub(crate) port: u16,
    pub(crate) upstream_port: u16,
    /// Without the slash at its start.
    pub(crate) path: &'a str,
    /// Bounds the clients.
    pub(crate) connections: usize,
}

/// A relay that looks at nothing: `kind` is `uring`, `epoll` or `splice`.
pub(crate) fn relay(programs: &Programs, kind: &str, course: Course<'_>) -> Contestant {
    let program = programs.yardstick(&format!("yardstick_relay_{kind}"));
    Contestant::new(&format!("relay-{kind}"), &program, course.port, course.path)
        .argument(course.port.to_string())
        .argument(course.upstream_port.to_string())
}

/// `ringway proxy` with one worker.
pub(crate) fn ringway(programs: &Programs, driver: &str, course: Course<'_>) -> Option<Contestant> {
    let program = programs.ringway()?;
    let name = format!("ringway-{driver}");
    let contestant = Contestant::new(&name, &program, course.port, course.path)
        .argument("proxy")
        .argument("--to")
        .argument(format!("http://127.0.0.1:{}", course.upstream_port))
        .argument("--listen")
        .argument(format!("127.0.0.1:{}", course.port))
        .argument("--io")
        .argument(driver)
        .argument("--workers")
        .argument("1");
    Some(contestant)
}

/// nginx with one worker and no buffering of request bodies, if it is installed.
pub(crate) fn nginx(scratch: &Path, course: Course<'_>) -> Result<Option<Contestant>> {
    let Course {
        port,
        upstream_port,
        connections,
        ..
    } = course;
    let sites = format!(
        "    upstream servers {{
        server 127.0.0.1:{upstream_port};
        keepalive {connections};
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        client_max_body_size 0;
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
    }}"
    );
    let one = Nginx {
        name: "nginx-proxy",
        scratch,
        port,
        path: course.path,
        connections,
        sites,
    };
    one.write()
}

/// HAProxy with one thread, which splices what is large, if it is installed.
///
/// It is allowed far more clients than come: from a quarter of its descriptors on
/// (`tune.pool-low-fd-ratio`) it keeps no idle connections, and connects for each request.
pub(crate) fn haproxy(scratch: &Path, course: Course<'_>) -> Result<Option<Contestant>> {
    let Some(program) = find("haproxy") else {
        return Ok(None);
    };
    let configuration = scratch.join("haproxy.cfg");
    let text = format!(
        "global
    nbthread 1
    maxconn {clients}
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    option forwardfor
    option splice-auto
    http-reuse always
frontend clients
    bind 127.0.0.1:{port} backlog 4096
    default_backend servers
backend servers
    server server 127.0.0.1:{upstream_port}
",
        clients = 8 * course.connections + 1024,
        port = course.port,
        upstream_port = course.upstream_port,
    );
    std::fs::write(&configuration, text).context("cannot write HAProxy's configuration")?;
    let contestant = Contestant::new("haproxy", &program, course.port, course.path)
        .argument("-db")
        .argument("-f")
        .argument(configuration);
    Ok(Some(contestant))
}
