//! Moderation: whether a text may be taken in, shown or published.
//!
//! Called by turns (the reader's words before they are accepted, a model's text before it is shown), by the gateway for
//! titles, and by whatever publishes. A checker across the network stands behind a pool, `moderation.NAME`, and a deadline;
//! one in memory is asked directly. Turned off, it costs a look at an option.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::circuit::{Policy, State};
use super::pool::{self, PoolHandle, PoolSpec, PoolView, Reply, Trip, TripKind, Work};
use super::supervisor::{ChildSpec, Intensity};
use crate::config::OnFailure;
use crate::domain::windows::Windows;
use crate::error::{Code, FieldError, ServiceError};
use crate::providers::moderation::{ModerationProvider, Verdict};

const PANICS: Intensity = Intensity::new(5, Duration::from_secs(10));
/// Checks that wait for each one that runs.
const WAITING: usize = 15;
/// Longer texts are judged in pieces.
const PIECE_CHARS: usize = 4_000;
const RETRY: Duration = Duration::from_secs(5);

/// A checker and what to do without its answer.
pub struct Spec {
    pub provider: Arc<dyn ModerationProvider>,
    /// Name of its pool.
    pub pool: &'static str,
    pub concurrency: usize,
    /// Longest wait for a verdict.
    pub timeout: Duration,
    pub on_failure: OnFailure,
    pub window_chars: usize,
}

/// The way in; cheap to clone.
#[derive(Clone, Default)]
pub struct ModerationHandle(Option<Arc<Moderator>>);

/// A checker that is turned on.
pub struct Moderator {
    name: String,
    checker: Checker,
    timeout: Duration,
    on_failure: OnFailure,
    /// About how much of a model's text is judged at once.
    pub window_chars: usize,
}

enum Checker {
    Here(Arc<dyn ModerationProvider>),
    Pooled(PoolHandle<Checks>),
}

/// What is known of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    Allowed,
    /// With the category.
    Blocked(String),
    /// The checker is away or slow.
    Unchecked,
}

impl ModerationHandle {
    pub fn new(spec: Spec, circuit: &Policy) -> Self {
        let Spec { provider, pool, concurrency, timeout, on_failure, window_chars } = spec;
        let name = provider.name().to_owned();
        let checker = if provider.is_local() {
            Checker::Here(provider)
        } else {
            let spec = PoolSpec {
                name: pool,
                workers: concurrency,
                capacity: concurrency.saturating_mul(1 + WAITING),
                deadline: timeout,
                panics: PANICS,
                circuit: circuit.clone(),
            };
            Checker::Pooled(PoolHandle::new(spec, Checks(provider)))
        };
        Self(Some(Arc::new(Moderator { name, checker, timeout, on_failure, window_chars })))
    }

    /// `None` if everything may be said.
    pub fn moderator(&self) -> Option<&Arc<Moderator>> {
        self.0.as_ref()
    }

    pub fn child(&self) -> Option<ChildSpec> {
        self.pool().map(pool::child)
    }

    pub fn view(&self) -> Option<Arc<dyn PoolView>> {
        self.pool().map(PoolHandle::view)
    }

    fn pool(&self) -> Option<&PoolHandle<Checks>> {
        match &self.0.as_ref()?.checker {
            Checker::Here(_) => None,
            Checker::Pooled(pool) => Some(pool),
        }
    }

    /// Whether no model's text can be shown at the moment: it could not be judged, and that is to block.
    pub fn is_shut(&self) -> bool {
        let away = || self.pool().is_some_and(|pool| pool.view().circuit() != Some(State::Closed));
        self.0.as_ref().is_some_and(|moderator| !moderator.lets_unchecked_pass()) && away()
    }

    /// Whether text may have been shown that nobody could judge.
    pub fn is_lenient(&self) -> bool {
        self.pool().is_some() && self.0.as_ref().is_some_and(|on| on.lets_unchecked_pass())
    }

    /// Whether somebody's words may be taken in; `field` is where they stand.
    ///
    /// # Errors
    /// `content_blocked` with field and category; `service_unavailable` when nobody can tell and that is to block.
    pub async fn check_input(&self, field: &str, text: &str) -> Result<(), ServiceError> {
        let Some(moderator) = &self.0 else { return Ok(()) };
        match moderator.judge(text).await {
            Judged::Blocked(category) => Err(blocked(field, &category)),
            Judged::Unchecked if !moderator.lets_unchecked_pass() => Err(away()),
            Judged::Allowed | Judged::Unchecked => Ok(()),
        }
    }

    /// Whether a text may be shown to everybody. What nobody can judge is not published, whatever `on_failure` says:
    /// publishing can wait.
    ///
    /// # Errors
    /// `content_blocked` with the category; `service_unavailable` when nobody can tell.
    pub async fn check_public(&self, text: &str) -> Result<(), ServiceError> {
        let Some(moderator) = &self.0 else { return Ok(()) };
        match moderator.judge(text).await {
            Judged::Allowed => Ok(()),
            Judged::Blocked(category) => Err(blocked("text", &category)),
            Judged::Unchecked => Err(away()),
        }
    }
}

impl Moderator {
    /// Whether text that nobody can judge is shown.
    pub fn lets_unchecked_pass(&self) -> bool {
        self.on_failure == OnFailure::Allow
    }

    /// Takes as long as the configured deadline at most for each piece of a text; all are short but a reader's own.
    pub async fn judge(&self, text: &str) -> Judged {
        let mut pieces = Windows::new(PIECE_CHARS, "").in_long_pieces();
        pieces.push(text);
        let mut judged = Judged::Allowed;
        while let Some(piece) = pieces.pop().or_else(|| pieces.finish()) {
            match self.judge_piece(&piece.whole()).await {
                Judged::Allowed => {}
                Judged::Unchecked => judged = Judged::Unchecked,
                blocked @ Judged::Blocked(_) => return blocked,
            }
        }
        judged
    }

    async fn judge_piece(&self, text: &str) -> Judged {
        let since = Instant::now();
        let verdict = match &self.checker {
            Checker::Here(provider) => {
                provider.check(text).await.map_err(|error| error.to_string())
            }
            Checker::Pooled(pool) => {
                let text = text.to_owned();
                let called = timeout(self.timeout, pool.call(|reply| Job { text, reply })).await;
                match called {
                    Ok(answer) => answer.map_err(|error| error.to_string()),
                    Err(_) => Err("no verdict in time".to_owned()),
                }
            }
        };
        let judged = match verdict {
            Ok(Verdict::Allowed) => Judged::Allowed,
            Ok(Verdict::Blocked { category }) => Judged::Blocked(category),
            Err(error) => {
                tracing::warn!(moderation = self.name, error, "a text could not be checked");
                Judged::Unchecked
            }
        };
        let outcome = match &judged {
            Judged::Allowed => "allowed",
            Judged::Blocked(_) => "blocked",
            Judged::Unchecked => "unchecked",
        };
        metrics::counter!("whatif_moderation_checks_total", "provider" => self.name.clone(), "outcome" => outcome)
            .increment(1);
        metrics::histogram!("whatif_moderation_seconds", "provider" => self.name.clone())
            .record(since.elapsed().as_secs_f64());
        judged
    }
}

fn blocked(field: &str, category: &str) -> ServiceError {
    let message = format!("is not allowed here: {category}");
    let detail = FieldError { field: field.to_owned(), message };
    let text = format!("{}: {}", detail.field, detail.message);
    ServiceError { details: vec![detail], ..ServiceError::new(Code::ContentBlocked, text) }
}

fn away() -> ServiceError {
    ServiceError::unavailable("moderation", RETRY)
}

struct Job {
    text: String,
    reply: Reply<Verdict>,
}

struct Checks(Arc<dyn ModerationProvider>);

impl Work for Checks {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        job.reply.answer(self.0.check(&job.text).await)
    }

    async fn probe(&self) -> Result<(), Trip> {
        let probed = self.0.probe().await;
        probed.map_err(|error| Trip::new(TripKind::Unavailable, error.to_string()))
    }
}
