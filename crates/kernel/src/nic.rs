//! What a network device says of itself and takes only through system calls: channels, rings,
//! coalescing, the table that spreads flows over its queues, offloads (ethtool), and queueing
//! disciplines (rtnetlink).
//!
//! Off the data path. Everything else about a device is in sysfs and needs no call.

use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::ffi::c_char;
use std::io;
use std::os::fd::AsRawFd as _;

// Commands and sets of the ethtool ioctl (include/uapi/linux/ethtool.h).
const GET_DRIVER: u32 = 0x03;
const GET_COALESCING: u32 = 0x0e;
const GET_RINGS: u32 = 0x10;
const SET_RINGS: u32 = 0x11;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_SIZES: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const GET_CHANNELS: u32 = 0x3c;
const SET_CHANNELS: u32 = 0x3d;
const GET_RSS: u32 = 0x46;
const SET_RSS: u32 = 0x47;
const FEATURE_NAMES: u32 = 4;

/// Bytes of a name in a set of strings (`ETH_GSTRING_LEN`).
const NAME_BYTES: usize = 32;
/// Words before the table in `struct ethtool_rxfh`.
const RSS_HEAD_WORDS: usize = 6;
/// Above any table or key of any driver; what claims more is not believed.
const RSS_MOST_WORDS: u32 = 1 << 16;

/// How many queues of each kind a device has, and how many it could have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that only receive: now, and at most.
    pub rx: (u32, u32),
    /// Queues that only send: now, and at most.
    pub tx: (u32, u32),
    /// Pairs of both: now, and at most.
    pub combined: (u32, u32),
}

/// The depth of a device's rings, in descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// For each receive queue: now, and at most.
    pub rx: (u32, u32),
    /// For each send queue: now, and at most.
    pub tx: (u32, u32),
}

/// How long a device may collect packets before it interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// Microseconds after a received packet.
    pub rx_microseconds: u32,
    /// Received packets.
    pub rx_frames: u32,
    /// Microseconds after a sent packet.
    pub tx_microseconds: u32,
    /// Sent packets.
    pub tx_frames: u32,
    /// Whether the driver chooses the receive side's by itself.
    pub adaptive_rx: bool,
    /// Whether the driver chooses the send side's by itself.
    pub adaptive_tx: bool,
}

/// How received flows are spread over the queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// The receive queue for each value of the hash.
    pub table: Vec<u32>,
    /// The secret of the hash.
    pub key: Vec<u8>,
}

/// A queueing discipline of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// The device's index.
    pub device_index: u32,
    /// `fq`, `mq`, `pfifo_fast`, …
    pub kind: String,
    /// Whether it is the device's own, rather than a part of another.
    pub is_root: bool,
}

/// The names of a device's driver and of its place on the bus.
///
/// # Errors
/// As `SIOCETHTOOL`: no such device, or a driver without the call.
pub fn driver(device: &str) -> io::Result<(String, String)> {
    // struct ethtool_drvinfo: the command, then driver, version, firmware, bus of 32 bytes each,
    // two more names, five numbers: 196 bytes.
    let mut words = vec![0; 49];
    words[0] = GET_DRIVER;
    exchange(device, &mut words)?;
    let bytes = bytes_of(&words);
    Ok((name_at(&bytes, 4), name_at(&bytes, 4 + 3 * NAME_BYTES)))
}

/// The device's queues.
///
/// # Errors
/// As [`driver`].
pub fn channels(device: &str) -> io::Result<Channels> {
    let words = ask::<9>(device, GET_CHANNELS)?;
    Ok(Channels {
        rx: (words[5], words[1]),
        tx: (words[6], words[2]),
        combined: (words[8], words[4]),
    })
}

/// Changes the numbers of queues to the first of each pair. The link may go down for a moment, and
/// interrupts may get new numbers.
///
/// # Errors
/// As [`driver`]; and `EINVAL` when the RSS table or a rule uses a queue that would go.
pub fn set_channels(device: &str, channels: &Channels) -> io::Result<()> {
    let mut words = ask::<9>(device, GET_CHANNELS)?;
    words[0] = SET_CHANNELS;
    words[5] = channels.rx.0;
    words[6] = channels.tx.0;
    words[8] = channels.combined.0;
    exchange(device, &mut words)
}

/// The device's rings.
///
/// # Errors
/// As [`driver`].
pub fn rings(device: &str) -> io::Result<Rings> {
    let words = ask::<9>(device, GET_RINGS)?;
    Ok(Rings {
        rx: (words[5], words[1]),
        tx: (words[8], words[4]),
    })
}

/// Changes the depth of the rings to the first of each pair.
///
/// # Errors
/// As [`driver`]; and `EINVAL` for more than the device has.
pub fn set_rings(device: &str, rings: &Rings) -> io::Result<()> {
    let mut words = ask::<9>(device, GET_RINGS)?;
    words[0] = SET_RINGS;
    words[5] = rings.rx.0;
    words[8] = rings.tx.0;
    exchange(device, &mut words)
}

/// The device's coalescing.
///
/// # Errors
/// As [`driver`].
pub fn coalescing(device: &str) -> io::Result<Coalescing> {
    let words = ask::<23>(device, GET_COALESCING)?;
    Ok(Coalescing {
        rx_microseconds: words[1],
        rx_frames: words[2],
        tx_microseconds: words[5],
        tx_frames: words[6],
        adaptive_rx: words[10] != 0,
        adaptive_tx: words[11] != 0,
    })
}

/// How the device spreads received flows.
///
/// # Errors
/// As [`driver`].
pub fn rss(device: &str) -> io::Result<Rss> {
    // Asked without room, the kernel answers with the sizes only.
    let head = ask::<RSS_HEAD_WORDS>(device, GET_RSS)?;
    let (table_words, key_bytes) = (head[2], head[3]);
    if table_words > RSS_MOST_WORDS || key_bytes > RSS_MOST_WORDS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let table_end = RSS_HEAD_WORDS + table_words as usize;
    let mut words = vec![0; table_end + (key_bytes as usize).div_ceil(4)];
    words[0] = GET_RSS;
    words[2] = table_words;
    words[3] = key_bytes;
    exchange(device, &mut words)?;
    let mut key = bytes_of(&words[table_end..]);
    key.truncate(key_bytes as usize);
    Ok(Rss {
        table: words[RSS_HEAD_WORDS..table_end].to_vec(),
        key,
    })
}

/// Changes the table, and leaves key and hash function as they are.
///
/// # Errors
/// As [`driver`]; and `EINVAL` for a table of another size or a queue that isn't there.
pub fn set_rss_table(device: &str, table: &[u32]) -> io::Result<()> {
    let size = u32::try_from(table.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut words = vec![SET_RSS, 0, size, 0, 0, 0];
    words.extend_from_slice(table);
    exchange(device, &mut words)
}

/// The device's features by name, and whether each is on.
///
/// # Errors
/// As [`driver`].
pub fn features(device: &str) -> io::Result<Vec<(String, bool)>> {
    let mask = (1_u64 << FEATURE_NAMES).to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes([mask[at], mask[at + 1], mask[at + 2], mask[at + 3]]);
    let mut sizes = [GET_SET_SIZES, 0, half(0), half(4), 0];
    exchange(device, &mut sizes)?;
    let count = sizes[4];
    if count == 0 || count > 1024 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // The kernel writes as many names as it has, whatever is asked for; their number is fixed when
    // it is built (net/ethtool/common.c, netdev_features_strings).
    let mut names = vec![0; 3 + count as usize * NAME_BYTES / 4];
    names[..3].copy_from_slice(&[GET_STRINGS, FEATURE_NAMES, count]);
    exchange(device, &mut names)?;
    let names = bytes_of(&names[3..]);
    let blocks = count.div_ceil(32);
    let mut states = vec![0; 2 + blocks as usize * 4];
    states[..2].copy_from_slice(&[GET_FEATURES, blocks]);
    exchange(device, &mut states)?;
    let is_on = |index: usize| {
        let active = states.get(2 + index / 32 * 4 + 2).copied().unwrap_or(0);
        active >> (index % 32) & 1 == 1
    };
    Ok((0..count as usize)
        .map(|index| (name_at(&names, index * NAME_BYTES), is_on(index)))
        .filter(|(name, _)| !name.is_empty())
        .collect())
}

/// A command of `WORDS` 32-bit words that only asks.
fn ask<const WORDS: usize>(device: &str, command: u32) -> io::Result<[u32; WORDS]> {
    let mut words = [0; WORDS];
    words[0] = command;
    exchange(device, &mut words)?;
    Ok(words)
}

/// Hands a command to the device's driver, which answers in place. Each command above brings as
/// many words as the kernel may write for it.
fn exchange(device: &str, words: &mut [u32]) -> io::Result<()> {
    if device.is_empty() || device.len() >= libc::IFNAMSIZ || device.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: words.as_mut_ptr().cast(),
        },
    };
    let socket = socket.as_raw_fd();
    // SAFETY: `request` is a whole `struct ifreq` with a terminated name; its pointer is to `words`,
    // borrowed exclusively during the call and as long as the largest answer to the command, which
    // every caller in this file sees to.
    let result = unsafe {
        libc::ioctl(socket, 0x8946 /* SIOCETHTOOL */, &raw mut request)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn name_at(bytes: &[u8], start: usize) -> String {
    let name = bytes.get(start..start + NAME_BYTES).unwrap_or(&[]);
    let end = name.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
}

// Numbers of rtnetlink (include/uapi/linux/{netlink,rtnetlink,pkt_sched}.h).
const GET_QDISC: u16 = 38;
const REQUEST_DUMP: u16 = 0x301;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const ATTRIBUTE_KIND: u16 = 1;
const PARENT_ROOT: u32 = 0xffff_ffff;
const HEADER_BYTES: usize = 16;
const QDISC_BYTES: usize = 20;
/// Answers read before the kernel is taken to be repeating itself.
const MOST_ANSWERS: usize = 4096;

/// The queueing disciplines of all devices in this network namespace.
///
/// # Errors
/// As `netlink(7)`.
pub fn qdiscs() -> io::Result<Vec<Qdisc>> {
    let socket = net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None, // NETLINK_ROUTE is protocol 0
    )?;
    let mut request = Vec::with_capacity(HEADER_BYTES + QDISC_BYTES);
    request.extend_from_slice(&((HEADER_BYTES + QDISC_BYTES) as u32).to_ne_bytes());
    request.extend_from_slice(&GET_QDISC.to_ne_bytes());
    request.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    request.resize(HEADER_BYTES + QDISC_BYTES, 0);
    net::send(&socket, &request, SendFlags::empty())?;
    let mut found = Vec::new();
    let mut answer = vec![0; 1 << 16];
    for _ in 0..MOST_ANSWERS {
        let (length, _) = net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
        if parse_qdiscs(&answer[..length], &mut found)? {
            return Ok(found);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Adds what one datagram lists; true at the end of the list.
fn parse_qdiscs(mut messages: &[u8], found: &mut Vec<Qdisc>) -> io::Result<bool> {
    while let Some(length) = u32_at(messages, 0).map(|length| length as usize) {
        if length < HEADER_BYTES || length > messages.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let message = &messages[..length];
        match u16_at(message, 4) {
            Some(MESSAGE_DONE) => return Ok(true),
            Some(MESSAGE_ERROR) => {
                let errno = u32_at(message, HEADER_BYTES).map_or(0, u32::cast_signed);
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            _ => found.extend(parse_qdisc(&message[HEADER_BYTES..])),
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(false)
}

fn parse_qdisc(body: &[u8]) -> Option<Qdisc> {
    let device_index = u32_at(body, 4)?;
    let parent = u32_at(body, 12)?;
    let mut attributes = body.get(QDISC_BYTES..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(4..usize::from(length))?;
        if kind == ATTRIBUTE_KIND {
            let name = value.split(|&byte| byte == 0).next().unwrap_or(&[]);
            return Some(Qdisc {
                device_index,
                kind: String::from_utf8_lossy(name).into_owned(),
                is_root: parent == PARENT_ROOT,
            });
        }
        let next = usize::from(length).next_multiple_of(4);
        attributes = attributes.get(next..).unwrap_or(&[]);
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.resize(HEADER_BYTES, 0);
        message.extend_from_slice(body);
        message
    }

    fn qdisc(device_index: u32, parent: u32, name: &str) -> Vec<u8> {
        let mut body = vec![0; 4];
        body.extend_from_slice(&device_index.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&parent.to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&((4 + name.len() + 1) as u16).to_ne_bytes());
        body.extend_from_slice(&ATTRIBUTE_KIND.to_ne_bytes());
        body.extend_from_slice(name.as_bytes());
        body.resize(
            body.len()
                .next_multiple_of(4)
                .max(body.len() + 1)
                .next_multiple_of(4),
            0,
        );
        message(36, &body)
    }

    #[test]
    fn a_dump_of_qdiscs_is_read_to_its_end() {
        let mut dump = qdisc(2, PARENT_ROOT, "mq");
        dump.extend(qdisc(2, 0x8001_0001, "fq"));
        let mut found = Vec::new();
        assert!(!parse_qdiscs(&dump, &mut found).expect("well formed"));
        let expect = |kind: &str, is_root| Qdisc {
            device_index: 2,
            kind: kind.to_owned(),
            is_root,
        };
        assert_eq!(found, [expect("mq", true), expect("fq", false)]);
        assert!(parse_qdiscs(&message(MESSAGE_DONE, &[0; 4]), &mut found).expect("well formed"));
        let refused = message(MESSAGE_ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = parse_qdiscs(&refused, &mut found).expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn this_kernel_lists_its_qdiscs() {
        match qdiscs() {
            Ok(found) => assert!(found.iter().all(|qdisc| !qdisc.kind.is_empty())),
            Err(error) => println!("SKIP: rtnetlink: {error}"),
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let no_device = |result: io::Result<Channels>| {
            let error = result.expect_err("no such device");
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        };
        no_device(channels("ringway-none"));
        for name in ["", "a\0b", "a-name-longer-than-any-device"] {
            let error = features(name).expect_err("no name");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn the_loopback_device_names_its_features() {
        let features = features("lo").expect("every kernel has lo");
        let on = |name: &str| features.iter().find(|(found, _)| found == name);
        // drivers/net/loopback.c: NETIF_F_LOOPBACK is fixed on, LRO isn't offered.
        assert_eq!(on("loopback").map(|(_, on)| *on), Some(true));
        assert_eq!(on("rx-lro").map(|(_, on)| *on), Some(false));
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_qdiscs(&bytes, &mut Vec::new());
        }
    }
}
