//! Turns a plan into prose: picks the passages that fit the length, puts them in order and fills their slots.

use super::Size;
use super::action::{Action, Manner};
use super::chance::Key;
use super::content::{Content, Pack, Scale, Voice};
use super::fill::{About, Filler, Names};
use super::plan::{Core, Plan};
use super::prompt::{Operator, Prompt};
use super::template::{CORE_ROLES, Template};
use super::world::World;

/// A pressure nearer to the middle than this goes without saying.
const REMARKABLE: u8 = 13;

/// Where a passage stands in the scene. Passages of one paragraph follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Answer,
    Reaction,
    Pressure,
    Colour,
    Step,
    Detail,
    Payoff,
    Core,
    More,
    /// What surrounds the first scene, once it is clear where it plays.
    Around,
}

impl Place {
    const fn paragraph(self) -> u8 {
        match self {
            Place::Answer | Place::Reaction | Place::Pressure | Place::Colour => 0,
            Place::Step | Place::Detail => 1,
            Place::Payoff => 2,
            Place::Core => 3,
            Place::More => 4,
            Place::Around => 5,
        }
    }
}

struct Passage<'a> {
    place: Place,
    template: &'a Template,
    /// Pool and index to remember it by.
    pool: Option<(String, usize)>,
}

/// What the writer chose to tell besides the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub paid: bool,
    pub stepped: bool,
}

pub struct Writer<'a> {
    pub content: &'a Content,
    pub pack: &'a Pack,
    pub prompt: &'a Prompt,
    pub seed: u64,
    /// Of this scene and this telling.
    pub key: Key,
    pub size: Size,
    /// Genre and tone, lower-case words.
    pub taste: &'a [String],
    pub action: &'a Action<'a>,
}

impl<'a> Writer<'a> {
    /// Writes the scene; the world remembers what was told.
    pub fn scene(&self, world: &mut World, plan: &Plan<'a>) -> (String, Told) {
        let mut passages = Vec::with_capacity(10);
        self.answer(world, &mut passages);
        self.core(plan, world, &mut passages);
        let told = self.fill_up(world, plan, &mut passages, self.size.words());
        (self.print(world, passages), told)
    }

    /// Goes on within a scene that another hand began: no answer to the reader, and shorter.
    pub fn continuation(&self, world: &mut World, plan: &Plan<'a>) -> (String, Told) {
        let mut passages = Vec::with_capacity(6);
        self.core(plan, world, &mut passages);
        let (low, high) = self.size.words();
        let told = self.fill_up(world, plan, &mut passages, (low / 2, high * 2 / 3));
        (self.print(world, passages), told)
    }

    /// The reader's action and its first consequence; the premise in the first scene.
    fn answer(&self, world: &World, passages: &mut Vec<Passage<'a>>) {
        let common = &self.content.common;
        match self.action {
            Action::Begin => {
                if self.prompt.operator == Operator::Quoted {
                    push(
                        passages,
                        Place::Answer,
                        pick(&common.quoted, self.key.with("quoted")),
                        None,
                    );
                } else if let Some(hinges) = common.hinge.get(self.prompt.operator.key()) {
                    push(passages, Place::Answer, pick(hinges, self.key.with("hinge")), None);
                }
            }
            Action::Silent => {}
            Action::Offered { offer, from, .. } => {
                let pool = format!("then.{from}");
                if let Some(index) = world.untold(&pool, offer.then.len(), self.key) {
                    push(passages, Place::Answer, Some(&offer.then[index]), Some((pool, index)));
                } else {
                    self.untold_of(world, passages, Place::Answer, "again", &common.again);
                }
            }
            Action::Said(words) => {
                let pool = format!("said.{}", words.intent.id);
                let index = world.untold(&pool, words.intent.then.len(), self.key);
                match index {
                    Some(index) => push(
                        passages,
                        Place::Answer,
                        Some(&words.intent.then[index]),
                        Some((pool, index)),
                    ),
                    // The reader's own words make the sentence new.
                    None => push(passages, Place::Answer, pick(&words.intent.then, self.key), None),
                }
                if let Some(lines) =
                    words.target.and_then(|role| common.target.get(CORE_ROLES[role.index()]))
                {
                    let pool = words.target.map_or("", |role| CORE_ROLES[role.index()]);
                    self.untold_of(world, passages, Place::Reaction, &format!("to.{pool}"), lines);
                } else {
                    match words.manner {
                        Manner::Plain => {}
                        Manner::Harsh => {
                            self.untold_of(world, passages, Place::Reaction, "harsh", &common.harsh)
                        }
                        Manner::Gentle => self.untold_of(
                            world,
                            passages,
                            Place::Reaction,
                            "gentle",
                            &common.gentle,
                        ),
                    }
                }
            }
        }
    }

    fn core(&self, plan: &Plan<'a>, world: &World, passages: &mut Vec<Passage<'a>>) {
        let (template, id, more) = match plan.core {
            Core::Storylet { storylet, text } => {
                (&storylet.text[text], &storylet.id, &storylet.more)
            }
            Core::Ending { ending, text } => (&ending.text[text], &ending.id, &ending.more),
        };
        push(passages, Place::Core, Some(template), None);
        // The shortest scenes have room for it only sometimes; `fill_up` sees.
        if self.size != Size::Short {
            self.untold_of(world, passages, Place::More, &format!("more.{id}"), more);
        }
    }

    /// Adds what else there is to tell, the most important first, until the scene is as long as it should be.
    fn fill_up(
        &self,
        world: &World,
        plan: &Plan<'a>,
        passages: &mut Vec<Passage<'a>>,
        (low, high): (usize, usize),
    ) -> Told {
        let filler = Filler { writer: self, world: Names::View(world), named: 0 };
        let mut words: usize = passages.iter().map(|passage| passage.template.words(&filler)).sum();
        let goal = low + self.key.with("goal").below((high - low) / 2 + 1);
        let mut told = Told { paid: false, stepped: false };
        let extras = {
            let mut extras = Vec::with_capacity(12);
            if self.size == Size::Short
                && let Core::Storylet { storylet, .. } = plan.core
            {
                self.untold_of(
                    world,
                    &mut extras,
                    Place::More,
                    &format!("more.{}", storylet.id),
                    &storylet.more,
                );
            }
            if let Some(payoff) = plan.payoff {
                push(
                    &mut extras,
                    Place::Payoff,
                    pick(&payoff.offer.later, self.key.with("later")),
                    None,
                );
            }
            if let Some(step) = plan.step {
                push(&mut extras, Place::Step, step.goal.moves.get(step.step), None);
            }
            self.pressure(world, &mut extras);
            let colour = self.colour();
            for _ in 0..3 {
                if let Some(voice) = colour {
                    let pool = format!("voice.{}", voice.id);
                    self.another(world, &mut extras, Place::Colour, &pool, &voice.lines);
                }
                self.another(
                    world,
                    &mut extras,
                    Place::Detail,
                    "details",
                    &self.pack.details[self.pack.era as usize],
                );
                self.another(
                    world,
                    &mut extras,
                    Place::Detail,
                    "about",
                    &self.content.common.details,
                );
            }
            extras
        };
        for mut extra in extras {
            if matches!(self.action, Action::Begin) && extra.place != Place::More {
                extra.place = Place::Around;
            }
            let more = extra.template.words(&filler);
            // What was promised is told if it fits at all.
            let urgent = matches!(extra.place, Place::Payoff | Place::More);
            if words + more > high || (words >= goal && !urgent) {
                continue;
            }
            told.paid |= extra.place == Place::Payoff;
            told.stepped |= extra.place == Place::Step;
            words += more;
            passages.push(extra);
        }
        told
    }

    /// A line on the pressure that is furthest from the middle.
    fn pressure(&self, world: &World, passages: &mut Vec<Passage<'a>>) {
        let mut pressures: Vec<_> = self.pack.pressure.iter().collect();
        pressures
            .sort_by_key(|pressure| std::cmp::Reverse(world.level(&pressure.key).abs_diff(50)));
        for pressure in pressures
            .into_iter()
            .filter(|pressure| world.level(&pressure.key).abs_diff(50) >= REMARKABLE)
        {
            let (scale, lines) = if world.level(&pressure.key) >= 50 {
                (Scale::High, &pressure.high)
            } else {
                (Scale::Low, &pressure.low)
            };
            let pool =
                format!("{}.{}", if scale == Scale::High { "high" } else { "low" }, pressure.key);
            if let Some(index) = world.untold(&pool, lines.len(), self.key) {
                push(passages, Place::Pressure, Some(&lines[index]), Some((pool, index)));
                return;
            }
        }
    }

    /// The colouring that genre and tone ask for; the tone has the first word.
    fn colour(&self) -> Option<&'a Voice> {
        let voices = &self.content.voices;
        self.taste.iter().find_map(|word| voices.iter().find(|voice| voice.keywords.contains(word)))
    }

    fn untold_of(
        &self,
        world: &World,
        passages: &mut Vec<Passage<'a>>,
        place: Place,
        pool: &str,
        lines: &'a [Template],
    ) {
        if let Some(index) = world.untold(pool, lines.len(), self.key) {
            push(passages, place, Some(&lines[index]), Some((pool.to_owned(), index)));
        }
    }

    /// As [`Self::untold_of`], but a passage that is not among `passages` yet.
    fn another(
        &self,
        world: &World,
        passages: &mut Vec<Passage<'a>>,
        place: Place,
        pool: &str,
        lines: &'a [Template],
    ) {
        let told = world.told(pool);
        let start = self.key.with(pool).below(lines.len());
        let fresh = |index: &usize| {
            told & (1 << (*index).min(51)) == 0
                && !passages
                    .iter()
                    .any(|p| p.pool.as_ref().is_some_and(|(p, i)| p == pool && i == index))
        };
        if let Some(index) = (0..lines.len()).map(|step| (start + step) % lines.len()).find(fresh) {
            push(passages, place, Some(&lines[index]), Some((pool.to_owned(), index)));
        }
    }

    fn print(&self, world: &mut World, mut passages: Vec<Passage<'a>>) -> String {
        passages.sort_by_key(|passage| passage.place);
        let mut out = String::with_capacity(1_600);
        let mut paragraph = None;
        let mut named = 0;
        for passage in &passages {
            if paragraph.is_some_and(|last| last != passage.place.paragraph()) {
                out.push_str("\n\n");
            } else if !out.is_empty() {
                out.push(' ');
            }
            paragraph = Some(passage.place.paragraph());
            let mut filler = Filler { writer: self, world: Names::Hold(world), named };
            passage.template.render(&mut filler, &mut out);
            named = filler.named;
        }
        for (pool, index) in passages.into_iter().filter_map(|passage| passage.pool) {
            world.tell(&pool, index);
        }
        out
    }

    /// A label or hint.
    pub fn line(&self, world: &World, template: &Template) -> String {
        let mut out = String::new();
        // Choices never introduce anybody.
        let mut filler = Filler { writer: self, world: Names::View(world), named: u16::MAX };
        template.render(&mut filler, &mut out);
        out
    }

    pub fn line_about(&self, world: &World, template: &Template, subject: &str) -> String {
        let mut out = String::new();
        let mut filler = About {
            inner: Filler { writer: self, world: Names::View(world), named: u16::MAX },
            subject,
        };
        template.render(&mut filler, &mut out);
        out
    }
}

fn push<'a>(
    passages: &mut Vec<Passage<'a>>,
    place: Place,
    template: Option<&'a Template>,
    pool: Option<(String, usize)>,
) {
    if let Some(template) = template {
        passages.push(Passage { place, template, pool });
    }
}

fn pick(lines: &[Template], key: Key) -> Option<&Template> {
    lines.get(key.below(lines.len()))
}
