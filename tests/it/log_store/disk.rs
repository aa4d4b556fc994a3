//! What [`DiskLog`] promises beyond the contract: its events outlive the process, and a bad file is refused.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use whatif::storage::embedded::OpenError;

use super::*;

/// Set for the process that writes until it is killed: the folder to write to.
const WRITER_DIR: &str = "WHATIF_TEST_LOG_WRITER_DIR";

const WRITERS: u128 = 8;

fn numbered(number: u128) -> ScenarioId {
    ScenarioId(uuid::Uuid::from_u128(number))
}

/// The child of the test below; without its variable it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_that_will_be_killed() {
    let Ok(dir) = std::env::var(WRITER_DIR) else { return };
    let store = Arc::new(DiskLog::open(Path::new(&dir)).unwrap());
    let writers = (0..WRITERS).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let s = numbered(number);
            let lease = granted(&*store, s, "child").await;
            for seq in lease.extent.head + 1.. {
                let checkpoint = Some(Bytes::from(seq.to_string()));
                let batch = Batch { checkpoint, open_turn: Some(true), ..batch(s, seq..=seq) };
                store.append(s, lease.fence, batch).await.unwrap();
                // Past the test harness: one write per line, so that a line is whole or absent.
                let line = format!("\nacknowledged {number} {seq} {}\n", lease.fence.0);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn acknowledged_events_survive_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = [(0, 0); WRITERS as usize];
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log_store::disk::writer_that_will_be_killed", "--nocapture"])
            .env(WRITER_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut count = 0;
        let mut note = |line: String| {
            let Some(rest) = line.strip_prefix("acknowledged ") else { return false };
            let numbers: Vec<u64> = rest.split(' ').map(|n| n.parse().unwrap()).collect();
            acknowledged[numbers[0] as usize] = (numbers[1], numbers[2]);
            true
        };
        while count < 400 * round {
            count += usize::from(note(lines.next().expect("the child writes until it is killed")));
        }
        child.kill().unwrap(); // SIGKILL, in the middle of some appends
        child.wait().unwrap();
        lines.for_each(|line| {
            note(line);
        });

        let store = DiskLog::open(dir.path()).unwrap();
        let orphans = store.list_orphans(usize::MAX).await.unwrap();
        for (number, (seq, fence)) in acknowledged.iter().enumerate() {
            let s = numbered(number as u128);
            let LogPage { extent, frames: held } = page(&store, s, 0).await;
            assert!(extent.head >= *seq, "{seq} was acknowledged, the head is {}", extent.head);
            assert_eq!(held, frames(s, 1..=extent.head));
            assert!(orphans.contains(&s), "the dead process holds no lease");
            let lease = granted(&store, s, "parent").await;
            assert!(lease.fence.0 > *fence);
            assert_eq!(
                lease.checkpoint,
                Some(extent.head.to_string().into()),
                "of that very event"
            );
        }
    }
}

#[tokio::test]
async fn dropping_writes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let s = scenario();
    let store = DiskLog::open(dir.path()).unwrap();
    let lease = granted(&store, s, "a").await;
    // Queued (the first poll does that) but not waited for.
    for seq in 1..=20 {
        let append = store.append(s, lease.fence, batch(s, seq..=seq));
        let _ = futures::poll!(std::pin::pin!(append));
    }
    drop(store);

    let store = DiskLog::open(dir.path()).unwrap();
    let page = page(&store, s, 0).await;
    assert_eq!(page.extent, Extent { epoch: lease.extent.epoch, first: 1, head: 20 });
    assert_eq!(page.frames, frames(s, 1..=20));
    assert_fenced(store.append(s, lease.fence, batch(s, 21..=21)).await);
    assert!(granted(&store, s, "b").await.fence > lease.fence);
}

#[tokio::test]
async fn a_closed_log_refuses_everything() {
    let dir = tempfile::tempdir().unwrap();
    let s = scenario();
    let store = DiskLog::open(dir.path()).unwrap();
    let fence = granted(&store, s, "a").await.fence;
    store.append(s, fence, batch(s, 1..=1)).await.unwrap();
    store.close().await;
    assert!(!dir.path().join("events.db-wal").exists(), "everything is in the file itself");
    store.close().await;
    assert_unavailable(store.append(s, fence, batch(s, 2..=2)).await);
    assert_unavailable(store.read(s, 0, 1).await);
    let reopened = DiskLog::open(dir.path()).unwrap();
    assert_eq!(page(&reopened, s, 0).await.frames, frames(s, 1..=1));
}

#[tokio::test]
async fn a_refused_append_does_not_touch_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskLog::open(dir.path()).unwrap();
    let (good, taken) = (scenario(), scenario());
    let fence = granted(&store, good, "a").await.fence;
    let old = granted(&store, taken, "a").await.fence;
    let current = granted(&store, taken, "a").await.fence;
    // Polled together, they are queued before the writer wakes up; either way each is judged by itself.
    for round in 0..50 {
        let seq = 2 * round + 1;
        let (a, fenced, b, hole, c) = tokio::join!(
            store.append(good, fence, batch(good, seq..=seq)),
            store.append(taken, old, batch(taken, round + 1..=round + 1)),
            store.append(good, fence, batch(good, seq + 1..=seq + 1)),
            store.append(good, fence, batch(good, seq + 9..=seq + 9)),
            store.append(taken, current, batch(taken, round + 1..=round + 1)),
        );
        assert!(a.is_ok() && b.is_ok() && c.is_ok(), "{a:?} {b:?} {c:?}");
        assert_fenced(fenced);
        assert_out_of_sequence(hole, seq + 1);
    }
    assert_eq!(page(&store, good, 0).await.frames, frames(good, 1..=100));
    assert_eq!(page(&store, taken, 0).await.frames, frames(taken, 1..=50));
}

/// The file of a closed log with one event in it.
async fn closed_log(dir: &Path) -> std::path::PathBuf {
    let store = DiskLog::open(dir).unwrap();
    let s = scenario();
    let fence = granted(&store, s, "a").await.fence;
    store.append(s, fence, batch(s, 1..=50)).await.unwrap();
    store.close().await;
    dir.join("events.db")
}

fn refused(dir: &Path) -> OpenError {
    let before = std::fs::read(dir.join("events.db")).unwrap();
    let Err(error) = DiskLog::open(dir) else { panic!("opened") };
    assert!(error.to_string().contains("events.db"), "{error}");
    assert_eq!(std::fs::read(dir.join("events.db")).unwrap(), before, "left as it was");
    error
}

#[tokio::test]
async fn a_newer_or_foreign_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = closed_log(dir.path()).await;
    let pragma = |name, value| {
        let db = rusqlite::Connection::open(&file).unwrap();
        db.pragma_update(None, name, value).unwrap();
    };
    pragma("user_version", 2);
    assert!(matches!(refused(dir.path()), OpenError::Newer { found: 2, .. }));
    pragma("user_version", 1);
    pragma("application_id", 7);
    assert!(matches!(refused(dir.path()), OpenError::Foreign { .. }));
}

#[tokio::test]
async fn a_corrupt_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = closed_log(dir.path()).await;
    let whole = std::fs::read(&file).unwrap();
    let mut scribbled = whole.clone();
    scribbled[2048..].fill(0xA5);
    let damaged: [&[u8]; 4] = [
        b"this is no database, whatever its name says",
        &whole[..whole.len() / 2],
        &whole[..600],
        &scribbled,
    ];
    for bytes in damaged {
        std::fs::write(&file, bytes).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::Unreadable { .. }), "{error}");
    }
    std::fs::write(&file, whole).unwrap();
    DiskLog::open(dir.path()).unwrap();
}
