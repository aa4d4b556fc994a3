//! Turns a plan into prose: what has to be said, then what else there is room for, put in order and filled in.

mod extras;

use super::Size;
use super::action::Action;
use super::chance::Key;
use super::content::{Content, Pack, Voice};
use super::fill::Filler;
use super::grammar::Grammar;
use super::plan::{Core, Plan, Told};
use super::prompt::{Operator, Prompt};
use super::say::{Manner, Target, Words};
use super::template::{CORE_ROLES, Template};
use super::world::World;

/// Where a passage stands in the scene. Passages of one paragraph follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Answer,
    Reaction,
    Chain,
    Pressure,
    Colour,
    Step,
    Detail,
    Payoff,
    Secret,
    Turn,
    Core,
    More,
    Stake,
    /// What surrounds the first scene, once it is clear where it plays.
    Around,
}

impl Place {
    const fn paragraph(self) -> u8 {
        match self {
            Place::Answer | Place::Reaction => 0,
            Place::Chain | Place::Pressure | Place::Colour | Place::Step | Place::Detail => 1,
            Place::Payoff => 2,
            Place::Secret => 3,
            Place::Turn | Place::Core => 4,
            Place::More | Place::Stake => 5,
            Place::Around => 6,
        }
    }
}

#[derive(Clone, Copy)]
struct Passage<'a> {
    place: Place,
    template: &'a Template,
}

pub struct Writer<'a> {
    pub content: &'a Content,
    pub pack: &'a Pack,
    pub prompt: &'a Prompt,
    pub grammar: &'static Grammar,
    pub seed: u64,
    /// Of this scene and this telling.
    pub key: Key,
    pub size: Size,
    /// The colouring that the tone asks for, and the genre.
    pub voices: [Option<&'a Voice>; 2],
    pub action: &'a Action<'a>,
    /// Words of the prompt's actor and of its premise.
    pub actor_words: usize,
    pub premise_words: usize,
}

/// A scene on its way to be printed.
struct Draft<'w, 'a> {
    passages: Vec<Passage<'a>>,
    words: usize,
    /// Enough words, and most words.
    goal: usize,
    high: usize,
    filler: Filler<'w, 'a>,
}

impl<'a> Draft<'_, 'a> {
    /// Adds a passage, whatever room there is.
    fn put(&mut self, place: Place, template: &'a Template) {
        self.words += template.words(&self.filler);
        self.passages.push(Passage { place, template });
    }

    /// Adds a passage if it makes the scene no longer than `over` words beyond its length.
    fn fit(&mut self, place: Place, template: Option<&'a Template>, over: usize) -> bool {
        let Some(template) = template else { return false };
        if self.words + template.words(&self.filler) > self.high + over {
            return false;
        }
        self.put(place, template);
        true
    }

    fn has(&self, template: &Template) -> bool {
        self.passages.iter().any(|passage| std::ptr::eq(passage.template, template))
    }

    fn is_full(&self) -> bool {
        self.words >= self.goal
    }

    fn names_actor(&self) -> bool {
        self.passages.iter().any(|passage| passage.template.names_actor)
    }

    /// One of `lines` that was neither told nor chosen, near where the key points.
    fn untold(&self, lines: &'a [Template], key: Key) -> Option<&'a Template> {
        let start = key.below(lines.len());
        let fresh = |line: &&Template| !self.filler.world.told.has(line) && !self.has(line);
        lines[start..].iter().find(fresh).or_else(|| lines[..start].iter().find(fresh))
    }
}

impl<'a> Writer<'a> {
    /// Writes the scene; the world remembers what was told.
    pub fn scene(&self, world: &mut World, plan: &Plan<'a>) -> (String, Told) {
        let mut draft = self.draft(world, self.size.words());
        self.answer(&mut draft);
        self.core(plan, &mut draft);
        let told = self.fill_up(plan, &mut draft);
        let passages = draft.passages;
        (self.print(world, plan, passages), told)
    }

    /// Goes on within a scene that another hand began: no answer to the reader, and shorter.
    pub fn continuation(&self, world: &mut World, plan: &Plan<'a>) -> (String, Told) {
        let (low, high) = self.size.words();
        let mut draft = self.draft(world, (low / 2, high * 2 / 3));
        self.core(plan, &mut draft);
        let told = self.fill_up(plan, &mut draft);
        let passages = draft.passages;
        (self.print(world, plan, passages), told)
    }

    fn draft<'w>(&'w self, world: &'w World, (low, high): (usize, usize)) -> Draft<'w, 'a> {
        Draft {
            passages: Vec::with_capacity(12),
            words: 0,
            goal: low + self.key.with("goal").below((high - low) / 2 + 1),
            high,
            filler: Filler::new(self, world),
        }
    }

    /// The reader's action and its first consequence; the premise in the first scene.
    fn answer(&self, draft: &mut Draft<'_, 'a>) {
        let common = &self.content.common;
        match self.action {
            Action::Begin => {
                let lines = if self.prompt.operator == Operator::Quoted {
                    Some(&common.quoted)
                } else {
                    common.hinge.get(self.prompt.operator.key())
                };
                if let Some(line) = lines.and_then(|lines| pick(lines, self.key.with("hinge"))) {
                    draft.put(Place::Answer, line);
                }
            }
            Action::Silent => {}
            Action::Offered { offer, .. } => {
                let then = draft
                    .untold(&offer.then, self.key.with("then"))
                    .or_else(|| draft.untold(&common.again, self.key.with("again")));
                if let Some(then) = then {
                    draft.put(Place::Answer, then);
                }
            }
            Action::Said(words) => self.reply(words, draft),
        }
    }

    /// What the reader said, and who reacts to it.
    fn reply(&self, words: &Words<'a>, draft: &mut Draft<'_, 'a>) {
        let common = &self.content.common;
        let then = &words.intent.then;
        // When all were told, the reader's own words make one of them new.
        let key = self.key.with("said");
        if let Some(then) = draft.untold(then, key).or_else(|| pick(then, key)) {
            draft.put(Place::Answer, then);
        }
        let of_target = words.target.and_then(|target| {
            common.target.get(match target {
                Target::Role(role) => CORE_ROLES.get(role.index()).copied().unwrap_or("other"),
                Target::Place => "place",
                Target::Actor => "actor",
            })
        });
        let of_manner = match words.manner {
            Manner::Plain => None,
            Manner::Harsh => Some(&common.harsh),
            Manner::Gentle => Some(&common.gentle),
        };
        for lines in of_target.into_iter().chain(of_manner) {
            let line = draft.untold(lines, self.key.with("reaction"));
            if let Some(line) = line {
                draft.put(Place::Reaction, line);
                break;
            }
        }
    }

    fn core(&self, plan: &Plan<'a>, draft: &mut Draft<'_, 'a>) {
        draft.put(
            Place::Core,
            match plan.core {
                Core::Storylet { storylet, text } => &storylet.text[text],
                Core::Ending { ending, text } => &ending.text[text],
            },
        );
    }

    fn print(&self, world: &mut World, plan: &Plan<'a>, mut passages: Vec<Passage<'a>>) -> String {
        passages.sort_by_key(|passage| passage.place);
        let mut out = String::with_capacity(1_800);
        let mut paragraph = None;
        let kept = plan.payoff.and_then(|payoff| world.story.promises.get(payoff.at));
        let kept = kept.and_then(|promise| promise.said.as_deref());
        let mut filler = Filler::new(self, world);
        for passage in &passages {
            if paragraph.is_some_and(|last| last != passage.place.paragraph()) {
                out.push_str("\n\n");
            } else if !out.is_empty() {
                out.push(' ');
            }
            paragraph = Some(passage.place.paragraph());
            filler.kept = kept.filter(|_| passage.place == Place::Payoff);
            passage.template.render(&mut filler, &mut out);
        }
        let met = filler.met;
        world.story.met = met;
        for passage in passages {
            world.told.add(world.turn, passage.template);
        }
        out
    }

    /// A label or hint; `subject` is a name out of somebody else's text.
    pub fn line(&self, world: &World, template: &Template, subject: Option<&str>) -> String {
        let mut out = String::with_capacity(80);
        let mut filler = Filler { subject, ..Filler::of_choices(self, world) };
        template.render(&mut filler, &mut out);
        out
    }
}

fn pick(lines: &[Template], key: Key) -> Option<&Template> {
    lines.get(key.below(lines.len()))
}
