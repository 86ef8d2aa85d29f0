//! Every bound of the server: its default, why it is that, its key and its flag.
//!
//! Nothing that a peer can make grow, and no wait for a peer, is without a bound. Those that nobody
//! would want to turn are constants where they hold, and `docs/limits.md` lists them; everything else
//! is here. The key `head_bytes` of `[limits]` is the flag `--head-bytes`, and so
//! on. The structure is read by the configuration and never changes while workers run.

use std::time::Duration;

use crate::config::key::{default_from_keys, settings};
use crate::config::keys;

const NO_TIME: Duration = Duration::ZERO;
/// The shortest deadline: tests need short ones, and zero would refuse everybody.
const SHORTEST: Duration = Duration::from_millis(10);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

settings! {
    /// Bounds and deadlines, as `[limits]` and the flags set them.
    ///
    /// Sizes are in bytes. Where 0 has a meaning of its own, the field says so.
    #[derive(Copy)]
    pub struct Limits {
        /// The largest request head: request line, fields and the empty line. Beyond it: 431.
        ///
        /// Browsers with heavy cookies send up to 8 KiB, and most servers take 8 to 32 KiB; a
        /// partial head is kept for each connection, so this is also memory for each attacker.
        head_bytes: usize = Size { min: 128, max: MIB }, Is("16KiB"), Shown("head-bytes");
        /// The largest number of fields in a request head. Beyond it: 431.
        ///
        /// Browsers send 15 to 25, proxies add some 10; 64 slots fit the parser's stack frame.
        header_count: usize = Integer { min: 1, max: 1024 }, Is("64"), Shown("header-count");
        /// The longest request target. Beyond it: 414.
        ///
        /// RFC 9110, section 4.1 asks for at least 8,000 bytes. Never more than `head_bytes`.
        target_bytes: usize = Size { min: 16, max: MIB }, Is("8KiB"), Shown("target-bytes");
        /// The largest request body. Beyond it: 413.
        ///
        /// Nginx's default, and plenty for whatever answers without an upload on purpose. 0
        /// refuses every body.
        body_bytes: u64 = Size { min: 0, max: 1024 * GIB }, Is("1MiB"), Shown("body-bytes");
        /// Bytes of all trailer fields of a request body. Beyond it: 431.
        ///
        /// Hardly anybody sends any: gRPC has a few short ones.
        trailer_bytes: u32 = Size { min: 0, max: MIB }, Is("4KiB"), Shown("trailer-bytes");
        /// Trailer fields of a request body. Beyond it: 431.
        trailer_count: u32 = Integer { min: 0, max: 1024 }, Is("32"), Shown("trailer-count");
        /// Bytes of chunk extensions in a whole request body. Beyond it: 400.
        ///
        /// Nobody needs any, and without a bound they are content that isn't counted
        /// (CVE-2023-39326).
        chunk_extension_bytes: u32 = Size { min: 0, max: MIB }, Is("4KiB"),
            Shown("chunk-extension-bytes");
        /// Requests on one connection, after which it is closed in good order; 0 for no end.
        ///
        /// No default bound: closing costs the client a handshake and gains nothing here, because
        /// a connection's memory doesn't grow with its requests.
        requests_per_connection: u32 = Integer { min: 0, max: 4_294_967_295 }, Is("0"),
            Shown("requests-per-connection");

        /// Connections open at once, across all workers; 0 for as many as can have two descriptors
        /// each (the hard limit counts: the soft one is raised to it).
        ///
        /// Two, because a file that is sent from disk takes one beside the socket's. A number of
        /// your own holds as far as there are descriptors for the sockets, and the hard limit is
        /// raised for it where the process may (`CAP_SYS_RESOURCE`); beyond half of them files may
        /// find none and be answered 503, which does no harm where all is answered from memory.
        /// The start says what is lowered. A connection beyond the bound is reset at once, as
        /// nginx closes those beyond `worker_connections`: the client, or the balancer before it,
        /// knows and can go elsewhere. In the backlog, where HAProxy's `maxconn` leaves them,
        /// they would wait for others to be idle for long enough.
        connections: u32 = Integer { min: 0, max: 16_777_216 }, Is("0"), Shown("connections");
        /// Connections open at once from one address (for IPv6, one /64), across all workers; 0
        /// for no bound of its own.
        ///
        /// One client alone must not take every place. A load balancer, a company behind one
        /// address or a test with ten thousand connections still fits; who has more behind one
        /// address knows it.
        connections_per_address: u32 = Integer { min: 0, max: 16_777_216 }, Is("16384"),
            Shown("connections-per-address");

        /// From the first byte of a head to its last. Beyond it: 408.
        ///
        /// It is for the whole head, so dripping bytes doesn't extend it (slowloris). Nginx and
        /// Node give 60 s, HAProxy's guide 5 to 10 s; a head is one to a dozen packets, which
        /// even a bad mobile link carries in 10 s. A connection that has sent nothing yet is
        /// idle: browsers open such ones in advance.
        head_deadline: Duration = Duration { min: SHORTEST, max: HOUR }, Is("10s"),
            Shown("head-deadline");
        /// How long a connection may be silent before its first request, and between requests.
        ///
        /// Longer than the 60 s after which common load balancers close, so that it isn't this
        /// side that closes under a request on its way. Nginx's default too.
        idle_timeout: Duration = Duration { min: SHORTEST, max: DAY },
            Is("75s"), Shown("idle-timeout");
        /// While a request body arrives: the time within which `body_stall_bytes`, or the rest of
        /// the body, have to come. Beyond it: 408.
        body_stall_timeout: Duration = Duration { min: SHORTEST, max: HOUR }, Is("30s"),
            Shown("body-stall-timeout");
        /// How much of a request body has to come in each `body_stall_timeout`.
        ///
        /// Silence alone would allow a byte every 29 s, for ever; the slowest link in use carries
        /// a hundred times this.
        body_stall_bytes: u64 = Size { min: 1, max: GIB }, Is("1KiB"), Shown("body-stall-bytes");
        /// How long a client may take no byte of a response before it is cut.
        ///
        /// Half of nginx's 60 s: a phone that changes cells is back in 10 to 20 s, and each stuck
        /// response pins a file and buffers.
        write_stall_timeout: Duration = Duration { min: SHORTEST, max: HOUR }, Is("30s"),
            Shown("write-stall-timeout");
        /// How long an upgraded connection (WebSocket) may be silent in both directions.
        ///
        /// An hour: chats and dashboards are silent for long, and a peer that has gone is found by
        /// the kernel's keepalive where that is on.
        tunnel_idle_timeout: Duration = Duration { min: SHORTEST, max: DAY }, Is("1h"),
            Shown("tunnel-idle-timeout");
        /// After the last answer of a connection: how long what the client still sends is read and
        /// thrown away, so that the kernel's reset doesn't destroy the answer before it is read.
        /// `"0s"` closes at once.
        ///
        /// A round trip is enough; nginx's 30 s would keep uploaders' connections for nothing.
        linger_timeout: Duration = Duration { min: NO_TIME, max: HOUR }, Is("2s"),
            Shown("linger-timeout");
        /// After the last answer of a connection: how much is read and thrown away at most.
        ///
        /// What a client had under way on a fast link when it was refused.
        linger_bytes: u64 = Size { min: 0, max: GIB }, Is("256KiB"), Shown("linger-bytes");

        /// Threads that take what could block a worker, such as cold opens and reads with epoll, for
        /// the whole process; and as many more for each root whose file system asks a network or a
        /// program (NFS, SMB, FUSE).
        ///
        /// Disks answer 16 requests at once well; the threads sleep when there is nothing cold. Such
        /// a root has its own, so that what hangs there takes nobody else's.
        blocking_threads: usize = Integer { min: 1, max: 512 }, Is("16"),
            Shown("blocking-threads");
        /// Jobs that wait for a blocking thread; beyond it a request is answered 503.
        ///
        /// At a millisecond each, 1,024 jobs on 16 threads are 64 ms: a longer queue would only
        /// turn overload into timeouts.
        blocking_queue: usize = Integer { min: 1, max: 1_048_576 }, Is("1024"),
            Shown("blocking-queue");

        /// How long a file system may take for a request: to find the file, and then for each part of
        /// it. Beyond it: 503, or what was right a moment ago; in the middle of a body the connection
        /// is cut.
        ///
        /// A disk answers in milliseconds, a network file system whose server is away perhaps never.
        /// As long as a client may take.
        file_timeout: Duration = Duration { min: SHORTEST, max: HOUR }, Is("30s"),
            Shown("file-timeout");

        /// Threads that check passwords, beside the blocking ones, for the whole process.
        ///
        /// Each takes a CPU and the memory of a hash (19 MiB by default) while it checks: this is
        /// what a flood of wrong passwords can cost. A check takes tens of milliseconds.
        password_threads: usize = Integer { min: 1, max: 512 }, Is("2"), Shown("password-threads");
        /// Passwords that wait to be checked; beyond it a request is answered 503.
        ///
        /// A second or two of work for the default threads. Requests with the same password wait
        /// together, and those whose password was right lately don't wait at all.
        password_queue: usize = Integer { min: 1, max: 1_048_576 }, Is("64"),
            Shown("password-queue");
        /// Users with their passwords that each worker remembers as right, for each root; see
        /// `password_cache` in `[files.NAME]`.
        password_cache_entries: usize = Integer { min: 1, max: 1_048_576 }, Is("1024"),
            Shown("password-cache-entries");

        /// Memory for files kept in the cache, for the whole process; each worker has an equal
        /// share of its own. 0 turns the cache off.
        ///
        /// It is taken only as files are asked for; the page cache holds the rest.
        cache_bytes: u64 = Size { min: 0, max: 1024 * GIB }, Is("256MiB"), Shown("cache-bytes");
        /// Files in the cache, for the whole process; each worker has an equal share.
        ///
        /// Bounds the table where files are tiny.
        cache_entries: usize = Integer { min: 0, max: 16_777_216 }, Is("65536"),
            Shown("cache-entries");
        /// The largest file that is kept in memory; larger ones go from the page cache by
        /// sendfile.
        ///
        /// Up to 32 KiB a send from memory costs less, and from about this size on `sendfile`, which
        /// copies nothing: of 100 KiB three quarters of the other. In between there is no difference.
        cache_file_bytes: u64 = Size { min: 0, max: GIB }, Is("64KiB"),
            Shown("cache-file-bytes");

        /// Larger files kept open, for the whole process; each worker has an equal share. 0 opens
        /// them for each request.
        ///
        /// What is open needs no path to be walked. Connections go first: these are at most an
        /// eighth of the descriptors, and are given back when descriptors run short.
        cache_descriptors: usize = Integer { min: 0, max: 1_048_576 }, Is("1024"),
            Shown("cache-descriptors");
        /// Paths that lead nowhere, remembered for `revalidate_interval`; for the whole process,
        /// each worker has an equal share.
        ///
        /// A page that links to what isn't there asks for it with every visit. A scan of random
        /// names fills this table and nothing else.
        cache_absent_entries: usize = Integer { min: 0, max: 1_048_576 }, Is("4096"),
            Shown("cache-absent-entries");
        /// Directories watched for changes, for the whole process.
        ///
        /// The kernel takes about a kilobyte for each, and has a limit of its own for each user
        /// (`fs.inotify.max_user_watches`). Beyond it, files are looked at each
        /// `revalidate_interval`.
        watches: usize = Integer { min: 0, max: 1_048_576 }, Is("1024"), Shown("watches");
        /// Ranges in one request. Beyond it the whole file is sent, as RFC 9110 allows; 0 offers no
        /// ranges, 1 no several at once.
        ///
        /// Readers of documents ask for a dozen at once, and downloaders of differences for some
        /// dozens. Overlapping ones are joined, so that an answer is never more than the file and
        /// some lines for each.
        ranges: usize = Integer { min: 0, max: 10_000 }, Is("64"), Shown("ranges");
        /// The largest file that is compressed when it is asked for.
        ///
        /// Scripts and style sheets are below it. Whoever asks first waits for it, some tens of
        /// milliseconds a megabyte.
        compress_file_bytes: u64 = Size { min: 0, max: GIB }, Is("4MiB"),
            Shown("compress-file-bytes");
        /// Files that are compressed at once, in the whole process. Beyond it they go out as they
        /// are.
        ///
        /// Compression takes a whole CPU, and the blocking threads are for disks as well.
        compress_jobs: usize = Integer { min: 1, max: 512 }, Is("4"), Shown("compress-jobs");

        /// Names of a directory that are looked at for its listing; the page says when there are
        /// more.
        ///
        /// Ten thousand make a page of 2 MB, which nobody reads to its end, and keep one blocking
        /// thread busy for a moment; a million would be memory for whoever asks.
        listing_entries: usize = Integer { min: 1, max: 1_048_576 }, Is("10000"),
            Shown("listing-entries");

        /// Receive buffers of each worker; a power of two.
        ///
        /// Shared by all its connections: an idle one holds none. The kernel takes them in turn,
        /// so all of them pass through the CPU's cache: 256 of 4 KiB stay within L2.
        receive_buffers: u32 = Integer { min: 1, max: 32_768 }, Is("256"),
            Hidden("receive-buffers");
        /// The size of a receive buffer.
        ///
        /// Holds nearly every request head, and is one page.
        receive_buffer_bytes: u32 = Size { min: 64, max: MIB }, Is("4KiB"),
            Hidden("receive-buffer-bytes");
        /// Entries of the io_uring submission queue of each worker; a power of two.
        ///
        /// More than a turn of the loop queues; a full queue only means one more system call.
        ring_entries: u32 = Integer { min: 1, max: 32_768 }, Is("1024"), Hidden("ring-entries");
        /// Entries of the io_uring completion queue of each worker; a power of two, not below
        /// `ring_entries`.
        ///
        /// Multishot operations complete more often than they are submitted; an overflow costs
        /// time, not completions.
        completion_entries: u32 = Integer { min: 1, max: 65_536 }, Is("4096"),
            Hidden("completion-entries");
        /// Threads that the kernel may run for the ring of each worker, for files that can't be
        /// opened at once; as many again for what may never end.
        ///
        /// What is in memory needs none. The kernel's own bound is four for each CPU of the machine,
        /// for each worker.
        ring_threads: u32 = Integer { min: 1, max: 4096 }, Is("8"), Hidden("ring-threads");
    }
}

default_from_keys!(Limits in &keys::LIMITS);
