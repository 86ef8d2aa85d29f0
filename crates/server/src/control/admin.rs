//! The admin listener: who asks it gets one answer, and the connection ends.
//!
//! Everything is bounded: connections, heads, and the time that a connection may take in all. Nothing
//! can be changed here, and what a worker does is never waited for.

use super::load::Load;
use super::socket::AdminSocket;
use super::{State, metrics, status};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections at once; the next ones wait to be accepted.
pub(super) const CONNECTIONS: usize = 16;
/// How long a head may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// For how long, and how much, a client that has been answered is still listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;
/// The longest head; beyond it: 431.
const HEAD_BYTES: usize = 8 << 10;
/// The most fields of a head; beyond it: 431.
const FIELD_COUNT: usize = 64;
/// How long accepting rests after a failure, such as for want of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What the requests share.
struct Admin {
    state: Rc<State>,
    load: RefCell<Load>,
    /// Whether `Host` may be any name.
    allows_names: bool,
}

/// Answers whoever connects, for as long as the thread runs.
pub(super) async fn serve(socket: AdminSocket, state: Rc<State>) {
    let config = state.facts.config.admin.as_ref();
    let is_unix = matches!(socket, AdminSocket::Unix(..));
    let admin = Rc::new(Admin {
        allows_names: is_unix || config.is_some_and(|admin| admin.allow_remote),
        load: RefCell::new(Load::new(&state.facts)),
        state,
    });
    tokio::task::spawn_local(Rc::clone(&admin).watch_load());
    let served = match socket {
        AdminSocket::Unix(listener, _file) => {
            let listener = UnixListener::from_std(listener);
            let accept = async |listener: &UnixListener| Ok(listener.accept().await?.0);
            accept_all(listener, accept, admin).await
        }
        AdminSocket::Tcp(listener, _) => {
            let listener = TcpListener::from_std(listener);
            let accept = async |listener: &TcpListener| Ok(listener.accept().await?.0);
            accept_all(listener, accept, admin).await
        }
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin listener can't be used");
    }
}

async fn accept_all<L, S: AsyncRead + AsyncWrite + Unpin + 'static>(
    listener: io::Result<L>,
    accept: impl AsyncFn(&L) -> io::Result<S>,
    admin: Rc<Admin>,
) -> io::Result<()> {
    let listener = listener?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("nobody closes it");
        match accept(&listener).await {
            Ok(stream) => {
                tokio::task::spawn_local(Rc::clone(&admin).serve(stream, place));
            }
            Err(_) => sleep(ACCEPT_REST).await,
        }
    }
}

impl Admin {
    async fn watch_load(self: Rc<Admin>) {
        loop {
            sleep(super::load::INTERVAL).await;
            self.load.borrow_mut().look();
        }
    }

    /// One connection.
    async fn serve(
        self: Rc<Admin>,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        _place: OwnedSemaphorePermit,
    ) {
        let answer = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(HEAD_BYTES)
            .max_headers(FIELD_COUNT)
            .keep_alive(false)
            .serve_connection(TokioIo::new(&mut stream), answer);
        // Whoever is too slow is cut off; who sends what is no request has been answered.
        if timeout(CONNECTION_DEADLINE, connection).await.is_ok() {
            // A close with something unread would be a reset, which destroys the answer on its way.
            let _ = timeout(LINGER, linger(stream)).await;
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !self.allows_names && !is_local(request) {
            let text = "this listener is for localhost, not for other names\n";
            return response(StatusCode::MISDIRECTED_REQUEST, TEXT, text);
        }
        let answer: fn(&Admin) -> Response<Full<Bytes>> = match request.uri().path() {
            "/healthz" => |_| response(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => Admin::readiness,
            "/metrics" => Admin::metrics,
            "/status" => Admin::status,
            _ => {
                let text = "there are /healthz, /readyz, /metrics and /status\n";
                return response(StatusCode::NOT_FOUND, TEXT, text);
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "there is only something to read here\n";
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        answer(self)
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let obstacles = status::obstacles(&self.state.facts, &self.state.upstreams.borrow());
        if obstacles.is_empty() {
            return response(StatusCode::OK, TEXT, "ready\n");
        }
        let lines: Vec<String> = obstacles.iter().map(|line| format!("{line}\n")).collect();
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines.concat())
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let (facts, upstreams) = (&self.state.facts, self.state.upstreams.borrow());
        match metrics::encode(facts, &upstreams, &self.load.borrow()) {
            Ok(text) => response(StatusCode::OK, metrics::MEDIA_TYPE, text),
            // Writing to memory can't fail.
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        }
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let (facts, upstreams) = (&self.state.facts, self.state.upstreams.borrow());
        let status = status::describe(facts, &upstreams, &self.load.borrow());
        response(StatusCode::OK, JSON, format!("{status:#}\n"))
    }
}

/// Says that nothing more comes, and reads what the client still sends.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    // It fails where the client has gone.
    let mut is_open = stream.shutdown().await.is_ok();
    let mut buffer = [0; 4096];
    let mut left = LINGER_BYTES;
    while is_open {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        left = left.saturating_sub(count);
        is_open = count > 0 && left > 0;
    }
}

fn response(
    status: StatusCode,
    media_type: &'static str,
    text: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether it asks this machine by an address or as localhost. A page of somebody else's whose name
/// leads to this machine (DNS rebinding) asks by that name.
fn is_local(request: &Request<Incoming>) -> bool {
    let named = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let host = match (request.uri().host(), named) {
        (Some(host), _) => host,
        // HTTP/1.0 needs none, and no browser speaks it.
        (None, None) => return true,
        (None, Some(named)) => match str::from_utf8(named) {
            Ok(named) => host_of(named),
            Err(_) => return false,
        },
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// A host without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
