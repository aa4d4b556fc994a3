//! One worker: takes jobs from its pool while there are any, then lists itself as idle.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{timeout, timeout_at};
use tracing::Instrument;

use super::{Shared, Taken, Trip, TripKind, Work};

/// "There may be jobs."
pub(super) struct Wake;

pub(super) struct Worker<W>(PhantomData<fn(W)>);

pub(super) struct WorkerArgs<W: Work> {
    pub shared: Arc<Shared<W>>,
    /// Live only if the dependency answers within this.
    pub probe: Option<Duration>,
}

impl<W> Worker<W> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<W: Work> Actor for Worker<W> {
    type Msg = Wake;
    type State = Arc<Shared<W>>;
    type Arguments = WorkerArgs<W>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Wake>,
        args: WorkerArgs<W>,
    ) -> Result<Self::State, ActorProcessingErr> {
        if let Some(deadline) = args.probe {
            timeout(deadline, args.shared.work.probe())
                .await
                .map_err(|_| Trip::new(TripKind::Deadline, "probe took too long"))??;
        }
        Ok(args.shared)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Wake>,
        _shared: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // Jobs may have waited for a worker to come.
        Ok(myself.cast(Wake)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<Wake>,
        _wake: Wake,
        shared: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let mut arriving = true;
        while let Some(taken) = shared.next(&myself, std::mem::take(&mut arriving)) {
            let Taken { admitted, now } = taken;
            // The permit stays here, so that it is given back however the job ends.
            let super::Admitted { job, span, _permit, .. } = admitted;
            let run = shared.work.run(job).instrument(span.clone());
            match timeout_at(now + shared.spec.deadline, run).await {
                Ok(Ok(())) => shared.succeeded.fetch_add(1, Ordering::Relaxed),
                Ok(Err(trip)) => return Err(trip.into()),
                Err(_) => {
                    let late = || Trip::new(TripKind::Deadline, "job took too long");
                    return Err(span.in_scope(late).into());
                }
            };
            tokio::task::consume_budget().await;
        }
        Ok(())
    }
}
