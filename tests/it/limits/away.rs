//! A Redis that stops to answer, and comes back: replicas count for themselves meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use whatif::actors::limits::LimitsHandle;
use whatif::config;
use whatif::domain::ids::UserId;
use whatif::storage::limits::RateLimiter;
use whatif::storage::redis::RedisRateLimiter;

use super::{connect, single};

/// Passes bytes on, or holds them.
struct Line {
    address: String,
    holds: watch::Sender<bool>,
}

impl Line {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (holds, held) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, held.clone()));
                tokio::spawn(pass(far_in, near_out, held.clone()));
            }
        });
        Self { address, holds }
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut held: watch::Receiver<bool>,
) {
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if held.wait_for(|held| !held).await.is_err()
            || to.write_all(&bytes[..count]).await.is_err()
        {
            return;
        }
    }
}

fn handle(config: config::Limits, limiter: RedisRateLimiter) -> LimitsHandle {
    LimitsHandle::new(&config, Some(Arc::new(limiter) as Arc<dyn RateLimiter>))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_done_without_and_used_again_when_it_answers() {
    let direct = single();
    let server = direct.url.clone().unwrap();
    let server = secrecy::ExposeSecret::expose_secret(&server).trim_start_matches("redis://");
    let line = Line::to(server.trim_end_matches('/').to_owned()).await;
    let url = format!("redis://{}", line.address);
    let through = config::Redis { url: Some(url.into()), ..direct.clone() };
    let slow = RedisRateLimiter::new(connect(&through).await);
    let other = RedisRateLimiter::new(connect(&direct).await);
    // Patience enough for a loaded machine, and none for what hangs.
    let limits = config::Limits {
        turns_per_user: 100,
        store_timeout: Duration::from_millis(500),
        ..config::Limits::default()
    };
    let (slow, other) = (handle(limits.clone(), slow), handle(limits, other));

    let ada = UserId(Uuid::new_v4());
    for taken in 1..=30 {
        let replica = if taken % 2 == 0 { &slow } else { &other };
        assert_eq!(replica.turn(ada).await.unwrap().remaining, 100 - taken, "counted together");
    }
    line.holds.send(true).unwrap();
    let since = Instant::now();
    let mut answers = Vec::new();
    for _ in 0..70 {
        answers.push(slow.turn(ada).await.unwrap());
    }
    assert!(answers.iter().all(|decision| decision.allowed), "a bucket of its own");
    // A handful waits until the circuit opens, the rest does not.
    assert!(since.elapsed() < Duration::from_millis(500) * 12, "{:?}", since.elapsed());
    let since = Instant::now();
    slow.turn(ada).await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(400), "{:?}", since.elapsed());

    line.holds.send(false).unwrap();
    let bob = UserId(Uuid::new_v4());
    let together = async {
        loop {
            let before = other.turn(bob).await.unwrap().remaining;
            let through = slow.turn(bob).await.unwrap().remaining;
            if through < before && other.turn(bob).await.unwrap().remaining < through {
                break;
            }
            sleep(Duration::from_millis(600)).await;
        }
    };
    timeout(Duration::from_secs(60), together).await.expect("counted together again");
}
