//! What else a scene tells, the most important first, until it is as long as it should be.

use super::{Draft, Place, Writer};
use crate::storyteller::action::Action;
use crate::storyteller::plan::{Core, Plan, Told, wants_actor};
use crate::storyteller::subject;
use crate::storyteller::template::Template;

/// A pressure nearer to the middle than this goes without saying.
const REMARKABLE: u8 = 13;
/// Words by which a scene may be longer for the sake of what cannot wait.
const URGENT: usize = 34;

/// Most fillings of a scene, and most of them before its middle.
const MOST_FILLINGS: usize = 5;
const FILLINGS_BEFORE: usize = 3;

/// Turns after which a cause has to show, if there is one.
const CAUSE_WITHIN: u32 = 3;

/// What fills a scene, in an order that changes from turn to turn.
#[derive(Clone, Copy)]
enum Filling {
    Step,
    Pressure,
    Voice,
    OtherVoice,
    Subject,
    Period,
    Detail,
    Common,
}

const FILLINGS: [Filling; 8] = [
    Filling::Step,
    Filling::Voice,
    Filling::Subject,
    Filling::Pressure,
    Filling::Detail,
    Filling::Period,
    Filling::OtherVoice,
    Filling::Common,
];

impl<'a> Writer<'a> {
    pub(super) fn fill_up(&self, plan: &Plan<'a>, draft: &mut Draft<'_, 'a>) -> Told {
        let mut told = Told::default();
        let begins = matches!(self.action, Action::Begin);
        let ends = matches!(plan.core, Core::Ending { .. });
        let payoff = plan.payoff.map(|payoff| payoff.later);
        let world = draft.filler.world;
        if wants_actor(world) && !draft.names_actor() {
            self.name_actor(plan, draft, if ends { 4 * URGENT } else { URGENT });
        }
        if plan.payoff.is_some_and(|payoff| payoff.urgent) || ends {
            told.paid =
                draft.fit(Place::Payoff, payoff, if ends { 4 * URGENT } else { 2 * URGENT });
        }
        self.turn(plan, draft);
        // The first secret of a book may not be crowded out for ever.
        let over = match (world.story.secrets, world.story.arc) {
            (0, ..6) => URGENT,
            (0, _) => 2 * URGENT,
            _ => URGENT / 2,
        };
        told.bared = draft.fit(Place::Secret, plan.bared.map(|bared| bared.text), over);
        let chain = plan.chain.map(|chain| chain.text);
        if !told.bared && world.turn.saturating_sub(world.story.acted) >= CAUSE_WITHIN {
            told.caused = draft.fit(Place::Chain, chain, URGENT);
        }
        // What comes back is worth more than what is new, but not in every scene.
        let rested = world.turn.saturating_sub(world.story.paid) >= 2;
        if rested && !told.paid && !told.bared && !told.caused {
            told.paid = draft.fit(Place::Payoff, payoff, 0);
        }
        if !told.caused && !draft.is_full() {
            told.caused = draft.fit(Place::Chain, chain, 0);
        }
        if !begins && !draft.is_full() {
            self.stake(draft);
        }
        if !told.paid && !draft.is_full() {
            told.paid = draft.fit(Place::Payoff, payoff, 0);
        }
        if begins {
            self.fill(Filling::Period, plan, draft, &mut told);
        }
        if !draft.is_full() {
            let more = self.more(plan);
            let line = draft.untold(more, self.key.with("more"));
            draft.fit(Place::More, line, 0);
        }
        let start = self.key.with("filling").below(2) + world.turn as usize * 3;
        let before = draft.passages.len();
        for step in 0..FILLINGS.len() * 2 {
            let filled = draft.passages.len() - before;
            if draft.is_full() || filled == MOST_FILLINGS {
                break;
            }
            self.fill(FILLINGS[(start + step) % FILLINGS.len()], plan, draft, &mut told);
        }
        // One thing after another is soon a list: some of it follows the scene's middle.
        for passage in draft.passages.iter_mut().skip(before + FILLINGS_BEFORE) {
            passage.place = Place::Around;
        }
        if begins {
            for passage in &mut draft.passages {
                if !matches!(passage.place, Place::Answer | Place::Core | Place::More) {
                    passage.place = Place::Around;
                }
            }
        }
        told.named = draft.names_actor();
        told
    }

    fn more(&self, plan: &Plan<'a>) -> &'a [Template] {
        match plan.core {
            Core::Storylet { storylet, .. } => &storylet.more,
            Core::Ending { ending, .. } => &ending.more,
        }
    }

    /// The reader's words called for what happens now: the story says so.
    fn turn(&self, plan: &Plan<'a>, draft: &mut Draft<'_, 'a>) {
        if plan.turned {
            let line = draft.untold(&self.content.common.turned, self.key.with("turned"));
            draft.fit(Place::Turn, line, 0);
        }
    }

    /// The reader is told again what it is all about.
    fn name_actor(&self, plan: &Plan<'a>, draft: &mut Draft<'_, 'a>, over: usize) {
        let world = draft.filler.world;
        let common = &self.content.common;
        let stakes = common.stakes.get(self.prompt.operator.key()).map_or(&[][..], Vec::as_slice);
        let class = world.story.subject.as_ref().and_then(|subject| subject.class(self.content));
        let pools: [(Place, &'a [Template]); 5] = [
            (Place::More, self.more(plan)),
            (Place::Detail, class.map_or(&[], |class| &class.lines)),
            (Place::Detail, &self.pack.details[world.band as usize]),
            (Place::Detail, &common.details),
            (Place::Stake, stakes),
        ];
        let start = self.key.with("naming").below(2);
        for (place, lines) in pools.into_iter().cycle().skip(start).take(pools.len()) {
            let from = self.key.with("naming").below(lines.len());
            let naming = |line: &&Template| {
                line.names_actor && !draft.filler.world.told.has(line) && !draft.has(line)
            };
            let line = lines[from..].iter().chain(&lines[..from]).find(naming);
            if draft.fit(place, line, over) {
                return;
            }
        }
    }

    /// Once in a book, in its second act: what hangs on it.
    fn stake(&self, draft: &mut Draft<'_, 'a>) {
        let world = draft.filler.world;
        let Some(lines) = self.content.common.stakes.get(self.prompt.operator.key()) else {
            return;
        };
        if (4..=7).contains(&world.story.arc) && world.told.count(lines) < world.book as usize {
            let line = draft.untold(lines, self.key.with("stake"));
            draft.fit(Place::Stake, line, 0);
        }
    }

    fn fill(&self, filling: Filling, plan: &Plan<'a>, draft: &mut Draft<'_, 'a>, told: &mut Told) {
        let world = draft.filler.world;
        let line = |draft: &Draft<'_, 'a>, lines: &'a [Template], name: &str| {
            draft.untold(lines, self.key.with(name))
        };
        match filling {
            Filling::Step => {
                let step = plan.step.filter(|_| !told.stepped);
                let next = step.and_then(|step| step.goal.moves.get(step.step));
                told.stepped |= draft.fit(Place::Step, next, 0);
            }
            Filling::Pressure => {
                let line = self.pressure(draft);
                draft.fit(Place::Pressure, line, 0);
            }
            Filling::Voice | Filling::OtherVoice => {
                // Tone and genre take turns.
                let other = usize::from(matches!(filling, Filling::OtherVoice));
                let at = (world.turn as usize + other) % 2;
                if let Some(voice) = self.voices[at] {
                    let line = line(draft, &voice.lines, "voice");
                    draft.fit(Place::Colour, line, 0);
                }
            }
            Filling::Subject => {
                let line = self.about(draft);
                draft.fit(Place::Detail, line, 0);
            }
            Filling::Period => {
                let period = self.prompt.year.and_then(|year| subject::period(self.content, year));
                if let Some(period) = period {
                    let line = line(draft, &period.lines, "period");
                    draft.fit(Place::Detail, line, 0);
                }
            }
            Filling::Detail => {
                let line = line(draft, &self.pack.details[world.band as usize], "details");
                draft.fit(Place::Detail, line, 0);
            }
            Filling::Common => {
                let line = line(draft, &self.content.common.details, "about");
                draft.fit(Place::Detail, line, 0);
            }
        }
    }

    /// A line about what the prompt is about.
    fn about(&self, draft: &Draft<'_, 'a>) -> Option<&'a Template> {
        use crate::storyteller::prompt::Operator;
        let subject = draft.filler.world.story.subject.as_ref()?;
        let key = self.key.with("subject");
        if let Some(topic) = subject.topic(self.content) {
            let gone = (self.prompt.operator == Operator::Vanished)
                .then(|| draft.untold(&topic.gone, key))
                .flatten();
            return gone.or_else(|| draft.untold(&topic.lines, key));
        }
        draft.untold(&subject.class(self.content)?.lines, key)
    }

    /// A line on the pressure that is furthest from the middle and was not spoken of.
    fn pressure(&self, draft: &Draft<'_, 'a>) -> Option<&'a Template> {
        let world = draft.filler.world;
        let mut pressures: Vec<_> = self
            .pack
            .pressure
            .iter()
            .zip(&world.pressures)
            .filter(|(_, (_, level))| level.abs_diff(50) >= REMARKABLE)
            .collect();
        pressures.sort_by_key(|(_, (_, level))| std::cmp::Reverse(level.abs_diff(50)));
        pressures.into_iter().find_map(|(pressure, (_, level))| {
            let lines = if *level >= 50 { &pressure.high } else { &pressure.low };
            draft.untold(lines, self.key.with("pressure"))
        })
    }
}
