//! What the operator says of the service, which no machine can know. Without a word there is no
//! advice that depends on it.

use crate::cpulist::CpuList;
use serde::{Deserialize, Serialize};

/// What the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Answers by itself.
    Server,
    /// Connects to others for its answers.
    Proxy,
}

/// Where the clients are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// Near: round trips below a millisecond or two.
    Lan,
    /// Far: the internet.
    Wan,
}

/// What matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// The time of one answer.
    Latency,
    /// The number of answers, or of bytes.
    Throughput,
}

/// Everything that was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What the service is.
    pub role: Option<Role>,
    /// Where the clients are.
    pub link: Option<Link>,
    /// Requests a second that are expected.
    pub rate: Option<u64>,
    /// Connections at the same time that are expected.
    pub connections: Option<u64>,
    /// What matters most.
    pub goal: Option<Goal>,
    /// The network device that it is about; without one, the busiest physical one.
    pub nic: Option<String>,
    /// How many workers; without a number, one for each core near the device, or for each of `cpus`.
    pub workers: Option<usize>,
    /// The processors that workers may have; without any, all but those set apart at boot.
    #[serde(default)]
    pub cpus: Option<CpuList>,
    /// Whether the number of queues may be changed, which can cut the link for a moment.
    pub may_disrupt: bool,
}
