//! The event logs in one SQLite file of the data directory: the embedded default.
//!
//! **Durability.** WAL with `synchronous=NORMAL`: an acknowledged event survives the death of the process (it is in the
//! operating system's hands), but the last moments may be lost, whole transactions at a time and never torn, when the
//! machine itself loses power.
//!
//! **Shape.** All changes go through one writer thread ([`writer`]), which takes what has arrived, writes it in one
//! transaction, commits and only then answers: the more sessions, the cheaper each append. Reads run beside it on
//! their own connections ([`readers`]), each on one snapshot. Leases live in the writer's memory: the process that
//! granted those of an earlier run is dead. Only fences are durable, so that they keep rising.
//!
//! **Failure.** A full or failing disk rolls the transaction back and answers `Unavailable`; the thread goes on, and so
//! do appends once there is room. Freed pages are reused, the file does not shrink.

mod command;
mod readers;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::command::{Command, Reply};
use self::readers::Readers;
pub use self::schema::OpenError;
use self::writer::Writer;
use crate::domain::ids::ScenarioId;
use crate::storage::log::{Batch, Claim, Fence, LogError, LogPage, LogStore, News, Origin};

/// The file's name in the data directory.
const FILE: &str = "events.db";

/// Commands that may wait for the writer: one for each of a full house's sessions.
const QUEUE: usize = 4096;

/// How long a caller waits for a place in the writer's queue.
const QUEUE_WAIT: Duration = Duration::from_secs(2);

/// All logs, on disk.
///
/// Dropping it writes what is queued and waits for the writer; [`DiskLog::close`] does the same without blocking.
pub struct DiskLog {
    /// `None` only while dropping.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
}

impl DiskLog {
    /// Opens `events.db` in `dir`, or makes it. Blocks for some milliseconds.
    ///
    /// The caller makes sure that no other process has the directory open.
    ///
    /// # Errors
    /// If the file is not a whole event log of this or an older version. It is then left as it is.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let file = dir.join(FILE);
        let db = schema::open(&file)?;
        Self::start(file, db)
    }

    fn start(file: PathBuf, db: Connection) -> Result<Self, OpenError> {
        let writer = Writer::new(db, &file)?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("event-log".into())
            .spawn(move || writer.run(queue))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            commands: Some(commands),
            writer: Some(thread),
            readers: Arc::new(Readers::new(file)),
        })
    }

    /// Writes what is queued and closes the file. Later calls answer `Unavailable`.
    pub async fn close(&self) {
        self.readers.close();
        // An error means that it is closed already.
        let _ = self.submit(|reply| Command::Close { reply }).await;
    }

    async fn submit<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LogError> {
        let closed = || LogError::Unavailable("the event log is closed".into());
        let queue = self.commands.as_ref().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        match queue.try_send(command(reply)) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(closed()),
            Err(mpsc::error::TrySendError::Full(command)) => {
                match tokio::time::timeout(QUEUE_WAIT, queue.reserve()).await {
                    Ok(Ok(place)) => place.send(command),
                    Ok(Err(_)) => return Err(closed()),
                    Err(_) => {
                        return Err(LogError::Unavailable("the event log is too slow".into()));
                    }
                }
            }
        }
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.readers.close();
        self.commands = None; // the writer stops at the end of its queue
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the event log's writer had panicked");
        }
    }
}

#[async_trait]
impl LogStore for DiskLog {
    async fn claim(
        &self,
        scenario: ScenarioId,
        holder: &str,
        ttl: Duration,
        origin: Origin,
    ) -> Result<Claim, LogError> {
        let (holder, now) = (holder.to_owned(), Instant::now());
        self.submit(|reply| Command::Claim { scenario, holder, ttl, origin, now, reply }).await
    }

    async fn renew(
        &self,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
    ) -> Result<Vec<ScenarioId>, LogError> {
        let (leases, now) = (leases.to_vec(), Instant::now());
        self.submit(|reply| Command::Renew { leases, ttl, now, reply }).await
    }

    async fn release(&self, scenario: ScenarioId, fence: Fence) -> Result<(), LogError> {
        self.submit(|reply| Command::Release { scenario, fence, reply }).await
    }

    async fn append(
        &self,
        scenario: ScenarioId,
        fence: Fence,
        batch: Batch,
    ) -> Result<(), LogError> {
        self.submit(|reply| Command::Append { scenario, fence, batch, reply }).await
    }

    async fn read(
        &self,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, LogError> {
        self.readers.read(scenario, after, max_bytes).await
    }

    fn follow(&self, _scenario: ScenarioId) -> Option<News> {
        None
    }

    fn follow_orphans(&self) -> Option<News> {
        None
    }

    async fn list_orphans(&self, limit: usize) -> Result<Vec<ScenarioId>, LogError> {
        let now = Instant::now();
        self.submit(|reply| Command::ListOrphans { limit, now, reply }).await
    }

    async fn trim(&self, scenario: ScenarioId, fence: Fence, up_to: u64) -> Result<(), LogError> {
        self.submit(|reply| Command::Trim { scenario, fence, up_to, reply }).await
    }

    async fn delete(&self, scenario: ScenarioId) -> Result<(), LogError> {
        self.submit(|reply| Command::Delete { scenario, reply }).await
    }
}
