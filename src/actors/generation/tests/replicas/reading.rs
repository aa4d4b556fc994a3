use super::super::script::PROSE;
use super::super::stores::Fault;
use super::*;

#[tokio::test(start_paused = true)]
async fn readers_on_every_replica_see_the_same_bytes_whenever_they_come() {
    let world = World::new();
    let replicas = [world.replica("a").await, world.replica("b").await, world.replica("c").await];
    let (id, turn) = world.begin(&replicas[0]).await;
    let mut watches = Vec::new();
    for _ in 0..12 {
        for replica in &replicas {
            watches.push(Watch::begin(replica, id).await);
        }
        pause(170).await;
    }
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
    assert_eq!(replicas[0].handle.running_turns() + replicas[1].handle.running_turns(), 0);
    for watch in &watches {
        watch.sees_everything(&world, id).await;
        let seen = watch.seen();
        assert_eq!((seen.snapshots, seen.frames.len()), (0, events.len()));
    }
    // They stay attached: what another replica tells next comes to all of them.
    pause(8_000).await;
    let turn = replicas[2].command(id, world.say(1)).await.unwrap();
    world.end_of(id, turn).await;
    for watch in &watches {
        watch.sees_everything(&world, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_elsewhere_as_soon_as_it_is_here() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let (id, turn) = world.begin(&a).await;
    let (here, there) = (Watch::begin(&a, id).await, Watch::begin(&b, id).await);
    for _ in 0..15 {
        pause(100).await;
        assert_eq!(here.seen().frames.len(), there.seen().frames.len());
    }
    world.end_of(id, turn).await;
}

#[tokio::test(start_paused = true)]
async fn one_follower_reads_for_all_readers_of_a_replica_and_only_while_there_are_any() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let followed = |replica: &Replica| replica.handle.deps.hub.tail(id).is_followed();
    assert!(!followed(&a) && !followed(&b), "nobody reads");
    let watches = [Watch::begin(&b, id).await, Watch::begin(&b, id).await];
    let here = Watch::begin(&a, id).await;
    assert!(followed(&b) && !followed(&a), "the pen is here: it tells");
    pause(7_000).await;
    assert!(followed(&a), "the pen was put down: others may write");
    let turn = b.command(id, world.say(1)).await.unwrap();
    assert!(followed(&a) && !followed(&b), "the pen has come to the other replica");
    world.end_of(id, turn).await;
    pause(7_000).await;
    assert!(followed(&b));
    drop((watches, here));
    pause(1).await;
    assert!(!followed(&a) && !followed(&b));
    let tail = b.handle.deps.hub.tail(id);
    assert_eq!(Arc::strong_count(&tail), 1, "its tail is gone with its readers");
}

#[tokio::test(start_paused = true)]
async fn readers_wait_while_their_replica_cannot_reach_the_log_and_miss_nothing() {
    for fault in [Fault::Down, Fault::Hang] {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watch = Watch::begin(&b, id).await;
        pause(350).await;
        b.line.fault.set(fault);
        let before = watch.seen().frames.len();
        world.end_of(id, turn).await;
        pause(20_000).await;
        assert!(watch.seen().frames.len() <= before + 1);
        b.line.fault.set(Fault::None);
        watch.sees_everything(&world, id).await;
        assert_eq!(watch.seen().snapshots, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_elsewhere_has_the_open_turn_as_far_as_it_is() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let turn = a.command(id, world.say(1)).await.unwrap();
    for _ in 0..10 {
        pause(150).await;
        let wake = Arc::new(Wake::default());
        let attached = b.handle.attach(OWNER, id, Some("-"), 0, &wake).await.unwrap();
        let snapshot = attached.snapshot.unwrap();
        let events = world.turn_events(id, turn).await;
        assert_eq!(snapshot.open_turn, Some(fold_unended(&events)));
        assert_eq!(snapshot.scenes.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_reads_no_further_in_the_store_than_its_replica_knows() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let (id, turn) = world.begin(&a).await;
    pause(350).await;
    let wake = Arc::new(Wake::default());
    let attached = b.handle.attach(OWNER, id, None, 0, &wake).await.unwrap();
    let (mut reader, head) = (attached.reader, attached.head);
    assert!(head > 1 && attached.snapshot.is_none());
    // The follower looks, and gets no answer for a while; whoever looks later gets one.
    b.line.reads.set(Fault::Hang);
    pause(350).await;
    b.line.reads.set(Fault::None);
    let stored = world.log.inner.read(id, 0, usize::MAX).await.unwrap().unwrap().extent.head;
    assert!(stored > head, "the store is ahead of the replica");

    let mut frames = Vec::new();
    assert_eq!(reader.take(4_096, &mut frames), Taken::Older);
    let older = reader.read_older().await.unwrap();
    assert_eq!(older.last().map(|(seq, _)| *seq), Some(head));
    assert!(reader.advance(&older));
    assert_eq!(reader.take(4_096, &mut frames), Taken::Level, "its log is not lost");

    // The rest comes when the follower has got it.
    let events = world.end_of(id, turn).await;
    while frames.last().is_none_or(|(seq, _)| *seq < events.len() as u64) {
        let taken = reader.take(4_096, &mut frames);
        assert!(matches!(taken, Taken::Frames | Taken::Level), "{taken:?}");
        pause(20).await;
    }
    let seqs: Vec<_> = frames.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (head + 1..=events.len() as u64).collect::<Vec<_>>());
}
