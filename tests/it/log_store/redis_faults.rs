//! Redis slow, full and restarted: a server of the test's own is mistreated.

use tokio::time::Instant;
use whatif::config;

use super::contract::heard;
use super::*;
use crate::support::redis::{OwnServer, Replica, nodes, replica, tell_all, until};

/// Patience of these tests' replicas, so that they fail soon.
const PATIENCE: Duration = Duration::from_millis(500);

async fn mistreated() -> (OwnServer, config::Redis, Replica) {
    let server = OwnServer::start().await;
    let config = config::Redis { response_timeout: PATIENCE, ..server.config() };
    let replica = replica(&config).await;
    (server, config, replica)
}

#[tokio::test]
async fn a_frozen_server_costs_each_call_its_patience_and_nothing_is_torn() {
    let (server, _, Replica { log, .. }) = mistreated().await;
    let s = scenario();
    let fence = granted(&log, s, "a").await.fence;
    log.append(s, fence, batch(s, 1..=1)).await.unwrap();
    server.freeze(true);
    let since = Instant::now();
    assert_unavailable(log.append(s, fence, batch(s, 2..=3)).await);
    assert_unavailable(log.read(s, 0, 1).await);
    assert_unavailable(log.list_orphans(9).await);
    assert!(since.elapsed() < PATIENCE * 20, "{:?}", since.elapsed());
    server.freeze(false);
    // Whether it happened or not, it happened as a whole.
    until("answers again", async || log.read(s, 0, 1).await.is_ok()).await;
    let head = page(&log, s, 0).await.extent.head;
    assert!(head == 1 || head == 3, "{head}");
    log.append(s, fence, batch(s, head + 1..=head + 1)).await.unwrap();
    assert_eq!(page(&log, s, 0).await.frames, frames(s, 1..=head + 1));
}

#[tokio::test]
async fn after_a_restart_without_its_data_logs_begin_anew() {
    let (mut server, _, Replica { log, .. }) = mistreated().await;
    let s = scenario();
    let old = granted(&log, s, "a").await;
    log.append(s, old.fence, batch(s, 1..=3)).await.unwrap();
    let news = log.follow(s).unwrap();
    heard(&news).await;
    server.kill();
    assert_unavailable(log.append(s, old.fence, batch(s, 4..=4)).await);
    for _ in 0..3 {
        heard(&news).await; // again and again: nobody knows what is missed
    }
    server.start_again().await;
    // The scripts are lost, too, and are sent again.
    until("connected again", async || log.read(s, 0, 1).await.is_ok()).await;
    let refused = log.append(s, old.fence, batch(s, 4..=4)).await;
    assert!(matches!(refused, Err(LogError::Gone)), "{refused:?}");
    let new = granted_from(&log, s, "a", Origin::Carried).await;
    assert!(new.fence > old.fence && new.extent.epoch != old.extent.epoch);
    log.append(s, new.fence, batch(s, 2..=2)).await.unwrap();
    while page(&log, s, 0).await.extent.head < 2 {
        heard(&news).await;
    }
}

#[tokio::test]
async fn a_full_server_refuses_appends_whole_and_may_be_trimmed() {
    let (_server, config, Replica { log, .. }) = mistreated().await;
    let s = scenario();
    let fence = granted(&log, s, "a").await.fence;
    log.append(s, fence, batch(s, 1..=200)).await.unwrap();
    let mut node = nodes(&config).await;
    let _: Vec<String> = tell_all(&mut node, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let checkpoint = Some("no".into());
    let refused = Batch { checkpoint, open_turn: Some(true), ..batch(s, 201..=300) };
    let reason = assert_unavailable(log.append(s, fence, refused).await);
    assert!(reason.contains("OOM"), "{reason}");
    assert_eq!(page(&log, s, 0).await.frames, frames(s, 1..=200));
    log.release(s, fence).await.unwrap();
    log.delete(scenario()).await.unwrap();

    let _: Vec<String> = tell_all(&mut node, &["CONFIG", "SET", "maxmemory", "0"]).await;
    let lease = granted(&log, s, "a").await;
    assert_eq!((lease.extent.head, lease.checkpoint), (200, None));
    assert!(log.list_orphans(9).await.unwrap().is_empty());
    log.append(s, lease.fence, batch(s, 201..=201)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left() {
    let (_server, config, Replica { log, .. }) = mistreated().await;
    let s = scenario();
    let fence = granted(&log, s, "a").await.fence;
    let mut node = nodes(&config).await;
    let mut connections = async || {
        let info: Vec<String> = tell_all(&mut node, &["INFO", "stats"]).await;
        let count = info[0].split("total_connections_received:").nth(1).unwrap();
        count.lines().next().unwrap().parse::<u64>().unwrap()
    };
    let before = connections().await;
    let mut other = nodes(&config).await;
    let _: Vec<String> = tell_all(&mut other, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let reason = assert_unavailable(log.append(s, fence, batch(s, 1..=1)).await);
    assert!(reason.contains("READONLY") || reason.contains("read only"), "{reason}");
    // One for `other`, and one by the log, whose address may lead to the new primary by now.
    until("connected again", async || connections().await > before + 1).await;
    let _: Vec<String> = tell_all(&mut other, &["REPLICAOF", "NO", "ONE"]).await;
    until("serves again", async || log.append(s, fence, batch(s, 1..=1)).await.is_ok()).await;
}
