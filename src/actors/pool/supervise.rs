//! The pool's supervisor: keeps the workers alive and turns their deaths into the circuit's state.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::worker::{Wake, Worker, WorkerArgs};
use super::{PoolHandle, Shared, Trip, Work};
use crate::actors::circuit::{Circuit, State as CircuitState};
use crate::actors::supervisor::{ChildSpec, Intensity, Restarts};

/// Longest that a probe may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// The pool as a child of its service. A pool that fails takes its service with it (intensity 0): only panics
/// beyond the pool's own intensity get that far.
pub fn child<W: Work>(handle: &PoolHandle<W>) -> ChildSpec {
    let shared = Arc::clone(&handle.shared);
    let spec = ChildSpec::permanent(handle.shared.spec.name, move |parent| {
        let shared = Arc::clone(&shared);
        Box::pin(async move {
            let (pool, _) = Actor::spawn_linked(None, Pool(PhantomData), shared, parent).await?;
            Ok(pool.get_cell())
        })
    });
    spec.intensity(Intensity::NONE).stop_with(|cell, budget| {
        Box::pin(async move {
            let (done, stopped) = oneshot::channel();
            if cell.send_message(PoolMsg::Drain(done)).is_ok() {
                let _ = tokio::time::timeout(budget, stopped).await;
            }
            let _ = cell.stop_and_wait(None, Some(budget)).await;
        })
    })
}

struct Pool<W>(PhantomData<fn(W)>);

enum PoolMsg {
    Tick,
    Probe,
    ProbeEnded(Result<ActorCell, String>),
    /// Finish what runs, refuse the rest, then tell.
    Drain(oneshot::Sender<()>),
}

struct PoolState<W: Work> {
    shared: Arc<Shared<W>>,
    circuit: Circuit,
    workers: Vec<ActorId>,
    panics: Restarts,
    /// Part of `shared.succeeded` already given to the circuit.
    counted: u64,
    draining: Option<oneshot::Sender<()>>,
    ticker: JoinHandle<()>,
}

impl<W: Work> Drop for PoolState<W> {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl<W: Work> Actor for Pool<W> {
    type Msg = PoolMsg;
    type State = PoolState<W>;
    type Arguments = Arc<Shared<W>>;

    async fn pre_start(
        &self,
        myself: ActorRef<PoolMsg>,
        shared: Arc<Shared<W>>,
    ) -> Result<PoolState<W>, ActorProcessingErr> {
        let tick = shared.spec.circuit.tick();
        let ticker = myself.send_interval(tick, || PoolMsg::Tick);
        let mut state = PoolState {
            circuit: Circuit::new(shared.spec.circuit.clone()),
            workers: Vec::with_capacity(shared.spec.workers),
            panics: Restarts::new(shared.spec.panics),
            counted: shared.succeeded.load(Ordering::Relaxed),
            draining: None,
            shared,
            ticker,
        };
        state.shared.unpark();
        state.shared.gate.close();
        state.fill(&myself).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<PoolMsg>,
        message: PoolMsg,
        state: &mut PoolState<W>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMsg::Tick => state.count_successes(),
            PoolMsg::Probe if state.draining.is_none() => state.begin_probe(myself),
            PoolMsg::Probe => {}
            PoolMsg::ProbeEnded(outcome) => state.end_probe(&myself, outcome).await?,
            PoolMsg::Drain(done) => {
                state.shared.gate.down();
                state.shared.park();
                state.draining = Some(done);
                myself.get_cell().stop_children(None);
                state.finish_drain();
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PoolMsg>,
        event: SupervisionEvent,
        state: &mut PoolState<W>,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                state.forget(&who);
                match error.downcast_ref::<Trip>() {
                    Some(trip) => state.count_failure(&myself, trip),
                    None => state.count_panic(&error)?,
                }
            }
            // Killed from outside, or stopped by us.
            SupervisionEvent::ActorTerminated(who, ..) => state.forget(&who),
            _ => return Ok(()),
        }
        if state.draining.is_some() {
            state.finish_drain();
        } else if state.circuit.state() == CircuitState::Closed {
            let restarted = state.fill(&myself).await?;
            state.shared.restarts.fetch_add(restarted, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<W: Work> PoolState<W> {
    /// Starts workers up to the pool's size; returns how many.
    async fn fill(&mut self, myself: &ActorRef<PoolMsg>) -> Result<u64, ActorProcessingErr> {
        let mut started = 0;
        while self.workers.len() < self.shared.spec.workers {
            let args = WorkerArgs { shared: Arc::clone(&self.shared), probe: None };
            let (worker, _): (ActorRef<Wake>, _) =
                Actor::spawn_linked(None, Worker::new(), args, myself.get_cell()).await?;
            self.workers.push(worker.get_id());
            started += 1;
        }
        Ok(started)
    }

    fn forget(&mut self, who: &ActorCell) {
        let id = who.get_id();
        self.workers.retain(|worker| *worker != id);
    }

    fn finish_drain(&mut self) {
        if self.workers.is_empty()
            && let Some(done) = self.draining.take()
        {
            let _ = done.send(());
        }
    }

    fn count_successes(&mut self) {
        let succeeded = self.shared.succeeded.load(Ordering::Relaxed);
        self.circuit.record_successes(Instant::now(), succeeded - self.counted);
        self.counted = succeeded;
    }

    fn count_failure(&mut self, myself: &ActorRef<PoolMsg>, trip: &Trip) {
        let pool = self.shared.spec.name;
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        trip.span.in_scope(|| {
            tracing::warn!(pool, kind = %trip.kind, cause = %trip.cause, "dependency failed");
        });
        self.count_successes();
        if self.circuit.record_failure(Instant::now()) {
            tracing::error!(pool, "circuit opened");
            self.wait_for_probe(myself);
            // Running jobs may finish; no more are handed out.
            myself.get_cell().stop_children(None);
        }
    }

    fn count_panic(&mut self, error: &ActorProcessingErr) -> Result<(), ActorProcessingErr> {
        let pool = self.shared.spec.name;
        tracing::error!(pool, %error, "worker panicked");
        if self.panics.exceeded(Instant::now()) {
            return Err(format!("pool {pool} lost too many workers").into());
        }
        Ok(())
    }

    fn wait_for_probe(&mut self, myself: &ActorRef<PoolMsg>) {
        let wait = self.circuit.backoff(rand::random());
        self.shared.gate.open_until(Instant::now() + wait);
        self.shared.park();
        myself.send_after(wait, || PoolMsg::Probe);
    }

    /// Spawns the one worker that probes. Its failed start raises no event, so a task brings the outcome.
    fn begin_probe(&mut self, myself: ActorRef<PoolMsg>) {
        self.circuit.begin_probe();
        self.shared.gate.half_open();
        let args = WorkerArgs { shared: Arc::clone(&self.shared), probe: Some(PROBE_DEADLINE) };
        tokio::spawn(async move {
            let spawned =
                Actor::spawn_linked(None, Worker::<W>::new(), args, myself.get_cell()).await;
            let outcome = match spawned {
                Ok((worker, _)) => Ok(worker.get_cell()),
                Err(error) => Err(error.to_string()),
            };
            let _ = myself.cast(PoolMsg::ProbeEnded(outcome));
        });
    }

    async fn end_probe(
        &mut self,
        myself: &ActorRef<PoolMsg>,
        outcome: Result<ActorCell, String>,
    ) -> Result<(), ActorProcessingErr> {
        let pool = self.shared.spec.name;
        self.circuit.end_probe(outcome.is_ok());
        match outcome {
            Ok(worker) if self.draining.is_some() => worker.stop(None),
            Ok(worker) => {
                tracing::info!(pool, "circuit closed");
                self.count_successes();
                self.shared.unpark();
                self.shared.gate.close();
                self.workers.push(worker.get_id());
                // It looked for jobs while the pool was still parked.
                let _ = worker.send_message(Wake);
                self.fill(myself).await?;
            }
            Err(cause) => {
                tracing::warn!(pool, cause, "probe failed, circuit stays open");
                self.wait_for_probe(myself);
            }
        }
        Ok(())
    }
}
