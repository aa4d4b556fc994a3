//! The section `[providers]`: who may tell a scene, in which order, and how patiently each is called.
//!
//! A provider is a section with a name, `[providers.anthropic]`. The kinds are names of providers, too, so that a key is all
//! that has to be set; others (`[providers.local]`) say of which `kind` they are. What a section leaves out has the default
//! of its kind.

mod vendor;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use self::vendor::Given;
pub use self::vendor::{Continuation, Kind, Vendor};
use super::ConfigError;

/// The provider that needs nothing and is always there.
const STORYTELLER: &str = "storyteller";
const MAX_NAME_CHARS: usize = 32;

#[derive(Debug, Clone)]
pub struct Providers {
    /// Text providers, most wanted first; those without credentials are left out.
    pub text: Vec<String>,
    pub hedge: Hedge,
    pub storyteller: Storyteller,
    pub vendors: BTreeMap<String, Vendor>,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            text: ["openai", "anthropic", "gemini", "ollama", STORYTELLER].map(Into::into).into(),
            hedge: Hedge::default(),
            storyteller: Storyteller::default(),
            vendors: Kind::ALL.map(|kind| (kind.as_str().to_owned(), Vendor::of(kind))).into(),
        }
    }
}

/// A second provider for a scene whose first one is slow to begin.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// Silence after which the next provider is asked, too; `0s` turns this off.
    #[serde(with = "humantime_serde")]
    pub after: std::time::Duration,
    /// Share of the turns that may be hedged (0-1): each may cost a call whose text nobody reads.
    pub budget: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: std::time::Duration::ZERO, budget: 0.05 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storyteller {
    /// Words a second; 0 writes without a pause.
    pub words_per_second: f64,
}

impl Default for Storyteller {
    fn default() -> Self {
        Self { words_per_second: 18.0 }
    }
}

impl Providers {
    /// The vendors in the order they are wanted.
    pub fn wanted(&self) -> impl Iterator<Item = (&str, &Vendor)> {
        self.text.iter().filter_map(|name| Some((name.as_str(), self.vendors.get(name)?)))
    }

    /// Sections that somebody made and nobody is asked by. Those of the kinds are always there.
    pub fn idle(&self) -> impl Iterator<Item = &str> {
        let names = self.vendors.keys().map(String::as_str);
        names
            .filter(|name| Kind::named(name).is_none() && self.text.iter().all(|text| text != name))
    }

    /// Whether somebody chose who may tell. If not, a vendor without credentials is no mistake.
    pub fn is_chosen(&self) -> bool {
        self.text != Self::default().text
    }

    /// For a person.
    pub(super) fn describe(&self) -> String {
        let vendors = self.wanted().filter(|(_, vendor)| vendor.is_configured());
        let told = vendors.map(|(name, vendor)| format!("{name} ({})", vendor.model));
        told.chain([STORYTELLER.to_owned()]).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let broken = |key, message: String| Err(ConfigError::Rule { key, message });
        for (at, name) in self.text.iter().enumerate() {
            if name != STORYTELLER && !self.vendors.contains_key(name) {
                return broken("providers.text", format!("unknown provider `{name}`"));
            }
            if self.text[..at].contains(name) {
                return broken("providers.text", format!("names `{name}` twice"));
            }
        }
        let pace = self.storyteller.words_per_second;
        if pace.is_nan() || pace < 0.0 {
            return broken("providers.storyteller.words_per_second", "must not be negative".into());
        }
        if !(0.0..=1.0).contains(&self.hedge.budget) {
            return broken("providers.hedge.budget", "must be from 0 to 1".into());
        }
        for (name, vendor) in &self.vendors {
            if let Err((key, message)) = vendor.check() {
                return broken("providers", format!("{name}.{key} {message}"));
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Providers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Sections;
        impl<'de> Visitor<'de> for Sections {
            type Value = Providers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section of providers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Providers, A::Error> {
                let mut providers = Providers::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "text" => providers.text = map.next_value()?,
                        "hedge" => providers.hedge = map.next_value()?,
                        STORYTELLER => providers.storyteller = map.next_value()?,
                        _ => {
                            let given: Given = map.next_value()?;
                            let vendor = named(&name, given).map_err(A::Error::custom)?;
                            providers.vendors.insert(name, vendor);
                        }
                    }
                }
                Ok(providers)
            }
        }
        from.deserialize_map(Sections)
    }
}

fn named(name: &str, given: Given) -> Result<Vendor, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !name.chars().all(fits) {
        let rule = "a provider's name has 1 to 32 of the characters a-z, 0-9, - and _";
        return Err(format!("`{name}`: {rule}"));
    }
    match given.kind.or_else(|| Kind::named(name)) {
        Some(kind) => Ok(given.or(Vendor::of(kind))),
        None => Err(format!(
            "providers.{name} needs a `kind`: {}",
            Kind::ALL.map(Kind::as_str).join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;

    fn read(text: &str) -> Result<Providers, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_section_changes_what_it_names_and_no_more() {
        let providers = read(
            "text = [\"local\", \"anthropic\"]\n[anthropic]\napi_key = \"k\"\nfirst_byte_timeout = \"7s\"\n\
             [local]\nkind = \"openai\"\nbase_url = \"http://h/v1\"\nmodel = \"m\"\nmodels = [\"n\", \"m\"]\n",
        )
        .unwrap();
        let names: Vec<_> = providers.wanted().map(|(name, _)| name).collect();
        assert_eq!(names, ["local", "anthropic"]);
        let anthropic = &providers.vendors["anthropic"];
        let defaults = Vendor::of(Kind::Anthropic);
        assert_eq!(anthropic.api_key.as_ref().unwrap().expose_secret(), "k");
        assert_eq!(anthropic.first_byte_timeout, Duration::from_secs(7));
        assert_eq!(anthropic.model, defaults.model);
        let local = &providers.vendors["local"];
        assert_eq!((local.kind, local.all_models()), (Kind::OpenAi, vec!["m".into(), "n".into()]));
        assert_eq!(local.temperature, Vendor::of(Kind::OpenAi).temperature);
        providers.check().unwrap();
        assert!(providers.vendors.contains_key("gemini"), "the kinds are always there");
        assert_eq!(providers.idle().count(), 0);
        let forgotten = read("[local]\nkind = \"ollama\"\n").unwrap();
        assert_eq!(forgotten.idle().collect::<Vec<_>>(), ["local"]);
        assert_eq!(providers.describe(), "local (m), anthropic (claude-haiku-4-5), storyteller");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("[local]\nbase_url = \"http://h\"\n", "providers.local needs a `kind`"),
            ("[\"Not a name\"]\nkind = \"openai\"\n", "a provider's name"),
            ("[openai]\nkind = \"parrot\"\n", "parrot"),
            ("[openai]\nmodle = \"m\"\n", "modle"),
            ("text = [\"nobody\"]\n", "unknown provider `nobody`"),
            ("text = [\"openai\", \"openai\"]\n", "twice"),
            ("[hedge]\nbudget = 2.0\n", "providers.hedge.budget"),
            ("[openai]\nretry_budget = -1.0\n", "openai.retry_budget"),
            ("[openai]\nmodel = \"\"\n", "openai.model"),
            ("[ollama]\nbetween_bytes_timeout = \"0s\"\n", "ollama.between_bytes_timeout"),
            ("[bedrock]\naccess_key_id = \"a\"\n", "bedrock.access_key_id"),
            ("[storyteller]\nwords_per_second = -1.0\n", "words_per_second"),
        ] {
            let error = match read(text) {
                Ok(providers) => providers.check().unwrap_err().to_string(),
                Err(error) => error,
            };
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
