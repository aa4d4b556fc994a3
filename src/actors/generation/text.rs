//! The text providers behind their circuits: one supervised pool each.
//!
//! A worker opens a stream and hands it over; the turn reads it. What goes wrong later in the stream is reported to
//! the same pool, so that one circuit sees all of a provider's failures.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::hedge::Hedging;
use crate::actors::circuit::{Policy, State};
use crate::actors::pool::{
    self, Failure, PoolHandle, PoolSpec, PoolView, Reply, Trip, TripKind, Work,
};
use crate::actors::supervisor::{ChildSpec, Intensity};
use crate::domain::budget::Amount;
use crate::domain::scenario::Usage;
use crate::error::{Code, ServiceError};
use crate::providers::prompt;
use crate::providers::text::{
    Price, ProviderError, ProviderErrorKind, StoryRequest, Talk, TextProvider, TextStream,
};

/// Most streams of one provider that are being opened at the same moment; once open they need no worker.
const MAX_OPENERS: usize = 256;
/// Of a provider's calls, one in so many may be made before anybody has asked for it.
const AHEAD_SHARE: usize = 4;

/// A configured provider and how many of its calls may be opened at the same time.
pub struct TextSpec {
    pub provider: Arc<dyn TextProvider>,
    pub concurrency: usize,
    /// Longest that opening a stream may take, the provider's own tries included.
    pub open_deadline: Duration,
}

/// The providers in the order they are wanted; the last one is the storyteller.
#[derive(Clone)]
pub struct TextProviders {
    all: Arc<[TextHandle]>,
    pub(super) hedging: Option<Arc<Hedging>>,
}

#[derive(Clone)]
pub struct TextHandle {
    pub name: String,
    pub model: String,
    /// All that a scenario may ask for, `model` first; `*` stands for any.
    pub models: Arc<[String]>,
    pub price: Price,
    /// Its continuation never repeats what was shown.
    pub exact: bool,
    /// Moderation lets it pass.
    pub trusted: bool,
    /// Present if its calls cost something.
    pub meter: Option<Meter>,
    ahead: Arc<Semaphore>,
    pool: PoolHandle<OpenWork>,
}

/// What a provider's calls cost.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    constrains: bool,
    price: Price,
    max_output: u64,
}

impl Meter {
    /// The most that a call may come to which is sent so many tokens.
    pub fn most(&self, input_tokens: u64) -> Amount {
        self.amount(Usage { input_tokens, output_tokens: self.max_output })
    }

    /// About how many tokens are sent with this request.
    pub fn input_tokens(&self, request: &StoryRequest) -> u64 {
        prompt::estimate_tokens(request, self.constrains)
    }

    /// What a call came to.
    pub fn amount(&self, usage: Usage) -> Amount {
        let tokens = usage.input_tokens.saturating_add(usage.output_tokens);
        Amount { tokens, micros: self.price.of(usage, 0) }
    }
}

impl TextProviders {
    pub fn new(specs: Vec<TextSpec>, circuit: &Policy) -> Self {
        let all = specs.into_iter().map(|spec| TextHandle::new(spec, circuit)).collect();
        Self { all, hedging: None }
    }

    /// With a second provider asked for scenes whose first one is silent for this long, for at most this share of them.
    pub fn hedged(self, after: Duration, budget: f64) -> Self {
        Self { hedging: Hedging::new(after, budget).map(Arc::new), ..self }
    }

    pub fn children(&self) -> Vec<ChildSpec> {
        self.all.iter().map(|text| pool::child(&text.pool)).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &TextHandle> {
        self.all.iter()
    }

    pub fn find(&self, name: &str) -> Option<&TextHandle> {
        self.all.iter().find(|text| text.name == name)
    }

    /// Whom to ask, in order: the wanted one first, the others as configured, the storyteller last. Providers with
    /// an open circuit are left out (an open circuit costs no wait), but never the last.
    pub fn candidates(&self, wanted: Option<&str>) -> Vec<TextHandle> {
        let Some((last, others)) = self.all.split_last() else { return Vec::new() };
        if wanted == Some(&last.name) {
            return vec![last.clone()];
        }
        let (first, rest): (Vec<_>, Vec<_>) =
            others.iter().partition(|text| wanted == Some(&text.name));
        first
            .into_iter()
            .chain(rest)
            .filter(|text| text.circuit() == Some(State::Closed))
            .chain([last])
            .cloned()
            .collect()
    }
}

impl TextHandle {
    fn new(spec: TextSpec, circuit: &Policy) -> Self {
        let TextSpec { provider, concurrency, open_deadline } = spec;
        let (name, model) = (provider.name().to_owned(), provider.model().to_owned());
        let (models, price) = (provider.models().into(), provider.price());
        let (exact, trusted) = (provider.continues_exactly(), provider.is_trusted());
        let meter = provider.max_output_tokens().map(|max_output| Meter {
            constrains: provider.constrains(),
            price,
            max_output,
        });
        let spec = PoolSpec {
            name: pool_name(&name),
            workers: concurrency.min(MAX_OPENERS),
            capacity: concurrency * 2,
            deadline: open_deadline,
            panics: Intensity::new(5, Duration::from_secs(10)),
            circuit: circuit.clone(),
        };
        Self {
            name,
            model,
            models,
            price,
            exact,
            trusted,
            meter,
            ahead: Arc::new(Semaphore::new(concurrency / AHEAD_SHARE)),
            pool: PoolHandle::new(spec, OpenWork { provider }),
        }
    }

    /// `None` while the generation service is down.
    pub fn circuit(&self) -> Option<State> {
        self.pool.view().circuit()
    }

    pub fn view(&self) -> Arc<dyn PoolView> {
        self.pool.view()
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The reason, as a `turn.failover` gives it.
    pub async fn open(&self, request: StoryRequest) -> Result<TextStream, String> {
        let (_never, unwanted) = oneshot::channel();
        self.open_while_wanted(request, unwanted).await
    }

    /// As [`TextHandle::open`]; the call is given up when `unwanted` is told so.
    pub(super) async fn open_while_wanted(
        &self,
        request: StoryRequest,
        unwanted: oneshot::Receiver<()>,
    ) -> Result<TextStream, String> {
        let opened = self.pool.call(|reply| Job::Open(Box::new(request), unwanted, reply)).await;
        opened.map_err(|error| self.reason(error))
    }

    /// A place for a call that nobody has asked for yet; `None` if it would be in the way of those that were.
    pub(super) fn place_ahead(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.ahead).try_acquire_owned().ok()
    }

    /// Opens a stream of plain text. Only providers with a [`TextHandle::meter`] can.
    ///
    /// # Errors
    /// The reason, as for [`TextHandle::open`].
    pub async fn converse(&self, talk: Talk) -> Result<TextStream, String> {
        let opened = self.pool.call(|reply| Job::Converse(Box::new(talk), reply)).await;
        opened.map_err(|error| self.reason(error))
    }

    fn reason(&self, error: ServiceError) -> String {
        match error.code {
            Code::ProviderUnavailable => error.message.into_owned(),
            // Its queue is full.
            Code::ServiceUnavailable if self.circuit() == Some(State::Closed) => {
                "overloaded".into()
            }
            Code::ServiceUnavailable => "circuit_open".into(),
            Code::Timeout => "timeout".into(),
            _ => "internal".into(),
        }
    }

    /// Reports what went wrong in a stream that had been opened. Only the provider's own failures count.
    ///
    /// Nobody waits for it: its worker may be busy with the very provider that just failed.
    pub fn report(&self, error: ProviderError) {
        if error.kind.is_dependency_failure() {
            let pool = self.pool.clone();
            tokio::spawn(async move {
                let _ = pool.call(|reply| Job::Failed(error, reply)).await;
            });
        } else {
            tracing::warn!(provider = self.name, %error, "provider refused a request");
        }
    }
}

/// Names of pools live as long as the process; there are as many as providers were ever configured.
fn pool_name(provider: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let name = format!("text.{provider}");
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(name.as_str()) {
        Some(known) => known,
        None => {
            let name: &str = name.leak();
            names.insert(name);
            name
        }
    }
}

enum Job {
    Converse(Box<Talk>, Reply<TextStream>),
    Open(Box<StoryRequest>, oneshot::Receiver<()>, Reply<TextStream>),
    /// A stream broke off.
    Failed(ProviderError, Reply<()>),
}

struct OpenWork {
    provider: Arc<dyn TextProvider>,
}

impl Work for OpenWork {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        match job {
            Job::Converse(talk, reply) => reply.answer(self.provider.converse(*talk).await),
            Job::Open(request, unwanted, reply) => {
                let unwanted = async {
                    if unwanted.await.is_err() {
                        // Whoever could say so has gone: then it is wanted to the end, if only to learn how that is.
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    opened = self.provider.open(*request) => reply.answer(opened),
                    // It says nothing of the provider.
                    () = unwanted => Ok(()),
                }
            }
            Job::Failed(error, reply) => reply.answer(Err::<(), _>(error)),
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        self.provider.probe().await.map_err(|error| trip(&error))
    }
}

fn trip(error: &ProviderError) -> Trip {
    let kind = match error.kind {
        ProviderErrorKind::RateLimited { .. } => TripKind::Throttled,
        ProviderErrorKind::Timeout(_) => TripKind::Deadline,
        _ => TripKind::Unavailable,
    };
    Trip::new(kind, error.to_string())
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        let shown = ServiceError::new(Code::ProviderUnavailable, error.kind.as_str());
        if error.kind.is_dependency_failure() {
            Failure::Dependency { shown, trip: trip(&error) }
        } else {
            tracing::warn!(%error, "provider refused a request");
            Failure::Refused(shown)
        }
    }
}
