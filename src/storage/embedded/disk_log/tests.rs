//! What needs a look behind the trait: a full disk, and the queue.

use crate::domain::event::Frame;
use crate::storage::log::Lease;

use super::*;

const TTL: Duration = Duration::from_secs(5);

fn scenario(number: u128) -> ScenarioId {
    ScenarioId(uuid::Uuid::from_u128(number))
}

fn batch(first_seq: u64) -> Batch {
    let frame = Frame::from_stored("x".repeat(1000).into()).unwrap();
    let checkpoint = Some(first_seq.to_string().into());
    Batch { first_seq, frames: vec![frame; 2], checkpoint, open_turn: None }
}

async fn claim(store: &DiskLog, scenario: ScenarioId) -> Lease {
    match store.claim(scenario, "a", TTL, Origin::New).await.unwrap() {
        Claim::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn open_limited(dir: &Path, pages: u32) -> DiskLog {
    let file = dir.join(FILE);
    let db = schema::open(&file).unwrap();
    db.pragma_update(None, "max_page_count", pages).unwrap();
    DiskLog::start(file, db).unwrap()
}

#[tokio::test]
async fn a_full_disk_is_survived_with_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_limited(dir.path(), 60);
    let (kept, other) = (scenario(1), scenario(2));
    let fence = claim(&store, other).await.fence;
    for round in 0..10 {
        store.append(other, fence, batch(2 * round + 1)).await.unwrap();
    }
    let fence = claim(&store, kept).await.fence;
    let mut head = 0;
    let refusal = loop {
        match store.append(kept, fence, batch(head + 1)).await {
            Ok(()) => head += 2,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refusal, LogError::Unavailable(why) if why.contains("full")), "{refusal}");

    // Again and again, several at a time, also with new logs.
    let leases = [(kept, fence)];
    for _ in 0..3 {
        let (a, b, renewed) = tokio::join!(
            store.append(kept, fence, batch(head + 1)),
            store.append(kept, fence, batch(head + 1)),
            store.renew(&leases, TTL),
        );
        assert!(matches!(a, Err(LogError::Unavailable(_))), "{a:?}");
        assert!(matches!(b, Err(LogError::Unavailable(_))), "{b:?}");
        assert_eq!(renewed.unwrap(), [], "a lease needs no room");
    }
    let page = store.read(kept, 0, usize::MAX).await.unwrap().unwrap();
    assert_eq!((page.extent.head, page.frames.len() as u64), (head, head));

    // Room again: it goes on exactly where it was, under the same fence.
    store.delete(other).await.unwrap();
    store.append(kept, fence, batch(head + 1)).await.unwrap();
    let lease = claim(&store, kept).await;
    assert_eq!(lease.extent.head, head + 2);
    assert_eq!(lease.checkpoint, Some((head + 1).to_string().into()));
}

#[test]
fn a_failed_transaction_is_taken_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE);
    let db = schema::open(&file).unwrap();
    // A full disk rolls back by itself; this error leaves that to the writer.
    db.execute_batch(
        "CREATE TEMP TRIGGER broken BEFORE INSERT ON event WHEN new.frame = x'21'
         BEGIN SELECT raise(FAIL, 'broken'); END",
    )
    .unwrap();
    let (commands, queue) = mpsc::channel(QUEUE);
    let send = |command| commands.try_send(command).ok().unwrap();
    let append = |batch| {
        let (reply, answer) = oneshot::channel();
        send(Command::Append { scenario: scenario(1), fence: Fence(1), batch, reply });
        answer
    };
    let (origin, now, holder) = (Origin::New, Instant::now(), "a".to_owned());
    let (reply, claimed) = oneshot::channel();
    send(Command::Claim { scenario: scenario(1), holder, ttl: TTL, origin, now, reply });
    // Fills the claim's group, so that what follows is one group of its own.
    for _ in 1..writer::GROUP {
        send(Command::Release {
            scenario: scenario(2),
            fence: Fence(1),
            reply: oneshot::channel().0,
        });
    }
    let good = append(batch(1));
    let breaking = Frame::from_stored("!".into()).unwrap();
    let breaking = append(Batch { frames: vec![batch(3).frames.remove(0), breaking], ..batch(3) });
    let good_again = append(batch(1));
    drop(commands);
    Writer::new(db, &file).unwrap().run(queue);

    assert!(matches!(claimed.blocking_recv().unwrap(), Ok(Claim::Granted(_))));
    for lost in [good, breaking] {
        let lost = lost.blocking_recv().unwrap();
        assert!(matches!(lost, Err(LogError::Unavailable(_))), "{lost:?}");
    }
    good_again.blocking_recv().unwrap().unwrap();
    let (_, extent) =
        schema::find_log(&schema::open(&file).unwrap(), scenario(1)).unwrap().unwrap();
    assert_eq!((extent.first, extent.head), (1, 2));
}

/// A store whose writer never takes anything.
fn stuck() -> (DiskLog, mpsc::Receiver<Command>) {
    let (commands, queue) = mpsc::channel(1);
    let readers = Arc::new(Readers::new(FILE.into()));
    (DiskLog { commands: Some(commands), writer: None, readers }, queue)
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_but_not_for_ever() {
    let (store, mut queue) = stuck();
    let append = || store.append(scenario(1), Fence(1), Batch::default());
    let mut first = std::pin::pin!(append());
    assert!(futures::poll!(&mut first).is_pending(), "takes the only place");

    let start = Instant::now();
    assert!(matches!(append().await, Err(LogError::Unavailable(why)) if why.contains("slow")));
    assert_eq!(start.elapsed().as_secs(), QUEUE_WAIT.as_secs());

    let mut waiting = std::pin::pin!(append());
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(queue.try_recv().unwrap()); // a place, and the first caller's answer is lost with the writer
    assert!(matches!(first.await, Err(LogError::Unavailable(_))));
    assert!(futures::poll!(&mut waiting).is_pending());
    let Ok(Command::Append { reply, .. }) = queue.try_recv() else { panic!("not queued") };
    reply.send(Ok(())).unwrap();
    waiting.await.unwrap();
}
