//! The DynamoDB-compatible engine in this process, as the HTTP connector of the SDK's client.
//!
//! A request is answered from its `x-amz-target` and JSON body, without a socket. Used by `Dynamo::embedded`
//! alone; nothing outside this file knows the engine. It never interprets items: what an item means is the
//! repositories' matter. `Scan` is left out on purpose, so that a scan cannot slip into a user's path unseen.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::{HttpClient, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use dynoxide::actions::transact_write_items::TransactWriteItemsRequest;
use dynoxide::{Database, DynoxideError};
use rusqlite::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::storage::StoreError;

/// Calls on a blocking thread at the same time. The engine is one mutex around SQLite, so a second call only
/// overlaps its JSON with the first one's I/O; more would just hold threads.
const CONCURRENCY: usize = 2;

#[derive(Clone)]
pub(super) struct Engine {
    db: Database,
    permits: Arc<Semaphore>,
}

impl Engine {
    pub(super) async fn open(file: &Path) -> Result<Self, StoreError> {
        let Some(path) = file.to_str().map(str::to_owned) else {
            return Err(StoreError::Unavailable("the path of the file is not UTF-8".into()));
        };
        let opened = spawn_blocking(move || open_when_free(&path));
        let db = opened
            .await
            .map_err(|_| StoreError::Corrupt("opening the file broke the engine".into()))?
            .map_err(opening_failed)?;
        Ok(Self { db, permits: Arc::new(Semaphore::new(CONCURRENCY)) })
    }

    /// Takes the engine's lock a page at a time, so requests get in between.
    pub(super) async fn sweep_expired(&self) -> Result<usize, StoreError> {
        let db = self.db.clone();
        spawn_blocking(move || db.sweep_ttl())
            .await
            .map_err(|e| StoreError::Unavailable(e.to_string()))?
            .map_err(|e| StoreError::Unavailable(e.to_string()))
    }

    /// Dropping this future gives up the place in the queue; a call that has begun is carried through, and its
    /// permit goes with it, so callers in a hurry cannot pile up threads.
    async fn answer(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let permit = self
            .permits
            .acquire_owned()
            .await
            .map_err(|e| ConnectorError::other(e.into(), None))?;
        let db = self.db;
        let (status, body) = spawn_blocking(move || {
            let _permit = permit;
            reply(&db, &request)
        })
        .await
        .map_err(|e| ConnectorError::other(e.into(), None))?;
        let status =
            StatusCode::try_from(status).map_err(|e| ConnectorError::other(e.into(), None))?;
        Ok(HttpResponse::new(status, SdkBody::from(body)))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl HttpConnector for Engine {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().answer(request))
    }
}

impl HttpClient for Engine {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn reply(db: &Database, request: &HttpRequest) -> (u16, String) {
    let operation = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| target.strip_prefix("DynamoDB_20120810."))
        .unwrap_or_default();
    // The SDK never streams a DynamoDB request.
    let body = request.body().bytes().unwrap_or_default();
    match run(db, operation, body) {
        Ok(json) => (200, json),
        Err(e) => (e.status_code(), e.to_json()),
    }
}

fn run(db: &Database, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
    match operation {
        "GetItem" => call(body, |r| db.get_item(r)),
        "BatchGetItem" => call(body, |r| db.batch_get_item(r)),
        "Query" => call(body, |r| db.query(r)),
        "PutItem" => call(body, |r| db.put_item(r)),
        "UpdateItem" => call(body, |r| db.update_item(r)),
        "DeleteItem" => call(body, |r| db.delete_item(r)),
        "BatchWriteItem" => call(body, |r| db.batch_write_item(r)),
        "TransactGetItems" => call(body, |r| db.transact_get_items(r)),
        "TransactWriteItems" => call(body, |mut r: TransactWriteItemsRequest| {
            // The engine keeps every token for ten minutes and walks all of them in every transaction, which
            // makes each one slower than the last. Tokens protect against repeats after a lost answer; the
            // repositories' conditions do that already.
            r.client_request_token = None;
            db.transact_write_items(r)
        }),
        "CreateTable" => call(body, |r| db.create_table(r)),
        "DescribeTable" => call(body, |r| db.describe_table(r)),
        "DeleteTable" => call(body, |r| db.delete_table(r)),
        "UpdateTimeToLive" => call(body, |r| db.update_time_to_live(r)),
        "DescribeTimeToLive" => call(body, |r| db.describe_time_to_live(r)),
        _ => Err(DynoxideError::UnsupportedCapability(operation.to_owned())),
    }
}

fn call<Req: DeserializeOwned, Res: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Req) -> Result<Res, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request = serde_json::from_slice(body).map_err(|e| unreadable(&e.to_string()))?;
    let response = operation(request)?;
    serde_json::to_string(&response).map_err(|e| DynoxideError::InternalServerError(e.to_string()))
}

/// The engine's own decoders mark what DynamoDB would call a validation error; everything else is malformed JSON.
fn unreadable(message: &str) -> DynoxideError {
    let marked =
        message.strip_prefix("VALIDATION:").or_else(|| message.strip_prefix("VALIDATION_REQUEST:"));
    match marked {
        Some(message) => DynoxideError::ValidationException(message.to_owned()),
        None => DynoxideError::SerializationException(message.to_owned()),
    }
}

/// Setting a new file up takes a lock that SQLite's own wait does not cover: of several that open it at once, some are
/// told at once that it is taken.
fn open_when_free(path: &str) -> Result<Database, DynoxideError> {
    const TRIES: u32 = 100;
    const AGAIN: Duration = Duration::from_millis(20);
    let taken = |error: &DynoxideError| {
        matches!(error, DynoxideError::SqliteError(cause) if matches!(
            cause.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        ))
    };
    let open = || {
        let db = Database::new(path)?;
        // Despite its name this sets synchronous=NORMAL: a commit waits for the operating system, not for the disk.
        // Killing the process loses nothing; a power cut may lose the last commits, never tear one.
        db.disable_bulk_loading()?;
        Ok(db)
    };
    for _ in 1..TRIES {
        match open() {
            Err(error) if taken(&error) => std::thread::sleep(AGAIN),
            settled => return settled,
        }
    }
    open()
}

fn opening_failed(e: DynoxideError) -> StoreError {
    match &e {
        DynoxideError::SqliteError(cause)
            if cause.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) =>
        {
            StoreError::Corrupt(e.to_string())
        }
        DynoxideError::SqliteError(_) => StoreError::Unavailable(e.to_string()),
        // No database at all, or one that a later version of the engine wrote.
        _ => StoreError::Corrupt(e.to_string()),
    }
}
