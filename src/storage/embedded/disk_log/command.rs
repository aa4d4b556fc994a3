//! What callers ask of the writer. Each command carries the port for its answer.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::ids::ScenarioId;
use crate::storage::log::{Batch, Claim, Fence, LogError, Origin};

pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

/// A change, or a question about leases; `now` is the moment on the caller's clock.
pub(super) enum Command {
    Claim {
        scenario: ScenarioId,
        holder: String,
        ttl: Duration,
        origin: Origin,
        now: Instant,
        reply: Reply<Claim>,
    },
    Renew {
        leases: Vec<(ScenarioId, Fence)>,
        ttl: Duration,
        now: Instant,
        reply: Reply<Vec<ScenarioId>>,
    },
    Release {
        scenario: ScenarioId,
        fence: Fence,
        reply: Reply<()>,
    },
    Append {
        scenario: ScenarioId,
        fence: Fence,
        batch: Batch,
        reply: Reply<()>,
    },
    ListOrphans {
        limit: usize,
        now: Instant,
        reply: Reply<Vec<ScenarioId>>,
    },
    Trim {
        scenario: ScenarioId,
        fence: Fence,
        up_to: u64,
        reply: Reply<()>,
    },
    Delete {
        scenario: ScenarioId,
        reply: Reply<()>,
    },
    Close {
        reply: Reply<()>,
    },
}
