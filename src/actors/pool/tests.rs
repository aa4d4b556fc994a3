//! Pools, services and the root, tried through the public handle on a paused clock.

use std::sync::atomic::{AtomicBool, AtomicU32};

use super::*;
use crate::actors::status::{Liveness, ServiceStatus};
use crate::actors::supervisor::{ChildSpec, Excess, Supervisor, SupervisorArgs, stop_supervisor};
use crate::error::Code;
use ractor::Actor;

/// A dependency whose behaviour the test sets.
#[derive(Default)]
struct Dependency {
    failing: AtomicBool,
    hanging: AtomicBool,
    /// Fails every n-th call; 0: none.
    fail_every: AtomicU32,
    calls: AtomicU32,
    probes: AtomicU32,
}

enum Job {
    Ask(u32, Reply<u32>),
    Refuse(Reply<u32>),
    Panic(Reply<u32>),
    /// Runs for as long as told, then answers.
    Take(Duration, Reply<u32>),
}

struct Asking(Arc<Dependency>);

impl Work for Asking {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        let dependency = &self.0;
        match job {
            Job::Ask(value, reply) => {
                let call = dependency.calls.fetch_add(1, Ordering::SeqCst) + 1;
                if dependency.hanging.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let every = dependency.fail_every.load(Ordering::SeqCst);
                let bad = dependency.failing.load(Ordering::SeqCst)
                    || (every > 0 && call.is_multiple_of(every));
                reply.answer(if bad { Err(gone()) } else { Ok(value) })
            }
            Job::Refuse(reply) => reply.answer(Err(ServiceError::scene_not_found())),
            Job::Panic(reply) => {
                let _kept_until_unwound = reply;
                panic!("a bug")
            }
            Job::Take(time, reply) => {
                tokio::time::sleep(time).await;
                reply.answer(Ok::<_, Failure>(0))
            }
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        self.0.probes.fetch_add(1, Ordering::SeqCst);
        if self.0.hanging.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.0.failing.load(Ordering::SeqCst) {
            true => Err(Trip::new(TripKind::Unavailable, "still gone")),
            false => Ok(()),
        }
    }
}

fn gone() -> Failure {
    Failure::Dependency {
        shown: ServiceError::unavailable("dependency", Duration::from_secs(1)),
        trip: Trip::new(TripKind::Unavailable, "connection refused"),
    }
}

struct Fixture {
    dependency: Arc<Dependency>,
    pool: PoolHandle<Asking>,
    status: Arc<ServiceStatus>,
    root: ractor::ActorCell,
}

const CAPACITY: usize = 16;
const DEADLINE: Duration = Duration::from_secs(2);

/// root -> service -> pool of two workers, as in the real tree.
async fn start() -> Fixture {
    let dependency = Arc::new(Dependency::default());
    let spec = PoolSpec {
        name: "test.dependency",
        workers: 2,
        capacity: CAPACITY,
        deadline: DEADLINE,
        panics: Intensity::new(3, Duration::from_secs(10)),
        circuit: Policy {
            window: Duration::from_secs(10),
            min_calls: 10,
            failure_ratio: 0.5,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
        },
    };
    let pool = PoolHandle::new(spec, Asking(Arc::clone(&dependency)));
    let status = ServiceStatus::new("test", vec![pool.view()]);
    let service = ChildSpec::supervisor("test", vec![child(&pool)])
        .intensity(Intensity::new(2, Duration::from_secs(60)))
        .status(Arc::clone(&status));
    let args = SupervisorArgs {
        name: "root",
        children: vec![service],
        excess: Excess::Contain { revive_after: Duration::from_secs(60) },
    };
    let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
    Fixture { dependency, pool, status, root: root.get_cell() }
}

impl Fixture {
    async fn ask(&self) -> Result<u32, ServiceError> {
        self.pool.call(|reply| Job::Ask(7, reply)).await
    }

    async fn panic(&self) -> ServiceError {
        self.pool.call(Job::Panic).await.unwrap_err()
    }

    fn circuit(&self) -> Option<State> {
        self.pool.view().circuit()
    }

    /// Lets everything that is ready run, and time pass, until the condition holds.
    async fn until(&self, what: &str, condition: impl Fn(&Fixture) -> bool) {
        for _ in 0..100_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never happened: {what}");
    }

    async fn open(&self) {
        self.dependency.failing.store(true, Ordering::SeqCst);
        while self.circuit() == Some(State::Closed) {
            let _ = self.ask().await;
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_and_keeps_going_after_the_callers_own_faults() {
    let fixture = start().await;
    for _ in 0..100 {
        let error = fixture.pool.call(Job::Refuse).await.unwrap_err();
        assert_eq!(error.code, Code::SceneNotFound);
    }
    assert_eq!(fixture.ask().await.unwrap(), 7);
    assert_eq!(fixture.pool.view().totals().restarts, 0, "a refusal costs no worker");
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_answer_and_one_worker() {
    let fixture = start().await;
    assert_eq!(fixture.panic().await.code, Code::Internal);
    assert_eq!(fixture.ask().await.unwrap(), 7);
    fixture.until("a new worker", |f| f.pool.view().totals().restarts == 1).await;
    assert_eq!(fixture.status.liveness(), Liveness::Up);
}

#[tokio::test(start_paused = true)]
async fn a_dead_dependency_opens_the_circuit_and_callers_stop_waiting() {
    let fixture = start().await;
    fixture.open().await;
    let calls = fixture.dependency.calls.load(Ordering::SeqCst);
    assert_eq!(calls, 10, "the minimum sample");
    let before = Instant::now();
    let error = fixture.ask().await.unwrap_err();
    assert_eq!(error.code, Code::ServiceUnavailable);
    assert!(error.retry_after.is_some());
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(fixture.dependency.calls.load(Ordering::SeqCst), calls, "nobody asked it");
    assert_eq!(fixture.status.restarts(), 0, "an outage never restarts a service");
}

#[tokio::test(start_paused = true)]
async fn a_third_of_failures_is_served_through() {
    let fixture = start().await;
    fixture.dependency.fail_every.store(3, Ordering::SeqCst);
    let mut failed = 0;
    for _ in 0..300 {
        failed += u32::from(fixture.ask().await.is_err());
    }
    assert_eq!(failed, 100);
    assert_eq!(fixture.circuit(), Some(State::Closed));
    assert_eq!(fixture.status.restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_dependency_is_cut_off_at_the_deadline_and_counted() {
    let fixture = start().await;
    fixture.dependency.hanging.store(true, Ordering::SeqCst);
    let before = Instant::now();
    assert_eq!(fixture.ask().await.unwrap_err().code, Code::Timeout);
    assert_eq!(before.elapsed(), DEADLINE);
    while fixture.circuit() == Some(State::Closed) {
        let asks = (0..CAPACITY).map(|_| fixture.ask());
        let answers = futures::future::join_all(asks).await;
        assert!(answers.iter().all(Result::is_err));
    }
    assert_eq!(fixture.ask().await.unwrap_err().code, Code::ServiceUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_keeps_it_open_and_recovery_closes_it() {
    let fixture = start().await;
    fixture.open().await;
    fixture.until("three probes", |f| f.dependency.probes.load(Ordering::SeqCst) == 3).await;
    assert_ne!(fixture.circuit(), Some(State::Closed));
    assert!(fixture.ask().await.is_err());
    fixture.dependency.failing.store(false, Ordering::SeqCst);
    fixture.until("closed", |f| f.circuit() == Some(State::Closed)).await;
    assert_eq!(fixture.dependency.probes.load(Ordering::SeqCst), 4, "one probe was enough");
    let answers = futures::future::join_all((0..CAPACITY).map(|_| fixture.ask())).await;
    assert!(answers.iter().all(Result::is_ok), "all workers are back");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_probe_is_a_failed_probe() {
    let fixture = start().await;
    fixture.open().await;
    fixture.dependency.hanging.store(true, Ordering::SeqCst);
    fixture.until("half-open", |f| f.circuit() == Some(State::HalfOpen)).await;
    assert!(fixture.ask().await.is_err(), "nobody but the probe gets through");
    fixture.until("open again", |f| f.circuit() == Some(State::Open)).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let fixture = start().await;
    let slow = || fixture.pool.call(|reply| Job::Take(Duration::from_secs(1), reply));
    let running = futures::future::join_all((0..CAPACITY).map(|_| slow()));
    tokio::pin!(running);
    assert!(futures::poll!(&mut running).is_pending());
    let error = fixture.ask().await.unwrap_err();
    assert_eq!(error.code, Code::ServiceUnavailable);
    running.await;
    assert_eq!(fixture.ask().await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_harms_nobody() {
    let fixture = start().await;
    for _ in 0..50 {
        let call = fixture.pool.call(|reply| Job::Take(Duration::from_millis(10), reply));
        let gave_up = tokio::time::timeout(Duration::from_millis(1), call).await;
        assert!(gave_up.is_err());
        assert_eq!(fixture.ask().await.unwrap(), 7);
    }
    fixture.until("all permits back", |f| f.pool.view().admitted() == 0).await;
    assert_eq!(fixture.pool.view().totals().restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn permits_come_back_when_workers_are_killed_under_load() {
    let fixture = start().await;
    for _ in 0..20 {
        let calls = (0..CAPACITY)
            .map(|_| fixture.pool.call(|reply| Job::Take(Duration::from_millis(50), reply)));
        let load = futures::future::join_all(calls);
        tokio::pin!(load);
        assert!(futures::poll!(&mut load).is_pending());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let service = fixture.root.get_children().remove(0);
        let pool = service.get_children().remove(0);
        pool.get_children().iter().for_each(ractor::ActorCell::kill);
        let answers = load.await;
        assert!(answers.iter().any(Result::is_err), "the killed ones' callers are told");
        assert!(answers.iter().any(Result::is_ok), "the waiting ones are served");
    }
    assert_eq!(fixture.pool.view().admitted(), 0);
    assert_eq!(fixture.ask().await.unwrap(), 7);
    assert_eq!(fixture.status.restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn panics_beyond_the_intensity_restart_the_service_and_at_last_take_it_down() {
    let fixture = start().await;
    for _ in 0..4 {
        fixture.panic().await;
    }
    fixture.until("service restarted", |f| f.status.restarts() == 1).await;
    fixture.until("up again", |f| f.status.liveness() == Liveness::Up).await;
    assert_eq!(fixture.ask().await.unwrap(), 7, "the old handle works");
    while fixture.status.liveness() != Liveness::Down {
        let _ = fixture.pool.call(Job::Panic).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = fixture.ask().await.unwrap_err();
    assert_eq!(error.code, Code::ServiceUnavailable, "refused, not hanging");
    assert_eq!(fixture.root.get_status(), ractor::ActorStatus::Running, "the process lives");
    fixture.until("revived later", |f| f.status.liveness() == Liveness::Up).await;
    assert_eq!(fixture.ask().await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_running_jobs_finish_and_refuses_new_ones() {
    let fixture = start().await;
    let running = fixture.pool.call(|reply| Job::Take(Duration::from_secs(1), reply));
    tokio::pin!(running);
    assert!(futures::poll!(&mut running).is_pending());
    let stop = stop_supervisor(fixture.root.clone(), Duration::from_secs(5));
    let refused = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fixture.ask().await
    };
    let (finished, (), refused) = futures::join!(running, stop, refused);
    assert!(finished.is_ok());
    assert_eq!(refused.unwrap_err().code, Code::ServiceUnavailable);
    assert_eq!(fixture.status.liveness(), Liveness::Stopped);
}

#[tokio::test(start_paused = true)]
async fn calls_made_at_once_run_at_once() {
    let fixture = start().await;
    let slow = || fixture.pool.call(|reply| Job::Take(Duration::from_secs(1), reply));
    fixture.ask().await.unwrap();
    let before = Instant::now();
    let (one, other) = futures::join!(slow(), slow());
    assert!(one.is_ok() && other.is_ok());
    assert_eq!(before.elapsed(), Duration::from_secs(1), "a worker each");
}

#[tokio::test(start_paused = true)]
async fn workers_killed_on_their_way_to_a_job_hold_nobody_up() {
    let fixture = start().await;
    fixture.ask().await.unwrap();
    let slow = || fixture.pool.call(|reply| Job::Take(Duration::from_secs(1), reply));
    for _ in 0..20 {
        let calls = futures::future::join_all([slow(), slow()]);
        tokio::pin!(calls);
        // Nothing but this test has run between the wake and the kill.
        assert!(futures::poll!(&mut calls).is_pending());
        let pool = fixture.root.get_children().remove(0).get_children().remove(0);
        pool.get_children().iter().for_each(ractor::ActorCell::kill);
        let before = Instant::now();
        assert!(calls.await.iter().all(Result::is_ok), "no worker had taken them");
        assert_eq!(before.elapsed(), Duration::from_secs(1), "both new workers work");
    }
}
