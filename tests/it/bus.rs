//! The contract of the bus between replicas, on every back end.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;
use whatif::storage::bus::{BusError, MAX_MESSAGE_BYTES, MAX_UNREAD, ReplicaBus};
use whatif::storage::embedded::MemoryBus;

use super::support::redis::{self, until};

fn name() -> String {
    Uuid::new_v4().to_string()
}

async fn next(receiver: &mut mpsc::Receiver<Bytes>) -> Bytes {
    let message = timeout(Duration::from_secs(10), receiver.recv()).await;
    message.expect("a message").expect("the bus lives")
}

/// Two ends of one bus.
async fn contract(here: &dyn ReplicaBus, there: &dyn ReplicaBus) {
    let (ours, theirs) = (name(), name());
    assert!(!here.send(&theirs, "anyone?".into()).await.unwrap(), "nobody listens");

    let mut to_us = here.listen(&ours).await.unwrap();
    let mut to_them = there.listen(&theirs).await.unwrap();
    let odd = Bytes::from_static(b"\x00\xff\r\n$5\r\n");
    assert!(here.send(&theirs, odd.clone()).await.unwrap());
    assert!(there.send(&ours, Bytes::new()).await.unwrap());
    assert!(here.send(&ours, "to myself".into()).await.unwrap());
    assert_eq!(next(&mut to_them).await, odd);
    assert_eq!(next(&mut to_us).await, "");
    assert_eq!(next(&mut to_us).await, "to myself");

    let largest = Bytes::from(vec![7; MAX_MESSAGE_BYTES]);
    assert!(here.send(&theirs, largest.clone()).await.unwrap());
    assert_eq!(next(&mut to_them).await, largest);
    let larger = Bytes::from(vec![7; MAX_MESSAGE_BYTES + 1]);
    let refused = here.send(&theirs, larger).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");

    // Whoever does not read loses messages, but neither the bus nor its sender.
    for n in 0..MAX_UNREAD + 10 {
        assert!(here.send(&theirs, n.to_string().into()).await.unwrap());
    }
    for n in 0..MAX_UNREAD {
        assert_eq!(next(&mut to_them).await, n.to_string());
    }
    until("room again", async || {
        assert!(here.send(&theirs, "again".into()).await.unwrap());
        to_them.try_recv().is_ok()
    })
    .await;

    // A second listener takes the first one's place.
    let mut instead = there.listen(&theirs).await.unwrap();
    assert!(here.send(&theirs, "instead".into()).await.unwrap());
    // What was still on its way comes first.
    let mut heard = next(&mut instead).await;
    while heard == "again" {
        heard = next(&mut instead).await;
    }
    assert_eq!(heard, "instead");
    drop(instead);
    until("nobody listens any more", async || !here.send(&theirs, "gone".into()).await.unwrap())
        .await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let bus = MemoryBus::new();
    contract(&bus, &bus).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let config = redis::server();
    let (here, there) = (redis::replica(&config).await, redis::replica(&config).await);
    contract(&here.bus, &there.bus).await;
}

#[tokio::test]
async fn a_redis_cluster_keeps_the_contract() {
    let config = redis::cluster();
    let (here, there) = (redis::replica(&config).await, redis::replica(&config).await);
    contract(&here.bus, &there.bus).await;
}

#[tokio::test]
async fn listening_survives_a_restart_of_redis() {
    let mut server = redis::OwnServer::start().await;
    let config = server.config();
    let (here, there) = (redis::replica(&config).await, redis::replica(&config).await);
    let theirs = name();
    let mut to_them = there.bus.listen(&theirs).await.unwrap();
    server.kill();
    let away = here.bus.send(&theirs, "lost".into()).await;
    assert!(matches!(away, Err(BusError::Unavailable(_))), "{away:?}");
    server.start_again().await;
    until("sent", async || matches!(here.bus.send(&theirs, "back".into()).await, Ok(true))).await;
    assert_eq!(next(&mut to_them).await, "back");
}
