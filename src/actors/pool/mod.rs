//! A supervised pool of workers in front of one dependency.
//!
//! A request's way: [`PoolHandle::call`] -> gate (atomic read) -> permit (bounded queue) -> an idle worker -> reply.
//! The caller's fault is a reply. A failure of the dependency is a reply and then the worker's exit with a [`Trip`],
//! which the pool's supervisor (`supervise.rs`) counts: below the threshold it starts another worker, at the threshold
//! it opens the circuit and parks the pool. A panic kills the one worker; too many fail the pool and, with it, its
//! service.

mod job;
mod supervise;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::ActorRef;
use tokio::time::Instant;
use tracing::Span;

use super::circuit::{Gate, Policy, State};
use super::supervisor::Intensity;
use crate::error::ServiceError;

pub use job::{Failure, Reply, Trip, TripKind};
pub use supervise::child;

/// The work behind one dependency. One value is shared by all workers of a pool.
pub trait Work: Send + Sync + 'static {
    type Job: Send + 'static;

    /// Does one job and answers it through the [`Reply`] inside; passes on the [`Trip`] that answering gave.
    fn run(&self, job: Self::Job) -> impl Future<Output = Result<(), Trip>> + Send;

    /// A cheap round trip that tells whether the dependency answers.
    fn probe(&self) -> impl Future<Output = Result<(), Trip>> + Send;
}

/// A pool's measures.
#[derive(Debug, Clone)]
pub struct PoolSpec {
    /// `<service>.<dependency>`, e.g. `user.database`.
    pub name: &'static str,
    pub workers: usize,
    /// Jobs admitted at the same time, running ones included; more are refused at once.
    pub capacity: usize,
    /// Longest that a job may run, and longest that it may wait before it runs.
    pub deadline: Duration,
    /// Panics of workers beyond this fail the pool.
    pub panics: Intensity,
    pub circuit: Policy,
}

/// The way in; outlives every restart of the pool.
pub struct PoolHandle<W: Work> {
    shared: Arc<Shared<W>>,
}

impl<W: Work> Clone for PoolHandle<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// What of a pool outlives its actors: callers, workers and the supervisor meet here.
struct Shared<W: Work> {
    spec: PoolSpec,
    work: W,
    gate: Gate,
    queue: Mutex<Queue<W::Job>>,
    admitted: Arc<AtomicUsize>,
    succeeded: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    restarts: AtomicU64,
}

struct Queue<J> {
    waiting: VecDeque<Admitted<J>>,
    idle: Vec<ActorRef<worker::Wake>>,
    /// A worker was woken and has not come yet. Until then no other is woken: it wakes the next one itself if it
    /// finds more than it takes. So a burst of calls costs as many wakes as there is work for, not one for each.
    coming: bool,
    /// No job is taken in or handed out.
    parked: bool,
}

struct Admitted<J> {
    job: J,
    since: Instant,
    /// The caller's, so that what the job logs is found with the request it belongs to.
    span: Span,
    _permit: Permit,
}

/// A job in a worker's hands.
struct Taken<J> {
    admitted: Admitted<J>,
    /// When it was taken.
    now: Instant,
}

/// A place in the pool; given back when the job is over, however it ends.
struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<W: Work> PoolHandle<W> {
    pub fn new(spec: PoolSpec, work: W) -> Self {
        let queue =
            Queue { waiting: VecDeque::new(), idle: Vec::new(), coming: false, parked: false };
        Self {
            shared: Arc::new(Shared {
                spec,
                work,
                gate: Gate::default(),
                queue: Mutex::new(queue),
                admitted: Arc::default(),
                succeeded: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                restarts: AtomicU64::new(0),
            }),
        }
    }

    /// Has a worker do the job that `job` makes around its reply port, and waits for the answer.
    ///
    /// # Errors
    /// What the job answers; `service_unavailable` at once while the circuit is open or the queue is full;
    /// `timeout` if it takes longer than the pool's deadline; `internal` if its worker died.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(Reply<T>) -> W::Job,
    ) -> Result<T, ServiceError> {
        let shared = &*self.shared;
        if let Err(retry) = shared.gate.check() {
            return Err(shared.refuse(retry));
        }
        let permit = shared.admit().ok_or_else(|| shared.refuse(Duration::from_secs(1)))?;
        let since = Instant::now();
        let (reply, answer) = Reply::channel();
        let admitted = Admitted { job: job(reply), since, span: Span::current(), _permit: permit };
        if !shared.push(admitted) {
            return Err(shared.refuse(Duration::from_secs(1)));
        }
        match answer.await {
            Ok(answer) => answer,
            // Nobody answered: the job was dropped with its worker, its deadline or its pool.
            Err(_) => Err(match shared.gate.check() {
                Err(retry) => shared.refuse(retry),
                Ok(()) if since.elapsed() >= shared.spec.deadline => {
                    ServiceError::timeout(shared.spec.name)
                }
                Ok(()) => ServiceError::internal(),
            }),
        }
    }

    /// The pool as health and metrics see it.
    pub fn view(&self) -> Arc<dyn PoolView> {
        Arc::clone(&self.shared) as Arc<dyn PoolView>
    }
}

/// A pool without its types.
pub trait PoolView: Send + Sync {
    fn name(&self) -> &'static str;
    /// `None` while the pool's service is down.
    fn circuit(&self) -> Option<State>;
    /// Jobs running and waiting.
    fn admitted(&self) -> usize;
    fn capacity(&self) -> usize;
    fn totals(&self) -> PoolTotals;
    /// Refuses everything until the pool is started again: its service is down.
    fn refuse_all(&self);
}

/// Counts since the process began.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolTotals {
    pub succeeded: u64,
    pub failed: u64,
    pub refused: u64,
    /// Workers started in the place of dead ones.
    pub restarts: u64,
}

impl<W: Work> PoolView for Shared<W> {
    fn name(&self) -> &'static str {
        self.spec.name
    }

    fn circuit(&self) -> Option<State> {
        self.gate.state()
    }

    fn admitted(&self) -> usize {
        self.admitted.load(Ordering::Acquire)
    }

    fn capacity(&self) -> usize {
        self.spec.capacity
    }

    fn totals(&self) -> PoolTotals {
        PoolTotals {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }

    fn refuse_all(&self) {
        self.gate.down();
        self.park();
    }
}

impl<W: Work> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, Queue<W::Job>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, retry: Duration) -> ServiceError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        ServiceError::unavailable(self.spec.name, retry)
    }

    fn admit(&self) -> Option<Permit> {
        if self.admitted.fetch_add(1, Ordering::AcqRel) < self.spec.capacity {
            return Some(Permit(Arc::clone(&self.admitted)));
        }
        self.admitted.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// Queues a job and sees to it that a worker comes. `false`: the pool is parked.
    fn push(&self, admitted: Admitted<W::Job>) -> bool {
        let mut queue = self.lock();
        if queue.parked {
            return false;
        }
        queue.waiting.push_back(admitted);
        self.wake_one(queue);
        true
    }

    /// Wakes an idle worker if jobs wait and none is coming yet.
    fn wake_one<'q>(&'q self, mut queue: MutexGuard<'q, Queue<W::Job>>) {
        while !queue.coming && !queue.waiting.is_empty() {
            let Some(worker) = queue.idle.pop() else { return };
            queue.coming = true;
            drop(queue);
            if worker.cast(worker::Wake).is_ok() {
                return;
            }
            // It died while idle. If there is no other, the job stays for whoever comes next.
            queue = self.lock();
            queue.coming = false;
        }
    }

    /// The next job still worth doing, or the worker is listed as idle. One that has just been woken is `arriving`,
    /// and calls a colleague for what still waits.
    fn next(&self, worker: &ActorRef<worker::Wake>, arriving: bool) -> Option<Taken<W::Job>> {
        let mut queue = self.lock();
        if arriving {
            // Whoever comes clears this, so that one that died on its way holds nobody up once it is replaced.
            queue.coming = false;
            // A worker may be told twice that there are jobs; while it works it must not be listed.
            queue.idle.retain(|idle| idle.get_id() != worker.get_id());
        }
        while !queue.parked {
            let Some(admitted) = queue.waiting.pop_front() else {
                queue.idle.push(worker.clone());
                return None;
            };
            let now = Instant::now();
            if now.duration_since(admitted.since) < self.spec.deadline {
                if arriving {
                    self.wake_one(queue);
                }
                return Some(Taken { admitted, now });
            }
            // Its drop wakes its caller, who is not to find the lock taken.
            drop(queue);
            drop(admitted);
            queue = self.lock();
        }
        None
    }

    /// Hands nothing out and takes nothing in; what waits is dropped and its callers told.
    fn park(&self) {
        let mut queue = self.lock();
        queue.parked = true;
        queue.coming = false;
        queue.idle.clear();
        let dropped = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(dropped);
    }

    fn unpark(&self) {
        let mut queue = self.lock();
        queue.parked = false;
        queue.coming = false;
        queue.idle.clear();
    }
}
