//! What happens next, before a word of it is written: the reader's action takes effect, then the situation with the
//! most to say is picked against the tension the story should have by now, or the story ends.

use super::action::{Action, Manner, promised};
use super::chance::Key;
use super::content::{Content, Ending, Form, Goal, Offer, Pack, Storylet, hits};
use super::template::Role;
use super::world::World;

/// No book ends before this turn of it.
const SHORTEST: u32 = 8;

/// The middle of a scene.
#[derive(Debug, Clone, Copy)]
pub enum Core<'a> {
    Storylet { storylet: &'a Storylet, text: usize },
    Ending { ending: &'a Ending, text: usize },
}

/// A late consequence that is due.
#[derive(Debug, Clone, Copy)]
pub struct Payoff<'a> {
    pub offer: &'a Offer,
    /// Position among the promises.
    pub at: usize,
}

/// A step of a cast member.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub role: Role,
    pub goal: &'a Goal,
    pub step: usize,
}

#[derive(Debug)]
pub struct Plan<'a> {
    pub core: Core<'a>,
    pub payoff: Option<Payoff<'a>>,
    pub step: Option<Step<'a>>,
}

/// The action takes effect: one turn passes.
pub fn advance(world: &mut World, action: &Action<'_>, pack: &Pack, key: Key) {
    world.turn = world.turn.saturating_add(1);
    world.story.arc = world.story.arc.saturating_add(1);
    match action {
        Action::Begin | Action::Silent => {}
        Action::Offered { offer, from, sequel } => {
            if *sequel {
                new_book(world);
            }
            world.apply(&offer.effects);
            world.raise(&offer.set);
            if !offer.later.is_empty() {
                let due = world.turn + 2 + key.with("due").below(2) as u32;
                world.promise(from.clone(), due);
            }
        }
        Action::Said(words) => {
            if world.ended {
                new_book(world);
            }
            if let Some(effects) = pack.intents.get(&words.intent.id) {
                world.apply(effects);
            }
            match words.manner {
                Manner::Plain => {}
                Manner::Harsh => world.apply(&pack.harsh),
                Manner::Gentle => world.apply(&pack.gentle),
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
    for level in world.pressures.values_mut() {
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
    pub fn make(
        world: &World,
        action: &Action<'_>,
        pack: &'a Pack,
        key: Key,
        variation: u32,
    ) -> Self {
        let payoff = payoff(world, pack);
        if matches!(action, Action::Begin) {
            let text = wording(world, &pack.opening.id, pack.opening.text.len(), key, variation);
            return Self {
                core: Core::Storylet { storylet: &pack.opening, text },
                payoff,
                step: None,
            };
        }
        if let Some((ending, text)) = ending(world, pack, key, variation) {
            let payoff = payoff.or_else(|| last_payoff(world, pack));
            return Self { core: Core::Ending { ending, text }, payoff, step: None };
        }
        let (storylet, text) = situation(world, action, pack, key, variation);
        Self { core: Core::Storylet { storylet, text }, payoff, step: step(world, pack, key) }
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

/// Which wording comes for this telling: untold ones first.
fn wording(world: &World, pool: &str, len: usize, key: Key, telling: u32) -> usize {
    let told = world.told(pool);
    let start = key.with("wording").below(len);
    let rotated = (0..len).map(|step| (start + step) % len);
    let (mut order, old): (Vec<usize>, Vec<usize>) =
        rotated.partition(|index| told & (1 << (*index).min(51)) == 0);
    order.extend(old);
    order.get(telling as usize % len.max(1)).copied().unwrap_or(0)
}

fn payoff<'a>(world: &World, pack: &'a Pack) -> Option<Payoff<'a>> {
    world
        .story
        .promises
        .iter()
        .enumerate()
        .filter(|(_, promise)| promise.due <= world.turn)
        .find_map(|(at, promise)| {
            let offer = promised(pack, &promise.from).filter(|offer| !offer.later.is_empty())?;
            Some(Payoff { offer, at })
        })
}

/// Before the story closes, whatever was promised first and never told.
fn last_payoff<'a>(world: &World, pack: &'a Pack) -> Option<Payoff<'a>> {
    world.story.promises.iter().enumerate().find_map(|(at, promise)| {
        let offer = promised(pack, &promise.from).filter(|offer| !offer.later.is_empty())?;
        (!promise.from.starts_with(&format!("{}.", world.story.at))).then_some(Payoff { offer, at })
    })
}

/// The ending the world leans to, once the book is long enough, or sooner when a pressure is at the end of its scale.
fn ending<'a>(
    world: &World,
    pack: &'a Pack,
    key: Key,
    variation: u32,
) -> Option<(&'a Ending, usize)> {
    let arc = world.story.arc;
    let swing = Key::new(key_of_story(world)).with(&pack.id).at(u64::from(world.book)).below(3);
    let last = SHORTEST + 1 + swing as u32;
    let extreme = world.pressures.values().any(|level| *level <= 4 || *level >= 96);
    if arc < SHORTEST || (arc < last && !extreme) {
        return None;
    }
    let mut ranked: Vec<(f32, &Ending)> = pack
        .ending
        .iter()
        .map(|ending| {
            let lean: f32 = ending
                .leans
                .iter()
                .map(|(pressure, weight)| weight * (f32::from(world.level(pressure)) - 50.0))
                .sum();
            let flags =
                ending.flags.iter().filter(|flag| world.flags.contains(flag)).count() as f32 * 14.0;
            let seen = world.told(&ending.id).count_ones() as f32 * 40.0;
            let chance = key.with(&ending.id).below(10) as f32;
            (lean + flags + chance - seen, ending)
        })
        .collect();
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.id.cmp(&y.id)));
    let told: Vec<(&Ending, usize)> =
        ranked.iter().map(|(_, ending)| (*ending, ending.text.len())).collect();
    nth_telling(&told, variation).map(|(ending, telling)| {
        (ending, wording(world, &ending.id, ending.text.len(), key, telling))
    })
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

/// The same number all through a story, from what does not change in it.
fn key_of_story(world: &World) -> u64 {
    world.cast.values().map(|member| member.name.len() as u64 * 7 + member.title.len() as u64).sum()
}

fn situation<'a>(
    world: &World,
    action: &Action<'_>,
    pack: &'a Pack,
    key: Key,
    variation: u32,
) -> (&'a Storylet, usize) {
    let act = act(world);
    let wanted = (15 + i16::from(world.story.arc.min(10) as u8) * 8).min(90);
    let mut ranked: Vec<(i32, &Storylet)> = pack
        .storylet
        .iter()
        .map(|storylet| {
            let mut score = 60 - i32::from((storylet.heat - wanted).abs()) / 2;
            score += storylet
                .needs
                .iter()
                .map(|need| if world.meets(need) { 9 } else { -120 })
                .sum::<i32>();
            if act < storylet.acts[0] || act > storylet.acts[1] {
                score -= 60;
            }
            score += hits(&storylet.about, action.words()).min(2) as i32 * 25;
            score -= world.told(&storylet.id).count_ones() as i32 * 400;
            if storylet.form != Form::Chronicle
                && super::action::storylet(pack, &world.story.at)
                    .is_some_and(|last| last.form == storylet.form)
            {
                score -= 20;
            }
            if storylet.id == world.story.at {
                score -= 1_000;
            }
            (score + key.with(&storylet.id).below(14) as i32, storylet)
        })
        .collect();
    ranked.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
    let told: Vec<(&Storylet, usize)> =
        ranked.iter().map(|(_, storylet)| (*storylet, storylet.text.len())).collect();
    // A pack without storylets does not pass its lint.
    let (storylet, telling) = nth_telling(&told, variation).unwrap_or((&pack.opening, 0));
    (storylet, wording(world, &storylet.id, storylet.text.len(), key, telling))
}

/// Somebody acts on every turn but the first two; whose goal is least advanced goes first.
fn step<'a>(world: &World, pack: &'a Pack, key: Key) -> Option<Step<'a>> {
    if world.story.arc < 2 {
        return None;
    }
    pack.role
        .iter()
        .enumerate()
        .filter_map(|(at, part)| {
            let member = world.cast.get(&part.key)?;
            let goal = part.goal.get(member.aim).or_else(|| part.goal.first())?;
            (member.steps < goal.moves.len()).then_some(Step {
                role: Role(at as u8),
                goal,
                step: member.steps,
            })
        })
        .min_by_key(|step| (step.step, key.with("step").at(step.role.index() as u64).below(100)))
}

/// The steps, promises and effects of a plan that was told, in the world after it.
pub fn settle(world: &mut World, plan: &Plan<'_>, pack: &Pack, paid: bool, stepped: bool) {
    if let (Some(payoff), true) = (plan.payoff, paid) {
        world.story.promises.remove(payoff.at);
    }
    if let (Some(step), true) = (plan.step, stepped) {
        world.apply(&step.goal.effects);
        if let Some(member) =
            pack.role.get(step.role.index()).and_then(|part| world.cast.get_mut(&part.key))
        {
            member.steps = step.step + 1;
        }
    }
    match plan.core {
        Core::Storylet { storylet, text } => {
            world.apply(&storylet.effects);
            world.tell(&storylet.id, text);
        }
        Core::Ending { ending, text } => {
            world.ended = true;
            world.ending = Some(ending.kind.clone());
            world.tell(&ending.id, text);
        }
    }
    world.story.at = plan.at().to_owned();
    world.act = act(world);
    world.feel(pack);
}

/// A turn whose scene somebody else wrote.
pub fn pass(world: &mut World, pack: &Pack) {
    world.story.at.clear();
    world.act = act(world);
    world.feel(pack);
}

/// Choices for a scene that somebody else wrote: intents that pull in different directions here.
pub fn open_intents<'a>(
    pack: &Pack,
    content: &'a Content,
    key: Key,
) -> Vec<&'a super::content::Intent> {
    let intents = &content.common.intent;
    let start = key.with("open").below(intents.len());
    let mut pulls: Vec<&str> = Vec::new();
    let mut chosen = Vec::new();
    for step in 0..intents.len() {
        let intent = &intents[(start + step) % intents.len()];
        let Some(pull) = pack.intents.get(&intent.id).and_then(strongest) else { continue };
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
