//! Which situation comes next: the one with the most to say to this world, this reader and this point of the arc.

use super::{Table, act, nth_telling, strongest, wants_actor, wording};
use crate::storyteller::action::{self, Action};
use crate::storyteller::content::{Form, Need, Storylet, hits};
use crate::storyteller::say::{Target, Words};
use crate::storyteller::template::{Role, Template};
use crate::storyteller::world::World;

/// What counts against a situation whose need is not met: enough that one is told only when all else was.
const UNMET: i32 = 120;

/// What chance may add: about as much as being of the right heat.
const CHANCE: usize = 44;
/// So much says that the reader's words chose a situation.
const CALLED: i32 = 30;

/// The situation, its wording, and whether the reader's words called for it.
pub fn situation<'a>(
    world: &World,
    action: &Action<'_>,
    table: &Table<'a>,
) -> (&'a Storylet, usize, bool) {
    let said = match action {
        Action::Said(words) => Some(&**words),
        _ => None,
    };
    let view = View {
        act: act(world),
        heat: (15 + world.story.arc.min(10) as i32 * 8).min(90),
        last: action::storylet(table.pack, &world.story.at).map(|storylet| storylet.form),
        naming: wants_actor(world),
        world,
        said,
        moved: match action {
            Action::Offered { offer, .. } => strongest(&offer.effects),
            _ => None,
        },
    };
    let mut ranked: Vec<(i32, &Storylet)> = table
        .pack
        .storylet
        .iter()
        .filter(|each| each.plays_in(world.band) && each.fits(table.prompt))
        .map(|each| (view.weight(each) + table.key.with(&each.id).below(CHANCE) as i32, each))
        .collect();
    ranked.sort_unstable_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
    let tellings: Vec<(&Storylet, usize)> =
        ranked.iter().map(|(_, storylet)| (*storylet, storylet.text.len())).collect();
    // A pack without storylets does not pass its lint.
    let (storylet, telling) =
        nth_telling(&tellings, table.variation).unwrap_or((&table.pack.opening, 0));
    let turned = said.is_some_and(|said| called_for(storylet, said) >= CALLED);
    (storylet, wording(world, &storylet.text, view.naming, table.key, telling), turned)
}

/// The world as situations are weighed against it.
struct View<'w> {
    world: &'w World,
    said: Option<&'w Words<'w>>,
    /// The pressure that the reader's choice moved.
    moved: Option<&'w str>,
    act: u8,
    /// How tense it should be by now.
    heat: i32,
    /// The form of the scene before.
    last: Option<Form>,
    /// The reader has to be told again what it is about.
    naming: bool,
}

impl View<'_> {
    fn weight(&self, storylet: &Storylet) -> i32 {
        let mut weight = 60 - (i32::from(storylet.heat) - self.heat).abs() / 2;
        for need in &storylet.needs {
            weight += match (self.world.meets(need), need) {
                (false, _) => -UNMET,
                // Decisions open doors, and an open door should be gone through.
                (true, Need::Flag(_)) => 34,
                (true, _) => 9,
            };
        }
        if self.act < storylet.acts[0] || self.act > storylet.acts[1] {
            weight -= 60;
        }
        if storylet.form != Form::Chronicle && self.last == Some(storylet.form) {
            weight -= 25;
        }
        if self.moved.is_some_and(|moved| speaks_of(storylet, moved)) {
            weight += 12;
        }
        if self.naming {
            weight += if storylet.text.iter().any(|text| text.names_actor) { 60 } else { 0 };
        }
        weight -= self.world.told.count(&storylet.text) as i32 * 400;
        if storylet.id == self.world.story.at {
            weight -= 1_000;
        }
        weight + self.said.map_or(0, |said| called_for(storylet, said))
    }
}

/// Whether it is about a pressure: it needs it or moves it.
fn speaks_of(storylet: &Storylet, pressure: &str) -> bool {
    storylet.effects.contains_key(pressure)
        || storylet.needs.iter().any(|need| match need {
            Need::Below(key, _) | Need::Above(key, _) => key == pressure,
            Need::Flag(_) | Need::NoFlag(_) => false,
        })
}

/// How loudly the reader's words call for it.
fn called_for(storylet: &Storylet, said: &Words<'_>) -> i32 {
    let about = hits(&storylet.about, &said.words).min(2) as i32 * 60;
    let texts = || storylet.text.iter();
    let mentioned =
        said.telling.iter().filter(|word| texts().any(|text| text.mentions(word))).count();
    let of = |role: Role| texts().chain(&storylet.more).any(|text: &Template| text.names(role));
    let target = match said.target {
        Some(Target::Role(role)) if of(role) => 40,
        Some(Target::Actor) if texts().any(|text| text.names_actor) => 30,
        _ => 0,
    };
    about + mentioned.min(3) as i32 * 12 + target
}
