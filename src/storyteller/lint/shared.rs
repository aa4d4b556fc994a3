//! Checks the files that the packs of a language share.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{self, Known, Sentences};
use super::{Report, Shared};
use crate::storyteller::content::walk::Walk;
use crate::storyteller::content::{Common, NameFile, Period, TopicFile};
use crate::storyteller::prompt::Operator;
use crate::storyteller::template::{CORE_ROLES, SHARED_WORDS, Template};

/// Lists of every pack whose words bring their article along.
const ARTICLED: [&str; 7] = ["place", "hall", "crowd", "record", "carrier", "sheet", "room"];

pub fn check(shared: Shared, language: &str, report: &mut Report<'_>, seen: &mut Sentences) {
    let known = Known {
        roles: CORE_ROLES.map(str::to_owned).into(),
        words: SHARED_WORDS.map(str::to_owned).into(),
        articled: ARTICLED.map(str::to_owned).into(),
    };
    let mut passages = |file: Option<&mut dyn Walk>, report: &mut Report<'_>| {
        if let Some(file) = file {
            file.walk(&mut |spot, template| {
                text::check(spot, template, Some(&known), language, report, seen);
            });
        }
    };
    let Shared { mut common, names, mut topics, mut periods, mut voices } = shared;
    passages(common.as_mut().map(|file| file as &mut dyn Walk), report);
    passages(topics.as_mut().map(|file| file as &mut dyn Walk), report);
    passages(periods.as_mut().map(|file| file as &mut dyn Walk), report);
    passages(voices.as_mut().map(|file| file as &mut dyn Walk), report);
    if let Some(common) = common {
        check_common(&common, report);
    }
    if let Some(names) = names {
        check_names(&names, report);
    }
    if let Some(topics) = topics {
        check_topics(&topics, report);
    }
    check_periods(periods.as_ref().map_or(&[], |file| &file.period), report);
    let mut ids = BTreeSet::new();
    for voice in voices.iter().flat_map(|voices| &voices.voice) {
        few(&voice.lines, 6, "voices", &voice.id, report);
        if !ids.insert(voice.id.clone()) {
            report.add("voices", &voice.id, "there are two of this name");
        }
    }
}

/// In order, without a gap.
fn check_periods(periods: &[Period], report: &mut Report<'_>) {
    for period in periods {
        if period.from > period.to {
            report.add("periods", &period.id, "ends before it begins");
        }
        few(&period.lines, 6, "periods", &period.id, report);
    }
    for pair in periods.windows(2) {
        let next = if pair[0].to == -1 { 1 } else { pair[0].to.saturating_add(1) };
        if pair[1].from != next {
            report.add("periods", &pair[1].id, format!("does not begin in {next}"));
        }
    }
}

fn few(lines: &[Template], wanted: usize, file: &str, item: &str, report: &mut Report<'_>) {
    if lines.len() < wanted {
        report.add(file, item, format!("{} lines, {wanted} wanted", lines.len()));
    }
}

fn check_common(common: &Common, report: &mut Report<'_>) {
    const FILE: &str = "common";
    for operator in Operator::ALL.map(Operator::key) {
        let of = |map: &BTreeMap<String, Vec<Template>>| map.get(operator).map_or(0, Vec::len);
        for (item, map) in [("hinge", &common.hinge), ("stakes", &common.stakes)] {
            if of(map) < 2 {
                report.add(FILE, item, format!("{operator}: 2 wanted"));
            }
        }
    }
    for key in common.hinge.keys().chain(common.stakes.keys()) {
        if !Operator::ALL.iter().any(|operator| operator.key() == key)
            && key != Operator::Quoted.key()
        {
            report.add(FILE, key, "is no operator");
        }
    }
    for role in CORE_ROLES {
        few(common.target.get(role).map_or(&[], Vec::as_slice), 2, FILE, role, report);
    }
    for key in common.target.keys() {
        if !CORE_ROLES.contains(&key.as_str())
            && !["other", "actor", "place"].contains(&key.as_str())
        {
            report.add(FILE, key, "nobody is called that in every pack");
        }
    }
    for key in ["other", "actor", "place"] {
        few(common.target.get(key).map_or(&[], Vec::as_slice), 2, FILE, key, report);
    }
    few(&common.turned, 4, FILE, "turned", report);
    few(&common.kept, 4, FILE, "kept", report);
    few(&common.quoted, 2, FILE, "quoted", report);
    few(&common.again, 4, FILE, "again", report);
    few(&common.broken, 2, FILE, "broken", report);
    few(&common.details, 10, FILE, "details", report);
    if common.intent.is_empty() {
        report.add(FILE, "intent", "none");
    }
    for intent in &common.intent {
        few(&intent.then, 2, FILE, &intent.id, report);
        few(&intent.label, 1, FILE, &intent.id, report);
        let like = intent.like.as_ref();
        if like.is_some_and(|like| !common.intent.iter().any(|other| other.id == *like)) {
            report.add(FILE, &intent.id, "is like an intent that is not there");
        }
        if intent.words.is_empty() {
            report.add(FILE, &intent.id, "no words ask for it");
        }
    }
}

/// A cast of twelve, half of them women, has to find different names.
fn check_names(names: &NameFile, report: &mut Report<'_>) {
    for pool in &names.pool {
        let item = pool.keywords.first().map_or("everywhere", String::as_str);
        for (what, list) in [("women", &pool.women), ("men", &pool.men)] {
            let different: BTreeSet<&String> = list.iter().collect();
            if different.len() < 6 || different.len() < list.len() {
                report.add("names", item, format!("{what}: 6 different names wanted"));
            }
        }
        if pool.families.is_empty() {
            report.add("names", item, "no families; [\"\"] for people without");
        }
    }
    if names.pool.last().is_none_or(|pool| !pool.keywords.is_empty()) {
        report.add("names", "", "the last pool has to serve everywhere, without keywords");
    }
}

/// Lines of a topic, and of a class.
const OF_TOPIC: usize = 5;
const OF_CLASS: usize = 6;

fn check_topics(topics: &TopicFile, report: &mut Report<'_>) {
    let of_topics =
        topics.topic.iter().map(|topic| (&topic.id, &topic.words, &topic.lines, OF_TOPIC));
    let of_classes =
        topics.class.iter().map(|class| (&class.id, &class.words, &class.lines, OF_CLASS));
    let mut ids = BTreeSet::new();
    for (id, words, lines, wanted) in of_topics.chain(of_classes) {
        if !ids.insert(id) {
            report.add("topics", id, "there are two of this name");
        }
        if (words.is_empty() && wanted == OF_TOPIC)
            || words.iter().any(|word| word.to_lowercase() != *word)
        {
            report.add("topics", id, "lower-case words that speak of it wanted");
        }
        few(lines, wanted, "topics", id, report);
    }
}
