//! The course of an answer: its three steps in order, in a task of its own, and everything that may end it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::Instrument;

use super::answer::Answering;
use super::event::{Event, Finish, Status, Step};
use super::expense::Expense;
use super::history::Exchange;
use super::look_up::{Material, Source, Wanted, look_up};
use super::outlet::{self, Answer, Gone, Outlet};
use super::understand::understand;
use super::{Asked, ChatDeps, Ends, Place};
use crate::error::{Code, ServiceError};

/// How long a running answer goes on when the replica is told to stop.
const DRAIN_GRACE: Duration = Duration::from_secs(10);
/// The language of searches where neither question nor scenario names one.
const DEFAULT_LANGUAGE: &str = "en";

/// How an answer ended, for the metrics.
enum Outcome {
    Told(Finish, Event),
    Gone,
    Failed(ServiceError),
}

/// Starts it. It ends with the answer's last event, or soon after the answer was dropped.
pub(super) fn begin(
    deps: Arc<ChatDeps>,
    asked: Asked,
    prepaid: Option<Expense>,
    place: Place,
    ends: Ends,
) -> Answer {
    let (out, answer) = outlet::channel();
    let task = async move {
        let limit = deps.config.timeout;
        let stopped = async {
            ends.draining.cancelled().await;
            tokio::time::sleep(DRAIN_GRACE).await;
        };
        // Whatever is not finished here is dropped: the provider's stream is cut, the call is settled.
        let outcome = tokio::select! {
            biased;
            () = out.closed() => Outcome::Gone,
            () = ends.revoked.cancelled() => {
                Outcome::Failed(ServiceError::new(Code::InvalidToken, "the login may have ended"))
            }
            told = timeout(limit, walk(&deps, &asked, prepaid, &out)) => match told {
                Ok(Ok((finish, done))) => Outcome::Told(finish, done),
                Ok(Err(Gone)) => Outcome::Gone,
                Err(_) => Outcome::Failed(ServiceError::timeout("the companion")),
            },
            () = stopped => {
                Outcome::Failed(ServiceError::unavailable("chat", Duration::from_secs(1)))
            }
        };
        // The next question may come as soon as the last event is read.
        drop(place);
        let (word, last) = match outcome {
            Outcome::Told(Finish::Complete, done) => ("complete", Some(done)),
            Outcome::Told(Finish::Length, done) => ("length", Some(done)),
            Outcome::Gone => ("gone", None),
            Outcome::Failed(error) => ("failed", Some(error.into())),
        };
        if let Some(last) = last {
            out.end(last).await;
        }
        metrics::counter!("whatif_chats_total", "outcome" => word).increment(1);
    };
    tokio::spawn(task.in_current_span());
    answer
}

async fn walk(
    deps: &ChatDeps,
    asked: &Asked,
    prepaid: Option<Expense>,
    out: &Outlet,
) -> Result<(Finish, Event), Gone> {
    let (provider, model) = asked.first(deps);
    let first = provider.clone();
    out.send(Event::Started { chat: asked.key.chat, provider, model }).await?;

    out.send(step(Step::Understand, Status::Started)).await?;
    let before = asked.before.last().map(|exchange| exchange.question.as_str());
    let subject = asked.scenario.as_ref().map(|scenario| scenario.prompt.as_str());
    let context: Vec<&str> = before.into_iter().chain(subject).collect();
    let understood = understand(&asked.question, &context, asked.scenario.is_some());
    out.send(step(Step::Understand, Status::Done)).await?;

    out.send(step(Step::LookUp, Status::Started)).await?;
    let wanted = Wanted {
        scenario: asked.scenario.as_ref(),
        language: asked.language.as_deref().unwrap_or(DEFAULT_LANGUAGE),
        understood: &understood,
    };
    let material = look_up(&deps.library, &wanted).await;
    for (at, source) in material.sources.iter().enumerate() {
        out.send(shown(at + 1, source)).await?;
    }
    out.send(step(Step::LookUp, status(&material))).await?;

    out.send(step(Step::Answer, Status::Started)).await?;
    let answering = Answering { deps, asked, material: &material, out, prepaid };
    let (draft, finish) = answering.run(&first).await?;
    out.send(step(Step::Answer, Status::Done)).await?;

    if !asked.forgetful {
        let exchange = Exchange { question: asked.question.clone(), answer: draft.text };
        deps.histories.add(&asked.key, exchange).await;
    }
    let sources = draft.cited.into_iter().collect();
    Ok((finish, Event::Done { finish, usage: draft.usage, sources }))
}

const fn step(name: Step, status: Status) -> Event {
    Event::Step { name, status }
}

fn status(material: &Material) -> Status {
    if material.is_partial() { Status::Partial } else { Status::Done }
}

fn shown(n: usize, source: &Source) -> Event {
    match source {
        Source::Scene { scene, text } => Event::Source {
            n,
            title: scene.to_string(),
            url: None,
            scene: Some(*scene),
            snippet: text.clone(),
        },
        Source::Page(page) => Event::Source {
            n,
            title: page.title.clone(),
            url: Some(page.url.clone()),
            scene: None,
            snippet: page.snippet.clone(),
        },
    }
}
