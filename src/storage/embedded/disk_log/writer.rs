//! The one thread that writes: group commit.
//!
//! Commands are applied in their order of arrival, many to a transaction. Whether one is allowed (lease, fence, sequence)
//! is decided from memory before anything is written, so a refused command leaves no trace and does not touch its
//! neighbours. What succeeded is answered after the commit. An error of SQLite speaks against the file, not against
//! the command: everything since the last commit is rolled back, in the file and in memory, and answered `Unavailable`.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command::{Command, Reply};
use super::schema::{self, MAX_LOG, MAX_SEQ, OpenError, key};
use crate::domain::ids::ScenarioId;
use crate::storage::embedded::lease::Lease;
use crate::storage::embedded::new_epoch;
use crate::storage::log::{Batch, Claim, Extent, Fence, Lease as Granted, LogError, Origin};

/// Commands in one transaction, at most.
pub(super) const GROUP: usize = 512;

/// A log that was claimed in this process and not given up since; its rows say the rest.
#[derive(Clone)]
struct Owned {
    log: i64,
    head: u64,
    lease: Lease,
}

/// How to take back a change in memory whose transaction failed.
enum Undo {
    Head(ScenarioId, u64),
    Owned(ScenarioId, Option<Owned>),
}

/// An answer that waits for the commit.
enum Answer {
    Done(Reply<()>),
    Claimed(Reply<Claim>, Claim),
}

/// Why a command was not carried out.
enum Refusal {
    /// The command's own fault.
    Log(LogError),
    /// The file's.
    File(rusqlite::Error),
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error)
    }
}

pub(super) struct Writer {
    db: Connection,
    file: String,
    owned: HashMap<ScenarioId, Owned>,
    last_fence: u64,
    /// Whether a transaction is open; `undo` and `answers` belong to it.
    open: bool,
    undo: Vec<Undo>,
    answers: Vec<Answer>,
    /// Whether the last transaction failed; so that a full disk is logged once, not a thousand times a second.
    failing: bool,
}

impl Writer {
    pub(super) fn new(db: Connection, file: &Path) -> Result<Self, OpenError> {
        let last_fence = db
            .query_row("SELECT last FROM fence", [], |row| row.get(0))
            .map_err(OpenError::unreadable(file))?;
        Ok(Self {
            db,
            file: file.display().to_string(),
            owned: HashMap::new(),
            last_fence,
            open: false,
            undo: Vec::new(),
            answers: Vec::new(),
            failing: false,
        })
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        let mut closing = Vec::new();
        let mut commands = Vec::with_capacity(GROUP);
        while queue.blocking_recv_many(&mut commands, GROUP) > 0 {
            for command in commands.drain(..) {
                match command {
                    Command::Close { reply } => {
                        queue.close();
                        closing.push(reply);
                    }
                    command => self.apply(command),
                }
            }
            self.commit();
        }
        if let Err((_, error)) = self.db.close() {
            tracing::error!(file = self.file, %error, "event log not closed cleanly");
        }
        for reply in closing {
            let _ = reply.send(Ok(()));
        }
    }

    fn apply(&mut self, command: Command) {
        // A caller that went away does not wait for its answer: `send` may fail.
        match command {
            Command::Append { scenario, fence, batch, reply } => {
                let outcome = self.append(scenario, fence, &batch);
                self.settle(outcome, reply, |reply, ()| Answer::Done(reply));
            }
            Command::Claim { scenario, holder, ttl, origin, now, reply } => {
                let outcome = self.claim(scenario, &holder, ttl, origin, now);
                self.settle(outcome, reply, Answer::Claimed);
            }
            Command::Trim { scenario, fence, up_to, reply } => {
                let outcome = self.trim(scenario, fence, up_to);
                self.settle(outcome, reply, |reply, ()| Answer::Done(reply));
            }
            Command::Delete { scenario, reply } => {
                let outcome = self.delete(scenario);
                self.settle(outcome, reply, |reply, ()| Answer::Done(reply));
            }
            Command::Renew { leases, ttl, now, reply } => {
                let _ = reply.send(Ok(self.renew(&leases, ttl, now)));
            }
            Command::Release { scenario, fence, reply } => {
                if self.owned_by(scenario, fence).is_ok() {
                    self.owned.remove(&scenario);
                }
                let _ = reply.send(Ok(()));
            }
            Command::ListOrphans { limit, now, reply } => {
                let orphans = self.list_orphans(limit, now);
                let _ = reply.send(orphans.map_err(|error| self.unavailable(&error)));
            }
            Command::Close { .. } => {} // taken out by `run`
        }
    }

    /// Answers a refusal at once; keeps a success until the commit.
    fn settle<T>(
        &mut self,
        outcome: Result<T, Refusal>,
        reply: Reply<T>,
        answer: fn(Reply<T>, T) -> Answer,
    ) {
        let refusal = match outcome {
            Ok(value) => return self.answers.push(answer(reply, value)),
            Err(Refusal::Log(error)) => error,
            Err(Refusal::File(error)) => {
                self.fail(&error);
                self.unavailable(&error)
            }
        };
        let _ = reply.send(Err(refusal));
    }

    fn begin(&mut self) -> rusqlite::Result<()> {
        if !self.open {
            if !self.db.is_autocommit() {
                self.execute("ROLLBACK")?; // an earlier one did not go through
            }
            self.execute("BEGIN IMMEDIATE")?;
            self.open = true;
        }
        Ok(())
    }

    fn commit(&mut self) {
        if self.open {
            if let Err(error) = self.execute("COMMIT") {
                return self.fail(&error);
            }
            self.open = false;
            if std::mem::take(&mut self.failing) {
                tracing::info!(file = self.file, "event log writable again");
            }
        }
        self.undo.clear();
        for answer in self.answers.drain(..) {
            match answer {
                Answer::Done(reply) => drop(reply.send(Ok(()))),
                Answer::Claimed(reply, claim) => drop(reply.send(Ok(claim))),
            }
        }
    }

    /// Takes back everything since the last commit.
    fn fail(&mut self, error: &rusqlite::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(file = self.file, %error, "event log not writable");
        }
        // SQLite may have rolled back by itself; if this fails too, `begin` tries again.
        if !self.db.is_autocommit() {
            let _ = self.execute("ROLLBACK");
        }
        self.open = false;
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Head(scenario, head) => {
                    if let Some(owned) = self.owned.get_mut(&scenario) {
                        owned.head = head;
                    }
                }
                Undo::Owned(scenario, Some(owned)) => drop(self.owned.insert(scenario, owned)),
                Undo::Owned(scenario, None) => drop(self.owned.remove(&scenario)),
            }
        }
        for answer in std::mem::take(&mut self.answers) {
            match answer {
                Answer::Done(reply) => drop(reply.send(Err(self.unavailable(error)))),
                Answer::Claimed(reply, _) => drop(reply.send(Err(self.unavailable(error)))),
            }
        }
    }

    fn unavailable(&self, error: &rusqlite::Error) -> LogError {
        LogError::Unavailable(format!("{}: {error}", self.file))
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn owned_by(&self, scenario: ScenarioId, fence: Fence) -> Result<&Owned, LogError> {
        self.owned.get(&scenario).filter(|owned| owned.lease.fence == fence).ok_or(LogError::Fenced)
    }

    fn set_owned(&mut self, scenario: ScenarioId, owned: Option<Owned>) {
        let before = match owned {
            Some(owned) => self.owned.insert(scenario, owned),
            None => self.owned.remove(&scenario),
        };
        self.undo.push(Undo::Owned(scenario, before));
    }

    fn append(&mut self, scenario: ScenarioId, fence: Fence, batch: &Batch) -> Result<(), Refusal> {
        let &Owned { log, head, .. } = self.owned_by(scenario, fence)?;
        if batch.first_seq != head + 1 {
            return Err(LogError::OutOfSequence { head }.into());
        }
        let new_head = head + batch.frames.len() as u64;
        if new_head > MAX_SEQ {
            return Err(LogError::Unavailable("the log has no numbers left".into()).into());
        }
        self.begin()?;
        if !batch.frames.is_empty() {
            let mut insert =
                self.db.prepare_cached("INSERT INTO event (id, frame) VALUES (?1, ?2)")?;
            for (frame, seq) in batch.frames.iter().zip(batch.first_seq..) {
                insert.execute(params![key(log, seq), frame.bytes().as_ref()])?;
            }
        }
        if batch.checkpoint.is_some() || batch.open_turn.is_some() {
            self.db
                .prepare_cached(
                    "UPDATE log SET checkpoint = coalesce(?2, checkpoint), \
                     open_turn = coalesce(?3, open_turn) WHERE id = ?1",
                )?
                .execute(params![log, batch.checkpoint.as_deref(), batch.open_turn])?;
        }
        if let Some(owned) = self.owned.get_mut(&scenario) {
            owned.head = new_head;
            self.undo.push(Undo::Head(scenario, head));
        }
        Ok(())
    }

    fn claim(
        &mut self,
        scenario: ScenarioId,
        holder: &str,
        ttl: Duration,
        origin: Origin,
        now: Instant,
    ) -> Result<Claim, Refusal> {
        let held = self.owned.get(&scenario).and_then(|o| o.lease.held_against(holder, now));
        if let Some((holder, expires_in)) = held {
            return Ok(Claim::Held { holder, expires_in });
        }
        self.begin()?;
        let (log, extent) = match schema::find_log(&self.db, scenario)? {
            Some(found) => found,
            None => self.create_log(scenario, origin)?,
        };
        let checkpoint: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT checkpoint FROM log WHERE id = ?1")?
            .query_row([log], |row| row.get(0))?;
        // Never taken back: a number that was not granted is no loss.
        self.last_fence += 1;
        self.db.prepare_cached("UPDATE fence SET last = ?1")?.execute([self.last_fence])?;
        let fence = Fence(self.last_fence);
        let lease = Lease::new(fence, holder, now, ttl);
        self.set_owned(scenario, Some(Owned { log, head: extent.head, lease }));
        Ok(Claim::Granted(Granted { fence, extent, checkpoint: checkpoint.map(Into::into) }))
    }

    fn create_log(&self, scenario: ScenarioId, origin: Origin) -> Result<(i64, Extent), Refusal> {
        let (epoch, head) = (new_epoch(), origin.head());
        self.db
            .prepare_cached("INSERT INTO log (scenario, epoch, trimmed) VALUES (?1, ?2, ?3)")?
            .execute(params![scenario.0.as_bytes(), &*epoch, head])?;
        match self.db.last_insert_rowid() {
            log if log <= MAX_LOG => Ok((log, Extent { epoch, first: head + 1, head })),
            _ => Err(Refusal::File(rusqlite::Error::IntegralValueOutOfRange(0, MAX_LOG))),
        }
    }

    fn trim(&mut self, scenario: ScenarioId, fence: Fence, up_to: u64) -> Result<(), Refusal> {
        let &Owned { log, head, .. } = self.owned_by(scenario, fence)?;
        if up_to > head {
            return Err(LogError::OutOfSequence { head }.into());
        }
        self.begin()?;
        self.db
            .prepare_cached("UPDATE log SET trimmed = ?2 WHERE id = ?1 AND trimmed < ?2")?
            .execute(params![log, up_to])?;
        self.delete_events(log, up_to)?;
        Ok(())
    }

    fn delete(&mut self, scenario: ScenarioId) -> Result<(), Refusal> {
        self.begin()?;
        let log: Option<i64> = self
            .db
            .prepare_cached("DELETE FROM log WHERE scenario = ?1 RETURNING id")?
            .query_row([scenario.0.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(log) = log {
            self.delete_events(log, MAX_SEQ)?;
        }
        self.set_owned(scenario, None);
        Ok(())
    }

    fn delete_events(&self, log: i64, up_to: u64) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("DELETE FROM event WHERE id BETWEEN ?1 AND ?2")?
            .execute(params![key(log, 0), key(log, up_to)])
            .map(drop)
    }

    fn renew(
        &mut self,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
        now: Instant,
    ) -> Vec<ScenarioId> {
        let mut lost = Vec::new();
        for &(scenario, fence) in leases {
            match self.owned.get_mut(&scenario) {
                Some(owned) if owned.lease.fence == fence => owned.lease.extend(now, ttl),
                _ => lost.push(scenario),
            }
        }
        lost
    }

    fn list_orphans(&self, limit: usize, now: Instant) -> rusqlite::Result<Vec<ScenarioId>> {
        let mut statement = self.db.prepare_cached("SELECT scenario FROM log WHERE open_turn")?;
        let open = statement.query_map([], |row| {
            row.get(0).map(|bytes| ScenarioId(uuid::Uuid::from_bytes(bytes)))
        })?;
        open.filter(|scenario| match scenario {
            Ok(scenario) => !self.owned.get(scenario).is_some_and(|owned| owned.lease.is_live(now)),
            Err(_) => true,
        })
        .take(limit)
        .collect()
    }
}
