//! The third step: the words. Providers are asked in their order, each going on where the last one broke off; when none is
//! left, the answer is our own.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::event::{Event, Finish};
use super::expense::Expense;
use super::look_up::Material;
use super::markup::PlainText;
use super::outlet::{Gone, Outlet};
use super::prompt::{self, Inquiry};
use super::{Asked, ChatDeps, own};
use crate::actors::generation::TextHandle;
use crate::domain::overlap::OverlapTrimmer;
use crate::domain::scenario::{Usage, utf16_len};
use crate::error::Code;
use crate::providers::prompt::Message;
use crate::providers::text::{
    EndReason, ProviderError, ProviderErrorKind, Talk, TextChunk, TextStream,
};

/// An answer so far.
#[derive(Debug, Default)]
pub struct Draft {
    /// As it was shown.
    pub text: String,
    /// Its length in UTF-16 code units.
    units: usize,
    /// Who was named last.
    author: String,
    pub usage: Usage,
    pub cited: BTreeSet<usize>,
}

/// How one provider's part of it ended.
enum Ended {
    Over(EndReason, Usage),
    Failed(ProviderError),
}

pub(super) struct Answering<'a> {
    pub deps: &'a ChatDeps,
    pub asked: &'a Asked,
    pub material: &'a Material,
    pub out: &'a Outlet,
    /// The first call's.
    pub prepaid: Option<Expense>,
}

impl Answering<'_> {
    /// # Errors
    /// [`Gone`]: nobody reads it.
    pub async fn run(mut self, first: &str) -> Result<(Draft, Finish), Gone> {
        let mut draft = Draft { author: first.to_owned(), ..Draft::default() };
        // Closed circuits only; the storyteller, who cannot talk, is what `own` stands for.
        let mut reason = "circuit_open".to_owned();
        for text in self.asked.candidates(self.deps).filter(|text| text.meter.is_some()) {
            let messages = prompt::messages(&self.inquiry(), &draft.text);
            let mut expense = match self.reserve(&text, &messages).await {
                Ok(expense) => expense,
                Err(why) => {
                    reason = why.to_owned();
                    continue;
                }
            };
            self.name_author(&mut draft, &text.name, &reason).await?;
            let sent = prompt::tokens(&messages);
            expense.iter_mut().for_each(|expense| expense.begin(sent));
            let talk = Talk {
                messages,
                max_output_tokens: self.deps.config.max_output_tokens,
                model: self.asked.model_for(&text.name),
            };
            let stream = match text.converse(talk).await {
                Ok(stream) => stream,
                Err(why) => {
                    expense.iter_mut().for_each(Expense::refused);
                    reason = why;
                    continue;
                }
            };
            let before = draft.units;
            let ended = self.read(&mut draft, &mut expense, stream).await?;
            let said = match &ended {
                Ended::Over(_, usage) => Some(*usage),
                Ended::Failed(_) => None,
            };
            if let Some(expense) = expense {
                draft.usage += expense.settle(said).await;
            }
            let error = match ended {
                Ended::Over(end, _) if draft.units > before => {
                    let finish = match end {
                        EndReason::Complete => Finish::Complete,
                        EndReason::Length => Finish::Length,
                    };
                    return Ok((draft, finish));
                }
                // A continuation of nothing: what was there was whole.
                Ended::Over(..) if before > 0 => return Ok((draft, Finish::Complete)),
                Ended::Over(..) => {
                    ProviderError::new(ProviderErrorKind::Protocol, "an empty answer")
                }
                Ended::Failed(error) => error,
            };
            tracing::warn!(chat = %self.asked.key.chat, provider = text.name, %error, off = draft.units, "answer broke off");
            reason = error.kind.as_str().into();
            text.report(error);
        }
        self.name_author(&mut draft, own::PROVIDER, &reason).await?;
        self.say_ourselves(&mut draft).await?;
        Ok((draft, Finish::Complete))
    }

    fn inquiry(&self) -> Inquiry<'_> {
        Inquiry {
            question: &self.asked.question,
            language: self.asked.language.as_deref(),
            before: &self.asked.before,
            material: self.material,
        }
    }

    /// `Ok(None)`: it costs nothing.
    async fn reserve(
        &mut self,
        text: &TextHandle,
        messages: &[Message],
    ) -> Result<Option<Expense>, &'static str> {
        // Another's is dropped, and costs nothing.
        if let Some(prepaid) = self.prepaid.take()
            && prepaid.provider == text.name
        {
            return Ok(Some(prepaid));
        }
        let most = Usage {
            input_tokens: prompt::tokens(messages),
            output_tokens: self.deps.config.max_output_tokens.into(),
        };
        let budget = self.deps.generation.budget();
        Expense::reserve(budget, self.asked.payer, text, most).await.map_err(|error| {
            if error.code == Code::BudgetExhausted {
                return "budget_exhausted";
            }
            tracing::warn!(chat = %self.asked.key.chat, %error, "a call for an answer could not be reserved");
            "budget_unavailable"
        })
    }

    async fn name_author(&self, draft: &mut Draft, name: &str, reason: &str) -> Result<(), Gone> {
        if draft.author == name {
            return Ok(());
        }
        metrics::counter!("whatif_chat_failovers_total", "reason" => reason.to_owned())
            .increment(1);
        let from = std::mem::replace(&mut draft.author, name.to_owned());
        let (to, off) = (name.to_owned(), draft.units);
        self.out.send(Event::Failover { from, to, off, reason: reason.to_owned() }).await
    }

    /// Shows a provider's text as it comes.
    async fn read(
        &self,
        draft: &mut Draft,
        expense: &mut Option<Expense>,
        mut stream: TextStream,
    ) -> Result<Ended, Gone> {
        let mut trimmer = OverlapTrimmer::new(&draft.text);
        let mut plain = PlainText::new(self.material.sources.len());
        let ended = loop {
            match stream.next().await {
                Some(Ok(TextChunk::Text(text))) => {
                    expense.iter_mut().for_each(|expense| expense.wrote(&text));
                    let shown = plain.push(&trimmer.push(&text));
                    self.show(draft, shown).await?;
                }
                Some(Ok(TextChunk::End { reason, usage })) => break Ended::Over(reason, usage),
                Some(Err(error)) => break Ended::Failed(error),
                None => {
                    let text = "the stream ended before its end";
                    let error = ProviderError::new(ProviderErrorKind::Protocol, text);
                    break Ended::Failed(error);
                }
            }
        };
        // What is held back of an answer that broke off is the start of something: it is left to who goes on.
        if matches!(ended, Ended::Over(..)) {
            let mut rest = plain.push(&trimmer.finish());
            rest.push_str(&plain.finish());
            self.show(draft, rest).await?;
        }
        draft.cited.append(&mut plain.cited);
        Ok(ended)
    }

    async fn say_ourselves(&self, draft: &mut Draft) -> Result<(), Gone> {
        let language = self.asked.language.as_deref();
        for paragraph in own::answer(self.material, language, &draft.text) {
            let mut plain = PlainText::new(self.material.sources.len());
            let mut text = String::new();
            if !draft.text.is_empty() {
                text.push_str("\n\n");
            }
            text.push_str(&plain.push(&paragraph));
            text.push_str(&plain.finish());
            draft.cited.append(&mut plain.cited);
            self.show(draft, text).await?;
        }
        Ok(())
    }

    async fn show(&self, draft: &mut Draft, text: String) -> Result<(), Gone> {
        // An answer does not begin with space.
        let text = match draft.text.is_empty() {
            true => text.trim_start().to_owned(),
            false => text,
        };
        if text.is_empty() {
            return Ok(());
        }
        let off = draft.units;
        draft.units += utf16_len(&text);
        draft.text.push_str(&text);
        self.out.send(Event::Delta { off, text }).await
    }
}
