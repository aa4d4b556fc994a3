//! Has a scene told by one provider after the other, until it is whole.
//!
//! Whoever comes next goes on right after the text that readers have seen. The last one is the storyteller, which
//! needs nothing but this process; so a turn never ends empty. The same way round repairs a scene that came without
//! enough choices.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::expense::{Expense, Written};
use super::pump::{Ended, Pump};
use super::script::Running;
use super::signals::Interruption;
use crate::actors::generation::draft::Draft;
use crate::actors::generation::hedge::{Race, Winner};
use crate::actors::generation::material::Context;
use crate::actors::generation::speculate::Begun;
use crate::actors::generation::text::TextHandle;
use crate::actors::generation::writer::WriteError;
use crate::domain::event::Event;
use crate::domain::overlap::OverlapTrimmer;
use crate::domain::scenario::Finish;
use crate::domain::turn_format::TurnParser;
use crate::error::{Code, ServiceError};
use crate::providers::text::{
    EndReason, ProviderError, ProviderErrorKind, StoryRequest, TextStream,
};

/// Longest that a turn waits for the last provider: it can be away only while its service is restarted.
const LAST_PATIENCE: Duration = Duration::from_secs(45);
const LAST_AGAIN: Duration = Duration::from_millis(100);

/// How the telling ended.
enum Told {
    Whole(Finish),
    Halted,
    /// Nobody could go on.
    Broken,
}

enum Opened {
    Stream(TextStream, Option<Expense>),
    /// The next one's, who was asked, too, and spoke first.
    Rivals(TextStream, Option<Expense>),
    Refused(String),
    /// By the next one, too.
    BothRefused(String),
    Ended(Told),
}

impl Running {
    /// Tells the draft to its end, stores it and closes the turn; or leaves it open when halted.
    pub(super) async fn tell(
        &mut self,
        mut draft: Draft,
        context: &Context,
    ) -> Result<(), WriteError> {
        let told = self.tell_to_its_end(&mut draft, context).await;
        // It may have to go on in another log.
        self.left = self.checkpoint.open.is_some().then_some(draft);
        told
    }

    async fn tell_to_its_end(
        &mut self,
        draft: &mut Draft,
        context: &Context,
    ) -> Result<(), WriteError> {
        let since = Instant::now();
        let told = match self.checkpoint.open.as_ref().and_then(|open| open.finish) {
            Some(Finish::Failed) => Told::Broken,
            Some(finish) => Told::Whole(finish),
            None => self.tell_by_all(draft, context).await?,
        };
        let outcome = match told {
            Told::Whole(finish) => {
                self.finish(draft, context, finish).await?;
                finish.as_str()
            }
            Told::Halted => return Ok(()),
            Told::Broken => {
                let error = ServiceError::new(
                    Code::ProviderUnavailable,
                    "no text provider could go on with this scene",
                );
                self.fail(draft, Some(context), error).await?;
                "failed"
            }
        };
        metrics::counter!("whatif_turns_total", "outcome" => outcome).increment(1);
        metrics::histogram!("whatif_turn_seconds").record(since.elapsed().as_secs_f64());
        Ok(())
    }

    async fn tell_by_all(
        &mut self,
        draft: &mut Draft,
        context: &Context,
    ) -> Result<Told, WriteError> {
        let since = Instant::now();
        let wanted = self.scenario.provider.clone();
        let mut reason = "circuit_open".to_owned();
        let mut finish = Finish::Complete;
        let mut candidates = self.deps.texts.candidates(wanted.as_deref());
        // A turn that was taken up goes on with whom it had got to, not with those that it has left already.
        let writer = draft.authors.last().map(|author| author.provider.as_str());
        let reached = candidates.iter().position(|text| Some(text.name.as_str()) == writer);
        candidates.drain(..reached.unwrap_or(0));
        let mut candidates = VecDeque::from(candidates);
        while let Some(mut text) = candidates.pop_front() {
            if draft.is_whole() {
                break;
            }
            if !text.trusted && self.deps.moderation.is_shut() {
                reason = ProviderErrorKind::Unchecked.as_str().to_owned();
                continue;
            }
            let begun = self.begun.take().filter(|begun| begun.by == text.name);
            let was_begun = match begun {
                Some(begun) => self.open_begun(begun).await,
                None => None,
            };
            let ahead = was_begun.is_some();
            let opened = match was_begun {
                Some(opened) => opened,
                None => {
                    let request = self.request(draft, context, &text.name);
                    let expense = match self.reserve(draft, &text, &request).await {
                        Ok(expense) => expense,
                        Err(why) => {
                            reason = why.to_owned();
                            continue;
                        }
                    };
                    self.name_author(draft, &text, &reason).await?;
                    self.settle_choices(draft, &text).await?;
                    let last = candidates.is_empty();
                    let patience = if last { LAST_PATIENCE } else { Duration::ZERO };
                    // Whoever speaks first; not the storyteller, who always would.
                    let rival = candidates.front().filter(|_| candidates.len() > 1);
                    match rival.filter(|_| draft.units == 0 && !draft.text_done) {
                        Some(rival) => {
                            self.open_either(draft, context, &text, rival, expense).await
                        }
                        None => self.open(request, &text, patience, expense).await,
                    }
                }
            };
            let (stream, expense) = match opened {
                Opened::Stream(stream, expense) => (stream, expense),
                Opened::Rivals(stream, expense) => {
                    let Some(rival) = candidates.pop_front() else { continue };
                    self.name_author(draft, &rival, "slow").await?;
                    text = rival;
                    (stream, expense)
                }
                Opened::BothRefused(why) => {
                    candidates.pop_front();
                    reason = why;
                    continue;
                }
                Opened::Refused(why) => {
                    reason = why;
                    continue;
                }
                Opened::Ended(told) => return Ok(told),
            };
            let (fresh, silent) = (draft.text_done, draft.units == 0);
            let mut before = Written::by(draft);
            let ended = self.pump(draft, context, &text, stream, &mut before).await?;
            let said = match &ended {
                Ended::Over { usage, .. } => Some(*usage),
                _ => None,
            };
            self.settle(expense, said, &before, draft).await;
            // How long a vendor needs is not told by who had begun before.
            if silent && draft.units > 0 && !ahead {
                let first = metrics::histogram!("whatif_first_text_seconds", "provider" => text.name.clone());
                first.record(since.elapsed().as_secs_f64());
            }
            match ended {
                Ended::Over { reason: end, usage } if draft.units > 0 || fresh => {
                    self.usage += usage;
                    if end == EndReason::Length && !fresh {
                        finish = Finish::Length;
                    }
                    // Choices alone may still be missing: the next one is asked for those only.
                    if !draft.text_done {
                        self.end_text(draft).await?;
                    }
                    // Who ended by itself and named no change of the world knows of none.
                    if end == EndReason::Complete && draft.is_playable() {
                        break;
                    }
                    // Who wrote the scene knows best which choices it leads to: asked once more, for those alone. Else
                    // the storyteller's will do.
                    if !fresh && !draft.is_playable() && text.meter.is_some() {
                        candidates.drain(..candidates.len().saturating_sub(1));
                        candidates.push_front(text);
                    }
                }
                Ended::Over { usage, .. } => {
                    self.usage += usage;
                    let empty = ProviderError::new(ProviderErrorKind::Protocol, "an empty scene");
                    reason = empty.kind.as_str().into();
                    text.report(empty);
                }
                Ended::Failed(error) => {
                    tracing::warn!(scenario = %self.scenario.id, provider = text.name, %error, off = draft.units, "stream broke off");
                    reason = error.kind.as_str().into();
                    if error.kind == ProviderErrorKind::Unchecked {
                        // Nobody's text can be judged.
                        candidates.retain(|text| text.trusted);
                    }
                    text.report(error);
                }
                Ended::Stopped => return Ok(Told::Whole(Finish::Stopped)),
                Ended::Halted => return Ok(Told::Halted),
            }
        }
        Ok(if draft.text_done { Told::Whole(finish) } else { Told::Broken })
    }

    /// Says in the log who goes on with the text, unless the log's last word is that already.
    async fn name_author(
        &mut self,
        draft: &mut Draft,
        text: &TextHandle,
        reason: &str,
    ) -> Result<(), WriteError> {
        let author = draft.authors.last().map(|author| author.provider.as_str());
        if draft.text_done || author == Some(&text.name) {
            return Ok(());
        }
        let failover = Event::TurnFailover {
            turn: draft.turn,
            from: author.unwrap_or_default().to_owned(),
            to: text.name.clone(),
            off: draft.units,
            reason: reason.to_owned(),
        };
        metrics::counter!("whatif_failovers_total", "reason" => reason.to_owned()).increment(1);
        self.log(draft, &[failover]).await
    }

    /// Enough choices of somebody's are left alone: only who writes the very same scene again goes on with them. Others
    /// are asked for the patch alone.
    async fn settle_choices(
        &mut self,
        draft: &mut Draft,
        text: &TextHandle,
    ) -> Result<(), WriteError> {
        let author = draft.authors.last().map(|author| author.provider.as_str());
        if draft.choices_done || !draft.is_playable() || (text.exact && author == Some(&text.name))
        {
            return Ok(());
        }
        let done = Event::ChoicesDone { turn: draft.turn };
        self.log(draft, &[done]).await
    }

    /// Takes over a call that was made before the turn began; `None` if it has come to nothing.
    async fn open_begun(&self, begun: Begun) -> Option<Opened> {
        match self.unless_interrupted(begun.opened()).await {
            Ok(Some(Ok((stream, expense)))) => Some(Opened::Stream(stream, expense)),
            Ok(Some(Err(why))) => Some(Opened::Refused(why)),
            Ok(None) => None,
            Err(told) => Some(Opened::Ended(told)),
        }
    }

    async fn open(
        &self,
        request: StoryRequest,
        text: &TextHandle,
        patience: Duration,
        expense: Option<Expense>,
    ) -> Opened {
        let since = Instant::now();
        let opened = async {
            loop {
                match text.open(request.clone()).await {
                    Ok(stream) => return Ok(stream),
                    Err(reason) if since.elapsed() >= patience => return Err(reason),
                    Err(_) => tokio::time::sleep(LAST_AGAIN).await,
                }
            }
        };
        match self.unless_interrupted(opened).await {
            Ok(Ok(stream)) => Opened::Stream(stream, expense),
            Ok(Err(why)) => {
                self.waive(expense).await;
                Opened::Refused(why)
            }
            Err(told) => Opened::Ended(told),
        }
    }

    async fn open_either(
        &self,
        draft: &Draft,
        context: &Context,
        text: &TextHandle,
        rival: &TextHandle,
        expense: Option<Expense>,
    ) -> Opened {
        let request = |text: &TextHandle| self.request(draft, context, &text.name);
        let pay = async || self.try_reserve(draft, rival, &request(rival)).await.ok();
        let raced = self.deps.texts.open_either(text, rival, request, pay);
        let Race { paid, loser_refused, outcome } = match self.unless_interrupted(raced).await {
            Ok(race) => race,
            Err(told) => return Opened::Ended(told),
        };
        match (outcome, paid) {
            (Ok((Winner::First, stream)), paid) => {
                self.settle_loser(paid.flatten(), loser_refused).await;
                Opened::Stream(stream, expense)
            }
            (Ok((Winner::Second, stream)), paid) => {
                self.settle_loser(expense, loser_refused).await;
                Opened::Rivals(stream, paid.flatten())
            }
            (Err(why), None) => {
                self.waive(expense).await;
                Opened::Refused(why)
            }
            (Err(why), Some(paid)) => {
                self.waive(expense).await;
                self.waive(paid).await;
                Opened::BothRefused(why)
            }
        }
    }

    /// Who has lost was sent the request, and its expense is dropped with that, unless it had refused it.
    async fn settle_loser(&self, expense: Option<Expense>, refused: bool) {
        if refused {
            self.waive(expense).await;
        }
    }

    async fn unless_interrupted<T>(&self, opened: impl Future<Output = T>) -> Result<T, Told> {
        tokio::select! {
            biased;
            why = self.signals.interrupted() => Err(match why {
                Interruption::Stopped => Told::Whole(Finish::Stopped),
                Interruption::Halted => Told::Halted,
            }),
            opened = opened => Ok(opened),
        }
    }

    async fn pump(
        &mut self,
        draft: &mut Draft,
        context: &Context,
        text: &TextHandle,
        stream: TextStream,
        before: &mut Written,
    ) -> Result<Ended, WriteError> {
        let parser = || match draft.text_done {
            true => TurnParser::choices_only(draft.choices.iter().map(|choice| &*choice.label)),
            false => TurnParser::resumed(draft.text.chars().count()),
        };
        let joined = !draft.text.is_empty() && !draft.text_done && !text.exact;
        let trimmer = joined.then(|| OverlapTrimmer::new(&draft.text));
        let (stream, trimmer, tally) = self.gated(draft, text, stream, parser(), trimmer);
        let parser = parser();
        let signals = self.signals.clone();
        let coalesce = self.deps.config.coalesce;
        let state = (!text.exact).then(|| Arc::clone(&context.state));
        let mut pump = Pump { writer: &mut self.writer, draft, signals: &signals, coalesce, state };
        let ended = pump.run(stream, parser, trimmer).await;
        if let Some(tally) = tally {
            self.unchecked |= tally.unchecked.load(Ordering::Relaxed);
            before.held_back(tally.written.load(Ordering::Relaxed));
        }
        ended
    }

    /// Logs events and applies them to the draft.
    pub(super) async fn log(
        &mut self,
        draft: &mut Draft,
        events: &[Event],
    ) -> Result<(), WriteError> {
        self.writer.append(events, None).await?;
        events.iter().for_each(|event| draft.apply(event));
        Ok(())
    }

    async fn end_text(&mut self, draft: &mut Draft) -> Result<(), WriteError> {
        let done = Event::TextDone { turn: draft.turn, len: draft.units };
        self.log(draft, &[done]).await
    }

    /// Tries something that may be away for a while, up to the configured wait. `None`: halted meanwhile.
    pub(super) async fn patiently<'a, T, F>(
        &'a self,
        attempt: impl Fn(&'a Running) -> F,
    ) -> Option<Result<T, ServiceError>>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let since = Instant::now();
        let mut wait = Duration::from_millis(50);
        loop {
            let settled = tokio::select! {
                biased;
                () = self.signals.halted() => return None,
                settled = attempt(self) => settled,
            };
            let error = match settled {
                Err(error) if error.code.retryable() => error,
                settled => return Some(settled),
            };
            if since.elapsed() >= self.deps.config.store_wait {
                return Some(Err(error));
            }
            tokio::select! {
                biased;
                () = self.signals.halted() => return None,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(2)),
            }
        }
    }
}
