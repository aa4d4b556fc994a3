//! What every pack must have, checked over the content as it is compiled in.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{CONTENT, Effects, Need, Offer, Pack};
use super::plan::strongest;
use super::prompt::Operator;
use super::resume::sentences;
use super::template::{Piece, Role, Slot, Template};

/// Word lists that the common passages count on.
const SHARED: [&str; 5] = ["when", "place", "hall", "crowd", "record"];

fn source(template: &Template) -> String {
    template
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.to_string(),
            Piece::Slot { slot, .. } => format!("{{{slot:?}}}").replace('"', ""),
        })
        .collect()
}

fn offers(pack: &Pack) -> impl Iterator<Item = &Offer> {
    pack.storylet
        .iter()
        .chain([&pack.opening])
        .flat_map(|storylet| &storylet.choice)
        .chain(&pack.sequel)
}

fn prose(pack: &Pack) -> Vec<&Template> {
    let mut all: Vec<&Template> = pack.details.iter().collect();
    all.extend(pack.pressure.iter().flat_map(|pressure| pressure.low.iter().chain(&pressure.high)));
    all.extend(pack.role.iter().flat_map(|role| &role.goal).flat_map(|goal| &goal.moves));
    all.extend(
        pack.storylet
            .iter()
            .chain([&pack.opening])
            .flat_map(|storylet| storylet.text.iter().chain(&storylet.more)),
    );
    all.extend(pack.ending.iter().flat_map(|ending| ending.text.iter().chain(&ending.more)));
    all.extend(offers(pack).flat_map(|offer| offer.then.iter().chain(&offer.later)));
    all
}

fn common_prose() -> Vec<&'static Template> {
    let common = &CONTENT.common;
    let mut all: Vec<&Template> = common
        .quoted
        .iter()
        .chain(&common.again)
        .chain(&common.details)
        .chain(&common.harsh)
        .chain(&common.gentle)
        .chain(&common.broken)
        .collect();
    all.extend(common.hinge.values().chain(common.target.values()).flatten());
    all.extend(common.voice.iter().flat_map(|voice| &voice.lines));
    all.extend(common.intent.iter().flat_map(|intent| &intent.then));
    all
}

fn known(effects: &Effects, pack: &Pack, whose: &str) {
    assert!(!effects.is_empty(), "{}: {whose} changes nothing", pack.id);
    for (key, change) in effects {
        assert!(
            pack.pressure.iter().any(|pressure| pressure.key == *key),
            "{}: {whose} moves unknown {key}",
            pack.id
        );
        assert!((1..=25).contains(&change.abs()), "{}: {whose} moves {key} by {change}", pack.id);
    }
}

#[test]
fn every_pack_is_complete() {
    for pack in &CONTENT.packs {
        let id = &pack.id;
        assert!((3..=6).contains(&pack.pressure.len()), "{id}: pressures");
        assert!(
            pack.pressure
                .iter()
                .all(|pressure| pressure.low.len() >= 2 && pressure.high.len() >= 2),
            "{id}: pressure lines"
        );
        let roles: BTreeSet<Role> = pack.role.iter().map(|role| role.key).collect();
        assert_eq!(roles.len(), 4, "{id}: roles");
        assert!(
            pack.role.iter().all(|role| !role.titles.is_empty() && !role.goal.is_empty()),
            "{id}: titles and goals"
        );
        assert!(SHARED.iter().all(|word| pack.words.contains_key(*word)), "{id}: shared words");
        assert!(pack.words.values().all(|list| !list.is_empty()), "{id}: empty word list");
        let kinds: BTreeSet<&str> = pack.ending.iter().map(|ending| ending.kind.as_str()).collect();
        assert!(kinds.len() >= 3 && kinds.len() == pack.ending.len(), "{id}: endings");
        let forms: BTreeSet<String> =
            pack.storylet.iter().map(|storylet| format!("{:?}", storylet.form)).collect();
        assert!(forms.len() >= 3, "{id}: forms {forms:?}");
        assert!(pack.storylet.len() >= 9, "{id}: storylets");
        for storylet in pack.storylet.iter().chain([&pack.opening]) {
            assert!(storylet.text.len() >= 2, "{id}.{}: wordings", storylet.id);
            different_costs(&storylet.choice, pack, &storylet.id);
        }
        different_costs(&pack.sequel, pack, "sequel");
        for intent in &CONTENT.common.intent {
            let effects = pack
                .intents
                .get(&intent.id)
                .unwrap_or_else(|| panic!("{id}: no effects of {}", intent.id));
            known(effects, pack, &intent.id);
        }
        known(&pack.harsh, pack, "harsh");
        known(&pack.gentle, pack, "gentle");
        assert!(
            pack.storylet
                .iter()
                .flat_map(|s| &s.effects)
                .chain(pack.role.iter().flat_map(|r| &r.goal).flat_map(|g| &g.effects))
                .all(|(key, _)| pack.pressure.iter().any(|pressure| pressure.key == *key)),
            "{id}: unknown pressure"
        );
    }
    for operator in Operator::ALL {
        assert!(
            CONTENT.common.hinge.get(operator.key()).is_some_and(|lines| lines.len() >= 2),
            "{operator:?}"
        );
    }
    assert_eq!(CONTENT.common.target.len(), 4);
    assert!(
        CONTENT
            .names
            .iter()
            .all(|pool| pool.women.len() >= 4 && pool.men.len() >= 4 && !pool.families.is_empty())
    );
}

fn different_costs(offers: &[Offer], pack: &Pack, whose: &str) {
    assert!((2..=4).contains(&offers.len()), "{}.{whose}: choices", pack.id);
    let mut pulls = BTreeSet::new();
    for offer in offers {
        known(&offer.effects, pack, whose);
        let label = source(&offer.label);
        assert!(
            pulls.insert(strongest(&offer.effects)),
            "{}.{whose}: {label:?} pulls where another does",
            pack.id
        );
        for text in [&label, &source(&offer.hint)] {
            assert!(
                !text.contains(['|', '\n']) && !text.ends_with('.') && text.len() <= 110,
                "{}.{whose}: {text:?}",
                pack.id
            );
        }
        assert!(!offer.then.is_empty());
        // A sequel is answered at once and owes nothing.
        assert!(
            whose == "sequel" || !offer.later.is_empty(),
            "{}.{whose}: {label:?} has no late consequence",
            pack.id
        );
    }
}

#[test]
fn needs_and_flags_refer_to_what_exists() {
    for pack in &CONTENT.packs {
        let set: BTreeSet<&String> = offers(pack).flat_map(|offer| &offer.set).collect();
        let pressure = |key: &String| pack.pressure.iter().any(|pressure| pressure.key == *key);
        for need in pack.storylet.iter().flat_map(|storylet| &storylet.needs) {
            let ok = match need {
                Need::Below(key, _) | Need::Above(key, _) => pressure(key),
                Need::Flag(flag) | Need::NoFlag(flag) => set.contains(flag),
            };
            assert!(ok, "{}: {need:?}", pack.id);
        }
        for ending in &pack.ending {
            assert!(
                ending.flags.iter().all(|flag| set.contains(flag)),
                "{}: flags of {}",
                pack.id,
                ending.id
            );
            assert!(ending.leans.keys().all(pressure), "{}: leans of {}", pack.id, ending.id);
        }
    }
}

#[test]
fn every_slot_can_be_filled() {
    for pack in &CONTENT.packs {
        let lines = offers(pack).flat_map(|offer| [&offer.label, &offer.hint]);
        for template in prose(pack).into_iter().chain(lines) {
            for slot in template.slots() {
                match slot {
                    Slot::Word(word) => assert!(
                        pack.words.contains_key(&**word),
                        "{}: {word:?} in {}",
                        pack.id,
                        source(template)
                    ),
                    Slot::Said | Slot::Subject => {
                        panic!("{}: {slot:?} in {}", pack.id, source(template))
                    }
                    Slot::Actor | Slot::Premise | Slot::Words | Slot::Cast(..) => {}
                }
            }
        }
    }
    for template in common_prose() {
        for slot in template.slots() {
            assert!(
                !matches!(slot, Slot::Word(word) if !SHARED.contains(&&**word)),
                "{}",
                source(template)
            );
        }
    }
    assert!(CONTENT.common.broken.iter().all(|line| line.slots().count() == 0));
}

/// The actor may be one or many, so no verb that shows number may follow it; and articles before slots are `{a:…}`.
#[test]
fn sentences_agree_whatever_fills_them() {
    const NUMBERED: [&str; 8] = ["was", "were", "is", "are", "has", "have", "does", "do"];
    for template in CONTENT.packs.iter().flat_map(prose).chain(common_prose()) {
        for pair in template.pieces.windows(2) {
            match pair {
                [Piece::Slot { slot: Slot::Actor | Slot::Premise, .. }, Piece::Text(text)] => {
                    let next = text
                        .strip_prefix(' ')
                        .unwrap_or_default()
                        .split(|c: char| !c.is_alphabetic())
                        .next()
                        .unwrap_or_default();
                    assert!(!NUMBERED.contains(&next), "{}", source(template));
                }
                [Piece::Text(text), Piece::Slot { .. }] => {
                    assert!(
                        ![" a ", " an ", "A ", "An "].iter().any(|article| text.ends_with(article)),
                        "{}",
                        source(template)
                    );
                }
                _ => {}
            }
        }
    }
}

#[test]
fn no_sentence_stands_twice_in_the_content() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (index, template) in CONTENT.packs.iter().flat_map(prose).chain(common_prose()).enumerate()
    {
        let text = source(template);
        for sentence in sentences(&text).map(str::trim).filter(|sentence| sentence.len() > 24) {
            let again = seen.insert(sentence.to_owned(), index.to_string());
            assert!(again.is_none(), "twice: {sentence}");
        }
    }
}

#[test]
fn passages_are_sound_text() {
    for template in CONTENT.packs.iter().flat_map(prose).chain(common_prose()) {
        let text = source(template);
        assert!(
            !text.contains("<<<")
                && !text.contains('"')
                && !text.contains("  ")
                && !text.contains('\''),
            "{text}"
        );
        assert_eq!(text.matches('“').count(), text.matches('”').count(), "quotes: {text}");
        assert!(text.ends_with(['.', '!', '?', '”', '…']), "no end: {text}");
    }
}
