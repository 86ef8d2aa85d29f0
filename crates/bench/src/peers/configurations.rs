//! What each peer is told: one worker, keep-alive for as long as a run takes, no log, and what its own
//! documentation advises for speed.

use super::{Front, Place};

/// Beside its connections: the program's own descriptors, and those to the server behind.
fn descriptors(place: &Place<'_>) -> usize {
    2 * place.connections + 256
}

/// `sendfile`, `tcp_nopush` and an open-file cache for files; idle connections kept to the upstream.
pub(super) fn nginx(place: &Place<'_>) -> String {
    // A worker that changed to another user could not read a private temporary folder.
    let user = if place.is_root { "user root;" } else { "" };
    let descriptors = descriptors(place);
    let (folder, port) = (place.folder.display(), place.port);
    let (upstream, location) = match place.front {
        Front::Files => (String::new(), format!("root {};", place.site.display())),
        Front::Proxy { upstream } => (
            format!("upstream behind {{ server 127.0.0.1:{upstream}; keepalive {}; }}", place.connections),
            "location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; }"
                .to_owned(),
        ),
    };
    format!(
        "{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections {descriptors}; }}
http {{
    types {{ text/html html; application/octet-stream bin; }}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    open_file_cache max=1000 inactive=1h;
    open_file_cache_valid 1h;
    {upstream}
    server {{ listen 127.0.0.1:{port} backlog=4096; {location} }}
}}
"
    )
}

/// What HAProxy counts on at least: by `tune.pool-low-fd-ratio` it keeps no idle connection to a server
/// once a fifth of its descriptors is in use, and it has about twice as many as `maxconn`.
const HAPROXY_CONNECTIONS: usize = 4096;

/// One thread, splicing where it can, connections to the server shared by all clients.
pub(super) fn haproxy(place: &Place<'_>) -> String {
    let Front::Proxy { upstream } = place.front else {
        return String::new(); // it serves no files
    };
    format!(
        "global
    nbthread 1
    maxconn {connections}
    tune.maxaccept 500
defaults
    mode http
    timeout client 1h
    timeout server 1h
    timeout connect 10s
    timeout http-keep-alive 1h
    option splice-auto
    http-reuse always
frontend front
    bind 127.0.0.1:{port} backlog 4096
    default_backend behind
backend behind
    server one 127.0.0.1:{upstream}
",
        connections = HAPROXY_CONNECTIONS.max(8 * place.connections),
        port = place.port,
    )
}

/// As its documentation begins, without its admin endpoint, TLS and logs.
pub(super) fn caddy(place: &Place<'_>) -> String {
    let front = match place.front {
        Front::Files => format!("root * {}\n    file_server", place.site.display()),
        Front::Proxy { upstream } => format!("reverse_proxy 127.0.0.1:{upstream}"),
    };
    format!(
        "{{
    admin off
    auto_https off
    storage file_system {folder}
    log {{
        level ERROR
    }}
}}
http://127.0.0.1:{port} {{
    {front}
}}
",
        folder = place.folder.display(),
        port = place.port,
    )
}

/// One thread; idle connections kept to the server behind.
pub(super) fn h2o(place: &Place<'_>) -> String {
    let front = match place.front {
        Front::Files => format!("file.dir: {}", place.site.display()),
        Front::Proxy { upstream } => {
            format!(
                "proxy.reverse.url: http://127.0.0.1:{upstream}/\n        proxy.timeout.keepalive: 3600000"
            )
        }
    };
    format!(
        "{user}num-threads: 1
max-connections: {connections}
pid-file: {folder}/h2o.pid
http1-request-timeout: 3600
listen:
  host: 127.0.0.1
  port: {port}
hosts:
  default:
    paths:
      /:
        {front}
",
        user = if place.is_root { "user: root\n" } else { "" },
        connections = place.connections + 64,
        folder = place.folder.display(),
        port = place.port,
    )
}

/// One process, as it comes; keep-alive without its usual end after 100 requests.
pub(super) fn lighttpd(place: &Place<'_>) -> String {
    let front = match place.front {
        Front::Files => "server.modules = ()".to_owned(),
        Front::Proxy { upstream } => format!(
            "server.modules = ( \"mod_proxy\" )
proxy.server = ( \"\" => ( ( \"host\" => \"127.0.0.1\", \"port\" => {upstream} ) ) )"
        ),
    };
    format!(
        "server.document-root = \"{site}\"
server.bind = \"127.0.0.1\"
server.port = {port}
server.max-fds = {descriptors}
server.max-connections = {connections}
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 3600
server.listen-backlog = 4096
server.upload-dirs = ( \"{folder}\" )
mimetype.assign = ( \".html\" => \"text/html\", \".bin\" => \"application/octet-stream\" )
{front}
",
        site = place.site.display(),
        port = place.port,
        descriptors = descriptors(place),
        connections = place.connections + 64,
        folder = place.folder.display(),
    )
}

/// One worker, one route, one cluster; without request ids, statistics by request and low limits, as its
/// documentation asks of who compares it ("What are best practices for benchmarking Envoy?").
pub(super) fn envoy(place: &Place<'_>) -> String {
    let Front::Proxy { upstream } = place.front else {
        return String::new(); // it serves no files
    };
    format!(
        "static_resources:
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          generate_request_id: false
          stream_idle_timeout: 3600s
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: \"/\" }}
                route: {{ cluster: behind, timeout: 3600s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
              dynamic_stats: false
  clusters:
  - name: behind
    type: STATIC
    connect_timeout: 10s
    circuit_breakers:
      thresholds: [ {{ max_connections: {limit}, max_pending_requests: {limit}, max_requests: {limit} }} ]
    load_assignment:
      cluster_name: behind
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
",
        port = place.port,
        limit = 2 * place.connections + 1024,
    )
}
