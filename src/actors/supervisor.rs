//! A supervisor whose children are data: started in order, restarted by their spec, stopped in reverse.
//!
//! The root of the tree and every service are this one actor with different tables. What differs is only what
//! happens when a child fails more often than its intensity allows: a service fails itself ([`Excess::Fail`]), the
//! root marks the child down and tries again later ([`Excess::Contain`]), so that no failure ends the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::status::{Liveness, ServiceStatus};

/// Failures allowed within a time: one more escalates.
#[derive(Debug, Clone, Copy)]
pub struct Intensity {
    pub failures: usize,
    pub within: Duration,
}

impl Intensity {
    /// The first failure escalates.
    pub const NONE: Intensity = Intensity { failures: 0, within: Duration::from_secs(1) };

    pub const fn new(failures: usize, within: Duration) -> Self {
        Self { failures, within }
    }
}

/// Failures counted against an [`Intensity`].
#[derive(Debug)]
pub struct Restarts {
    intensity: Intensity,
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub fn new(intensity: Intensity) -> Self {
        Self { intensity, recent: VecDeque::new() }
    }

    /// Counts a failure; whether it is one too many.
    pub fn exceeded(&mut self, now: Instant) -> bool {
        let within = self.intensity.within;
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > within) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.recent.len() > self.intensity.failures
    }

    fn count(&self) -> u32 {
        u32::try_from(self.recent.len()).unwrap_or(u32::MAX)
    }

    fn reset(&mut self) {
        self.recent.clear();
    }
}

/// Which exits of a child lead to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Every exit.
    Permanent,
    /// A failure, not a normal end.
    Transient,
}

type StartFn =
    Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;
type StopFn = Arc<dyn Fn(ActorCell, Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// One row of a supervisor's table.
#[derive(Clone)]
pub struct ChildSpec {
    pub name: &'static str,
    restart: Restart,
    intensity: Intensity,
    /// Wait before a restart: this, doubled with every recent failure up to 64 times.
    backoff: Duration,
    /// Longest that stopping may take before the child is killed.
    shutdown: Duration,
    start: StartFn,
    stop: StopFn,
    status: Option<Arc<ServiceStatus>>,
}

impl ChildSpec {
    /// `start` spawns the child linked to the cell it is given. It must not wait for I/O.
    pub fn permanent(
        name: &'static str,
        start: impl Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            name,
            restart: Restart::Permanent,
            intensity: Intensity::new(3, Duration::from_secs(30)),
            backoff: Duration::from_millis(20),
            shutdown: Duration::from_secs(5),
            start: Arc::new(start),
            stop: Arc::new(|cell, budget| {
                Box::pin(async move {
                    let _ = cell.stop_and_wait(None, Some(budget)).await;
                })
            }),
            status: None,
        }
    }

    /// A supervisor as a child.
    pub fn supervisor(name: &'static str, children: Vec<ChildSpec>) -> Self {
        Self::permanent(name, move |parent| {
            let args = SupervisorArgs { name, children: children.clone(), excess: Excess::Fail };
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, Supervisor, args, parent).await?;
                Ok(actor.get_cell())
            })
        })
        .stop_with(|cell, budget| Box::pin(stop_supervisor(cell, budget)))
    }

    pub fn transient(mut self) -> Self {
        self.restart = Restart::Transient;
        self
    }

    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    pub fn shutdown(mut self, budget: Duration) -> Self {
        self.shutdown = budget;
        self
    }

    pub fn stop_with(
        mut self,
        stop: impl Fn(ActorCell, Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.stop = Arc::new(stop);
        self
    }

    /// Where the child's state is published.
    pub fn status(mut self, status: Arc<ServiceStatus>) -> Self {
        self.status = Some(status);
        self
    }

    fn publish(&self, liveness: Liveness) {
        if let Some(status) = &self.status {
            status.set(liveness);
        }
    }
}

/// What a supervisor does when a child fails too often.
#[derive(Debug, Clone, Copy)]
pub enum Excess {
    /// Fail too: the parent decides.
    Fail,
    /// Mark the child down and try again after this long.
    Contain { revive_after: Duration },
}

pub struct Supervisor;

pub struct SupervisorArgs {
    pub name: &'static str,
    pub children: Vec<ChildSpec>,
    pub excess: Excess,
}

pub enum SupervisorMsg {
    RestartDue(usize),
    /// Stops all children in reverse order, then tells.
    StopChildren(oneshot::Sender<()>),
}

pub struct SupervisorState {
    name: &'static str,
    excess: Excess,
    children: Vec<Child>,
    stopping: bool,
}

struct Child {
    spec: ChildSpec,
    running: Option<ActorCell>,
    restarts: Restarts,
}

/// Stops a supervisor's children in reverse order and then itself, within `budget`.
pub async fn stop_supervisor(cell: ActorCell, budget: Duration) {
    let (done, stopped) = oneshot::channel();
    if cell.send_message(SupervisorMsg::StopChildren(done)).is_ok() {
        let _ = tokio::time::timeout(budget, stopped).await;
    }
    let _ = cell.stop_and_wait(None, Some(budget)).await;
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        args: SupervisorArgs,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = Vec::with_capacity(args.children.len());
        for spec in args.children {
            let running = (spec.start)(myself.get_cell()).await?;
            spec.publish(Liveness::Up);
            let restarts = Restarts::new(spec.intensity);
            children.push(Child { spec, running: Some(running), restarts });
        }
        Ok(SupervisorState { name: args.name, excess: args.excess, children, stopping: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::RestartDue(index) if !state.stopping => {
                state.restart(&myself, index).await
            }
            SupervisorMsg::RestartDue(_) => Ok(()),
            SupervisorMsg::StopChildren(done) => {
                state.stopping = true;
                for child in state.children.iter_mut().rev() {
                    if let Some(cell) = child.running.take() {
                        (child.spec.stop)(cell.clone(), child.spec.shutdown).await;
                        cell.kill();
                    }
                    child.spec.publish(Liveness::Stopped);
                    tracing::debug!(supervisor = state.name, child = child.spec.name, "stopped");
                }
                let _ = done.send(());
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (who, cause) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, Some(error.to_string())),
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                // A kill is no normal end, however it is reported.
                (who, reason.filter(|reason| reason == "killed"))
            }
            _ => return Ok(()),
        };
        let Some(index) = state.find(who.get_id()) else { return Ok(()) };
        let child = &mut state.children[index];
        child.running = None;
        if state.stopping || (cause.is_none() && child.spec.restart == Restart::Transient) {
            child.spec.publish(Liveness::Stopped);
            return Ok(());
        }
        state.fail(&myself, index, &cause.unwrap_or_else(|| "ended".into()))
    }
}

impl SupervisorState {
    fn find(&self, id: ActorId) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.running.as_ref().is_some_and(|cell| cell.get_id() == id))
    }

    /// Plans a child's restart, or escalates.
    fn fail(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        index: usize,
        cause: &str,
    ) -> Result<(), ActorProcessingErr> {
        let supervisor = self.name;
        let child = &mut self.children[index];
        let name = child.spec.name;
        if !child.restarts.exceeded(Instant::now()) {
            let wait = child.spec.backoff * (1 << child.restarts.count().saturating_sub(1).min(6));
            tracing::error!(
                supervisor,
                child = name,
                cause,
                wait_ms = wait.as_millis(),
                "restarting"
            );
            child.spec.publish(Liveness::Restarting);
            myself.send_after(wait, move || SupervisorMsg::RestartDue(index));
            return Ok(());
        }
        match self.excess {
            Excess::Fail => {
                Err(format!("{supervisor}: {name} failed too often, at last: {cause}").into())
            }
            Excess::Contain { revive_after } => {
                tracing::error!(supervisor, child = name, cause, "down: failed too often");
                child.spec.publish(Liveness::Down);
                child.restarts.reset();
                myself.send_after(revive_after, move || SupervisorMsg::RestartDue(index));
                Ok(())
            }
        }
    }

    async fn restart(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        index: usize,
    ) -> Result<(), ActorProcessingErr> {
        let child = &mut self.children[index];
        match (child.spec.start)(myself.get_cell()).await {
            Ok(cell) => {
                child.running = Some(cell);
                child.spec.publish(Liveness::Up);
                Ok(())
            }
            Err(error) => self.fail(myself, index, &error.to_string()),
        }
    }
}
