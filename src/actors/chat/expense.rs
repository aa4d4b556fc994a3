//! What one call for an answer costs: reserved before it, settled after it, whatever becomes of the answer.

use crate::actors::budget::{Bill, BudgetHandle, Payer};
use crate::actors::generation::{Meter, TextHandle};
use crate::domain::budget::{Amount, estimate_tokens};
use crate::domain::scenario::Usage;
use crate::error::ServiceError;

/// A call that was reserved. Dropped, it is settled in the background with what it has come to so far: nothing before it
/// was made.
pub(super) struct Expense {
    /// Of whom it is.
    pub provider: String,
    bill: Option<Bill>,
    budget: BudgetHandle,
    meter: Meter,
    /// What it was sent, as far as anybody knows before the vendor says it; `None` before it was made.
    sent: Option<u64>,
    written: u64,
}

impl Expense {
    /// Reserves a call that is sent at most so much; `Ok(None)`: it costs nothing.
    ///
    /// # Errors
    /// `budget_exhausted`; `service_unavailable`, `timeout`.
    pub async fn reserve(
        budget: &BudgetHandle,
        payer: Payer,
        text: &TextHandle,
        most: Usage,
    ) -> Result<Option<Self>, ServiceError> {
        let Some(meter) = text.meter else { return Ok(None) };
        let at_least = meter.amount(Usage { output_tokens: 0, ..most });
        let bill = budget.reserve(payer, meter.amount(most), at_least).await?;
        Ok(Some(Self {
            provider: text.name.clone(),
            bill: Some(bill),
            budget: budget.clone(),
            meter,
            sent: None,
            written: 0,
        }))
    }

    /// The call is made now.
    pub fn begin(&mut self, input_tokens: u64) {
        self.sent = Some(input_tokens);
    }

    /// It came to nothing, and costs nothing.
    pub fn refused(&mut self) {
        self.sent = None;
    }

    pub fn wrote(&mut self, text: &str) {
        self.written += estimate_tokens(text);
    }

    /// Settles it with what the vendor says, or else with what is known. Returns what it was.
    pub async fn settle(mut self, said: Option<Usage>) -> Usage {
        let usage = said.filter(|usage| *usage != Usage::default()).unwrap_or(self.so_far());
        if let Some(bill) = self.bill.take() {
            self.budget.settle(bill, self.meter.amount(usage)).await;
        }
        usage
    }

    fn so_far(&self) -> Usage {
        match self.sent {
            Some(input_tokens) => Usage { input_tokens, output_tokens: self.written },
            None => Usage::default(),
        }
    }
}

impl Drop for Expense {
    fn drop(&mut self) {
        let Some(bill) = self.bill.take() else { return };
        let usage = self.so_far();
        let spent = match self.sent {
            Some(_) => self.meter.amount(usage),
            None => Amount::default(),
        };
        // Without a runtime the bill itself is all that is left; it counts in full once it is due.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let budget = self.budget.clone();
            runtime.spawn(async move { budget.settle(bill, spent).await });
        }
    }
}
