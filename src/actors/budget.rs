//! The budget: what model calls may cost, and what they have cost.
//!
//! Called by the generation service before a command is taken on, and by turns around each call of a provider that costs
//! something: reserve, call, settle. One pool does the work: `generation.budget`. Calls of providers that cost
//! nothing never come here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use super::circuit::Policy;
use super::pool::{self, Failure, PoolHandle, PoolSpec, PoolView, Reply, Trip, Work};
use super::supervisor::{ChildSpec, Intensity};
use crate::clock::Clock;
use crate::config;
use crate::config::budget::WhenExhausted;
use crate::domain::budget::{Amount, Cap, Purse, day_of};
use crate::domain::ids::{ScenarioId, TurnId, UserId};
use crate::error::{Code, ServiceError};
use crate::storage::budget::{BudgetStore, NewReservation, OpenReservation, Reserved, Taken};

const WORKERS: usize = 8;
const CAPACITY: usize = 1_024;
/// Above the store's own limit for an operation.
const DEADLINE: Duration = Duration::from_secs(6);
const PANICS: Intensity = Intensity::new(5, Duration::from_secs(10));

/// After this long a reservation belongs to no call that still runs: longer than any turn.
const DUE: Duration = Duration::from_secs(3600);
/// Waits between tries to settle a call while the store is away; then it is left to [`BudgetHandle::sweep`].
const SETTLE_AGAIN: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
const SWEEP: usize = 200;

/// Who pays: out of whose purses a call is taken.
#[derive(Debug, Clone, Copy)]
pub struct Payer {
    /// Or an answer of the chat companion, which is paid for like a turn.
    pub turn: TurnId,
    /// Absent for talk about no scenario.
    pub scenario: Option<ScenarioId>,
    pub user: UserId,
}

/// A call that was reserved. One that is dropped, and not given to [`BudgetHandle::settle`], is settled in the background
/// with what a call costs at least that was made and came to nothing.
#[must_use = "a call that is dropped counts as made"]
pub struct Bill {
    /// Absent once settled.
    id: Option<Uuid>,
    at_least: Amount,
    budget: BudgetHandle,
}

impl Bill {
    /// What it is settled with if it is dropped from now on.
    pub fn costs_at_least(&mut self, amount: Amount) {
        self.at_least = amount;
    }

    pub fn at_least(&self) -> Amount {
        self.at_least
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        if let Some(id) = self.id.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (budget, at_least) = (self.budget.clone(), self.at_least);
            runtime.spawn(async move { budget.settle_patiently(id, at_least).await });
        }
    }
}

/// One day of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUsage {
    pub day: Date,
    pub taken: Taken,
}

/// A user's days, the newest first, and what each day has at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserUsage {
    pub days: Vec<DayUsage>,
    pub cap: Cap,
    pub resets_at: Option<Timestamp>,
}

/// The way in; cheap to clone.
#[derive(Clone)]
pub struct BudgetHandle {
    pool: PoolHandle<Purses>,
    config: Arc<config::Budget>,
    clock: Clock,
}

/// What the pool is built from.
pub struct Parts {
    pub store: Arc<dyn BudgetStore>,
    pub config: config::Budget,
    pub circuit: Policy,
}

/// The handle, and its pool's place in the tree and state.
pub fn build(parts: Parts, clock: Clock) -> (BudgetHandle, ChildSpec, Arc<dyn PoolView>) {
    let Parts { store, config, circuit } = parts;
    let spec = PoolSpec {
        name: "generation.budget",
        workers: WORKERS,
        capacity: CAPACITY,
        deadline: DEADLINE,
        panics: PANICS,
        circuit,
    };
    let pool = PoolHandle::new(spec, Purses(store));
    let (child, view) = (pool::child(&pool), pool.view());
    (BudgetHandle { pool, config: Arc::new(config), clock }, child, view)
}

enum Job {
    Reserve(Box<NewReservation>, Reply<Reserved>),
    Settle(Uuid, Amount, Reply<bool>),
    ListOpen(TurnId, Reply<Vec<OpenReservation>>),
    Look(Vec<Purse>, Reply<Vec<Taken>>),
    Sweep(Timestamp, Reply<u64>),
}

struct Purses(Arc<dyn BudgetStore>);

impl Work for Purses {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        let store = &self.0;
        match job {
            Job::Reserve(reservation, reply) => reply.answer(store.reserve(&reservation).await),
            Job::Settle(id, spent, reply) => reply.answer(store.settle(id, spent).await),
            Job::ListOpen(turn, reply) => reply.answer(store.list_open(turn).await),
            Job::Look(purses, reply) => reply.answer(store.look(&purses).await),
            Job::Sweep(now, reply) => reply.answer(self.sweep(now).await),
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        Ok(self.0.probe().await?)
    }
}

impl Purses {
    /// What nobody has settled was perhaps paid in full.
    async fn sweep(&self, now: Timestamp) -> Result<u64, Failure> {
        let mut swept = 0;
        for open in self.0.list_due(now, SWEEP).await? {
            if self.0.settle(open.id, open.amount).await? {
                tracing::warn!(reservation = %open.id, "a model call was never settled; it counts in full");
                swept += 1;
            }
        }
        Ok(swept + self.0.purge(now, SWEEP).await?)
    }
}

impl BudgetHandle {
    /// Whether a command is refused when there is no money for it.
    pub fn refuses(&self) -> bool {
        self.config.when_exhausted == WhenExhausted::Refuse
    }

    /// Whether a call could be paid for now. Takes nothing.
    ///
    /// # Errors
    /// `budget_exhausted`; `service_unavailable`, `timeout`.
    pub async fn check(
        &self,
        scenario: ScenarioId,
        user: UserId,
        amount: Amount,
    ) -> Result<(), ServiceError> {
        if !self.refuses() {
            return Ok(());
        }
        match self.short(scenario, user, amount).await? {
            Some(purse) => Err(self.exhausted(&purse)),
            None => Ok(()),
        }
    }

    /// Whether all purses hold so much now. Takes nothing, refuses nobody.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn has(
        &self,
        scenario: ScenarioId,
        user: UserId,
        amount: Amount,
    ) -> Result<bool, ServiceError> {
        Ok(self.short(scenario, user, amount).await?.is_none())
    }

    /// The first purse that does not hold so much.
    async fn short(
        &self,
        scenario: ScenarioId,
        user: UserId,
        amount: Amount,
    ) -> Result<Option<Purse>, ServiceError> {
        let today = day_of(self.clock.now());
        let purses = [
            (Purse::Scenario(scenario), self.config.scenario()),
            (Purse::User(user, today), self.config.user()),
            (Purse::Day(today), self.config.day()),
        ];
        if purses.iter().all(|(_, cap)| cap.is_endless()) {
            return Ok(None);
        }
        let names = purses.iter().map(|(purse, _)| *purse).collect();
        let taken = self.pool.call(|reply| Job::Look(names, reply)).await?;
        let short = |((_, cap), taken): &(&(Purse, Cap), Taken)| !cap.allows(taken.all(), amount);
        Ok(purses.iter().zip(taken).find(short).map(|((purse, _), _)| *purse))
    }

    /// Takes the most that a call may come to out of all purses. `at_least` is what it costs if nothing comes of it.
    ///
    /// # Errors
    /// `budget_exhausted`; `service_unavailable`, `timeout`: then the call must not be made.
    pub async fn reserve(
        &self,
        payer: Payer,
        amount: Amount,
        at_least: Amount,
    ) -> Result<Bill, ServiceError> {
        let now = self.clock.now();
        let today = day_of(now);
        let purses = [
            Some((Purse::Turn(payer.turn), self.config.turn())),
            payer.scenario.map(|id| (Purse::Scenario(id), self.config.scenario())),
            Some((Purse::User(payer.user, today), self.config.user())),
            Some((Purse::Day(today), self.config.day())),
        ];
        let reservation = NewReservation {
            id: TurnId::new(now).0,
            turn: payer.turn,
            amount,
            purses: purses.into_iter().flatten().collect(),
            now,
            due: now + DUE,
        };
        let id = reservation.id;
        match self.pool.call(|reply| Job::Reserve(Box::new(reservation), reply)).await? {
            Reserved::Granted => Ok(Bill { id: Some(id), at_least, budget: self.clone() }),
            Reserved::Exhausted(purse) => Err(self.exhausted(&purse)),
        }
    }

    /// Says what a call came to. A store that is away is asked again in the background, and not waited for.
    pub async fn settle(&self, mut bill: Bill, spent: Amount) {
        let Some(id) = bill.id.take() else { return };
        if self.try_settle(id, spent).await.is_err() {
            let budget = self.clone();
            tokio::spawn(async move { budget.settle_patiently(id, spent).await });
        }
    }

    async fn settle_patiently(&self, id: Uuid, spent: Amount) {
        for wait in SETTLE_AGAIN {
            if self.try_settle(id, spent).await.is_ok() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
        tracing::warn!(reservation = %id, "a model call could not be settled; it counts in full");
    }

    async fn try_settle(&self, id: Uuid, spent: Amount) -> Result<bool, ServiceError> {
        self.pool.call(|reply| Job::Settle(id, spent, reply)).await
    }

    /// Settles what an owner that died has left of a turn: each call with what is known of it, but no more than was
    /// reserved.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`: then they count in full.
    pub async fn settle_left(&self, turn: TurnId, spent: Amount) -> Result<(), ServiceError> {
        let mut rest = spent;
        for open in self.pool.call(|reply| Job::ListOpen(turn, reply)).await? {
            let share = Amount {
                tokens: rest.tokens.min(open.amount.tokens),
                micros: rest.micros.min(open.amount.micros),
            };
            rest = rest.minus(share);
            self.try_settle(open.id, share).await?;
        }
        Ok(())
    }

    /// What a user's calls have cost on each of the last `days` days.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn usage(&self, user: UserId, days: usize) -> Result<UserUsage, ServiceError> {
        let today = day_of(self.clock.now());
        let mut purses = vec![Purse::User(user, today)];
        let mut list = vec![today];
        while list.len() < days
            && let Some(day) = list.last().and_then(|day| day.yesterday().ok())
        {
            purses.push(Purse::User(user, day));
            list.push(day);
        }
        let resets_at = purses[0].refills_at();
        let taken = self.pool.call(|reply| Job::Look(purses, reply)).await?;
        let days = list.into_iter().zip(taken).map(|(day, taken)| DayUsage { day, taken });
        Ok(UserUsage { days: days.collect(), cap: self.config.user(), resets_at })
    }

    /// Counts calls in full that nobody settled, and forgets old purses; returns how many. For a timer.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn sweep(&self) -> Result<u64, ServiceError> {
        let now = self.clock.now();
        self.pool.call(|reply| Job::Sweep(now, reply)).await
    }

    fn exhausted(&self, purse: &Purse) -> ServiceError {
        metrics::counter!("whatif_budget_refusals_total", "purse" => purse.kind()).increment(1);
        let whose = purse.whose();
        let text = match purse.refills_at() {
            Some(at) => format!("the budget {whose} for language models is used up until {at}"),
            None => format!("the budget {whose} for language models is used up"),
        };
        ServiceError::new(Code::BudgetExhausted, text)
    }
}
