//! What a reader asks a new scenario to be, and the rules for it.

use jiff::Timestamp;

use super::ids::{ScenarioId, UserId};
use super::scenario::{
    Length, MAX_PROMPT_CHARS, MAX_SEED, Scenario, ScenarioChange, title_from_prompt,
};
use crate::error::{Code, FieldError, ServiceError};

const MAX_TITLE_CHARS: usize = 120;
const MAX_LABEL_CHARS: usize = 40;
const MAX_MODEL_CHARS: usize = 100;
const MAX_TAGS: usize = 20;
const DEFAULT_LANGUAGE: &str = "en";

/// As it came in; [`Wish::check`] makes it usable.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub prompt: String,
    pub genre: Option<String>,
    pub tone: Option<String>,
    pub length: Length,
    pub language: Option<String>,
    pub provider: Option<String>,
    pub model: Option<String>,
    pub seed: Option<u64>,
}

/// A text provider that may be wished for.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    pub provider: &'a str,
    /// `*` stands for any.
    pub models: &'a [String],
}

impl Offer<'_> {
    fn has(&self, model: &str) -> bool {
        self.models.iter().any(|offered| offered == model || offered == "*")
    }
}

/// A wish that keeps the rules.
#[derive(Debug, Clone)]
pub struct CheckedWish(Wish);

impl Wish {
    /// A model wished for without a provider is one of the first provider that has it.
    ///
    /// # Errors
    /// `invalid_request` with every field that breaks a rule.
    pub fn check(mut self, offers: &[Offer<'_>]) -> Result<CheckedWish, ServiceError> {
        let mut faults = Faults::default();
        self.prompt = self.prompt.trim().to_owned();
        faults.text("prompt", &self.prompt, MAX_PROMPT_CHARS, true);
        for (field, value, max) in [
            ("genre", &mut self.genre, MAX_LABEL_CHARS),
            ("tone", &mut self.tone, MAX_LABEL_CHARS),
            ("model", &mut self.model, MAX_MODEL_CHARS),
        ] {
            if let Some(text) = value {
                *text = text.trim().to_owned();
                faults.text(field, text, max, false);
            }
        }
        if let Some(language) = &self.language
            && !is_language_tag(language)
        {
            faults.add("language", "is not a language tag such as en or pt-BR");
        }
        if let Some(provider) = &self.provider
            && !offers.iter().any(|offer| offer.provider == provider)
        {
            let providers: Vec<_> = offers.iter().map(|offer| offer.provider).collect();
            faults.add("provider", format!("is not one of {}", providers.join(", ")));
        } else if let Some(model) = self.model.as_ref().filter(|model| !model.is_empty()) {
            let wanted = |offer: &&Offer<'_>| {
                self.provider.as_ref().is_none_or(|provider| offer.provider == provider)
            };
            match offers.iter().filter(wanted).find(|offer| offer.has(model)) {
                Some(offer) => self.provider = Some(offer.provider.to_owned()),
                None => {
                    let models = offers.iter().filter(wanted).flat_map(|offer| offer.models);
                    let models: Vec<_> = models.map(String::as_str).collect();
                    faults.add("model", format!("is not one of {}", models.join(", ")));
                }
            }
        }
        if self.seed.is_some_and(|seed| seed > MAX_SEED) {
            faults.add("seed", format!("must be at most {MAX_SEED}"));
        }
        faults.settle(CheckedWish(self))
    }
}

impl CheckedWish {
    /// The scenario's record; `random` is its seed if none was wished for.
    pub fn scenario(&self, id: ScenarioId, owner: UserId, random: u64, now: Timestamp) -> Scenario {
        let wish = self.0.clone();
        Scenario {
            id,
            owner,
            title: title_from_prompt(&wish.prompt, MAX_TITLE_CHARS),
            prompt: wish.prompt,
            genre: wish.genre,
            tone: wish.tone,
            length: wish.length,
            language: wish.language.unwrap_or_else(|| DEFAULT_LANGUAGE.into()),
            provider: wish.provider,
            model: wish.model,
            seed: wish.seed.unwrap_or(random & MAX_SEED),
            tags: Vec::new(),
            favorite: false,
            created_at: now,
            updated_at: now,
            scene_count: 0,
            current_scene: None,
        }
    }
}

/// # Errors
/// `invalid_request` with every field that breaks a rule.
pub fn check_change(mut change: ScenarioChange) -> Result<ScenarioChange, ServiceError> {
    let mut faults = Faults::default();
    if let Some(title) = &mut change.title {
        *title = title.trim().to_owned();
        faults.text("title", title, MAX_TITLE_CHARS, false);
    }
    if let Some(tags) = &mut change.tags {
        tags.iter_mut().for_each(|tag| *tag = tag.trim().to_owned());
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.to_lowercase()));
        if tags.len() > MAX_TAGS {
            faults.add("tags", format!("has more than {MAX_TAGS}"));
        }
        tags.iter().for_each(|tag| faults.text("tags", tag, MAX_LABEL_CHARS, false));
    }
    faults.settle(change)
}

#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    fn text(&mut self, field: &str, text: &str, max: usize, lines: bool) {
        let chars = text.chars().count();
        if chars == 0 || chars > max {
            self.add(field, format!("must have 1 to {max} characters"));
        } else if text
            .chars()
            .any(|c| c.is_control() && !(lines && matches!(c, '\n' | '\r' | '\t')))
        {
            self.add(field, "must not have control characters");
        }
    }

    fn settle<T>(self, value: T) -> Result<T, ServiceError> {
        match self.0.as_slice() {
            [] => Ok(value),
            [first, ..] => {
                let text = format!("{}: {}", first.field, first.message);
                let error = ServiceError::new(Code::InvalidRequest, text);
                Err(ServiceError { details: self.0, ..error })
            }
        }
    }
}

/// The shape of a BCP 47 tag: 2-3 letters, then parts of 1-8 letters or digits.
pub fn is_language_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let primary = parts.next().unwrap_or_default();
    tag.len() <= 35
        && (2..=3).contains(&primary.len())
        && primary.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(error: ServiceError) -> Vec<String> {
        error.details.into_iter().map(|detail| detail.field).collect()
    }

    #[test]
    fn every_broken_rule_is_named_at_once() {
        let wish = Wish {
            prompt: "  ".into(),
            genre: Some("x".repeat(41)),
            tone: Some("a\u{7}b".into()),
            language: Some("english please".into()),
            provider: Some("oracle".into()),
            seed: Some(MAX_SEED + 1),
            ..Wish::default()
        };
        let offers = [Offer { provider: "storyteller", models: &[] }];
        let error = wish.check(&offers).unwrap_err();
        assert_eq!(fields(error), ["prompt", "genre", "tone", "language", "provider", "seed"]);
    }

    #[test]
    fn a_model_is_one_of_those_that_are_offered() {
        let [small, large, any] = ["small", "large", "*"].map(str::to_owned);
        let (both, one, all) = ([small.clone(), large.clone()], [large], [small, any]);
        let offers = [("a", &both[..]), ("b", &one[..]), ("c", &all[..])]
            .map(|(provider, models)| Offer { provider, models });
        for (provider, model, chosen) in [
            (None, None, Ok(None)),
            (None, Some("large"), Ok(Some("a"))),
            (Some("b"), Some("large"), Ok(Some("b"))),
            (Some("b"), None, Ok(Some("b"))),
            (Some("b"), Some("small"), Err("model")),
            (Some("c"), Some("huge"), Ok(Some("c"))),
            (None, Some("huge"), Ok(Some("c"))),
            (Some("d"), Some("small"), Err("provider")),
        ] {
            let wish = Wish {
                prompt: "What if?".into(),
                provider: provider.map(str::to_owned),
                model: model.map(str::to_owned),
                ..Wish::default()
            };
            let checked = wish.check(&offers).map(|wish| wish.0.provider);
            let want =
                chosen.map(|name| name.map(str::to_owned)).map_err(|name| vec![name.to_owned()]);
            assert_eq!(checked.map_err(fields), want, "{provider:?} {model:?}");
        }
    }

    #[test]
    fn a_plain_wish_becomes_a_scenario() {
        let wish = Wish { prompt: " What if\nRome never fell? ".into(), ..Wish::default() };
        let id = ScenarioId(uuid::Uuid::nil());
        let owner = UserId(uuid::Uuid::nil());
        let scenario =
            wish.check(&[]).unwrap().scenario(id, owner, u64::MAX, Timestamp::UNIX_EPOCH);
        assert_eq!(scenario.title, "What if Rome never fell?");
        assert_eq!((scenario.language.as_str(), scenario.seed), ("en", MAX_SEED));
    }

    #[test]
    fn tags_are_trimmed_and_told_apart_without_case() {
        let change = ScenarioChange {
            tags: Some(vec![" Rome ".into(), "rome".into(), "war".into()]),
            ..ScenarioChange::default()
        };
        assert_eq!(check_change(change).unwrap().tags.unwrap(), ["Rome", "war"]);
        let change = ScenarioChange { title: Some(" ".into()), ..ScenarioChange::default() };
        assert_eq!(fields(check_change(change).unwrap_err()), ["title"]);
    }
}
