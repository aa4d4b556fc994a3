//! The connections that read. Each read sees one snapshot, beside the writer and without waiting for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, params};
use tokio::sync::Semaphore;

use super::schema::{self, MAX_SEQ, key, seq_of};
use crate::domain::event::Frame;
use crate::domain::ids::ScenarioId;
use crate::storage::log::{LogError, LogPage};

/// Reads at the same time; more wait.
const CONNECTIONS: usize = 4;

pub(super) struct Readers {
    file: PathBuf,
    permits: Arc<Semaphore>,
    /// Connections without a reader. One that failed is dropped, not put back.
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, permits: Arc::new(Semaphore::new(CONNECTIONS)), idle: Mutex::default() }
    }

    pub(super) fn close(&self) {
        self.permits.close();
        self.idle().clear();
    }

    pub(super) async fn read(
        self: &Arc<Self>,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, LogError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| LogError::Unavailable("the event log is closed".into()))?;
        let readers = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let page = readers.read_blocking(scenario, after, max_bytes);
            drop(permit); // only now: the caller may have gone meanwhile
            page
        });
        match read.await {
            Ok(Ok(page)) => Ok(page),
            Ok(Err(error)) => {
                let reason = format!("{}: {error}", self.file.display());
                tracing::error!(%scenario, error = reason, "event log not readable");
                Err(LogError::Unavailable(reason))
            }
            Err(_) => Err(LogError::Unavailable("the read was broken off".into())),
        }
    }

    fn read_blocking(
        &self,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, ReadError> {
        let idle = self.idle().pop();
        let mut db = match idle {
            Some(db) => db,
            None => schema::open_reader(&self.file)?,
        };
        let page = read(&mut db, scenario, after, max_bytes)?;
        if !self.permits.is_closed() {
            self.idle().push(db);
        }
        Ok(page)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("event {0} is not text")]
    NotText(u64),
    #[error("event {expected} is missing before {found}")]
    Hole { expected: u64, found: u64 },
}

fn read(
    db: &mut Connection,
    scenario: ScenarioId,
    after: u64,
    max_bytes: usize,
) -> Result<Option<LogPage>, ReadError> {
    // Rolled back when dropped, which is all a read needs.
    let snapshot = db.transaction()?;
    let Some((log, extent)) = schema::find_log(&snapshot, scenario)? else { return Ok(None) };
    let mut frames = Vec::new();
    let mut expected = extent.first.max(after.saturating_add(1));
    if expected <= extent.head {
        let mut statement = snapshot
            .prepare_cached("SELECT id, frame FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
        let mut rows = statement.query(params![key(log, expected), key(log, MAX_SEQ)])?;
        let mut left = max_bytes;
        while let Some(row) = rows.next()? {
            let found = seq_of(row.get(0)?);
            if found != expected {
                return Err(ReadError::Hole { expected, found });
            }
            let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            if bytes.len() > left && !frames.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes.len());
            let frame = Frame::from_stored(Bytes::copy_from_slice(bytes))
                .map_err(|_| ReadError::NotText(found))?;
            frames.push((found, frame));
            expected += 1;
        }
    }
    Ok(Some(LogPage { extent, frames }))
}
