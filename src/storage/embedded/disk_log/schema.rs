//! The file: how it is opened and checked, its tables, and the rows that both the writer and the readers look up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::domain::ids::ScenarioId;
use crate::storage::log::Extent;

/// The version of the tables below, kept in `user_version`.
const VERSION: i64 = 1;

/// Marks the file as ours ("WILG").
const APPLICATION_ID: i64 = 0x5749_4c47;

/// An event's key is its log's number above its `seq`: one integer per event, a log's events side by side.
const SEQ_BITS: u32 = 32;

/// The largest `seq` that a key has room for: three years of a turn that never pauses.
pub(super) const MAX_SEQ: u64 = (1 << SEQ_BITS) - 1;

/// The largest number that a key has room for.
pub(super) const MAX_LOG: i64 = (1 << (63 - SEQ_BITS)) - 1;

/// `log.trimmed` is the newest `seq` no longer held. The head is not stored: it is the newest event's `seq`, or
/// `trimmed` if there is none. So an append of events alone touches no row but the events' own.
const TABLES: &str = "
    CREATE TABLE log (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        scenario BLOB NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        trimmed INTEGER NOT NULL,
        open_turn INTEGER NOT NULL DEFAULT 0,
        checkpoint BLOB
    ) STRICT;
    CREATE INDEX log_open_turn ON log (scenario) WHERE open_turn;
    CREATE TABLE event (id INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;
    CREATE TABLE fence (last INTEGER NOT NULL) STRICT;
    INSERT INTO fence (last) VALUES (0);
";

/// Why an event log could not be opened. The file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: written by a newer version (format {found}, this version knows {VERSION})", file.display())]
    Newer { file: PathBuf, found: i64 },
    #[error("{}: not an event log", file.display())]
    Foreign { file: PathBuf },
    #[error("{}: cannot be read as an event log: {reason}", file.display())]
    Unreadable { file: PathBuf, reason: rusqlite::Error },
    #[error("cannot start the event log's writer: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    pub(super) fn unreadable(file: &Path) -> impl Fn(rusqlite::Error) -> Self {
        move |reason| Self::Unreadable { file: file.to_owned(), reason }
    }
}

/// Opens the writer's connection; makes the file if there is none.
pub(super) fn open(file: &Path) -> Result<Connection, OpenError> {
    let unreadable = OpenError::unreadable(file);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(file, flags).map_err(&unreadable)?;
    check(&db, file)?;
    configure(&db).map_err(&unreadable)?;
    migrate(&mut db).map_err(&unreadable)?;
    // The ends of each tree. A check of every page would hold up the start for as long as the file is large.
    db.query_row(
        "SELECT (SELECT last FROM fence), (SELECT max(id) FROM log), min(id), max(id) FROM event",
        [],
        |_| Ok(()),
    )
    .map_err(&unreadable)?;
    Ok(db)
}

/// Refuses what is not ours before anything is changed.
fn check(db: &Connection, file: &Path) -> Result<(), OpenError> {
    let number = |pragma| {
        db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(OpenError::unreadable(file))
    };
    let empty = number("schema_version")? == 0;
    match (number("application_id")?, number("user_version")?) {
        (0, 0) if empty => Ok(()),
        (APPLICATION_ID, 0..=VERSION) => Ok(()),
        (APPLICATION_ID, found) => Err(OpenError::Newer { file: file.to_owned(), found }),
        _ => Err(OpenError::Foreign { file: file.to_owned() }),
    }
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    // Every append to a log rewrites that log's last page, so small pages make small writes.
    db.pragma_update(None, "page_size", 2048)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    // Pages of write-ahead log between two checkpoints: a page written many times meanwhile is moved once.
    db.pragma_update(None, "wal_autocheckpoint", 16_384)?;
    db.pragma_update(None, "journal_size_limit", 64 << 20)?;
    db.pragma_update(None, "cache_size", -32_768)?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// Opens a connection that can only read.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(file, flags)
}

/// The key of an event; both parts are within their bounds.
pub(super) fn key(log: i64, seq: u64) -> i64 {
    (log << SEQ_BITS) | seq.min(MAX_SEQ) as i64
}

/// The `seq` in an event's key.
pub(super) fn seq_of(key: i64) -> u64 {
    key as u64 & MAX_SEQ
}

/// A scenario's log, if there is one: its number and extent.
pub(super) fn find_log(
    db: &Connection,
    scenario: ScenarioId,
) -> rusqlite::Result<Option<(i64, Extent)>> {
    let row = db
        .prepare_cached("SELECT id, epoch, trimmed FROM log WHERE scenario = ?1")?
        .query_row([scenario.0.as_bytes()], |row| {
            let epoch: Arc<str> = row.get_ref(1)?.as_str()?.into();
            Ok((row.get(0)?, epoch, row.get::<_, u64>(2)?))
        })
        .optional()?;
    let Some((id, epoch, trimmed)) = row else { return Ok(None) };
    let newest: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM event WHERE id BETWEEN ?1 AND ?2")?
        .query_row(params![key(id, 0), key(id, MAX_SEQ)], |row| row.get(0))?;
    let head = newest.map_or(trimmed, seq_of);
    Ok(Some((id, Extent { epoch, first: trimmed + 1, head })))
}
