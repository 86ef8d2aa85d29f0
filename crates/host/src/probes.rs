//! What no file tells: io_uring and the placing of memory by trying them, devices by ethtool, queueing disciplines, irqbalance
//! by its socket. Asked of the running kernel, or saved with a tree.

use crate::facts::Fact;
use crate::machine::Target;
use ringway_kernel::{Io, ReactorCell, ReactorOptions, nic, numa};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// Where a tree keeps these.
pub const PROBES_FILE: &str = "ringway-probes.json";

/// Where irqbalance has its socket (irqbalance.h, SOCKET_TMPFS), named after its process.
const IRQBALANCE_FOLDER: &str = "/run/irqbalance";

/// How long irqbalance may take to answer.
const IRQBALANCE_PATIENCE: Duration = Duration::from_millis(200);

/// Everything that was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probes {
    /// Whether io_uring does what the server needs.
    pub io_uring: Fact<IoUring>,
    /// What irqbalance says of itself; `null` when it doesn't run.
    pub irqbalance: Fact<Option<Irqbalance>>,
    /// Whether a page goes to each node that has memory.
    #[serde(default = "not_tried")]
    pub memory: Fact<Vec<NodeTrial>>,
    /// Each network device's answers.
    pub devices: BTreeMap<String, Device>,
}

/// The outcome of trying io_uring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IoUring {
    /// Whether a message went through it.
    pub works: bool,
    /// Why it doesn't, or what was tried.
    pub reason: String,
}

/// The outcome of putting a page on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTrial {
    /// The node.
    pub node: u32,
    /// Why it isn't there; `null` when it is.
    pub refusal: Option<String>,
}

/// What captures say that were made before it was.
pub(crate) fn not_tried() -> Fact<Vec<NodeTrial>> {
    Fact::Unknown("not tried".to_owned())
}

/// irqbalance, as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Irqbalance {
    /// Seconds between its rounds.
    pub period_seconds: Fact<u32>,
    /// The interrupts that it leaves alone.
    pub banned: Fact<Vec<u32>>,
}

/// What a network device's driver says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// The driver's name.
    pub driver: Fact<String>,
    /// The queues.
    pub channels: Fact<Channels>,
    /// The rings.
    pub rings: Fact<Rings>,
    /// How long it collects before it interrupts.
    pub coalescing: Fact<Coalescing>,
    /// How flows are spread over queues.
    pub rss: Fact<Rss>,
    /// Offloads by ethtool's names.
    pub features: Fact<BTreeMap<String, bool>>,
    /// Queueing disciplines: the root first, then the leaves' kinds, each once.
    pub qdiscs: Fact<Vec<String>>,
}

/// A number and its most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// What is set.
    pub now: u32,
    /// What could be.
    pub most: u32,
}

/// The queues of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// Queues that only receive.
    pub rx: Setting,
    /// Queues that only send.
    pub tx: Setting,
    /// Pairs.
    pub combined: Setting,
}

impl Channels {
    /// How many queues receive.
    pub fn receiving(&self) -> u32 {
        self.rx.now.saturating_add(self.combined.now)
    }

    /// How many queues could receive.
    pub fn most_receiving(&self) -> u32 {
        self.combined.most.max(self.rx.most)
    }
}

/// The rings of a device, in descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rings {
    /// Of each receive queue.
    pub rx: Setting,
    /// Of each send queue.
    pub tx: Setting,
}

/// How long a device collects packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coalescing {
    /// Microseconds after a received packet.
    pub rx_microseconds: u32,
    /// Microseconds after a sent packet.
    pub tx_microseconds: u32,
    /// Whether the driver chooses for received packets.
    pub adaptive_rx: bool,
    /// Whether the driver chooses for sent packets.
    pub adaptive_tx: bool,
}

/// How received flows are spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rss {
    /// The receive queue for each value of the hash.
    pub table: Vec<u32>,
    /// What can be said of the secret without telling it.
    pub key: KeyState,
}

/// The state of the hash's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Nothing known against it.
    Unremarkable,
    /// It is printed in manuals, so anybody can choose colliding flows.
    Published,
    /// All zero: every flow has the same hash.
    Zero,
    /// The device shows none.
    Hidden,
}

/// The example key of the RSS specification, printed in every manual and many guides.
const PUBLISHED_KEY: [u8; 8] = [0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2];

fn key_state(key: &[u8]) -> KeyState {
    // The key that makes the hash symmetric repeats two bytes, which takes away its entropy.
    let repeats = key.len() >= 4 && key.chunks(2).all(|pair| key.starts_with(pair));
    if key.is_empty() {
        KeyState::Hidden
    } else if key.iter().all(|&byte| byte == 0) {
        KeyState::Zero
    } else if repeats || key.starts_with(&PUBLISHED_KEY) {
        KeyState::Published
    } else {
        KeyState::Unremarkable
    }
}

impl Probes {
    /// Asks the running kernel.
    pub(crate) fn ask(devices: &[String]) -> Probes {
        Probes {
            devices: Probes::ask_devices(devices),
            io_uring: Fact::Known(try_io_uring()),
            irqbalance: irqbalance_setup(),
            memory: Fact::Known(try_nodes()),
        }
    }

    /// Asks the running kernel of these devices alone.
    pub(crate) fn ask_devices(devices: &[String]) -> BTreeMap<String, Device> {
        let qdiscs = nic::qdiscs();
        let answers = devices.iter().map(|name| {
            let index = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex"));
            let index = index.ok().and_then(|text| text.trim().parse().ok());
            let qdiscs = match (&qdiscs, index) {
                (Err(error), _) => Fact::Unknown(format!("rtnetlink: {error}")),
                (Ok(_), None) => Fact::Unknown("the device has no index".to_owned()),
                (Ok(all), Some(index)) => Fact::Known(kinds_on(index, all)),
            };
            (name.clone(), Device::ask(name, qdiscs))
        });
        answers.collect()
    }

    /// Nothing was asked, and this is why.
    pub fn unknown(why: &str) -> Probes {
        Probes {
            io_uring: Fact::Unknown(why.to_owned()),
            irqbalance: Fact::Unknown(why.to_owned()),
            memory: Fact::Unknown(why.to_owned()),
            devices: BTreeMap::new(),
        }
    }

    /// What `target` holds, in the form in which it is written.
    pub(crate) fn value(&self, target: &Target) -> Result<String, String> {
        let device = |nic: &String| {
            let found = self.devices.get(nic);
            found.ok_or_else(|| format!("{nic}: no such device"))
        };
        Ok(match target {
            Target::File(_) | Target::Interrupt { .. } | Target::Config(_) | Target::Link(_) => {
                return Err("a file is not asked for by a call".to_owned());
            }
            Target::Channels(nic) => {
                let channels = device(nic)?.channels.as_result()?;
                let (rx, tx) = (channels.rx.now, channels.tx.now);
                format!("rx {rx} tx {tx} combined {}", channels.combined.now)
            }
            Target::Rings(nic) => {
                let rings = device(nic)?.rings.as_result()?;
                format!("rx {} tx {}", rings.rx.now, rings.tx.now)
            }
            Target::RssTable(nic) => numbers(&device(nic)?.rss.as_result()?.table),
            Target::IrqbalanceBan => {
                let irqbalance = self.irqbalance.as_result()?;
                let irqbalance = irqbalance.as_ref().ok_or("irqbalance doesn't run")?;
                numbers(irqbalance.banned.as_result()?)
            }
        })
    }

    /// Gives `target` a value, in a tree.
    pub(crate) fn pretend(&mut self, target: &Target, value: &str) -> io::Result<()> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let refused = || io::Error::from(io::ErrorKind::InvalidInput);
        match target {
            Target::File(_) | Target::Interrupt { .. } | Target::Config(_) | Target::Link(_) => {
                return Err(refused());
            }
            Target::Channels(nic) => {
                let device = self.devices.get_mut(nic).ok_or_else(absent)?;
                let Fact::Known(channels) = &mut device.channels else {
                    return Err(refused());
                };
                [channels.rx.now, channels.tx.now, channels.combined.now] = words(value)?;
            }
            Target::Rings(nic) => {
                let device = self.devices.get_mut(nic).ok_or_else(absent)?;
                let Fact::Known(rings) = &mut device.rings else {
                    return Err(refused());
                };
                [rings.rx.now, rings.tx.now] = words(value)?;
            }
            Target::RssTable(nic) => {
                let device = self.devices.get_mut(nic).ok_or_else(absent)?;
                let Fact::Known(rss) = &mut device.rss else {
                    return Err(refused());
                };
                rss.table = parse_numbers(value)?;
            }
            Target::IrqbalanceBan => {
                let Fact::Known(Some(irqbalance)) = &mut self.irqbalance else {
                    return Err(absent());
                };
                irqbalance.banned = Fact::Known(parse_numbers(value)?);
            }
        }
        Ok(())
    }
}

/// Gives `target` a value, on the running machine.
pub(crate) fn set(target: &Target, value: &str) -> io::Result<()> {
    match target {
        Target::File(_) | Target::Interrupt { .. } | Target::Config(_) | Target::Link(_) => {
            Err(io::ErrorKind::InvalidInput.into())
        }
        Target::Channels(nic) => {
            let [rx, tx, combined] = words(value)?;
            let channels = nic::Channels {
                rx: (rx, 0),
                tx: (tx, 0),
                combined: (combined, 0),
            };
            nic::set_channels(nic, &channels)
        }
        Target::Rings(nic) => {
            let [rx, tx] = words(value)?;
            let rings = nic::Rings {
                rx: (rx, 0),
                tx: (tx, 0),
            };
            nic::set_rings(nic, &rings)
        }
        Target::RssTable(nic) => nic::set_rss_table(nic, &parse_numbers(value)?),
        Target::IrqbalanceBan => {
            let list = if value.is_empty() { "NONE" } else { value };
            ask_irqbalance(&format!("settings ban irqs {list}")).map(drop)
        }
    }
}

/// The numbers of `rx 1 tx 2 combined 3`, in that order.
fn words<const COUNT: usize>(value: &str) -> io::Result<[u32; COUNT]> {
    let numbers: Option<Vec<u32>> = value
        .split_whitespace()
        .skip(1)
        .step_by(2)
        .map(|number| number.parse().ok())
        .collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn numbers(list: &[u32]) -> String {
    let list: Vec<String> = list.iter().map(u32::to_string).collect();
    list.join(" ")
}

fn parse_numbers(value: &str) -> io::Result<Vec<u32>> {
    let numbers = value.split_whitespace().map(str::parse);
    let numbers: Result<Vec<u32>, _> = numbers.collect();
    numbers.map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl Device {
    fn ask(name: &str, qdiscs: Fact<Vec<String>>) -> Device {
        let setting = |(now, most)| Setting { now, most };
        Device {
            driver: answer(nic::driver(name), |(driver, _)| driver),
            channels: answer(nic::channels(name), |channels| Channels {
                rx: setting(channels.rx),
                tx: setting(channels.tx),
                combined: setting(channels.combined),
            }),
            rings: answer(nic::rings(name), |rings| Rings {
                rx: setting(rings.rx),
                tx: setting(rings.tx),
            }),
            coalescing: answer(nic::coalescing(name), |coalescing| Coalescing {
                rx_microseconds: coalescing.rx_microseconds,
                tx_microseconds: coalescing.tx_microseconds,
                adaptive_rx: coalescing.adaptive_rx,
                adaptive_tx: coalescing.adaptive_tx,
            }),
            rss: answer(nic::rss(name), |rss| Rss {
                key: key_state(&rss.key),
                table: rss.table,
            }),
            features: answer(nic::features(name), |features| {
                features.into_iter().collect()
            }),
            qdiscs,
        }
    }

    /// Nothing was asked, and this is why.
    pub fn unknown(why: &str) -> Device {
        let why = || why.to_owned();
        Device {
            driver: Fact::Unknown(why()),
            channels: Fact::Unknown(why()),
            rings: Fact::Unknown(why()),
            coalescing: Fact::Unknown(why()),
            rss: Fact::Unknown(why()),
            features: Fact::Unknown(why()),
            qdiscs: Fact::Unknown(why()),
        }
    }
}

fn answer<T, U>(result: io::Result<T>, known: impl FnOnce(T) -> U) -> Fact<U> {
    match result {
        Ok(value) => Fact::Known(known(value)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            Fact::Unknown("the driver doesn't tell".to_owned())
        }
        Err(error) => Fact::Unknown(format!("ethtool: {error}")),
    }
}

/// The kinds of a device's disciplines, its root's first.
fn kinds_on(index: u32, all: &[nic::Qdisc]) -> Vec<String> {
    let own = |root| {
        let own = all
            .iter()
            .filter(move |qdisc| qdisc.device_index == index && qdisc.is_root == root);
        own.map(|qdisc| qdisc.kind.clone())
    };
    let mut kinds: Vec<String> = own(true).chain(own(false)).collect();
    kinds.dedup();
    kinds
}

fn try_io_uring() -> IoUring {
    let options = ReactorOptions {
        io: Io::Uring,
        receive_buffers: 4,
        ring_entries: 8,
        completion_entries: 16,
        ..ReactorOptions::default()
    };
    match ReactorCell::new(&options) {
        Ok((_, choice)) => IoUring {
            works: true,
            reason: choice
                .reason
                .trim_start_matches("asked for, and ")
                .to_owned(),
        },
        Err(error) => IoUring {
            works: false,
            reason: error.to_string(),
        },
    }
}

fn try_nodes() -> Vec<NodeTrial> {
    let trial = |node| NodeTrial {
        node,
        refusal: numa::try_node(node).err(),
    };
    numa::memory_nodes().into_iter().map(trial).collect()
}

fn irqbalance_setup() -> Fact<Option<Irqbalance>> {
    match ask_irqbalance("setup") {
        Ok(answer) => Fact::from(parse_setup(&answer)).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Fact::Known(None),
        Err(error) => Fact::Unknown(format!("irqbalance's socket: {error}")),
    }
}

/// Sends one request to irqbalance; `NotFound` when it has no socket.
fn ask_irqbalance(request: &str) -> io::Result<String> {
    let mut found = io::Error::from(io::ErrorKind::NotFound);
    for address in irqbalance_addresses() {
        match ask(&address, request) {
            // What a process that has ended left behind.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found = error,
            answer => return answer,
        }
    }
    Err(found)
}

/// Where it may be reached: by files, and before 1.8 by names without files, which anybody may take;
/// so only those count that belong to a process of root with its name.
fn irqbalance_addresses() -> Vec<SocketAddr> {
    let files = std::fs::read_dir(IRQBALANCE_FOLDER).into_iter().flatten();
    let paths = files.filter_map(|entry| Some(entry.ok()?.path()));
    let sockets = paths.filter(|path| path.extension().is_some_and(|end| end == "sock"));
    let mut addresses: Vec<SocketAddr> = sockets
        .filter_map(|path| SocketAddr::from_pathname(path).ok())
        .collect();
    let names = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for process in irqbalance_processes(&names) {
        let folder = format!("/proc/{process}");
        let is_of_root = std::fs::metadata(&folder).is_ok_and(|facts| facts.uid() == 0);
        let name = std::fs::read_to_string(format!("{folder}/comm"));
        if is_of_root && name.is_ok_and(|name| name.trim() == "irqbalance") {
            let name = format!("irqbalance{process}.sock");
            addresses.extend(SocketAddr::from_abstract_name(name));
        }
    }
    addresses
}

/// The processes that `/proc/net/unix` names: `… 01 12345 @irqbalance678.sock`.
fn irqbalance_processes(table: &str) -> Vec<u32> {
    let names = table.lines().filter_map(|line| line.rsplit_once(" @"));
    let names = names.filter_map(|(_, name)| name.strip_prefix("irqbalance"));
    let numbers = names.filter_map(|name| name.strip_suffix(".sock")?.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn ask(address: &SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect_addr(address)?;
    stream.set_read_timeout(Some(IRQBALANCE_PATIENCE))?;
    stream.set_write_timeout(Some(IRQBALANCE_PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Reads `SLEEP 10 IRQ 24 LOAD 0 DIFF 0 CLASS 2 … BANNED 00000000`.
fn parse_setup(answer: &str) -> Result<Irqbalance, String> {
    let wrong = || format!("irqbalance's socket: {}", crate::cpulist::quoted(answer));
    let mut words = answer.split_whitespace();
    let (mut period, mut banned) = (None, Vec::new());
    while let Some(word) = words.next() {
        if ["SLEEP", "IRQ"].contains(&word) {
            let number = words.next().and_then(|number| number.parse().ok());
            let number = number.ok_or_else(wrong)?;
            match word {
                "SLEEP" => period = Some(number),
                _ => banned.push(number),
            }
        }
    }
    Ok(Irqbalance {
        period_seconds: Fact::Known(period.ok_or_else(wrong)?),
        banned: Fact::Known(banned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_judged_without_being_kept() {
        let check = |key: &[u8], expect| assert_eq!(key_state(key), expect, "{key:?}");
        check(&[], KeyState::Hidden);
        check(&[0; 40], KeyState::Zero);
        check(&[0x6d, 0x5a, 0x6d, 0x5a, 0x6d, 0x5a], KeyState::Published);
        check(
            &[0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41],
            KeyState::Published,
        );
        check(&[7, 99, 3, 201, 17, 5], KeyState::Unremarkable);
    }

    #[test]
    fn irqbalance_is_understood() {
        let text = "SLEEP 10 IRQ 24 LOAD 5 DIFF 0 CLASS 2 IRQ 31 LOAD 0 DIFF 0 CLASS 5 BANNED 0";
        let expect = Irqbalance {
            period_seconds: Fact::Known(10),
            banned: Fact::Known(vec![24, 31]),
        };
        assert_eq!(parse_setup(text), Ok(expect));
        for cut in ["", "SLEEP", "SLEEP x", "SLEEP 10 IRQ"] {
            assert!(parse_setup(cut).is_err(), "{cut}");
        }
    }

    #[test]
    fn names_without_files_tell_their_processes() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0: 00000002 00000000 00010000 0001 01 21 @irqbalance678.sock\n\
                     0: 00000003 00000000 00000000 0001 03 22 @irqbalance678.sock\n\
                     0: 00000002 00000000 00010000 0001 01 23 /run/irqbalance/irqbalance9.sock\n\
                     0: 00000002 00000000 00010000 0001 01 24 @irqbalancex.sock\n\
                     0: 00000002 00000000 00010000 0001 01 25\n";
        assert_eq!(irqbalance_processes(table), [678]);
    }

    #[test]
    fn what_it_answers_is_read_to_its_end() {
        use std::os::unix::net::UnixListener;
        let name = format!("ringway-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        let refused = ask(&address, "setup").expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = UnixListener::bind_addr(&address).expect("free");
        let answering = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut request = [0; 5];
            client.read_exact(&mut request).expect("a request");
            client.write_all(b"SLEEP 10 ").expect("a reader");
            client.write_all(&request).expect("a reader");
        });
        assert_eq!(ask(&address, "setup").expect("an answer"), "SLEEP 10 setup");
        answering.join().expect("it doesn't fail");
    }

    #[test]
    fn what_is_set_in_a_tree_is_what_is_read() {
        let mut probes = Probes::unknown("a test");
        let mut device = Device::unknown("a test");
        device.channels = Fact::Known(Channels::default());
        device.rings = Fact::Known(Rings::default());
        probes.devices.insert("eth0".to_owned(), device);
        probes.irqbalance = Fact::Known(Some(Irqbalance {
            period_seconds: Fact::Known(10),
            banned: Fact::Known(Vec::new()),
        }));
        let nic = || "eth0".to_owned();
        for (target, value) in [
            (Target::Channels(nic()), "rx 0 tx 1 combined 4"),
            (Target::Rings(nic()), "rx 512 tx 256"),
            (Target::IrqbalanceBan, "24 31"),
            (Target::IrqbalanceBan, ""),
        ] {
            probes.pretend(&target, value).expect(value);
            assert_eq!(probes.value(&target).as_deref(), Ok(value));
        }
        let unknown = Target::RssTable(nic());
        assert!(probes.pretend(&unknown, "0 1").is_err());
        assert_eq!(probes.value(&unknown), Err("a test".to_owned()));
        assert!(probes.pretend(&Target::Channels(nic()), "rx 0 tx").is_err());
    }
}
