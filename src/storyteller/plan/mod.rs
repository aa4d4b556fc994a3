//! What happens next, before a word of it is written: the reader's action takes effect, then the situation with the
//! most to say is picked against the tension the story should have by now, or the story ends; and it is settled who
//! acts, which cause shows, what comes out and which promise is kept.

mod ending;
mod events;
mod situation;

pub use self::events::{Bared, Chain, Payoff, Step};

use super::action::{Action, SAID};
use super::chance::Key;
use super::content::{Content, Ending, Intent, Offer, Pack, Storylet};
use super::prompt::Prompt;
use super::say::Manner;
use super::world::{Promise, World};

/// The middle of a scene.
#[derive(Debug, Clone, Copy)]
pub enum Core<'a> {
    Storylet { storylet: &'a Storylet, text: usize },
    Ending { ending: &'a Ending, text: usize },
}

#[derive(Debug)]
pub struct Plan<'a> {
    pub core: Core<'a>,
    pub payoff: Option<Payoff<'a>>,
    pub step: Option<Step<'a>>,
    pub chain: Option<Chain<'a>>,
    pub bared: Option<Bared<'a>>,
    /// The reader's own words called for this.
    pub turned: bool,
}

/// What of a plan there was room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    pub paid: bool,
    pub stepped: bool,
    pub caused: bool,
    pub bared: bool,
    pub named: bool,
}

/// What the story is played with.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    pub pack: &'a Pack,
    pub content: &'a Content,
    pub prompt: &'a Prompt,
    /// Of the action, whatever the telling.
    pub key: Key,
    pub seed: u64,
    pub variation: u32,
}

/// The action takes effect: one turn passes.
pub fn advance(world: &mut World, action: &Action<'_>, table: &Table<'_>) {
    world.turn = world.turn.saturating_add(1);
    world.story.arc = world.story.arc.saturating_add(1);
    // The first promise of a story is kept as soon as may be.
    let wait = if world.turn <= 2 { 2 } else { 2 + table.key.with("due").below(2) as u32 };
    let due = world.turn.saturating_add(wait);
    match action {
        Action::Begin | Action::Silent => {}
        Action::Offered { offer, from, sequel } => {
            if *sequel {
                new_book(world);
            }
            world.apply(&offer.effects);
            world.raise(&offer.set);
            if !offer.later.is_empty() {
                world.promise(Promise { from: from.clone(), due, said: None });
            }
        }
        Action::Said(words) => {
            if world.ended {
                new_book(world);
            }
            if let Some(effects) = table.pack.effects_of(words.intent) {
                world.apply(effects);
            }
            match words.manner {
                Manner::Plain => {}
                Manner::Harsh => world.apply(&table.pack.harsh),
                Manner::Gentle => world.apply(&table.pack.gentle),
            }
            if !table.content.common.kept.is_empty() {
                world.promise(Promise {
                    from: SAID.to_owned(),
                    due,
                    said: Some(words.said.clone()),
                });
            }
        }
    }
    if world.ended && !matches!(action, Action::Silent) {
        new_book(world);
    }
}

/// Life goes on after an ending: what was extreme settles halfway.
fn new_book(world: &mut World) {
    world.ended = false;
    world.ending = None;
    world.book = world.book.saturating_add(1);
    world.story.arc = 1;
    world.story.secrets = 0;
    for (_, level) in &mut world.pressures {
        *level = (*level + 50) / 2;
    }
}

pub fn act(world: &World) -> u8 {
    match world.story.arc {
        0..=3 => 1,
        4..=6 => 2,
        _ => 3,
    }
}

impl<'a> Plan<'a> {
    /// Decides the scene for a world that has [`advance`]d. The same decision for every telling, but that later
    /// retries, once all wordings of a situation were seen, get the next best situation.
    pub fn make(world: &World, action: &Action<'_>, table: &Table<'a>) -> Self {
        let quiet =
            |core| Self { core, payoff: None, step: None, chain: None, bared: None, turned: false };
        if matches!(action, Action::Begin) {
            let opening = &table.pack.opening;
            let text = wording(world, &opening.text, false, table.key, table.variation);
            return quiet(Core::Storylet { storylet: opening, text });
        }
        if let Some((ending, text)) = ending::ending(world, table) {
            let core = Core::Ending { ending, text };
            return Self { payoff: events::last_payoff(world, table), ..quiet(core) };
        }
        let (storylet, text, turned) = situation::situation(world, action, table);
        Self {
            core: Core::Storylet { storylet, text },
            payoff: events::payoff(world, table),
            step: events::step(world, table),
            chain: events::chain(world, table),
            bared: events::secret(world, table),
            turned,
        }
    }

    pub fn at(&self) -> &'a str {
        match self.core {
            Core::Storylet { storylet, .. } => &storylet.id,
            Core::Ending { ending, .. } => &ending.id,
        }
    }

    pub fn offers(&self, pack: &'a Pack) -> &'a [Offer] {
        match self.core {
            Core::Storylet { storylet, .. } => &storylet.choice,
            Core::Ending { .. } => &pack.sequel,
        }
    }
}

/// Whether the reader has not been told for too long what it is all about.
pub fn wants_actor(world: &World) -> bool {
    world.story.unnamed >= 2
}

/// Which wording comes for this telling: untold ones first, and among them those that name the actor if that is
/// wanted.
fn wording(
    world: &World,
    texts: &[super::template::Template],
    naming: bool,
    key: Key,
    telling: u32,
) -> usize {
    let start = key.with("wording").below(texts.len());
    let mut order: Vec<usize> = (0..texts.len()).map(|step| (start + step) % texts.len()).collect();
    order.sort_by_key(|index| {
        let text = &texts[*index];
        (world.told.has(text), naming && !text.names_actor)
    });
    order.get(telling as usize % texts.len().max(1)).copied().unwrap_or(0)
}

/// Wordings of the best first, then those of the next best, round and round.
fn nth_telling<'a, T>(ranked: &[(&'a T, usize)], variation: u32) -> Option<(&'a T, u32)> {
    let total: usize = ranked.iter().map(|(_, wordings)| wordings).sum();
    let mut telling = variation as usize % total.max(1);
    for (item, wordings) in ranked {
        if telling < *wordings {
            return Some((item, telling as u32));
        }
        telling -= wordings;
    }
    None
}

/// The steps, promises and effects of a plan that was told, in the world after it.
pub fn settle(world: &mut World, plan: &Plan<'_>, table: &Table<'_>, told: Told) {
    events::settle(world, plan, table, told);
    let core = match plan.core {
        Core::Storylet { storylet, text } => {
            world.apply(&storylet.effects);
            storylet.text.get(text)
        }
        Core::Ending { ending, text } => {
            world.ended = true;
            world.ending = Some(ending.kind.clone());
            ending.text.get(text)
        }
    };
    if let Some(core) = core {
        world.told.add(world.turn, core);
    }
    world.story.unnamed = if told.named { 0 } else { world.story.unnamed.saturating_add(1) };
    plan.at().clone_into(&mut world.story.at);
    world.act = act(world);
    world.feel(table.pack);
}

/// A turn whose scene somebody else wrote.
pub fn pass(world: &mut World, pack: &Pack) {
    world.story.at.clear();
    world.act = act(world);
    world.feel(pack);
}

/// Choices for a scene that somebody else wrote: intents that pull in different directions here.
pub fn open_intents<'a>(pack: &Pack, content: &'a Content, key: Key) -> Vec<&'a Intent> {
    let intents = &content.common.intent;
    let start = key.with("open").below(intents.len());
    let mut pulls: Vec<&str> = Vec::new();
    let mut chosen = Vec::new();
    for step in 0..intents.len() {
        let intent = &intents[(start + step) % intents.len()];
        let Some(pull) = pack.effects_of(intent).and_then(strongest) else { continue };
        if !pulls.contains(&pull) {
            pulls.push(pull);
            chosen.push(intent);
        }
        if chosen.len() == 3 {
            break;
        }
    }
    chosen
}

/// The pressure that an effect moves most.
pub fn strongest(effects: &super::content::Effects) -> Option<&str> {
    effects.iter().max_by_key(|(_, change)| change.abs()).map(|(key, _)| key.as_str())
}
