//! The keys of the tables for listeners, files, logs and the process, one row each; `limits.rs`,
//! `route.rs` and `upstream.rs` have the others.
//!
//! Add a row, and reading, hints, the reference page, the schema and (if it names one) the flag
//! follow. A new table is one more entry in [`TABLES`] and one more reader in `check.rs`.

use std::path::PathBuf;
use std::time::Duration;

use super::key::{Shape, Table, choices, default_from_keys, settings};
use super::route::ROUTE;
use super::upstream::UPSTREAM;
use super::value::Address;
use crate::limits::Limits;

/// Every table of the file, the top level first.
pub(super) const TABLES: &[Table] = &[
    TOP, LISTEN, ROUTE, FILES, UPSTREAM, TRANSFER, LIMITS, LOG, ADMIN,
];

pub(super) const TOP: Table = Table {
    name: "",
    shape: Shape::Once,
    doc: "How the process runs. These keys stand above the first table.",
    groups: &[Top::KEYS],
};

pub(super) const LISTEN: Table = Table {
    name: "listen",
    shape: Shape::Named,
    doc: "A listener: addresses, what is served there, and the options of its sockets. Without \
          any, Ringway listens on `127.0.0.1:8080`.",
    groups: &[Binding::KEYS, ListenOptions::KEYS, SocketOptions::KEYS],
};

pub(super) const FILES: Table = Table {
    name: "files",
    shape: Shape::Named,
    doc: "A directory that is served.",
    groups: &[Root::KEYS],
};

pub(super) const TRANSFER: Table = Table {
    name: "transfer",
    shape: Shape::Once,
    doc: "How files go that aren't kept in memory. The defaults were measured with `cargo xtask \
          transfer --thresholds`, which prints what would be right on another machine; \
          [transfer.md](transfer.md) has the figures.",
    groups: &[Transfer::KEYS],
};

pub(crate) const LIMITS: Table = Table {
    name: "limits",
    shape: Shape::Once,
    doc: "Bounds and deadlines: nothing that a peer can make grow is without one.",
    groups: &[Limits::KEYS],
};

pub(super) const LOG: Table = Table {
    name: "log",
    shape: Shape::Once,
    doc: "The access log (a line for each request) and the event log (start, stop, faults; on \
          standard error).",
    groups: &[LogKeys::KEYS],
};

pub(super) const ADMIN: Table = Table {
    name: "admin",
    shape: Shape::Once,
    doc: "The admin listener: whether the server lives and is ready (`/healthz`, `/readyz`), its \
          metrics for Prometheus (`/metrics`) and its state as JSON (`/status`). \
          [admin.md](admin.md) shows them.",
    groups: &[AdminKeys::KEYS],
};

const NO_TIME: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The kernel counts `TCP_KEEPIDLE` and `TCP_KEEPINTVL` in seconds up to 32,767.
const PROBE_MAX: Duration = Duration::from_secs(9 * 3600);

/// What the kernel allows a socket to be given; its own maximum (`net.core.wmem_max`) still
/// applies.
const SOCKET_BYTES: (u64, u64) = (4 << 10, 1 << 30);

choices! {
    /// Which of the two drivers does the input and output.
    pub enum Io {
        /// io_uring when the kernel has and allows what is needed, else epoll.
        Auto = "auto",
        /// io_uring, or a refusal to start that says why.
        Uring = "uring",
        /// epoll, whatever the kernel has.
        Epoll = "epoll",
    }
}

choices! {
    /// Whether a connection goes to the worker on whose CPU it came in.
    pub enum Steer {
        /// Where packets of the network device come in on every worker's CPU; not on loopback.
        Auto = "auto",
        /// Wherever each worker has a CPU of its own. A worker on whose CPU nothing comes in gets
        /// no connection.
        On = "on",
        /// Nowhere: the kernel spreads connections by a hash of their addresses.
        Off = "off",
    }
}

choices! {
    /// The pages that a worker's buffers are made of.
    pub enum HugePages {
        /// Ordinary ones.
        Off = "off",
        /// Ordinary ones, of which the kernel may make huge ones where a buffer pool is larger than
        /// one (`MADV_HUGEPAGE`).
        Transparent = "transparent",
        /// Huge ones that the machine has reserved (`vm.nr_hugepages`); ordinary ones for what they
        /// don't suffice for.
        Reserved = "reserved",
    }
}

choices! {
    /// What happens to a symbolic link below a root.
    pub enum Symlinks {
        /// Followed as long as the kernel resolves it beneath the root.
        Beneath = "beneath",
        /// Not followed: a path with one in it doesn't exist.
        Deny = "deny",
    }
}

choices! {
    /// A content coding: how a file is compressed for its transfer.
    pub enum Coding {
        /// Zstandard (RFC 8878): the smallest effort for both sides.
        Zstd = "zstd",
        /// Brotli (RFC 7932): the smallest files.
        Br = "br",
        /// gzip (RFC 1952): what every client knows.
        Gzip = "gzip",
    }
}

choices! {
    /// The shape of the event log's lines.
    pub enum EventFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line, for log collectors.
        Json = "json",
    }
}

settings! {
    /// The top level as it is written; [`super::Config`] holds it resolved.
    pub(crate) struct Top {
        /// Files that belong to this one: `"upstreams.toml"`, or `"sites/*.toml"` for all whose
        /// names match, in alphabetical order. They are written like this one, and may include
        /// others.
        ///
        /// Relative paths start at the directory of the file that has them. The same name or key
        /// in two files is a mistake; routes come behind those of the including file.
        include: Vec<String> =
            List { of: &Text { min_length: 1, example: "sites/*.toml" }, min_count: 0 },
            Means("none"), None;
        /// Worker threads: each has its own ring, listeners, connections and cache.
        ///
        /// More than the CPUs that the process may use only adds switching. Without a number there are
        /// no more than those, nor than the time that the control group allows; `ringway doctor`
        /// shows where they go.
        workers: Option<usize> = Integer { min: 1, max: 1024 },
            Means("one for each core near the network device"), Shown("workers");
        /// The CPUs that workers are bound to: `"0-3,8"`. Without `workers`, there is one for each
        /// of them.
        ///
        /// The order is the planner's: one hyperthread of each core first, those near the network
        /// device before others.
        worker_cpus: Option<String> = Text { min_length: 1, example: "0-3,8" },
            Means("all that the process may use"), Shown("worker-cpus");
        /// The network device that workers are to be near.
        nic: Option<String> = Text { min_length: 1, example: "eth0" },
            Means("the busiest physical one"), Shown("nic");
        /// The driver that does the input and output.
        io: Io = Choice(Io::WORDS), Is("auto"), Shown("io");
        /// Whether each worker is bound to one CPU.
        ///
        /// It keeps a connection's memory in one core's caches. Turn it off where something else
        /// places threads, or where several busy processes share the CPUs.
        pin: bool = Switch, Is("true"), Shown("pin");
        /// Whether a connection goes to the worker on whose CPU its first packet came in.
        ///
        /// It keeps a connection's packets in one core's caches. It needs a device that spreads
        /// packets over the workers' CPUs (`ringway tune`), and clients that are many: whoever
        /// comes in on one CPU is served by one worker.
        steer: Steer = Choice(Steer::WORDS), Is("auto"), Shown("steer");
        /// The pages that each worker's buffers are made of.
        ///
        /// They are on the NUMA node of the worker's CPU, if it is bound to one. `/status` says
        /// what became of that.
        huge_pages: HugePages = Choice(HugePages::WORDS), Is("transparent"), Shown("huge-pages");
        /// How long requests under way may take to end after SIGTERM or SIGINT, before they are
        /// cut. `"0s"` cuts at once.
        ///
        /// Below the 30 s after which Kubernetes, and the 90 s after which systemd, would kill.
        shutdown_timeout: Duration = Duration { min: NO_TIME, max: HOUR },
            Is("25s"), Shown("shutdown-timeout");
    }
}

settings! {
    /// What a listener binds and serves, as it is written.
    pub(crate) struct Binding {
        /// Where to listen: `"127.0.0.1:8080"`, `"[::1]:8080"`, or `":8080"` for every address
        /// of the machine, IPv4 and IPv6. Port 0 asks the kernel for a free port.
        address: Vec<Address> = List { of: &Address, min_count: 1 }, Required, Shown("listen");
        /// The name of the `[files.NAME]` table that answers whatever no `[[route]]` is for.
        files: Option<String> = Text { min_length: 1, example: "site" },
            Means("the only table to serve, where there is one and no route"), None;
        /// The name of the `[upstream.NAME]` table that gets whatever no `[[route]]` is for. With
        /// neither this nor `files`, that is answered 404.
        proxy: Option<String> = Text { min_length: 1, example: "app" },
            Means("the only table to serve, where there is one and no route"), None;
    }
}

settings! {
    /// Options of a listening socket.
    pub struct ListenOptions {
        /// Connections the kernel queues for a worker that hasn't accepted them yet.
        ///
        /// The kernel lowers it to `net.core.somaxconn`, 4096 since Linux 5.4.
        backlog: u32 = Integer { min: 1, max: 65_535 }, Is("4096"), None;
        /// Whether an IPv6 address is for IPv6 only; otherwise `[::]` takes IPv4 as well.
        ipv6_only: bool = Switch, Is("false"), None;
        /// TCP Fast Open: how many connections may be pending with data in their first packet.
        ///
        /// Off by default: middleboxes drop such packets, and `net.ipv4.tcp_fastopen` must
        /// allow it.
        fast_open: Option<u32> = Integer { min: 1, max: 65_535 }, Means("off"), None;
        /// Wake a worker only when a new connection's first bytes are there, waiting this long
        /// for them.
        ///
        /// The kernel rounds it up to its retransmission times.
        defer_accept: Option<Duration> = Duration { min: SECOND, max: HOUR }, Means("off"), None;
    }
}

settings! {
    /// Options of a connection's socket.
    pub struct SocketOptions {
        /// Send at once (`TCP_NODELAY`), without waiting for earlier packets' acknowledgement.
        nodelay: bool = Switch, Is("true"), None;
        /// Report a socket as writable only while fewer unsent bytes than this are queued in the
        /// kernel (`TCP_NOTSENT_LOWAT`).
        ///
        /// A small value keeps memory and the delay of what is written later low; too small a
        /// one costs throughput.
        notsent_lowat: Option<u32> = Size { min: 4 << 10, max: 1 << 30 },
            Means("the kernel's own"), None;
        /// Probe silent connections (`SO_KEEPALIVE`).
        ///
        /// Off by default: every wait of a connection has a deadline of its own, which finds a
        /// vanished peer sooner.
        keepalive: bool = Switch, Is("false"), None;
        /// Silence before the first probe; needs `keepalive = true`.
        keepalive_idle: Duration = Duration { min: SECOND, max: PROBE_MAX }, Is("60s"), None;
        /// Time between probes; needs `keepalive = true`.
        keepalive_interval: Duration = Duration { min: SECOND, max: PROBE_MAX }, Is("10s"), None;
        /// Unanswered probes after which the connection is dead; needs `keepalive = true`.
        keepalive_count: u32 = Integer { min: 1, max: 127 }, Is("6"), None;
        /// How long sent bytes may stay unacknowledged before the connection is dead
        /// (`TCP_USER_TIMEOUT`).
        user_timeout: Option<Duration> = Duration { min: SECOND, max: HOUR },
            Means("the kernel's retransmission limit, about 15 minutes"), None;
        /// Congestion control by the kernel's name for it, such as `"bbr"`.
        ///
        /// `sysctl net.ipv4.tcp_available_congestion_control` lists what there is.
        congestion: Option<String> = Text { min_length: 1, example: "bbr" },
            Means("the kernel's own"), None;
        /// A fixed send buffer (`SO_SNDBUF`).
        ///
        /// Setting it turns off the kernel's autotuning, which is nearly always better.
        send_buffer: Option<u32> = Size { min: SOCKET_BYTES.0, max: SOCKET_BYTES.1 },
            Means("autotuned by the kernel"), None;
        /// A fixed receive buffer (`SO_RCVBUF`).
        ///
        /// Setting it turns off the kernel's autotuning, which is nearly always better.
        receive_buffer: Option<u32> = Size { min: SOCKET_BYTES.0, max: SOCKET_BYTES.1 },
            Means("autotuned by the kernel"), None;
    }
}

settings! {
    /// A directory that is served, as `[files.NAME]` describes it.
    pub struct Root named name {
        /// The directory. A relative one is looked up from the configuration file's directory.
        root: PathBuf = Text { min_length: 1, example: "/var/www" }, Required, None;
        /// Names of the files that stand for their directory, the first that exists.
        ///
        /// With an empty list no file does.
        index: Vec<String> =
            List { of: &Text { min_length: 1, example: "index.html" }, min_count: 0 },
            Is("index.html"), Shown("index");
        /// What happens to symbolic links. No setting lets one lead out of the root.
        symlinks: Symlinks = Choice(Symlinks::WORDS), Is("beneath"), Shown("symlinks");
        /// Whether names that begin with a dot are served.
        show_dotfiles: bool = Switch, Is("false"), Shown("show-dotfiles");
        /// The charset that text types are sent with; empty for none.
        charset: String = Text { min_length: 0, example: "utf-8" }, Is("utf-8"), None;
        /// What is tried for a request, in order, until something is there: `"{path}"` is what it
        /// asks for (a file, or a directory with its index), `"{path}.html"` the same with an
        /// ending, `"/index.html"` that file for every request. `"=404"` ends the list with that
        /// status, which is also what holds without it.
        try_files: Vec<String> =
            List { of: &Text { min_length: 1, example: "{path}" }, min_count: 0 },
            Means("`[\"{path}\"]`"), Shown("try-file");
        /// Whether pages are known without their `.html`: `/about` is the file `about.html`, and
        /// whoever asks for `/about.html` or `/about/` is sent there. So is `/docs/index.html` to
        /// `/docs/`.
        ///
        /// A file that is called `about` goes before, and a directory of that name comes after.
        clean_urls: bool = Switch, Is("false"), Shown("clean-urls");
        /// Whether the site is one page that makes the others itself: a path that isn't there is
        /// answered with the index file of the root and status 200.
        ///
        /// Only to who takes HTML, and for names without an extension. A script or a picture
        /// that isn't there stays missing: a page in its place would hide the mistake.
        spa: bool = Switch, Is("false"), Shown("spa");
        /// Whether a directory without an index file is answered with a list of what is in it: a
        /// page that sorts by name, size or time, or JSON to who asks for that (`Accept:
        /// application/json`).
        ///
        /// What can't be asked for isn't listed: names with a dot in front (unless `show_dotfiles`
        /// shows them), links that lead nowhere or out of the root, or all where `symlinks` denies
        /// them, devices, sockets and pipes. A file that the server may not read is listed all the
        /// same, and answered with 403.
        ///
        /// Off by default, because it shows files that nobody linked to. The headings that sort are
        /// buttons, not links, so that whoever fetches everything (`wget -r`) gets each listing once.
        browse: bool = Switch, Is("false"), Shown("browse");
        /// Pages for errors, as `"STATUS PATH"`: `"404 /404.html"`, `"5xx /error.html"`. The first
        /// for a status counts, and what isn't there is left out. They are sent with the status
        /// of the error and kept by nobody. `[]` for none.
        ///
        /// What can't be understood as a request is answered before any page is looked for.
        error_pages: Vec<String> =
            List { of: &Text { min_length: 1, example: "404 /404.html" }, min_count: 0 },
            Is("404 /404.html"), None;
        /// Headers of every answer: `"X-Robots-Tag: noindex"`. With a pattern before it, one of
        /// the answers with files that match: `"/downloads/** Content-Disposition: attachment"`.
        ///
        /// In a pattern `*` and `?` stand for anything within a name, and `**` between slashes for
        /// any number of folders; one without a slash is for the file's name wherever it is, and
        /// one with a slash for the path from the root. What the server says itself (framing,
        /// validators, media types) can't be set.
        headers: Vec<String> = List { of: &Line { example: "X-Robots-Tag: noindex" }, min_count: 0 },
            Means("none"), Shown("header");
        /// What caches may do with files, as `"PATTERN DIRECTIVES"`: `"/images/** max-age=86400"`.
        /// The first that matches counts; `none` says nothing. Patterns are those of `headers`.
        ///
        /// What no pattern matches is asked about each time (`no-cache`; an unchanged file is
        /// answered in a few bytes), but for names with a hash of the content as bundlers write
        /// it (`app.3f9a1c20.js`), which may be kept for ever (`max-age=31536000, immutable`).
        cache_control: Vec<String> =
            List { of: &Line { example: "/images/** max-age=86400" }, min_count: 0 },
            Means("by the file's name"), Shown("cache-control");
        /// Headers that make browsers careful, on every answer: `X-Content-Type-Options: nosniff`,
        /// `Content-Security-Policy: frame-ancestors 'self'`, `X-Frame-Options: SAMEORIGIN`,
        /// `Referrer-Policy: strict-origin-when-cross-origin` and
        /// `Cross-Origin-Opener-Policy: same-origin`.
        ///
        /// One of the same name in `headers` takes its place. Off by default, because some pages
        /// are meant to be framed, or talk to windows of other sites that they open.
        security_headers: bool = Switch, Is("false"), Shown("security-headers");
        /// Origins whose pages may read the files (CORS): `"https://app.example"`, `"null"`, or
        /// `"*"` for all.
        ///
        /// Preflights are answered: files can be asked for with GET and HEAD, and with any
        /// fields. With a list the answer depends on who asks, and says so (`Vary: Origin`).
        cors: Vec<String> =
            List { of: &Text { min_length: 1, example: "https://app.example" }, min_count: 0 },
            Means("none but the site's own"), Shown("cors");
        /// Whether those origins may ask in the name of the user (cookies, basic
        /// authentication). Needs a list of origins: browsers ignore it with `"*"`.
        cors_credentials: bool = Switch, Is("false"), None;
        /// Response fields that pages of those origins may read, beside the few that they always
        /// may.
        cors_expose: Vec<String> =
            List { of: &Text { min_length: 1, example: "ETag" }, min_count: 0 },
            Means("none"), None;
        /// For how long a browser may remember the answer to a preflight.
        ///
        /// Chrome takes at most two hours.
        cors_max_age: Duration = Duration { min: NO_TIME, max: DAY }, Is("1h"), None;
        /// Whether small files are kept in memory, within the cache bounds of `[limits]`.
        cache: bool = Switch, Is("true"), None;
        /// For how long a cached file is answered from memory before the file is looked at again.
        ///
        /// `"0s"` looks at every request; a changed file is never served longer than this.
        ///
        /// Where the kernel tells of every change (see `watch`) a file is looked at only every
        /// tenth time, and when it has changed.
        revalidate_interval: Duration = Duration { min: NO_TIME, max: HOUR },
            Is("1s"), None;
        /// Whether directories with cached files are watched (inotify), so that a change shows
        /// at once.
        ///
        /// Without effect where the kernel doesn't hear of every change (network file systems,
        /// FUSE) and on paths over a symbolic link: those are looked at each
        /// `revalidate_interval`, as is everything when this is off. What a program changes
        /// through a shared mapping, or through another hard link, is seen after ten intervals.
        watch: bool = Switch, Is("true"), None;
        /// Codings of files beside their source, such as `app.js.br`, by preference.
        ///
        /// The order counts where a client likes several equally. `[]` serves no such file in its
        /// source's place. On by default: whoever puts such a file there wants it served. One that is older than
        /// its source is left alone, and the log says so once.
        precompressed: Vec<Coding> = List { of: &Choice(Coding::WORDS), min_count: 0 },
            Is("zstd,br,gzip"), Shown("precompressed");
        /// Codings to compress files in when they are asked for, by preference.
        ///
        /// `[]` compresses nothing; `compress_types` and the sizes say what else isn't. A file
        /// that lies there precompressed goes before. On by default, unlike in nginx and in Caddy's file: those compress each answer anew,
        /// here it is done once for each version of a file, outside the workers, and kept in the
        /// cache. Without a cache nothing is compressed.
        compress: Vec<Coding> = List { of: &Choice(Coding::WORDS), min_count: 0 },
            Is("zstd,br,gzip"), Shown("compress");
        /// Media types that are worth compressing: whole ones, or with a `*` at either end.
        compress_types: Vec<String> =
            List { of: &Text { min_length: 1, example: "text/*" }, min_count: 0 },
            Is("text/*,*+json,*+xml,application/json,application/javascript,application/xml,\
                application/wasm,application/vnd.ms-fontobject,font/ttf,font/otf,image/bmp,\
                image/x-icon,image/vnd.microsoft.icon"),
            None;
        /// The smallest file that is compressed.
        ///
        /// Below it the answer fits into the packet that carries its head.
        compress_min_bytes: u64 = Size { min: 0, max: 1 << 30 }, Is("1KiB"), None;
        /// Who may have the files, by name and password (HTTP Basic authentication): `user:hash`,
        /// as `ringway hash-password --user alice` writes it.
        ///
        /// Hashes are argon2id or bcrypt. A password can be read on its way by whoever is on it:
        /// outside of one machine, put TLS before this listener. OPTIONS is answered to everybody.
        users: Option<Vec<String>> =
            List { of: &Text { min_length: 1, example: "alice:$argon2id$..." }, min_count: 1 },
            Means("nobody is asked, unless there is a `users_file`"), None;
        /// A file with more users, one `user:hash` a line, as `htpasswd -B` writes it.
        ///
        /// It is looked at again whenever a password has to be checked; nobody has to be told of
        /// a change. A new version with a mistake in it leaves the users as they were, and the
        /// event log says so.
        users_file: Option<PathBuf> = Text { min_length: 1, example: "/etc/ringway/users" },
            Means("none"), None;
        /// What a browser calls the place that it asks the password for.
        realm: Option<String> = Text { min_length: 1, example: "Members only" },
            Means("the NAME of the table"), None;
        /// For how long a password that was right is let in without being checked again.
        ///
        /// A check takes tens of milliseconds, on purpose. Somebody whose password was changed is
        /// locked out after this time at the latest; `"0s"` checks at every request.
        password_cache: Duration = Duration { min: NO_TIME, max: HOUR }, Is("1m"), None;
    }
}

settings! {
    /// Where one way to send a file ends and another begins, as it is written.
    pub(crate) struct Transfer {
        /// What is asked for of a file up to this size is read and sent; more goes by `sendfile`, from
        /// the page cache.
        ///
        /// Below it a copy is cheaper than what `sendfile` does for each page. `"0B"` copies nothing,
        /// where `sendfile` can be had.
        copy_max_bytes: u64 = Size { min: 0, max: 256 << 10 }, Is("16KiB"), None;
        /// The most that one call is asked to send.
        ///
        /// A call that sends more takes longer than others of the same worker should wait.
        step_bytes: u64 = Size { min: 4 << 10, max: 64 << 20 }, Is("4MiB"), None;
        /// What one connection may send in a row before the others of its worker have their turn.
        turn_bytes: u64 = Size { min: 4 << 10, max: 1 << 30 }, Is("4MiB"), None;
        /// How much of a file is looked for in memory at one time, before it is sent.
        ///
        /// What isn't there is read from the disk first, while others are served. Less costs a call
        /// more often, more finds what is gone again when its turn comes.
        look_ahead_bytes: u64 = Size { min: 256 << 10, max: 1 << 30 }, Is("4MiB"), None;
    }
}

settings! {
    /// The logs as they are written.
    pub(crate) struct LogKeys {
        /// The access log: a file, `"-"` for standard output, or `"off"`.
        access: String = Text { min_length: 1, example: "/var/log/ringway/access.log" },
            Is("off"), Shown("access-log");
        /// The shape of the access log's lines: one of two words, or a format with variables.
        ///
        /// What a client sends can neither break nor forge a line. In a format of your own it is
        /// escaped as `\xHH`: quotes, backslashes, what isn't printable ASCII, and the mark or
        /// space that follows the variable. What isn't there is `-`. A tab may stand in the
        /// format, `$$` is a dollar, and `${name}` separates a name from a letter behind it.
        access_format: String = Format, Is("combined"), Shown("access-format");
        /// The shape of the event log's lines.
        format: EventFormat = Choice(EventFormat::WORDS), Is("text"), Shown("log-format");
    }
}

settings! {
    /// The admin listener as it is written.
    pub(crate) struct AdminKeys {
        /// Where to listen: `"unix:/run/ringway/admin.sock"`, `"127.0.0.1:9090"` or `"[::1]:9090"`.
        ///
        /// Whoever can connect may read; nothing can be changed there. A socket file that a killed
        /// process has left behind is replaced, one that somebody listens on isn't.
        address: Option<String> =
            Text { min_length: 1, example: "unix:/run/ringway/admin.sock" }, Means("off"), Shown("admin");
        /// The mode of the socket's file: who may connect.
        mode: String = Text { min_length: 3, example: "0660" }, Is("0600"), None;
        /// Whether the address may be one that other machines reach.
        ///
        /// It tells them who the servers behind this one are. Keep it behind a firewall.
        allow_remote: bool = Switch, Is("false"), None;
    }
}

impl Root {
    /// Whether somebody has to be a user to have these files.
    pub fn has_users(&self) -> bool {
        self.users.is_some() || self.users_file.is_some()
    }
}

default_from_keys!(ListenOptions in &LISTEN);
default_from_keys!(SocketOptions in &LISTEN);
