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
        Claim::Held { holder, .. } => panic!("held by {holder}"),
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
