//! The chat companion: talks with readers about their scenarios, from what the story says and what the world knows.
//!
//! An answer goes through three steps, each a file with a type that the next one takes: `understand` (what is asked, by
//! rules) -> `look_up` (scenes by recall, the world by `search`) -> `answer` (`prompt` for the providers in their order,
//! at last `own`). `course` walks through them and tells what happens as [`Event`]s. Called by the gateway; it
//! reads stories and never writes one.

mod answer;
mod course;
mod event;
mod expense;
mod history;
mod look_up;
mod markup;
mod outlet;
mod own;
mod prompt;
mod search;
mod story;
mod understand;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use self::expense::Expense;
use self::history::{ChatKey, Exchange, Histories};
use self::search::Searcher;
use super::budget::Payer;
use super::cache::{Away, CacheHandle};
use super::circuit::Policy;
use super::generation::{GenerationHandle, TextHandle};
use super::history::HistoryHandle;
use super::status::ServiceStatus;
use super::supervisor::ChildSpec;
use crate::clock::Clock;
use crate::config;
use crate::domain::ids::{ChatId, ScenarioId, TurnId, UserId};
use crate::domain::scenario::{Scenario, Usage};
use crate::domain::wish::is_language_tag;
use crate::error::{Code, FieldError, ServiceError};
use crate::providers::search::SearchProvider;

pub use event::{Event, Finish, Status, Step};
pub use outlet::Answer;

/// Longest question, in Unicode characters.
pub const MAX_MESSAGE_CHARS: usize = 2_000;

/// What a reader asks.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// What it is about.
    pub scenario: Option<ScenarioId>,
    /// The chat that it goes on with; a new one otherwise.
    pub chat: Option<ChatId>,
    pub message: String,
    /// BCP 47 tag of the answer's language; the scenario's otherwise.
    pub language: Option<String>,
}

/// What ends an answer before its time.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The caller may not be here any more.
    pub revoked: CancellationToken,
    /// The replica stops: a running answer has a while.
    pub draining: CancellationToken,
}

pub struct Parts {
    pub config: config::Chat,
    pub search: config::Search,
    /// In the order they are asked.
    pub engines: Vec<Arc<dyn SearchProvider>>,
    pub history: HistoryHandle,
    pub generation: GenerationHandle,
    pub cache: CacheHandle,
    pub clock: Clock,
    pub circuit: Policy,
}

/// The way to the companion; cheap to clone.
#[derive(Clone)]
pub struct ChatHandle {
    deps: Arc<ChatDeps>,
}

/// Where things are looked up.
struct Library {
    history: HistoryHandle,
    searcher: Searcher,
}

struct ChatDeps {
    config: config::Chat,
    library: Library,
    generation: GenerationHandle,
    histories: Histories,
    clock: Clock,
    places: Arc<Semaphore>,
    /// Chats that are being answered in on this replica.
    busy: Arc<Mutex<HashSet<ChatKey>>>,
}

/// A question that is being answered, and what is known of it from the start.
struct Asked {
    key: ChatKey,
    payer: Payer,
    scenario: Option<Scenario>,
    question: String,
    language: Option<String>,
    before: Vec<Exchange>,
    /// What was said before is away, and must not be overwritten.
    forgetful: bool,
}

/// An answer's place in its chat and on the replica; given back when dropped.
struct Place {
    busy: Arc<Mutex<HashSet<ChatKey>>>,
    key: ChatKey,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// The service's row in the tree and the way to it.
pub fn build(parts: Parts) -> (ChatHandle, ChildSpec, Arc<ServiceStatus>) {
    let Parts { config, search, engines, history, generation, cache, clock, circuit } = parts;
    let searcher = Searcher::new(engines, &search, cache.clone(), &circuit);
    let status = ServiceStatus::new("chat", searcher.views());
    let child = ChildSpec::supervisor("chat", searcher.children()).status(Arc::clone(&status));
    let deps = ChatDeps {
        library: Library { history, searcher },
        generation,
        histories: Histories::new(cache, config.clone()),
        clock,
        places: Arc::new(Semaphore::new(config.max_answers.min(Semaphore::MAX_PERMITS))),
        busy: Arc::default(),
        config,
    };
    (ChatHandle { deps: Arc::new(deps) }, child, status)
}

impl ChatHandle {
    /// Begins an answer. Whatever can be refused is refused here; what goes wrong later is told by the answer.
    ///
    /// # Errors
    /// `invalid_request`, `scenario_not_found`, `conflict` while the chat is being answered in, `budget_exhausted`,
    /// `service_unavailable`, `timeout`.
    pub async fn ask(
        &self,
        user: UserId,
        question: Question,
        ends: Ends,
    ) -> Result<Answer, ServiceError> {
        let Question { scenario, chat, message, language } = question.check()?;
        let deps = &self.deps;
        if ends.draining.is_cancelled() {
            return Err(ServiceError::unavailable("chat", Duration::from_secs(1)));
        }
        let scenario = match scenario {
            Some(id) => Some(deps.library.history.find_owned(id, user).await?),
            None => None,
        };
        let now = deps.clock.now();
        let about = scenario.as_ref().map(|scenario| scenario.id);
        let chat = chat.unwrap_or_else(|| ChatId::new(now));
        let key = ChatKey { user, scenario: about, chat };
        let place = deps.take_place(key)?;
        let (before, forgetful) = match deps.histories.find(&key).await {
            Ok(before) => (before, false),
            Err(Away) => (Vec::new(), true),
        };
        let language =
            language.or_else(|| scenario.as_ref().map(|scenario| scenario.language.clone()));
        let payer = Payer { turn: TurnId::new(now), scenario: about, user };
        let asked = Asked { key, payer, scenario, question: message, language, before, forgetful };
        let prepaid = deps.prepay(&asked).await?;
        Ok(course::begin(Arc::clone(deps), asked, prepaid, place, ends))
    }
}

impl Question {
    /// With its message trimmed.
    fn check(mut self) -> Result<Self, ServiceError> {
        let mut details = Vec::new();
        let mut fault = |field: &str, message: String| {
            details.push(FieldError { field: field.into(), message });
        };
        self.message = self.message.trim().to_owned();
        let chars = self.message.chars().count();
        if chars == 0 || chars > MAX_MESSAGE_CHARS {
            fault("message", format!("must have 1 to {MAX_MESSAGE_CHARS} characters"));
        } else if self.message.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            fault("message", "must not have control characters".into());
        }
        if self.language.as_ref().is_some_and(|language| !is_language_tag(language)) {
            fault("language", "is not a language tag such as en or pt-BR".into());
        }
        let Some(first) = details.first() else { return Ok(self) };
        let text = format!("{}: {}", first.field, first.message);
        Err(ServiceError { details, ..ServiceError::new(Code::InvalidRequest, text) })
    }
}

impl ChatDeps {
    fn take_place(&self, key: ChatKey) -> Result<Place, ServiceError> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        let permit =
            permit.map_err(|_| ServiceError::unavailable("chat", Duration::from_secs(1)))?;
        if !self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            let text = "this chat is being answered in; wait for that answer to end";
            return Err(ServiceError::new(Code::Conflict, text));
        }
        Ok(Place { busy: Arc::clone(&self.busy), key, _permit: permit })
    }

    /// Reserves the first call, so that a refusal is an answer and not the end of one.
    async fn prepay(&self, asked: &Asked) -> Result<Option<Expense>, ServiceError> {
        let Some(first) = asked.candidates(self).next() else { return Ok(None) };
        let most = Usage {
            input_tokens: prompt::most_tokens(
                &asked.question,
                &asked.before,
                asked.scenario.is_some(),
                self.library.searcher.is_on(),
            ),
            output_tokens: self.config.max_output_tokens.into(),
        };
        let budget = self.generation.budget();
        match Expense::reserve(budget, asked.payer, &first, most).await {
            Err(error) if error.code == Code::BudgetExhausted && !budget.refuses() => Ok(None),
            reserved => reserved,
        }
    }
}

impl Asked {
    /// Whom to ask, in order: those who tell the scenario, as they do.
    fn candidates(&self, deps: &ChatDeps) -> impl Iterator<Item = TextHandle> + use<> {
        let wanted = self.scenario.as_ref().and_then(|scenario| scenario.provider.as_deref());
        deps.generation.texts().candidates(wanted).into_iter()
    }

    /// The scenario's own model, where it is this provider's.
    fn model_for(&self, provider: &str) -> Option<String> {
        let scenario = self.scenario.as_ref()?;
        let is_its = scenario.provider.as_deref() == Some(provider);
        scenario.model.clone().filter(|_| is_its)
    }

    /// Provider and model that are asked first.
    fn first(&self, deps: &ChatDeps) -> (String, String) {
        match self.candidates(deps).find(|text| text.meter.is_some()) {
            Some(text) => {
                let model = self.model_for(&text.name).unwrap_or(text.model);
                (text.name, model)
            }
            None => (own::PROVIDER.to_owned(), own::MODEL.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_checked_before_anything_is_done() {
        for (message, language, fields) in [
            (" Who? ", None, &[][..]),
            ("Line\nline\ttab", Some("pt-BR"), &[]),
            ("", None, &["message"]),
            (" \n ", Some("english"), &["message", "language"]),
            ("a\u{7}b", None, &["message"]),
        ] {
            let question = Question {
                message: message.into(),
                language: language.map(Into::into),
                ..Question::default()
            };
            let faults = question.check().err().map(|error| error.details).unwrap_or_default();
            let named: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(named, fields, "{message}");
        }
        for (chars, good) in [(2_000, true), (2_001, false)] {
            let question = Question { message: "é".repeat(chars), ..Question::default() };
            assert_eq!(question.check().is_ok(), good);
        }
    }
}
