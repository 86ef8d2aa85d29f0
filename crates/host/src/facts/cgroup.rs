//! What the control groups leave us: processors and their time, in version 2, version 1, or both.
//!
//! A container may see its own group as the root, or the path of a group that isn't mounted at all.
//! So each path is tried from the group upwards, and the tightest limit found is the one that holds.

use super::text;
use crate::cpulist::CpuList;
use crate::machine::Machine;

/// Where version 2 is: alone, and beside version 1.
const UNIFIED: [&str; 2] = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];
const VERSION_1: &str = "sys/fs/cgroup";

/// Groups deeper than this are not followed; the kernel's own limits are below.
const MOST_LEVELS: usize = 64;

/// The groups of a process, from `/proc/self/cgroup`.
struct Groups {
    /// `(controllers, path)`; version 2 has no controllers.
    lines: Vec<(String, String)>,
}

impl Groups {
    fn read(machine: &dyn Machine) -> Result<Groups, String> {
        let text = machine.read("proc/self/cgroup")?;
        let line = |line: &str| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers.to_owned(), path.trim().to_owned()))
        };
        Ok(Groups {
            lines: text.lines().filter_map(line).collect(),
        })
    }

    /// The folders that may hold files of `controller` in version 1, the group's own first.
    fn version_1(&self, controller: &str) -> Vec<String> {
        let line = self.lines.iter().find(|(controllers, _)| {
            let mut controllers = controllers.split(',');
            controllers.any(|name| name == controller)
        });
        let Some((controllers, path)) = line else {
            return Vec::new();
        };
        let mut mounts = vec![controllers.as_str()];
        mounts.extend(controllers.split(',').filter(|name| name != controllers));
        let mounts = mounts.iter().map(|mount| format!("{VERSION_1}/{mount}"));
        mounts.flat_map(|mount| upwards(&mount, path)).collect()
    }

    /// The folders that may hold files of version 2, the group's own first.
    fn version_2(&self) -> Vec<String> {
        let line = self
            .lines
            .iter()
            .find(|(controllers, _)| controllers.is_empty());
        let path = line.map_or("/", |(_, path)| path);
        let folders = UNIFIED.iter().flat_map(|mount| upwards(mount, path));
        folders.collect()
    }
}

/// `mount/a/b`, `mount/a`, `mount` for `/a/b`.
fn upwards(mount: &str, path: &str) -> Vec<String> {
    let safe = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
    let parts: Vec<&str> = path.split('/').filter(safe).take(MOST_LEVELS).collect();
    let folder = |depth: usize| {
        let mut folder = mount.to_owned();
        for part in &parts[..depth] {
            folder.push('/');
            folder.push_str(part);
        }
        folder
    };
    (0..=parts.len()).rev().map(folder).collect()
}

/// How many processors' time is left to us; `None` when nothing limits it.
pub(super) fn quota(machine: &dyn Machine) -> Result<Option<f64>, String> {
    let groups = Groups::read(machine)?;
    let mut tightest: Option<f64> = None;
    let mut limit = |quota: Option<f64>| {
        if let Some(quota) = quota {
            tightest = Some(tightest.map_or(quota, |tightest| tightest.min(quota)));
        }
    };
    for folder in groups.version_2() {
        if let Ok(text) = text(machine, &format!("{folder}/cpu.max")) {
            limit(version_2_quota(&text)?);
        }
    }
    for folder in groups.version_1("cpu") {
        let file = |name: &str| text(machine, &format!("{folder}/{name}"));
        if let (Ok(quota), Ok(period)) = (file("cpu.cfs_quota_us"), file("cpu.cfs_period_us")) {
            limit(version_1_quota(&quota, &period)?);
        }
    }
    Ok(tightest)
}

/// `max 100000`, or microseconds of each period: `150000 100000`.
fn version_2_quota(text: &str) -> Result<Option<f64>, String> {
    let (quota, period) = text
        .split_once(char::is_whitespace)
        .unwrap_or((text, "100000"));
    if quota == "max" {
        return Ok(None);
    }
    share(quota, period).map(Some)
}

/// -1 is no limit.
fn version_1_quota(quota: &str, period: &str) -> Result<Option<f64>, String> {
    if quota == "-1" {
        return Ok(None);
    }
    share(quota, period).map(Some)
}

fn share(quota: &str, period: &str) -> Result<f64, String> {
    let microseconds = |text: &str| text.trim().parse::<u32>().ok().filter(|&number| number > 0);
    match (microseconds(quota), microseconds(period)) {
        (Some(quota), Some(period)) => Ok(f64::from(quota) / f64::from(period)),
        _ => Err(format!(
            "{} is not a quota",
            crate::cpulist::quoted(&format!("{quota} {period}"))
        )),
    }
}

/// The processors left to us.
pub(super) fn cpuset(machine: &dyn Machine) -> Result<CpuList, String> {
    let groups = Groups::read(machine)?;
    let version_2 = groups.version_2().into_iter();
    let mut files: Vec<String> = version_2
        .map(|folder| format!("{folder}/cpuset.cpus.effective"))
        .collect();
    for folder in groups.version_1("cpuset") {
        files.push(format!("{folder}/cpuset.effective_cpus"));
        files.push(format!("{folder}/cpuset.cpus"));
    }
    let list = |file: &String| {
        let text = text(machine, file).ok().filter(|text| !text.is_empty())?;
        Some(text.parse().map_err(|why| format!("/{file}: {why}")))
    };
    let found = files.iter().find_map(list);
    found.unwrap_or_else(|| Err("no control group limits processors".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read() {
        assert_eq!(version_2_quota("max 100000"), Ok(None));
        assert_eq!(version_2_quota("150000 100000"), Ok(Some(1.5)));
        assert_eq!(version_2_quota("50000"), Ok(Some(0.5)));
        assert_eq!(version_1_quota("-1", "100000"), Ok(None));
        assert_eq!(version_1_quota("400000", "100000"), Ok(Some(4.0)));
    }

    #[test]
    fn absurd_quotas_are_not_believed() {
        for text in [
            "",
            "0 100000",
            "1 0",
            "-5 100000",
            "max",
            "1e9 1",
            "99999999999 1",
        ] {
            if text != "max" {
                assert!(version_2_quota(text).is_err(), "{text:?}");
            }
        }
        assert!(version_1_quota("-2", "100000").is_err());
    }

    #[test]
    fn a_path_is_followed_upwards_and_never_aside() {
        assert_eq!(upwards("m", "/a/b"), ["m/a/b", "m/a", "m"]);
        assert_eq!(upwards("m", "/"), ["m"]);
        assert_eq!(upwards("m", "/../../a"), ["m/a", "m"]);
    }
}
