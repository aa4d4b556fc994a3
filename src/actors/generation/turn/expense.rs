//! What a turn pays: every call of a provider that costs something is reserved before it and settled after it.

use super::script::Running;
use crate::actors::budget::{Bill, BudgetHandle, Payer};
use crate::actors::generation::draft::Draft;
use crate::actors::generation::material::Context;
use crate::actors::generation::text::{Meter, TextHandle};
use crate::domain::budget::{Amount, estimate_tokens};
use crate::domain::scenario::Usage;
use crate::error::{Code, ServiceError};
use crate::providers::text::StoryRequest;

/// A call that was reserved. Dropped, it costs what it was sent, and what it is known to have written.
pub struct Expense {
    bill: Bill,
    meter: Meter,
    /// As far as anybody knows before the vendor says it.
    input_tokens: u64,
}

impl Expense {
    /// Reserves a call. `Ok(None)`: it costs nothing.
    ///
    /// # Errors
    /// `budget_exhausted`; `service_unavailable`, `timeout`: then it must not be made.
    pub async fn reserve(
        budget: &BudgetHandle,
        payer: Payer,
        text: &TextHandle,
        request: &StoryRequest,
    ) -> Result<Option<Self>, ServiceError> {
        let Some(meter) = text.meter else { return Ok(None) };
        let input_tokens = meter.input_tokens(request);
        let at_least = meter.amount(Usage { input_tokens, output_tokens: 0 });
        let bill = budget.reserve(payer, meter.most(input_tokens), at_least).await?;
        Ok(Some(Self { bill, meter, input_tokens }))
    }

    /// Notes what it comes to if it is dropped: what the vendor says, or else what it was sent and has written.
    pub fn comes_to(&mut self, said: Option<Usage>, written_tokens: u64) {
        let usage = self.usage(said, written_tokens);
        self.bill.costs_at_least(self.meter.amount(usage));
    }

    /// Settles it with what a drop would, and waits for that.
    pub async fn close(self, budget: &BudgetHandle) {
        let spent = self.bill.at_least();
        budget.settle(self.bill, spent).await;
    }

    /// Settles a call that was never made.
    pub async fn waive(self, budget: &BudgetHandle) {
        budget.settle(self.bill, Amount::default()).await;
    }

    fn usage(&self, said: Option<Usage>, written_tokens: u64) -> Usage {
        match said {
            Some(usage) if usage != Usage::default() => usage,
            _ => Usage { input_tokens: self.input_tokens, output_tokens: written_tokens },
        }
    }
}

impl Running {
    /// Reserves the first call of a new turn, whose command is refused if there is no money for it.
    ///
    /// # Errors
    /// `budget_exhausted`; `service_unavailable`, `timeout`.
    pub(super) async fn prepay(
        &mut self,
        draft: &Draft,
        context: &Context,
    ) -> Result<(), ServiceError> {
        let candidates = self.deps.texts.candidates(self.scenario.provider.as_deref());
        let Some(text) = candidates.first().filter(|text| text.meter.is_some()) else {
            return Ok(());
        };
        let request = self.request(draft, context, &text.name);
        match self.try_reserve(draft, text, &request).await {
            Ok(expense) => self.prepaid = expense.map(|expense| (text.name.clone(), expense)),
            Err(error) if error.code == Code::BudgetExhausted && !self.deps.budget.refuses() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Gives back what was reserved for a call that is not made.
    pub(super) async fn give_back(&mut self) {
        if let Some((_, expense)) = self.prepaid.take() {
            self.waive(Some(expense)).await;
        }
    }

    /// Reserves a call, unless that was done already. `Ok(None)`: it costs nothing.
    ///
    /// # Errors
    /// The reason why the call must not be made, as a `turn.failover` gives it.
    pub(super) async fn reserve(
        &mut self,
        draft: &Draft,
        text: &TextHandle,
        request: &StoryRequest,
    ) -> Result<Option<Expense>, &'static str> {
        match self.prepaid.take() {
            Some((name, expense)) if name == text.name => return Ok(Some(expense)),
            // Its circuit has opened since.
            Some((_, expense)) => self.waive(Some(expense)).await,
            None => {}
        }
        self.try_reserve(draft, text, request).await.map_err(|error| {
            if error.code == Code::BudgetExhausted {
                return "budget_exhausted";
            }
            tracing::warn!(scenario = %self.scenario.id, %error, "a model call could not be reserved");
            "budget_unavailable"
        })
    }

    pub(super) async fn try_reserve(
        &self,
        draft: &Draft,
        text: &TextHandle,
        request: &StoryRequest,
    ) -> Result<Option<Expense>, ServiceError> {
        let payer =
            Payer { turn: draft.turn, scenario: Some(self.scenario.id), user: self.scenario.owner };
        Expense::reserve(&self.deps.budget, payer, text, request).await
    }

    /// Settles a call that was never made.
    pub(super) async fn waive(&self, expense: Option<Expense>) {
        if let Some(expense) = expense {
            expense.waive(&self.deps.budget).await;
        }
    }

    /// Settles a call with what the vendor says, or else with what it was sent and has written.
    pub(super) async fn settle(
        &self,
        expense: Option<Expense>,
        said: Option<Usage>,
        written: &Written,
        draft: &Draft,
    ) {
        let Some(mut expense) = expense else { return };
        expense.comes_to(said, written.tokens_since(draft));
        expense.close(&self.deps.budget).await;
    }

    /// Settles what an owner that died has left: its call was sent what this one would be, and had written what is in
    /// the log.
    pub(super) async fn settle_left(&self, draft: &Draft, context: &Context) {
        let Some(author) = draft.authors.last() else { return };
        let text = self.deps.texts.find(&author.provider);
        let Some(meter) = text.and_then(|text| text.meter) else { return };
        let before = draft.before(author.off);
        let request = StoryRequest {
            shown: before.to_owned(),
            ..self.request(draft, context, &author.provider)
        };
        let written = Written { text_bytes: before.len(), choices: 0, tokens: 0 };
        let usage = Usage {
            input_tokens: meter.input_tokens(&request),
            output_tokens: written.tokens_since(draft),
        };
        let settled = self.deps.budget.settle_left(draft.turn, meter.amount(usage)).await;
        if let Err(error) = settled {
            tracing::warn!(scenario = %self.scenario.id, %error, "a model call counts in full");
        }
    }
}

/// How far a draft was when a call began.
pub(super) struct Written {
    text_bytes: usize,
    choices: usize,
    /// What the call has written at least, though not all of it was shown.
    tokens: u64,
}

impl Written {
    pub fn by(draft: &Draft) -> Self {
        Self { text_bytes: draft.text.len(), choices: draft.choices.len(), tokens: 0 }
    }

    /// Moderation knows how many tokens the call has written; readers have not seen them all.
    pub fn held_back(&mut self, tokens: u64) {
        self.tokens = tokens;
    }

    /// About how many tokens were written since.
    fn tokens_since(&self, draft: &Draft) -> u64 {
        let text = draft.text.get(self.text_bytes..).unwrap_or_default();
        let choices = draft.choices.iter().skip(self.choices).map(|choice| {
            estimate_tokens(&choice.label) + choice.hint.as_deref().map_or(0, estimate_tokens)
        });
        let patch = draft.patch.as_ref().and_then(|patch| serde_json::to_string(patch).ok());
        let shown = estimate_tokens(text)
            + choices.sum::<u64>()
            + patch.map_or(0, |patch| estimate_tokens(&patch));
        shown.max(self.tokens)
    }
}
