//! A service of one's own: counts the words that it is sent, and answers in JSON.
//!
//! ```sh
//! cargo run -p ringway-server --example word_count -- --listen 127.0.0.1:8000
//! curl -T README.md http://127.0.0.1:8000/words
//! curl http://127.0.0.1:8000/words
//! curl -N http://127.0.0.1:8000/words/live
//! ```
//!
//! Listeners, limits, deadlines, logs, both drivers and the end in good order are the server's.

use ringway_runtime::sleep;
use ringway_server::config::{Config, Problems};
use ringway_server::extensions::Extensions;
use ringway_server::service::{
    Completed, Exchange, Failure, Look, Method, Reply, Request, Service, StatusCode,
};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often a client that follows is told.
const INTERVAL: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let mut listen = "127.0.0.1:8000".to_owned();
    let mut io = "auto".to_owned();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or("a flag without a value")?;
        match flag.as_str() {
            "--listen" => listen = value,
            "--io" => io = value,
            _ => return Err(format!("unknown option: {flag}").into()),
        }
    }
    Ok(extensions().run(configuration(&listen, &io)?)?)
}

/// What would stand in a file: a listener, and a route to the service.
pub(crate) fn configuration(listen: &str, io: &str) -> Result<Config, Problems> {
    Config::from_toml(&format!(
        "io = \"{io}\"\n\
         [listen.main]\naddress = \"{listen}\"\n\
         [[route]]\npath = \"/words/*\"\nstrip_prefix = \"/words\"\nservice = \"words\"\n"
    ))
}

/// The service under the name that the route has for it. Each worker makes its own; what they count
/// together is shared without a lock.
pub(crate) fn extensions() -> Extensions {
    let totals: Arc<Totals> = Arc::default();
    Extensions::new().service("words", move |_| {
        Ok(WordCount {
            totals: Arc::clone(&totals),
        })
    })
}

/// What was counted since the start.
#[derive(Default)]
struct Totals {
    words: AtomicU64,
    bytes: AtomicU64,
}

impl Totals {
    fn to_json(&self) -> String {
        json(self.words.load(Relaxed), self.bytes.load(Relaxed))
    }
}

fn json(words: u64, bytes: u64) -> String {
    format!("{{\"words\":{words},\"bytes\":{bytes}}}\n")
}

struct WordCount {
    totals: Arc<Totals>,
}

/// What is left to be done after a first look.
enum Task {
    /// Count what comes.
    Count,
    /// Tell the totals a few times.
    Follow,
}

impl Service for WordCount {
    type Kept = Task;

    fn look(&self, request: &Request<'_>) -> Look<Task> {
        match (request.method(), request.path()) {
            // From memory: nothing is waited for, and nothing is kept of the request.
            (Method::Get | Method::Head, b"/") => Reply::new(StatusCode::OK)
                .json(self.totals.to_json())
                .into(),
            (Method::Get, b"/live") => Look::Later(Task::Follow),
            (Method::Put | Method::Post, b"/") => Look::Later(Task::Count),
            (_, b"/") => Reply::new(StatusCode::METHOD_NOT_ALLOWED)
                .field("Allow", "GET, HEAD, POST, PUT")
                .into(),
            _ => Reply::new(StatusCode::NOT_FOUND)
                .text("no such thing\n")
                .into(),
        }
    }

    async fn answer<'e>(
        &self,
        task: Task,
        exchange: Exchange<'e>,
    ) -> Result<Completed<'e>, Failure> {
        match task {
            Task::Count => self.count(exchange).await,
            Task::Follow => self.follow(exchange).await,
        }
    }
}

impl WordCount {
    /// Counts a body as it comes; only a piece of it is ever in memory.
    async fn count<'e>(&self, mut exchange: Exchange<'e>) -> Result<Completed<'e>, Failure> {
        let (mut words, mut bytes, mut in_word) = (0, 0, false);
        while let Some(piece) = exchange.receive().await? {
            bytes += piece.len() as u64;
            for byte in piece {
                let is_space = byte.is_ascii_whitespace();
                words += u64::from(in_word && is_space);
                in_word = !is_space;
            }
        }
        words += u64::from(in_word);
        self.totals.words.fetch_add(words, Relaxed);
        self.totals.bytes.fetch_add(bytes, Relaxed);
        let reply = Reply::new(StatusCode::CREATED).json(json(words, bytes));
        Ok(exchange.reply(reply).await?)
    }

    /// A body whose length nobody knows beforehand, piece by piece.
    async fn follow<'e>(&self, exchange: Exchange<'e>) -> Result<Completed<'e>, Failure> {
        let reply = Reply::new(StatusCode::OK).json(self.totals.to_json());
        let mut body = exchange.begin(reply, None).await?;
        for _ in 0..2 {
            sleep(INTERVAL).await;
            body.write(self.totals.to_json()).await?;
        }
        Ok(body.finish().await?)
    }
}
