//! Keeping what was tuned, on trees: the files that it makes, whose they are, and their removal.

use crate::fixture::{Machine as Fixture, Spec};
use expect_test::expect;
use ringway_host::apply::{Outcome, apply};
use ringway_host::intent::{Intent, Link, Role};
use ringway_host::journal::Folder;
use ringway_host::persist::{PARAMETERS_FILE, UNIT_FILE, UNIT_LINK, forget, persist};
use ringway_host::undo::{State, Undone, revert, verify};

fn intent() -> Intent {
    Intent {
        role: Some(Role::Proxy),
        link: Some(Link::Wan),
        ..Intent::default()
    }
}

fn command() -> Vec<String> {
    let words = ["/usr/bin/ringway", "tune", "--apply", "--role", "proxy"];
    words.map(str::to_owned).to_vec()
}

/// Two nodes, a small backlog, and systemd's folder.
fn machine() -> Fixture {
    let machine = Spec::nodes(2, 2).build();
    machine.put("proc/sys/net/core/somaxconn", "128");
    machine.put(
        "etc/systemd/system/multi-user.target.wants/other.service",
        "",
    );
    machine
}

fn journals(place: &tempfile::TempDir) -> Folder {
    Folder::open(place.path()).unwrap()
}

fn keep(machine: &Fixture, place: &tempfile::TempDir) -> Result<Vec<Outcome>, String> {
    let summary = persist(&machine.tree(), &intent(), &command(), &journals(place))?;
    Ok(summary.applied.into_iter().map(|one| one.outcome).collect())
}

fn outcomes(machine: &Fixture, place: &tempfile::TempDir, is_forced: bool) -> Vec<Undone> {
    let reverted = forget(&machine.tree(), &journals(place), is_forced).unwrap();
    reverted.into_iter().map(|one| one.outcome).collect()
}

#[test]
fn what_is_set_goes_into_a_file_and_what_is_raised_is_left_to_the_unit() {
    let machine = machine();
    let before = machine.contents();
    let place = tempfile::tempdir().unwrap();
    assert_eq!(keep(&machine, &place).unwrap(), vec![Outcome::Done; 3]);
    expect![[r#"
        # Made by `ringway tune --persist`; `ringway tune --unpersist` removes it as long as nobody
        # changes it. What is only ever raised isn't here: ringway-tune.service raises it.
        kernel.numa_balancing = 0
        net.ipv4.ip_local_port_range = 10240 60999
        net.ipv4.tcp_slow_start_after_idle = 0
    "#]]
    .assert_eq(&std::fs::read_to_string(machine.path(PARAMETERS_FILE)).unwrap());
    expect![[r#"
        # Made by `ringway tune --persist`; `ringway tune --unpersist` removes it as long as nobody
        # changes it.
        [Unit]
        Description=Tune this machine for Ringway
        Wants=network-online.target
        After=network-online.target systemd-sysctl.service irqbalance.service

        [Service]
        Type=oneshot
        ExecStart=/usr/bin/ringway tune --apply --role proxy

        [Install]
        WantedBy=multi-user.target
    "#]]
    .assert_eq(&std::fs::read_to_string(machine.path(UNIT_LINK)).unwrap());
    assert_eq!(keep(&machine, &place).unwrap(), [], "it is kept already");
    assert_eq!(outcomes(&machine, &place, false), vec![Undone::Restored; 3]);
    assert_eq!(machine.contents(), before);
    assert!(machine.path(UNIT_LINK).symlink_metadata().is_err());
    assert_eq!(outcomes(&machine, &place, false), []);
}

#[test]
fn what_was_applied_before_is_kept_and_outlives_a_restart() {
    let machine = machine();
    let place = tempfile::tempdir().unwrap();
    apply(&machine.tree(), &intent(), &journals(&place)).unwrap();
    keep(&machine, &place).unwrap();
    assert!(
        machine
            .get(PARAMETERS_FILE)
            .contains("kernel.numa_balancing = 0")
    );
    let kept = machine.contents();
    machine.put("proc/sys/kernel/random/boot_id", "another");
    let verified = verify(&machine.tree(), &journals(&place)).unwrap();
    let holding = verified.iter().filter(|one| one.state == State::Holds);
    assert!(
        holding.clone().all(|one| one.target.is_lasting()),
        "{verified:?}"
    );
    assert_eq!(holding.count(), 3);
    // The file began that run, so nothing asks for its parameters; they stay in it.
    assert_eq!(keep(&machine, &place).unwrap(), []);
    // The unit applies again, which ends the journals of before, but not that of the files.
    machine.put("proc/sys/net/core/somaxconn", "128");
    apply(&machine.tree(), &intent(), &journals(&place)).unwrap();
    let verified = verify(&machine.tree(), &journals(&place)).unwrap();
    assert!(
        verified.iter().all(|one| one.state == State::Holds),
        "{verified:?}"
    );
    revert(&machine.tree(), &journals(&place), None, false).unwrap();
    for path in [PARAMETERS_FILE, UNIT_FILE, UNIT_LINK] {
        assert!(kept.keys().any(|kept| kept.ends_with(path)) || path == UNIT_LINK);
        assert!(machine.path(path).symlink_metadata().is_err(), "{path}");
    }
    assert_eq!(machine.get("proc/sys/net/core/somaxconn"), "128");
}

#[test]
fn other_flags_make_another_unit_and_undo_to_nothing() {
    let machine = machine();
    let before = machine.contents();
    let place = tempfile::tempdir().unwrap();
    keep(&machine, &place).unwrap();
    let other = ["/usr/bin/ringway", "tune", "--apply"].map(str::to_owned);
    let summary = persist(&machine.tree(), &intent(), &other, &journals(&place)).unwrap();
    assert_eq!(summary.applied.len(), 1);
    assert!(
        machine
            .get(UNIT_FILE)
            .contains("ExecStart=/usr/bin/ringway tune --apply\n")
    );
    outcomes(&machine, &place, false);
    assert_eq!(machine.contents(), before);
}

#[test]
fn files_of_others_are_neither_written_over_nor_removed() {
    let machine = machine();
    let place = tempfile::tempdir().unwrap();
    machine.put(PARAMETERS_FILE, "vm.swappiness = 1");
    let error = keep(&machine, &place).unwrap_err();
    let expect = "/etc/sysctl.d/90-ringway.conf isn't as tune left it: move it away, or remove it";
    assert_eq!(error, expect);
    assert!(!machine.path(UNIT_FILE).exists(), "nothing is half done");
    machine.remove(PARAMETERS_FILE);
    keep(&machine, &place).unwrap();
    machine.put(UNIT_FILE, "# mine now");
    assert!(keep(&machine, &place).is_err());
    let undone = outcomes(&machine, &place, false);
    let conflict = Undone::Conflict("# mine now\n".to_owned());
    assert_eq!(undone, [Undone::Restored, conflict, Undone::Restored]);
    assert_eq!(machine.get(UNIT_FILE), "# mine now");
    outcomes(&machine, &place, true);
    assert!(!machine.path(UNIT_FILE).exists());
}

#[test]
fn without_systemd_the_parameters_are_kept_and_that_is_said() {
    let machine = machine();
    machine.remove("etc/systemd");
    let place = tempfile::tempdir().unwrap();
    let summary = persist(&machine.tree(), &intent(), &command(), &journals(&place)).unwrap();
    assert_eq!(summary.applied.len(), 1);
    assert!(summary.notes[0].starts_with("no systemd is seen"));
    assert!(!machine.path(UNIT_FILE).exists());
}

#[test]
fn a_link_out_of_the_tree_is_not_followed() {
    let machine = machine();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), machine.path("etc/sysctl.d")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let outcomes = keep(&machine, &place).unwrap();
    let why = "it leads out of the tree".to_owned();
    assert_eq!(
        outcomes,
        [Outcome::Failed(why), Outcome::Done, Outcome::Done]
    );
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}
