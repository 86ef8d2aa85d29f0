//! Where a change was made: in which run of the kernel, in which network namespace, on which
//! devices. Undoing it elsewhere would change what was never ours.
//!
//! Devices are known by where they are, not by their names: names move from one to another.

use crate::machine::{Machine, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The surroundings of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Which run of the kernel.
    pub boot_id: Option<String>,
    /// Which network namespace, as `/proc/self/ns/net` names it.
    pub network: Option<String>,
    /// Each network device's place on its bus; `index 3` where it has none.
    pub devices: BTreeMap<String, String>,
}

/// Why what was changed can't be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It isn't there any more, so there is nothing to undo.
    Gone(String),
    /// It may well be there, but not where this runs.
    Elsewhere(String),
}

impl Origin {
    /// Here and now.
    pub fn of(machine: &dyn Machine) -> Origin {
        let text = machine.read("proc/sys/kernel/random/boot_id");
        Origin {
            boot_id: text.ok().map(|text| text.trim().to_owned()),
            network: machine.link("proc/self/ns/net").ok(),
            devices: devices(machine),
        }
    }

    /// Whether it was in another run of the kernel than `now`, as far as both are known.
    pub fn is_of_another_run(&self, now: &Origin) -> bool {
        matches!((&self.boot_id, &now.boot_id), (Some(then), Some(now)) if then != now)
    }

    /// What `target` is called now.
    ///
    /// # Errors
    /// When it isn't there, or not here.
    pub fn find(&self, now: &Origin, target: &Target) -> Result<Target, Absence> {
        if target.is_lasting() {
            return Ok(target.clone());
        }
        if self.boot_id != now.boot_id {
            let why = "the machine was started anew since";
            return Err(Absence::Gone(why.to_owned()));
        }
        if let (true, Some(then), Some(here)) =
            (target.is_of_namespace(), &self.network, &now.network)
            && then != here
        {
            let why = format!("it was done in the network namespace {then}, and this is {here}");
            return Err(Absence::Elsewhere(why));
        }
        let Some((name, place)) = target
            .nic()
            .and_then(|name| self.devices.get_key_value(name))
        else {
            return Ok(target.clone());
        };
        if now.devices.get(name) == Some(place) {
            return Ok(target.clone());
        }
        let mut there = now.devices.iter().filter(|(_, other)| *other == place);
        match there.next() {
            Some((renamed, _)) => Ok(target.clone().on(renamed)),
            None => Err(Absence::Gone(format!("{name} isn't there any more"))),
        }
    }
}

fn devices(machine: &dyn Machine) -> BTreeMap<String, String> {
    let names = machine.list("sys/class/net").unwrap_or_default();
    let place = |name: String| {
        let device = machine.resolve(&format!("sys/class/net/{name}/device"));
        let place = device.ok().or_else(|| {
            let index = machine.read(&format!("sys/class/net/{name}/ifindex"));
            Some(format!("index {}", index.ok()?.trim()))
        })?;
        Some((name, place))
    };
    names.into_iter().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(boot: &str, network: &str, devices: &[(&str, &str)]) -> Origin {
        let devices = devices.iter();
        Origin {
            boot_id: Some(boot.to_owned()),
            network: Some(network.to_owned()),
            devices: devices
                .map(|(name, place)| ((*name).to_owned(), (*place).to_owned()))
                .collect(),
        }
    }

    fn file(path: &str) -> Target {
        Target::File(path.to_owned())
    }

    #[test]
    fn a_renamed_device_is_found_and_its_name_on_another_is_not() {
        let then = origin("1", "net:[1]", &[("eth0", "pci/3"), ("eth1", "pci/4")]);
        let now = origin("1", "net:[1]", &[("wan", "pci/3"), ("eth0", "pci/4")]);
        let check = |target: Target, expect: Target| {
            assert_eq!(then.find(&now, &target), Ok(expect));
        };
        let mask = |nic: &str| file(&format!("sys/class/net/{nic}/queues/tx-0/xps_cpus"));
        check(mask("eth0"), mask("wan"));
        check(mask("eth1"), mask("eth0"));
        let channels = |nic: &str| Target::Channels(nic.to_owned());
        check(channels("eth0"), channels("wan"));
        check(
            file("proc/sys/net/core/somaxconn"),
            file("proc/sys/net/core/somaxconn"),
        );
        let without = origin("1", "net:[1]", &[("eth0", "pci/4")]);
        let gone = Absence::Gone("eth0 isn't there any more".to_owned());
        assert_eq!(then.find(&without, &mask("eth0")), Err(gone));
    }

    #[test]
    fn another_namespace_keeps_what_is_its_own() {
        let then = origin("1", "net:[1]", &[("eth0", "pci/3")]);
        let now = origin("1", "net:[2]", &[("eth0", "index 2")]);
        for target in [
            file("proc/sys/net/core/somaxconn"),
            Target::Rings("eth0".to_owned()),
        ] {
            let found = then.find(&now, &target);
            assert!(matches!(found, Err(Absence::Elsewhere(_))), "{found:?}");
        }
        let shared = file("proc/sys/kernel/numa_balancing");
        assert_eq!(then.find(&now, &shared), Ok(shared.clone()));
    }

    #[test]
    fn a_restart_leaves_only_what_is_on_disk() {
        let (then, now) = (origin("1", "net:[1]", &[]), origin("2", "net:[1]", &[]));
        let found = then.find(&now, &file("proc/sys/net/core/somaxconn"));
        assert!(matches!(found, Err(Absence::Gone(_))), "{found:?}");
        let kept = Target::Config("etc/sysctl.d/90-ringway.conf".to_owned());
        assert_eq!(then.find(&now, &kept), Ok(kept.clone()));
        assert!(then.is_of_another_run(&now));
        assert!(!then.is_of_another_run(&Origin::default()));
    }
}
