//! What is broken, when, for how long: drawn from a seed, so that a run can be had again.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every client's connection ends.
    CutSockets,
    /// `kill -9`; back after a while.
    KillReplica(usize, Duration),
    /// Stopped in its tracks, for longer than its leases last, then goes on as if nothing had been.
    FreezeReplica(usize, Duration),
    /// `SIGTERM`, one after the other.
    RollingRestart,
    /// Killed and started on its data.
    RestartRedis,
    /// Killed and started empty.
    LoseRedis,
    StallRedis(Duration),
    CutRedis,
    StallPostgres(Duration),
    StallModel(Duration),
    CutModel,
}

impl Fault {
    /// Whether logs may begin anew because of it.
    pub fn loses_logs(self) -> bool {
        self == Self::LoseRedis
    }

    pub async fn strike(self, world: &mut World) {
        match self {
            Self::CutSockets => world.front.cut(),
            Self::KillReplica(number, time) => {
                world.kill(number).await;
                sleep(time).await;
                world.revive(number).await;
            }
            Self::FreezeReplica(number, time) => {
                world.signal(number, "STOP").await;
                sleep(time).await;
                world.signal(number, "CONT").await;
            }
            Self::RollingRestart => world.roll().await,
            Self::RestartRedis => world.redis.restart().await,
            Self::LoseRedis => world.redis.lose().await,
            Self::StallRedis(time) => world.redis_wire.stall(time).await,
            Self::CutRedis => world.redis_wire.cut(),
            Self::StallPostgres(time) => world.postgres_wire.stall(time).await,
            Self::StallModel(time) => world.model_wire.stall(time).await,
            Self::CutModel => world.model_wire.cut(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A fault and the pause before it.
#[derive(Clone, Copy)]
pub struct Strike {
    pub after: Duration,
    pub fault: Fault,
}

/// Every kind of fault once, in an order and with times of the seed's, and `more` drawn at random.
pub fn schedule(seed: u64, replicas: usize, lease: Duration, more: usize) -> Vec<Strike> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut kinds: Vec<_> = (0..KINDS).collect();
    for _ in 0..more {
        kinds.push(dice.random_range(0..KINDS));
    }
    kinds.shuffle(&mut dice);
    kinds
        .into_iter()
        .map(|kind| Strike {
            after: Duration::from_millis(dice.random_range(300..2_500)),
            fault: draw(kind, replicas, lease, &mut dice),
        })
        .collect()
}

const KINDS: usize = 11;

fn draw(kind: usize, replicas: usize, lease: Duration, dice: &mut StdRng) -> Fault {
    let replica = dice.random_range(0..replicas);
    let mut while_ms = |from, to| Duration::from_millis(dice.random_range(from..to));
    match kind {
        0 => Fault::CutSockets,
        1 => Fault::KillReplica(replica, while_ms(100, 3_000)),
        2 => Fault::FreezeReplica(replica, lease + while_ms(500, 3_000)),
        3 => Fault::RollingRestart,
        4 => Fault::RestartRedis,
        5 => Fault::LoseRedis,
        6 => Fault::StallRedis(while_ms(200, 5_000)),
        7 => Fault::CutRedis,
        8 => Fault::StallPostgres(while_ms(200, 6_000)),
        9 => Fault::StallModel(while_ms(500, 5_000)),
        _ => Fault::CutModel,
    }
}
