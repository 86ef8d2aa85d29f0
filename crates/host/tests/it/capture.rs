//! A capture says elsewhere what the machine said, and no names.

use crate::fixture::{NicSpec, Spec};
use ringway_host::capture::capture;
use ringway_host::facts::{Fact, Facts};
use ringway_host::intent::Intent;
use ringway_host::machine::Tree;
use ringway_host::report::{Style, examine};
use std::process::Command;

/// Unpacks with the system's tar, so that what is written is a tar to others too.
fn unpack(archive: &[u8]) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("capture.tar");
    std::fs::write(&file, archive).unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    match Command::new("tar")
        .arg("-xf")
        .arg(&file)
        .arg("-C")
        .arg(&root)
        .output()
    {
        Err(error) => {
            println!("SKIP: tar: {error}");
            None
        }
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && errors.is_empty(), "{errors}");
            Some(folder)
        }
    }
}

#[test]
fn a_capture_says_the_same_elsewhere() {
    for virtio in [false, true] {
        let mut spec = Spec::nodes(2, 2);
        spec.threads = 2;
        spec.quota_percent = Some(150);
        spec.nic = Some(NicSpec {
            name: "eth0",
            node: 1,
            queues: (2, 4),
            virtio,
        });
        let machine = spec.build();
        let mut archive = Vec::new();
        let facts = capture(&machine.tree(), &mut archive).unwrap();
        assert_eq!(facts, machine.facts());
        let Some(folder) = unpack(&archive) else {
            return;
        };
        let elsewhere = Facts::gather(&Tree::at(&folder.path().join("root")).unwrap());
        let style = Style {
            has_details: true,
            ..Style::default()
        };
        let say = |facts: Facts| examine(facts, Intent::default()).text(style);
        assert_eq!(say(elsewhere.clone()), say(facts.clone()));
        assert_eq!(elsewhere.nics, facts.nics);
        assert_eq!(elsewhere.processors, facts.processors);
    }
}

#[test]
fn a_capture_tells_no_names() {
    let machine = Spec::nodes(1, 2).build();
    let secrets = [
        "paymenthost",
        "52:54:00:ab:cd:ef",
        "203.0.113.9",
        "2001:db8::77",
        "secretd",
    ];
    machine.put("proc/sys/kernel/hostname", "paymenthost");
    machine.put("proc/cmdline", "ip=203.0.113.9 secretd");
    machine.put("sys/class/net/eth0/address", "52:54:00:ab:cd:ef");
    machine.put("proc/99/comm", "secretd");
    machine.put("proc/self/cgroup", "0::/user.slice/secretd.service");
    machine.put(
        "sys/fs/cgroup/user.slice/secretd.service/cpu.max",
        "150000 100000",
    );
    machine.put(
        "proc/self/status",
        "Name:\tsecretd\nCapEff:\t0\nCpus_allowed_list:\t0-1",
    );
    machine.put(
        "proc/sys/net/core/default_qdisc",
        "203.0.113.9 2001:db8::77",
    );
    machine.put(
        "proc/sys/kernel/osrelease",
        "6.12.1-paymenthost paymenthost",
    );
    let mut archive = Vec::new();
    capture(&machine.tree(), &mut archive).unwrap();
    let text = String::from_utf8_lossy(&archive);
    for secret in secrets {
        let at = text
            .find(secret)
            .map(|at| &text[at.saturating_sub(60)..at + 20]);
        assert!(at.is_none(), "{secret}: {at:?}");
    }
    let Some(folder) = unpack(&archive) else {
        return;
    };
    let facts = Facts::gather(&Tree::at(&folder.path().join("root")).unwrap());
    assert_eq!(
        facts.processors.quota,
        Fact::Known(Some(1.5)),
        "under another name"
    );
}

#[test]
fn this_machine_can_be_captured() {
    let mut archive = Vec::new();
    let facts = capture(&Tree::live(), &mut archive).unwrap();
    let Some(folder) = unpack(&archive) else {
        return;
    };
    let elsewhere = Facts::gather(&Tree::at(&folder.path().join("root")).unwrap());
    assert_eq!(elsewhere.processors.online, facts.processors.online);
    let names = |facts: &Facts| -> Vec<String> {
        facts
            .known_nics()
            .iter()
            .map(|nic| nic.name.clone())
            .collect()
    };
    assert_eq!(names(&elsewhere), names(&facts));
}
