//! The course of one call that nobody has asked for yet: wait, pay, open, read the first words, leave it alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::read::Read;
use super::{Common, Opened, Taken};
use crate::actors::budget::Payer;
use crate::actors::generation::draft::Draft;
use crate::actors::generation::text::TextHandle;
use crate::actors::generation::turn::Expense;
use crate::domain::ids::TurnId;
use crate::domain::scenario::{Choice, Via};
use crate::error::ServiceError;
use crate::providers::text::{
    ProviderError, ProviderErrorKind, StoryRequest, TextChunk, TextStream,
};

/// After a scene's end nothing is begun for so long: who goes on at once is not to pay for what nobody reads.
const PAUSE: Duration = Duration::from_millis(400);

pub(super) struct Call {
    pub common: Arc<Common>,
    pub text: TextHandle,
    pub choice: Choice,
    /// The turn that it would be the first call of.
    pub turn: TurnId,
    pub made: Arc<AtomicBool>,
}

/// How a call that was begun ahead ended, for the metric.
enum Outcome {
    Used,
    Unused,
    Failed,
}

impl Call {
    /// Runs until the call is taken, given up (its `taken` is dropped), broke off, or waited too long.
    pub async fn run(self, mut taken: Taken) {
        tokio::select! {
            // Nothing was made that could be taken.
            _ = &mut taken => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        let deps = &self.common.deps;
        let Ok(_place) = Arc::clone(&deps.ahead).try_acquire_owned() else { return };
        let Some(_its_place) = self.text.place_ahead() else { return };
        // What is asked of a store from here on is waited for: a reservation that nobody knows of counts in full.
        let (request, expense) = match self.pay().await {
            Ok(Some(paid)) => paid,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(scenario = %self.common.scenario.id, %error, "nothing is begun ahead");
                return;
            }
        };
        if matches!(taken.try_recv(), Err(TryRecvError::Closed)) {
            if let Some(expense) = expense {
                expense.waive(&deps.budget).await;
            }
            return;
        }
        self.made.store(true, Ordering::Release);
        let outcome = match self.make(request, expense, taken).await {
            Outcome::Used => "used",
            Outcome::Unused => "unused",
            Outcome::Failed => "failed",
        };
        metrics::counter!("whatif_speculations_total", "outcome" => outcome).increment(1);
    }

    /// Reserves the call, where that leaves enough for the reader's own next one.
    async fn pay(&self) -> Result<Option<(StoryRequest, Option<Expense>)>, ServiceError> {
        let Common { deps, scenario, scene, context, paying } = &*self.common;
        let _alone = paying.acquire().await;
        let context = context.get_or_try_init(|| deps.context(scenario, Some(*scene))).await?;
        let via = Via::Choose { choice: self.choice.id.clone(), text: self.choice.label.clone() };
        let (by, model) = (self.text.name.clone(), String::new());
        let draft = Draft::new(self.turn, scene.next(), Some(*scene), via, by, model);
        let request = deps.request(scenario, &draft, context, &self.text.name);
        if let Some(meter) = self.text.meter {
            let most = meter.most(meter.input_tokens(&request));
            if !deps.budget.has(scenario.id, scenario.owner, most.plus(most)).await? {
                return Ok(None);
            }
        }
        let payer = Payer { turn: self.turn, scenario: Some(scenario.id), user: scenario.owner };
        let expense = Expense::reserve(&deps.budget, payer, &self.text, &request).await?;
        Ok(Some((request, expense)))
    }

    /// Makes the call and keeps it at hand.
    async fn make(
        &self,
        request: StoryRequest,
        expense: Option<Expense>,
        mut taken: Taken,
    ) -> Outcome {
        let (give_up, unwanted) = oneshot::channel();
        let mut opening = std::pin::pin!(self.text.open_while_wanted(request, unwanted));
        let opened = tokio::select! {
            opened = &mut opening => opened,
            reply = &mut taken => {
                let Ok(mut reply) = reply else {
                    let _ = give_up.send(());
                    return self.close(expense, Outcome::Unused).await;
                };
                tokio::select! {
                    opened = &mut opening => return self.hand_over(reply, opened, expense).await,
                    () = reply.closed() => {
                        let _ = give_up.send(());
                        return self.close(expense, Outcome::Unused).await;
                    }
                }
            }
        };
        match opened {
            Ok(stream) => self.read(stream, expense, taken).await,
            Err(why) => {
                self.made.store(false, Ordering::Release);
                tracing::debug!(provider = self.text.name, why, "not begun ahead");
                if let Some(expense) = expense {
                    expense.waive(&self.common.deps.budget).await;
                }
                Outcome::Failed
            }
        }
    }

    /// Reads the first words; then the stream waits, and holds its vendor up, until somebody wants it.
    async fn read(
        &self,
        mut stream: TextStream,
        mut expense: Option<Expense>,
        mut taken: Taken,
    ) -> Outcome {
        let config = &self.common.deps.config;
        let mut read = Read::new(config.speculate_words);
        let mut forgotten = std::pin::pin!(tokio::time::sleep(config.speculate_for));
        loop {
            tokio::select! {
                biased;
                reply = &mut taken => {
                    let Ok(reply) = reply else { return self.close(expense, Outcome::Unused).await };
                    return self.hand_over(reply, Ok(read.before(stream)), expense).await;
                }
                () = &mut forgotten => return self.close(expense, Outcome::Unused).await,
                chunk = stream.next(), if !read.is_full() => match chunk {
                    Some(Ok(chunk)) => {
                        read.push(chunk);
                        if let Some(expense) = &mut expense {
                            expense.comes_to(read.usage(), read.tokens());
                        }
                    }
                    broken => {
                        self.report(broken);
                        return self.close(expense, Outcome::Failed).await;
                    }
                },
            }
        }
    }

    async fn hand_over(
        &self,
        reply: oneshot::Sender<Opened>,
        opened: Result<TextStream, String>,
        expense: Option<Expense>,
    ) -> Outcome {
        let opened = match opened {
            Ok(stream) => Ok((stream, expense)),
            Err(why) => {
                if let Some(expense) = expense {
                    expense.waive(&self.common.deps.budget).await;
                }
                Err(why)
            }
        };
        let failed = opened.is_err();
        match reply.send(opened) {
            Ok(()) if failed => Outcome::Failed,
            Ok(()) => Outcome::Used,
            // The turn was stopped meanwhile.
            Err(Ok((_, expense))) => self.close(expense, Outcome::Unused).await,
            Err(Err(_)) => Outcome::Failed,
        }
    }

    /// Pays for what came of it.
    async fn close(&self, expense: Option<Expense>, outcome: Outcome) -> Outcome {
        self.made.store(false, Ordering::Release);
        if let Some(expense) = expense {
            expense.close(&self.common.deps.budget).await;
        }
        outcome
    }

    /// One circuit sees all of a provider's failures, also those that no reader does.
    fn report(&self, broken: Option<Result<TextChunk, ProviderError>>) {
        let error = match broken {
            Some(Err(error)) => error,
            _ => {
                let text = "the stream ended without saying so";
                ProviderError::new(ProviderErrorKind::Protocol, text)
            }
        };
        self.text.report(error);
    }
}
