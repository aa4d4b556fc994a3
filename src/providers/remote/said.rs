//! What the events of an answer have said so far, in no vendor's words any more, and what it costs.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::{Classify, Failure};
use crate::domain::scenario::Usage;
use crate::providers::text::{EndReason, Price, ProviderError, ProviderErrorKind, TextChunk};

/// For servers that report no usage: about so many bytes of UTF-8 make a token, in most languages.
const BYTES_PER_TOKEN: usize = 4;

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) enum Finish {
    Complete,
    Length,
    Filter,
}

impl Finish {
    /// Of the words that vendors have for it. Servers that pass on other vendors' models pass on their words, too, so there is
    /// one list for all.
    pub(in crate::providers) fn of(reason: &str) -> Self {
        match reason {
            "length"
            | "max_tokens"
            | "MAX_TOKENS"
            | "incomplete"
            | "model_length"
            | "model_context_window_exceeded" => Finish::Length,
            "content_filter"
            | "content_filtered"
            | "guardrail_intervened"
            | "refusal"
            | "SAFETY"
            | "RECITATION"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "LANGUAGE"
            | "ERROR_TOXIC" => Finish::Filter,
            _ => Finish::Complete,
        }
    }
}

/// What the vendor counted; absent counts are estimated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::providers) struct Tokens {
    /// All of the prompt, the cached part included.
    pub input: Option<u64>,
    /// The part of `input` that came from the vendor's cache.
    pub cached: Option<u64>,
    pub output: Option<u64>,
}

impl Tokens {
    /// Later counts replace earlier ones, where there are any: some servers count along, some say one half first.
    fn update(&mut self, later: Tokens) {
        self.input = later.input.or(self.input);
        self.cached = later.cached.or(self.cached);
        self.output = later.output.or(self.output);
    }
}

pub(in crate::providers) struct Said {
    /// Not handed over yet.
    text: String,
    finish: Option<Finish>,
    /// What follows `text`; nothing follows that.
    over: Option<Result<TextChunk, Failure>>,
    classify: Classify,
    meter: Meter,
    /// White space at the start is there already.
    spaced: bool,
}

impl Said {
    pub(super) fn new(classify: Classify, meter: Meter, spaced: bool) -> Self {
        Self { text: String::new(), finish: None, over: None, classify, meter, spaced }
    }

    pub(in crate::providers) fn text(&mut self, text: &str) {
        let text = if self.spaced { text.trim_start() } else { text };
        self.spaced &= text.is_empty();
        self.text.push_str(text);
    }

    pub(in crate::providers) fn finish(&mut self, finish: Finish) {
        self.finish = Some(finish);
    }

    pub(in crate::providers) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    pub(in crate::providers) fn tokens(&mut self, tokens: Tokens) {
        self.meter.tokens.update(tokens);
    }

    /// The answer is whole.
    pub(in crate::providers) fn end(&mut self) {
        let end = self.last();
        self.over.get_or_insert(end);
    }

    /// The answer broke off. What was said first stays.
    pub(in crate::providers) fn broke(&mut self, failure: Failure) {
        self.over.get_or_insert(Err(failure));
    }

    /// It broke off with something that the protocol does not have.
    pub(in crate::providers) fn garbled(&mut self, what: &str, detail: &impl ToString) {
        let failure = self.classify.protocol(what, detail);
        self.broke(failure);
    }

    /// The vendor says so itself.
    pub(in crate::providers) fn failed(&mut self, error: &serde_json::Value) {
        let failure = self.classify.in_stream(error);
        self.broke(failure);
    }

    /// Whether there is more to hear.
    pub(in crate::providers) fn flow(&self) -> ControlFlow<()> {
        if self.over.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub(super) fn classify(&self) -> &Classify {
        &self.classify
    }

    /// An answer has begun: from now on it costs.
    pub(super) fn begun(&mut self) {
        self.meter.runs = true;
    }

    pub(super) fn take_text(&mut self) -> Option<String> {
        if self.text.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut self.text);
        self.meter.output_bytes += text.len();
        Some(text)
    }

    pub(super) fn take_over(&mut self) -> Option<Result<TextChunk, Failure>> {
        self.over.take()
    }

    fn last(&self) -> Result<TextChunk, Failure> {
        let reason = match self.finish {
            Some(Finish::Complete) => EndReason::Complete,
            Some(Finish::Length) => EndReason::Length,
            Some(Finish::Filter) => {
                let message = "the vendor's filter stopped the text";
                return Err(ProviderError::new(ProviderErrorKind::ContentFilter, message).into());
            }
            None => {
                let what = "the stream ended without a finish reason";
                return Err(self.classify.protocol(what, &""));
            }
        };
        Ok(TextChunk::End { reason, usage: self.meter.usage(self.text.len()) })
    }
}

/// Counts one answer, however it ends: also what was broken off or abandoned is on the bill.
pub(super) struct Meter {
    provider: Arc<str>,
    price: Price,
    tokens: Tokens,
    input_bytes: usize,
    output_bytes: usize,
    runs: bool,
}

impl Meter {
    pub(super) fn new(provider: Arc<str>, price: Price, input_bytes: usize) -> Self {
        let tokens = Tokens::default();
        Self { provider, price, tokens, input_bytes, output_bytes: 0, runs: false }
    }

    /// As the vendor counted, else estimated; `more` bytes of text are still to be handed over.
    fn usage(&self, more: usize) -> Usage {
        let estimate = |bytes: usize| bytes.div_ceil(BYTES_PER_TOKEN) as u64;
        let output = estimate(self.output_bytes + more);
        Usage {
            input_tokens: self.tokens.input.unwrap_or_else(|| estimate(self.input_bytes)),
            output_tokens: self.tokens.output.unwrap_or(output),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let heard = self.tokens != Tokens::default() || self.output_bytes > 0;
        if !self.runs || !heard {
            return;
        }
        let usage = self.usage(0);
        let cached = self.tokens.cached.unwrap_or_default().min(usage.input_tokens);
        let count = |kind: &'static str, tokens: u64| {
            let provider = self.provider.to_string();
            metrics::counter!("whatif_text_tokens_total", "provider" => provider, "kind" => kind)
                .increment(tokens);
        };
        count("input", usage.input_tokens - cached);
        count("cached", cached);
        count("output", usage.output_tokens);
        let cost = self.price.of(usage, cached);
        metrics::counter!("whatif_text_cost_microdollars_total", "provider" => self.provider.to_string())
            .increment(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spaced: bool) -> Said {
        let meter = Meter::new("test".into(), Price::default(), 40);
        Said::new(Classify::new([]), meter, spaced)
    }

    #[test]
    fn reasons_of_all_vendors_are_known() {
        for (reason, finish) in [
            ("stop", Finish::Complete),
            ("end_turn", Finish::Complete),
            ("STOP", Finish::Complete),
            ("tool_calls", Finish::Complete),
            ("max_tokens", Finish::Length),
            ("MAX_TOKENS", Finish::Length),
            ("refusal", Finish::Filter),
            ("SAFETY", Finish::Filter),
            ("guardrail_intervened", Finish::Filter),
        ] {
            assert_eq!(Finish::of(reason), finish, "{reason}");
        }
    }

    #[test]
    fn white_space_that_readers_have_is_not_said_twice() {
        let mut said = said(true);
        for piece in ["\n", " \n The", " wall"] {
            said.text(piece);
        }
        assert_eq!(said.take_text().as_deref(), Some("The wall"));
    }

    #[test]
    fn counts_of_both_halves_are_kept_and_missing_ones_estimated() {
        let mut said = said(false);
        said.text("12345678");
        assert_eq!(said.meter.usage(8), Usage { input_tokens: 10, output_tokens: 2 });
        said.tokens(Tokens { input: Some(7), cached: Some(3), output: None });
        said.tokens(Tokens { output: Some(5), ..Tokens::default() });
        said.finish(Finish::Complete);
        said.end();
        let usage = Usage { input_tokens: 7, output_tokens: 5 };
        let over = said.take_over().expect("it is over").expect("it ended well");
        assert_eq!(over, TextChunk::End { reason: EndReason::Complete, usage });
        assert_eq!(said.meter.tokens.cached, Some(3));
    }

    #[test]
    fn the_bill_is_counted_however_an_answer_ends() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let counted = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let price = Price { input: 1_000_000, cached_input: 100_000, output: 5_000_000 };
            let answer = |begun: bool, tokens: Tokens, text: &str| {
                let meter = Meter::new("test".into(), price, 40);
                let mut said = Said::new(Classify::new([]), meter, false);
                if begun {
                    said.begun();
                }
                said.tokens(tokens);
                said.text(text);
                let _ = said.take_text();
            };
            // As the vendor counted.
            answer(true, Tokens { input: Some(100), cached: Some(60), output: Some(7) }, "ignored");
            // Abandoned after 8 bytes: 2 tokens, for a prompt of 10.
            answer(true, Tokens::default(), "12345678");
            // Never answered, and without a word.
            answer(false, Tokens::default(), "");
            answer(true, Tokens::default(), "");
        });
        let counted = counted.render();
        for line in [
            "whatif_text_tokens_total{provider=\"test\",kind=\"input\"} 50",
            "whatif_text_tokens_total{provider=\"test\",kind=\"cached\"} 60",
            "whatif_text_tokens_total{provider=\"test\",kind=\"output\"} 9",
            "whatif_text_cost_microdollars_total{provider=\"test\"} 101",
        ] {
            assert!(counted.contains(line), "{line} in {counted}");
        }
    }

    #[test]
    fn what_was_said_first_stays() {
        let mut said = said(false);
        said.failed(&serde_json::json!({"type": "overloaded_error"}));
        said.finish(Finish::Complete);
        said.end();
        assert!(said.flow().is_break());
        assert!(said.take_over().is_some_and(|over| over.is_err()));
    }
}
