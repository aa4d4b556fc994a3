//! Whether a pack has enough of everything.

use std::collections::BTreeSet;

use super::super::Report;
use super::super::measure::Measure;
use super::super::text::source;
use super::{Book, story_files, storylets};
use crate::storyteller::content::{Band, Form, Need, Storylet};
use crate::storyteller::template::{CORE_ROLES, SHARED_WORDS, Slot, Template};

pub fn check(book: &Book<'_>, measure: &Measure, report: &mut Report<'_>) {
    pressures(book, measure, report);
    causes(book, measure, report);
    cast(book, measure, report);
    stories(book, measure, report);
    wordings(book, report);
    ages(book, measure, report);
    let pack = &book.files.pack;
    at_least(pack.details.len(), measure.details, "pack", "details", report);
    for (item, details) in [
        ("details_old", &pack.details_old),
        ("details_industrial", &pack.details_industrial),
        ("details_modern", &pack.details_modern),
    ] {
        if !details.is_empty() {
            at_least(details.len(), 3, "pack", item, report);
        }
    }
    at_least(pack.sequel.len(), measure.sequels, "pack", "sequel", report);
    at_least(
        pack.keywords.iter().collect::<BTreeSet<_>>().len(),
        pack.keywords.len(),
        "pack",
        "keywords without repetition",
        report,
    );
    let endings = &book.files.endings.ending;
    let kinds: BTreeSet<&str> = endings.iter().map(|ending| ending.kind.as_str()).collect();
    at_least(kinds.len(), measure.endings.max(endings.len()), "endings", "different kinds", report);
    for ending in endings {
        at_least(ending.text.len(), 2, "endings", &ending.id, report);
        at_least(ending.more.len(), 1, "endings", &format!("{}: more", ending.id), report);
        if !(2..=4).contains(&ending.leans.len()) {
            report.add("endings", &ending.id, "leans on 2 to 4 pressures");
        }
    }
}

fn at_least(found: usize, wanted: usize, file: &str, item: &str, report: &mut Report<'_>) {
    if found < wanted {
        report.add(file, item, format!("{found} of at least {wanted}"));
    }
}

fn pressures(book: &Book<'_>, measure: &Measure, report: &mut Report<'_>) {
    let found = book.files.pack.pressure.len();
    if found != measure.pressures {
        report.add("pack", "pressure", format!("{found}, {} wanted", measure.pressures));
    }
    for pressure in &book.files.pack.pressure {
        let key = &pressure.key;
        let fewest = pressure.low.len().min(pressure.high.len());
        at_least(fewest, measure.pressure_lines, "pack", key, report);
        if !key.bytes().all(|byte| byte.is_ascii_lowercase()) {
            report.add("pack", key, "is not one lower-case word");
        }
        if !(5..=95).contains(&pressure.start) {
            report.add("pack", key, "starts at an end of its scale");
        }
    }
}

fn causes(book: &Book<'_>, measure: &Measure, report: &mut Report<'_>) {
    let causes = &book.files.pack.cause;
    at_least(causes.len(), measure.causes, "pack", "cause", report);
    let links: Vec<(&str, Vec<&str>)> = causes
        .iter()
        .filter_map(|cause| match &cause.when {
            Need::Below(key, _) | Need::Above(key, _) => {
                Some((key.as_str(), cause.effects.keys().map(String::as_str).collect()))
            }
            Need::Flag(_) | Need::NoFlag(_) => None,
        })
        .collect();
    for cause in causes {
        at_least(cause.text.len(), 2, "pack", &format!("cause when {}", cause.when), report);
    }
    if causes.is_empty() {
        return;
    }
    for pressure in &book.pressures {
        if !links.iter().any(|(from, to)| from == pressure || to.contains(pressure)) {
            report.add("pack", pressure, "is in no cause");
        }
    }
    let chain = links.iter().any(|(first, to)| {
        links
            .iter()
            .filter(|(second, _)| to.contains(second))
            .any(|(second, to)| to.iter().any(|third| third != first && third != second))
    });
    if !chain {
        report.add("pack", "cause", "no chain of three");
    }
}

fn names(template: &Template, role: &str) -> bool {
    template.slots().any(|slot| {
        matches!(slot, Slot::Named(name)
            if name.strip_prefix(role).is_some_and(|case| case.is_empty() || case.starts_with('_')))
    })
}

fn passages(storylet: &Storylet) -> impl Iterator<Item = &Template> {
    storylet
        .text
        .iter()
        .chain(&storylet.more)
        .chain(storylet.choice.iter().flat_map(|offer| offer.then.iter().chain(&offer.later)))
}

fn cast(book: &Book<'_>, measure: &Measure, report: &mut Report<'_>) {
    let roles = &book.files.cast.role;
    at_least(roles.len(), measure.roles, "cast", "role", report);
    for part in roles {
        let key = &part.key;
        let core = CORE_ROLES.contains(&key.as_str());
        let (moves, goals) = if core { (measure.moves.0, 2) } else { (measure.moves.1, 1) };
        at_least(part.titles.len(), 2, "cast", &format!("{key}: titles"), report);
        at_least(part.goal.len(), goals, "cast", &format!("{key}: goal"), report);
        for goal in &part.goal {
            at_least(goal.moves.len(), moves, "cast", &format!("{key}: moves"), report);
        }
        match &part.secret {
            None => report.add("cast", key, "has no secret"),
            Some(secret) => {
                at_least(secret.reveal.len(), 2, "cast", &format!("{key}: reveal"), report);
            }
        }
        if !core {
            let seen = storylets(book.files)
                .filter(|(_, storylet)| passages(storylet).any(|passage| names(passage, key)))
                .count();
            at_least(seen, measure.appearances, "cast", &format!("{key}: storylets"), report);
        }
    }
}

fn stories(book: &Book<'_>, measure: &Measure, report: &mut Report<'_>) {
    let mut all = 0;
    for ((file, stories), wanted) in story_files(book.files).into_iter().zip(measure.storylets) {
        at_least(stories.storylet.len(), wanted, file, "storylet", report);
        all += stories.storylet.len();
    }
    at_least(all, measure.storylets_in_all, "pack", "storylets in all", report);
    let forms: BTreeSet<Form> = storylets(book.files)
        .map(|(_, storylet)| storylet.form)
        .filter(|form| *form != Form::Chronicle)
        .collect();
    at_least(forms.len(), measure.forms, "papers", "different forms", report);
    let opened = storylets(book.files)
        .filter(|(_, storylet)| storylet.needs.iter().any(|need| matches!(need, Need::Flag(_))))
        .count();
    at_least(opened, measure.opened, "pack", "storylets that a flag opens", report);
    let actor = |template: &Template| {
        template.slots().any(|slot| matches!(slot, Slot::Actor | Slot::Premise))
    };
    let named =
        storylets(book.files).filter(|(_, storylet)| storylet.text.iter().any(actor)).count();
    at_least(named, all.div_ceil(3), "pack", "storylets that name {actor} or {premise}", report);
    for text in book.files.pack.opening.text.iter().filter(|text| !actor(text)) {
        report.add("pack", "opening", format!("does not name {{actor}}: “{}”", source(text)));
    }
}

fn wordings(book: &Book<'_>, report: &mut Report<'_>) {
    for (file, storylet) in storylets(book.files) {
        at_least(storylet.text.len(), 2, file, &format!("{}: text", storylet.id), report);
        at_least(storylet.more.len(), 1, file, &format!("{}: more", storylet.id), report);
        if file == "papers" && storylet.form == Form::Chronicle {
            report.add(file, &storylet.id, "a chronicle belongs in early, middle or late");
        }
        let act = match file {
            "early" => 1,
            "middle" => 2,
            "late" => 3,
            _ => continue,
        };
        if !(storylet.acts[0]..=storylet.acts[1]).contains(&act) {
            report.add(file, &storylet.id, format!("is not of act {act}"));
        }
        if storylet.form != Form::Chronicle {
            report.add(file, &storylet.id, "belongs in papers");
        }
    }
}

fn ages(book: &Book<'_>, measure: &Measure, report: &mut Report<'_>) {
    let pack = &book.files.pack;
    for (band, lists) in
        Band::ALL.into_iter().zip([&pack.words_old, &pack.words_industrial, &pack.words_modern])
    {
        for word in SHARED_WORDS {
            if lists.get(word).or_else(|| pack.words.get(word)).is_none_or(Vec::is_empty) {
                report.add("pack", "words", format!("no {word} for {band:?}").to_lowercase());
            }
        }
        let possible = storylets(book.files).filter(|(_, each)| each.plays_in(band)).count();
        let alone = storylets(book.files).filter(|(_, each)| each.eras == [band]).count();
        let item = format!("{band:?}").to_lowercase();
        at_least(
            possible,
            measure.of_age,
            "pack",
            &format!("storylets possible in {item}"),
            report,
        );
        at_least(
            alone,
            measure.of_age_alone,
            "pack",
            &format!("storylets of {item} alone"),
            report,
        );
    }
    let lists = [&pack.words, &pack.words_old, &pack.words_industrial, &pack.words_modern];
    for (word, _) in lists.iter().flat_map(|lists| lists.iter()).filter(|(_, list)| list.is_empty())
    {
        report.add("pack", "words", format!("{word} is empty"));
    }
}
