//! Watches on real directories, with their events read by the test itself.

use super::*;
use ringway_runtime::{Runtime, RuntimeOptions, sleep};
use std::fs;
use std::path::Path;

/// A folder with `old` and `new`, each with `d/e` in it.
struct Releases(tempfile::TempDir);

impl Releases {
    fn new() -> Releases {
        let folder = tempfile::tempdir().unwrap();
        for inner in ["old/d/e", "new/d/e"] {
            fs::create_dir_all(folder.path().join(inner)).unwrap();
        }
        Releases(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn open(&self, name: &str) -> Directory {
        Directory::open(&self.path(name)).unwrap()
    }
}

/// Room for so many watches; `None` where the file system of `path` isn't one that tells.
fn watches(limit: usize, path: &Path) -> Option<Watches> {
    let tells = Directory::open(path)
        .unwrap()
        .watch(&Watcher::new().unwrap(), b"");
    if tells.is_err() {
        eprintln!("SKIP watched: the temporary directory is on another kind of file system");
        return None;
    }
    Some(Watches::new(limit).unwrap())
}

fn has_ended(watched: &Watched) -> bool {
    watched.changes.load(Relaxed) == ENDED
}

fn sight_of(watched: &Arc<Watched>) -> Sight {
    Sight {
        changes: watched.changes.load(Relaxed),
        watched: Arc::clone(watched),
    }
}

/// Takes in what has happened: the kernel has told it by the time that the change is made.
fn hear(watches: &Watches) {
    watches.wait(Duration::ZERO).unwrap();
}

#[test]
fn a_change_is_told_of_its_own_directory_only() {
    let releases = Releases::new();
    let Some(watches) = watches(10, releases.0.path()) else {
        return;
    };
    let old = releases.open("old");
    let outer = sight_of(&watches.add(0, &old, b"d").unwrap());
    let inner = sight_of(&watches.add(0, &old, b"d/e").unwrap());
    hear(&watches);
    assert!(outer.is_clear() && inner.is_clear());
    fs::write(releases.path("old/d/e/file"), "x").unwrap();
    hear(&watches);
    assert!(outer.is_clear() && !inner.is_clear());
    assert!(sight_of(&watches.add(0, &old, b"d/e").unwrap()).is_clear());
}

#[test]
fn a_folder_that_is_renamed_ends_what_is_watched_below_it() {
    let releases = Releases::new();
    let Some(watches) = watches(10, releases.0.path()) else {
        return;
    };
    let old = releases.open("old");
    let root = watches.add(0, &old, b"").unwrap();
    let inner = watches.add(0, &old, b"d/e").unwrap();
    fs::rename(releases.path("old/d"), releases.path("old/f")).unwrap();
    hear(&watches);
    assert!(has_ended(&inner) && !has_ended(&root));
    assert!(watches.add(0, &old, b"d/e").is_err());
    assert!(!has_ended(&watches.add(0, &old, b"f/e").unwrap()));
}

/// Workers that go on with the old directory for a moment ask for its watches anew; the new one used
/// to be given those, and heard of nothing.
#[test]
fn a_swapped_root_is_not_given_the_watches_of_the_old_one() {
    let releases = Releases::new();
    let Some(watches) = watches(10, releases.0.path()) else {
        return;
    };
    let (old, new) = (releases.open("old"), releases.open("new"));
    let before = watches.add(0, &old, b"d").unwrap();
    watches.leave(0, old.identity().unwrap());
    assert!(has_ended(&before));
    assert!(watches.add(0, &old, b"d").is_err(), "nobody needs it");
    let after = sight_of(&watches.add(0, &new, b"d").unwrap());
    hear(&watches);
    fs::write(releases.path("old/d/file"), "x").unwrap();
    hear(&watches);
    assert!(after.is_clear());
    fs::write(releases.path("new/d/file"), "x").unwrap();
    hear(&watches);
    assert!(!after.is_clear());
}

#[test]
fn a_root_that_is_swapped_back_is_watched_again() {
    let releases = Releases::new();
    let Some(watches) = watches(10, releases.0.path()) else {
        return;
    };
    let (old, new) = (releases.open("old"), releases.open("new"));
    watches.leave(0, old.identity().unwrap());
    let other = watches.add(0, &new, b"d").unwrap();
    watches.leave(0, new.identity().unwrap());
    assert!(has_ended(&other));
    let again = watches.add(0, &old, b"d").unwrap();
    assert!(!has_ended(&again));
    assert!(watches.add(0, &new, b"d").is_err());
    // Another root may be what this one has left.
    assert!(watches.add(1, &new, b"d").is_ok());
}

/// They used to be added and trusted, with nobody to read what they tell.
#[test]
fn when_inotify_fails_nothing_is_watched_any_more() {
    let releases = Releases::new();
    let Some(watches) = watches(10, releases.0.path()) else {
        return;
    };
    let old = releases.open("old");
    let sight = sight_of(&watches.add(0, &old, b"d").unwrap());
    assert!(watches.listen(Duration::ZERO));
    assert!(sight.is_clear());
    // Longer than the kernel can wait: poll(2) isn't even called.
    assert!(!watches.listen(Duration::MAX));
    assert!(!sight.is_clear());
    let error = watches.add(0, &old, b"d").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(watches.lock().by_id.is_empty() && watches.lock().by_place.is_empty());
}

#[test]
fn the_limit_holds_and_a_directory_is_watched_by_one_path() {
    let releases = Releases::new();
    let Some(watches) = watches(3, releases.0.path()) else {
        return;
    };
    let (old, inner) = (releases.open("old"), releases.open("old/d"));
    let kind = |added: io::Result<Arc<Watched>>| added.map_err(|error| error.kind()).err();
    assert_eq!(kind(watches.add(0, &old, b"d")), None);
    // A root within the other: events of it name the other's path.
    let refused = kind(watches.add(1, &inner, b""));
    assert_eq!(refused, Some(io::ErrorKind::AlreadyExists));
    assert_eq!(kind(watches.add(0, &old, b"d/e")), None);
    let refused = kind(watches.add(0, &releases.open("new"), b""));
    assert_eq!(refused, Some(io::ErrorKind::QuotaExceeded));
}

/// Lets what was asked for come: its task holds the outlook, too.
async fn settle(outlook: &Rc<Outlook>) {
    while Rc::strong_count(outlook) > 1 {
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn what_was_asked_of_the_old_directory_is_not_known_of_the_new_one() {
    let releases = Releases::new();
    let Some(watches) = watches(10, releases.0.path()) else {
        return;
    };
    let mut runtime = Runtime::new(&RuntimeOptions::default()).unwrap();
    let ran = runtime.block_on(async move {
        let outlook = Rc::new(Outlook::new(Arc::new(watches), 0));
        let (old, new) = (releases.open("old"), releases.open("new"));
        assert!(outlook.sight(&old, b"d/file").is_none(), "asked for");
        settle(&outlook).await;
        assert!(outlook.sight(&old, b"d/file").is_some());
        // Asked for, and swapped before it is there.
        assert!(outlook.sight(&old, b"d/e/file").is_none());
        outlook.clear();
        settle(&outlook).await;
        assert!(outlook.known.borrow().is_empty());
        assert!(outlook.sight(&new, b"d/e/file").is_none());
        settle(&outlook).await;
        let sight = outlook.sight(&new, b"d/e/file").unwrap();
        let site = (0, new.identity().unwrap());
        assert_eq!(sight.watched.place, (site, Box::from(*b"d/e")));
    });
    ran.unwrap();
}
