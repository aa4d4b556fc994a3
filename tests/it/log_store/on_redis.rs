//! Redis beyond the contract: what it keeps, for how long, and what happens when some of it is lost.

use redis::aio::MultiplexedConnection;
use uuid::Uuid;
use whatif::config;
use whatif::storage::log::{Fence, SETTLING};

use super::contract::heard;
use super::*;
use crate::support::redis::{
    Replica, cluster, configured, nodes, replica, server, tell_all, until,
};

/// The store's time is nobody's but its own: it has to be waited for.
fn wait(by: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(tokio::time::sleep(by))
}

async fn keeps_the_contract(config: config::Redis) {
    let (ours, theirs) = (replica(&config).await, replica(&config).await);
    let store: Arc<dyn LogStore> = Arc::new(ours.log);
    tokio::join!(
        contract::contract_in_real_time(Arc::clone(&store), wait),
        contract::followers_hear_of_changes(&*store, &theirs.log),
        contract::handed_over_turns_are_told(&*store, &theirs.log),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_keeps_the_contract() {
    keeps_the_contract(server()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_keeps_the_contract() {
    keeps_the_contract(cluster()).await;
}

/// Keys of this test's prefix, with the node that holds each.
async fn keys(config: &config::Redis) -> Vec<(usize, String)> {
    let mut nodes = nodes(config).await;
    let pattern = format!("{}:*", config.prefix);
    let found: Vec<Vec<String>> = tell_all(&mut nodes, &["KEYS", &pattern]).await;
    let found = found.into_iter().enumerate();
    found.flat_map(|(node, keys)| keys.into_iter().map(move |key| (node, key))).collect()
}

async fn ask<T: redis::FromRedisValue>(node: &mut MultiplexedConnection, words: &[&str]) -> T {
    redis::cmd(words[0]).arg(&words[1..]).query_async(node).await.unwrap()
}

/// Claimed, told, checkpointed, trimmed, released, found again.
async fn live(replica: &Replica, s: ScenarioId) -> Lease {
    let lease = granted(&replica.log, s, "a").await;
    let started = Batch { checkpoint: Some("c".into()), open_turn: Some(true), ..batch(s, 1..=3) };
    replica.log.append(s, lease.fence, started).await.unwrap();
    replica.log.append(s, lease.fence, batch(s, 4..=9)).await.unwrap();
    replica.log.renew(&[(s, lease.fence)], TTL).await.unwrap();
    replica.log.trim(s, lease.fence, 5).await.unwrap();
    replica.log.release(s, lease.fence).await.unwrap();
    assert_eq!(replica.log.list_orphans(10).await.unwrap(), [s]);
    granted(&replica.log, s, "b").await
}

async fn every_key_ends(config: config::Redis) {
    let replica = replica(&config).await;
    let s = scenario();
    granted(&replica.log, s, "a").await;
    let (mut seen, mut nodes) = (0, nodes(&config).await);
    for step in 0..3 {
        match step {
            0 => {}
            1 => drop(live(&replica, s).await),
            _ => drop(replica.log.follow(s)),
        }
        for (node, key) in keys(&config).await {
            let left: i64 = ask(&mut nodes[node], &["PTTL", &key]).await;
            // The one note per bucket by which a server knows that it has not lost its data.
            let is_note = key.ends_with(":since");
            let most = if is_note { 90 * 86_400_000 } else { 60_000 + 3_600_000 };
            assert!(left > 60_000 && left <= most, "{key}: {left} ms");
            seen += usize::from(!is_note);
        }
    }
    assert_eq!(seen, 1 + 3 + 3, "meta alone, then the log and the index of open turns as well");
    replica.log.delete(s).await.unwrap();
    let left = keys(&config).await;
    assert!(left.len() == 1 && left[0].1.ends_with(":since"), "{left:?}");
}

#[tokio::test]
async fn every_key_of_a_server_ends() {
    every_key_ends(server()).await;
}

#[tokio::test]
async fn every_key_of_a_cluster_ends() {
    every_key_ends(cluster()).await;
}

/// Deletes a test's keys whose name has `part` in it, as if a server had lost them.
async fn lose(config: &config::Redis, part: &str) {
    let mut nodes = nodes(config).await;
    for (node, key) in keys(config).await {
        if key.contains(part) {
            let _: u64 = ask(&mut nodes[node], &["DEL", &key]).await;
        }
    }
}

#[tokio::test]
async fn a_lost_log_is_gone_and_begins_under_another_epoch() {
    // Everything, or (evicted) either half of it.
    for (part, config) in
        [(":", server()), (":meta:", server()), (":log:", server()), (":", cluster())]
    {
        let Replica { log, .. } = replica(&config).await;
        let s = scenario();
        let old = granted(&log, s, "a").await;
        let started = Batch { open_turn: Some(true), ..batch(s, 1..=3) };
        log.append(s, old.fence, started).await.unwrap();
        lose(&config, part).await;

        assert!(log.read(s, 0, usize::MAX).await.unwrap().is_none(), "{part}");
        let refused = log.append(s, old.fence, batch(s, 4..=4)).await;
        assert!(matches!(refused, Err(LogError::Gone)), "{part}: {refused:?}");
        assert!(log.list_orphans(9).await.unwrap().is_empty(), "{part}");
        assert_eq!(log.renew(&[(s, old.fence)], TTL).await.unwrap(), [s], "{part}");

        let new = granted_from(&log, s, "b", Origin::Carried).await;
        assert_ne!(new.extent.epoch, old.extent.epoch);
        assert!(new.fence > old.fence);
        assert_eq!((new.extent.first, new.extent.head), (2, 1));
        assert_fenced(log.append(s, old.fence, batch(s, 2..=2)).await);
        log.append(s, new.fence, batch(s, 2..=2)).await.unwrap();
        assert_eq!(page(&log, s, 1).await.frames, frames(s, 2..=2));
    }
}

/// A reader that comes back before the owner does must not begin a log in which the owner's turn is missing.
#[tokio::test]
async fn a_server_that_came_back_empty_leaves_the_first_word_to_who_remembers() {
    for config in [server(), cluster()] {
        let Replica { log, .. } = replica(&config).await;
        let (told, forgotten) = (scenario(), scenario());
        granted(&log, told, "a").await;
        granted(&log, forgotten, "a").await;
        lose(&config, ":").await;
        let claim = async |s| log.claim(s, "b", TTL, Origin::Lost).await.unwrap();
        for s in [told, forgotten, told] {
            let claimed = claim(s).await;
            let Claim::Unsettled { wait } = claimed else { panic!("{claimed:?}") };
            assert!(!wait.is_zero() && wait <= SETTLING, "{wait:?}");
            assert!(log.read(s, 0, 1).await.unwrap().is_none(), "nothing was begun");
        }
        let new = granted_from(&log, told, "a", Origin::Carried).await;
        assert!(matches!(claim(told).await, Claim::Held { .. }));
        log.release(told, new.fence).await.unwrap();
        let Claim::Granted(after) = claim(told).await else { panic!("it is begun") };
        assert_eq!(after.extent.epoch, new.extent.epoch);
        // A new scenario waits for nothing, and one that nobody remembers not for long.
        granted(&log, scenario(), "b").await;
        let begun = async || matches!(claim(forgotten).await, Claim::Granted(_));
        until("a log that nobody remembers is begun", begun).await;
    }
}

#[tokio::test]
async fn a_claim_finds_that_the_events_are_lost() {
    let config = server();
    let Replica { log, .. } = replica(&config).await;
    let s = scenario();
    let old = granted(&log, s, "a").await;
    log.append(s, old.fence, batch(s, 1..=3)).await.unwrap();
    lose(&config, ":log:").await;
    let new = granted_from(&log, s, "a", Origin::Carried).await;
    assert_ne!(new.extent.epoch, old.extent.epoch);
    assert_eq!((new.extent.first, new.extent.head), (2, 1));
    assert_eq!(new.checkpoint, None);
}

#[tokio::test]
async fn fences_are_as_large_as_the_time() {
    let Replica { log, .. } = replica(&server()).await;
    let s = scenario();
    let Fence(first) = granted(&log, s, "a").await.fence;
    // Microseconds since 1970: past 2023, before 2100, and exact in a double.
    assert!((1_700_000_000_000_000..4_200_000_000_000_000).contains(&first), "{first}");
    let mut last = first;
    for _ in 0..50 {
        let Fence(next) = granted(&log, s, "a").await.fence;
        assert!(next > last);
        last = next;
    }
}

#[tokio::test]
async fn large_appends_and_frames_come_back_as_they_were() {
    for config in [server(), cluster()] {
        let Replica { log, .. } = replica(&config).await;
        let s = scenario();
        let fence = granted(&log, s, "a").await.fence;
        log.append(s, fence, batch(s, 1..=700)).await.unwrap();
        assert_eq!(page(&log, s, 0).await.frames, frames(s, 1..=700));
        let large = |seq| {
            let text = "ß\u{0}\"\\\r\n🦀".repeat(20_000);
            let event = Event::TextDelta { turn: TurnId(s.0), off: 0, text };
            Frame::encode(s, "e", seq, &event)
        };
        let frames: Vec<_> = (701..=703).map(large).collect();
        log.append(s, fence, Batch { first_seq: 701, frames: frames.clone(), ..Batch::default() })
            .await
            .unwrap();
        let read = page(&log, s, 700).await.frames;
        assert_eq!(read.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), frames);
    }
}

#[tokio::test]
async fn leases_of_many_buckets_are_renewed_at_once() {
    for config in [server(), cluster()] {
        let Replica { log, .. } = replica(&config).await;
        let mut leases = Vec::new();
        for _ in 0..200 {
            let s = scenario();
            leases.push((s, granted(&log, s, "a").await.fence));
        }
        let lost = leases[17].0;
        log.delete(lost).await.unwrap();
        assert_eq!(log.renew(&leases, TTL).await.unwrap(), [lost]);
    }
}

/// A user of the test's own, so that its connections can be told from others'.
async fn own_user(config: config::Redis) -> (config::Redis, String) {
    let user = Uuid::new_v4().simple().to_string();
    let mut nodes = nodes(&config).await;
    let rule = ["ACL", "SETUSER", &user, "on", ">secret", "~*", "&*", "+@all"];
    let _: Vec<String> = tell_all(&mut nodes, &rule).await;
    let servers = config.servers().unwrap().unwrap();
    let urls = servers.nodes.iter().map(|node| node.replace("://", &format!("://{user}:secret@")));
    (configured(&urls.collect::<Vec<_>>().join(",")), user)
}

async fn followers_survive_killed_connections(config: config::Redis) {
    let mut all = nodes(&config).await;
    let (config, user) = own_user(config).await;
    let (ours, theirs) = (replica(&config).await, replica(&config).await);
    let s = scenario();
    let fence = granted(&theirs.log, s, "a").await.fence;
    let news = ours.log.follow(s).unwrap();
    heard(&news).await;

    for round in 0..5 {
        let killed: Vec<u64> = tell_all(&mut all, &["CLIENT", "KILL", "USER", &user]).await;
        assert!(killed.iter().sum::<u64>() >= 2, "{killed:?}");
        // Whatever was missed: the bell rings for it. And then it rings for what is new.
        heard(&news).await;
        let next = 2 * round + 1;
        until("appended again", async || {
            let appended = theirs.log.append(s, fence, batch(s, next..=next)).await;
            matches!(appended, Ok(()) | Err(LogError::OutOfSequence { .. }))
        })
        .await;
        let seen = async || page(&ours.log, s, 0).await.extent.head;
        while seen().await < next {
            heard(&news).await;
        }
        until("subscribed again", async || subscribers(&mut all, &ours, s).await == 1).await;
        theirs.log.append(s, fence, batch(s, next + 1..=next + 1)).await.unwrap();
        heard(&news).await;
    }
    drop(news);
    until("unsubscribed", async || subscribers(&mut all, &ours, s).await == 0).await;
    let _: Vec<u64> = tell_all(&mut all, &["ACL", "DELUSER", &user]).await;
}

/// Connections that are subscribed to a log's news.
async fn subscribers(nodes: &mut [MultiplexedConnection], replica: &Replica, s: ScenarioId) -> i64 {
    let [.., last] = *s.0.as_bytes();
    let channel = replica.redis.key(format_args!("{{b{}}}:news:{s}", last % 64));
    let command = if replica.redis.is_cluster() { "SHARDNUMSUB" } else { "NUMSUB" };
    let counts: Vec<(String, i64)> = tell_all(nodes, &["PUBSUB", command, &channel]).await;
    counts.iter().map(|(_, count)| count).sum()
}

#[tokio::test]
async fn followers_survive_killed_connections_to_a_server() {
    followers_survive_killed_connections(server()).await;
}

#[tokio::test]
async fn followers_survive_killed_connections_to_a_cluster() {
    followers_survive_killed_connections(cluster()).await;
}

/// What docs/OPERATIONS.md says about memory.
#[tokio::test]
async fn a_live_scenario_takes_little_more_than_its_events() {
    let config = server();
    let replica = replica(&config).await;
    let (s, checkpoint) = (scenario(), Bytes::from(vec![b'c'; 400]));
    let fence = granted(&replica.log, s, "3b241101-e2bb-4255-8caf-4136c566a962").await.fence;
    let mut node = nodes(&config).await.remove(0);
    let mut bytes = 0;
    for seq in 1..=1_000 {
        let event = batch(s, seq..=seq);
        bytes += event.frames[0].bytes().len();
        let (checkpoint, open_turn) =
            if seq == 1 { (Some(checkpoint.clone()), Some(true)) } else { (None, None) };
        replica.log.append(s, fence, Batch { checkpoint, open_turn, ..event }).await.unwrap();
    }
    let mut taken = 0;
    for (_, key) in keys(&config).await {
        let size: usize = ask(&mut node, &["MEMORY", "USAGE", &key, "SAMPLES", "0"]).await;
        taken += size;
    }
    assert!(taken < bytes * 14 / 10 + 2_000, "{bytes} bytes of events take {taken}");
}

#[tokio::test]
async fn a_start_without_redis_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let node = cluster().url();
    let cases = [
        ("redis://:hush@127.0.0.1:1", "Redis at 127.0.0.1:1 cannot be reached"),
        (
            "redis://127.0.0.1:1,127.0.0.1:2",
            "Redis cluster at 127.0.0.1:1, 127.0.0.1:2 cannot be reached",
        ),
        (
            &server().url().replace("redis://", "redis+cluster://"),
            "is a single server, but redis.url names a cluster",
        ),
        (
            node.split(',').next().unwrap(),
            "is a cluster's node, but redis.url names a single server",
        ),
    ];
    for (url, expected) in cases {
        let mut whatif = crate::process::whatif(folder.path(), &["serve"]);
        let ended = whatif.env("REDIS_URL", url).env("LOG_LEVEL", "off").output().await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "{url}");
        assert!(said.contains(expected) && !said.contains("hush"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

trait Url {
    fn url(&self) -> String;
}

impl Url for config::Redis {
    fn url(&self) -> String {
        secrecy::ExposeSecret::expose_secret(self.url.as_ref().unwrap()).to_owned()
    }
}
