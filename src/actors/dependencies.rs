//! The servers and files that this replica depends on, and whether they answer: looked at on a timer, never because
//! somebody asks.
//!
//! What is seen here decides nothing: circuits do, by the calls that are really made. It is for people, and it finds
//! what no call meets: a server that nothing has asked for a while.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};

use super::circuit::State as Circuit;
use super::supervisor::ChildSpec;

/// How often each is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// Longest that an answer is waited for; the start waits less.
const DEADLINE: Duration = Duration::from_secs(2);
const FIRST_DEADLINE: Duration = Duration::from_secs(1);
/// What was seen longer ago than this says nothing any more.
const STALE: Duration = Duration::from_secs(20);

/// One of them, and how to look at it.
pub struct Dependency {
    /// For machines: `redis`, `postgres`, …
    pub name: &'static str,
    /// Which one it is of those that may stand there: `server`, `cluster`, `embedded`, …
    pub kind: &'static str,
    /// A cheap round trip.
    pub probe: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
    /// The circuit of those who call it, where there is one.
    pub circuit: Option<Box<dyn Fn() -> Option<Circuit> + Send + Sync>>,
}

/// How a dependency is doing; readable by anyone at any time.
pub struct DependencyStatus {
    dependency: Dependency,
    seen: Mutex<Option<Seen>>,
}

/// What a look at it gave.
#[derive(Debug, Clone, Copy)]
struct Seen {
    up: bool,
    /// Until it answered or was given up.
    latency: Duration,
    at: Instant,
}

/// Whether a dependency answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    Up,
    Down,
    /// Nobody has looked, or not for long.
    Unknown,
}

impl Answering {
    pub const fn as_str(self) -> &'static str {
        match self {
            Answering::Up => "up",
            Answering::Down => "down",
            Answering::Unknown => "unknown",
        }
    }
}

impl DependencyStatus {
    pub fn name(&self) -> &'static str {
        self.dependency.name
    }

    pub fn kind(&self) -> &'static str {
        self.dependency.kind
    }

    /// Absent where calls have no circuit. The inner one is absent while their service is down.
    pub fn circuit(&self) -> Option<Option<Circuit>> {
        self.dependency.circuit.as_ref().map(|circuit| circuit())
    }

    pub fn answering(&self) -> Answering {
        match self.seen() {
            Some(seen) if seen.at.elapsed() > STALE => Answering::Unknown,
            Some(Seen { up: true, .. }) => Answering::Up,
            Some(Seen { up: false, .. }) => Answering::Down,
            None => Answering::Unknown,
        }
    }

    /// How long the last answer took (or was waited for), and how long ago it was.
    pub fn last_look(&self) -> Option<(Duration, Duration)> {
        self.seen().map(|seen| (seen.latency, seen.at.elapsed()))
    }

    fn seen(&self) -> Option<Seen> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self, deadline: Duration) {
        let since = Instant::now();
        let failure = match timeout(deadline, (self.dependency.probe)()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(format!("no answer within {deadline:?}")),
        };
        let at = Instant::now();
        let seen = Seen { up: failure.is_none(), latency: at.duration_since(since), at };
        let before = self.seen.lock().unwrap_or_else(PoisonError::into_inner).replace(seen);
        let (name, was_up) = (self.name(), before.is_none_or(|before| before.up));
        match failure {
            Some(reason) if was_up => tracing::warn!(dependency = name, reason, "does not answer"),
            None if !was_up => tracing::info!(dependency = name, "answers again"),
            _ => {}
        }
    }
}

/// Where they can be read, and who looks at them.
pub fn build(dependencies: Vec<Dependency>) -> (Vec<Arc<DependencyStatus>>, ChildSpec) {
    let watched: Vec<_> = dependencies
        .into_iter()
        .map(|dependency| Arc::new(DependencyStatus { dependency, seen: Mutex::default() }))
        .collect();
    let all: Arc<[_]> = watched.clone().into();
    let child = ChildSpec::permanent("probes", move |parent| {
        let all = Arc::clone(&all);
        Box::pin(async move {
            let (prober, _) = Actor::spawn_linked(None, Prober, all, parent).await?;
            Ok(prober.get_cell())
        })
    });
    (watched, child)
}

struct Prober;

struct Tick;

struct State {
    all: Arc<[Arc<DependencyStatus>]>,
    ticker: JoinHandle<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl State {
    async fn look(&self, deadline: Duration) {
        join_all(self.all.iter().map(|dependency| dependency.look(deadline))).await;
    }
}

impl Actor for Prober {
    type Msg = Tick;
    type State = State;
    type Arguments = Arc<[Arc<DependencyStatus>]>;

    /// Looks once before anybody can ask.
    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        all: Arc<[Arc<DependencyStatus>]>,
    ) -> Result<State, ActorProcessingErr> {
        let state = State { all, ticker: myself.send_interval(EVERY, || Tick) };
        state.look(FIRST_DEADLINE).await;
        Ok(state)
    }

    /// Nobody waits for the prober; all together take less than the time between two ticks.
    async fn handle(
        &self,
        _myself: ActorRef<Tick>,
        _tick: Tick,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.look(DEADLINE).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::actors::supervisor::{Excess, Supervisor, SupervisorArgs, stop_supervisor};

    /// Answers after so many milliseconds; an odd number is a failure.
    fn dependency(name: &'static str, takes: &Arc<AtomicU64>) -> Dependency {
        let takes = Arc::clone(takes);
        let probe = move || -> BoxFuture<'static, Result<(), String>> {
            let takes = takes.load(Ordering::Relaxed);
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                if takes.is_multiple_of(2) { Ok(()) } else { Err("odd".into()) }
            })
        };
        Dependency { name, kind: "server", probe: Box::new(probe), circuit: None }
    }

    async fn seconds(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_looked_at_by_itself_and_a_hanging_one_is_down() {
        let (one, other) = (Arc::new(AtomicU64::new(10)), Arc::new(AtomicU64::new(20)));
        let (seen, child) = build(vec![dependency("one", &one), dependency("other", &other)]);
        assert_eq!(seen[0].answering(), Answering::Unknown);
        let excess = Excess::Contain { revive_after: Duration::from_secs(60) };
        let args = SupervisorArgs { name: "root", children: vec![child], excess };
        let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
        let told = || {
            let millis = |status: &Arc<DependencyStatus>| status.last_look().unwrap().0.as_millis();
            [&seen[0], &seen[1]].map(|status| (status.answering(), millis(status)))
        };
        assert_eq!(told(), [(Answering::Up, 10), (Answering::Up, 20)], "before anything is served");
        one.store(60_000, Ordering::Relaxed);
        other.store(31, Ordering::Relaxed);
        seconds(8).await;
        assert_eq!(told(), [(Answering::Down, 2_000), (Answering::Down, 31)]);
        one.store(2, Ordering::Relaxed);
        seconds(6).await;
        assert_eq!(told(), [(Answering::Up, 2), (Answering::Down, 31)]);

        stop_supervisor(root.get_cell(), Duration::from_secs(5)).await;
        seconds(30).await;
        assert_eq!(seen[0].answering(), Answering::Unknown, "old news are none");
    }
}
