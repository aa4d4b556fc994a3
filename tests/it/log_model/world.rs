//! The replicas, what they believe, and what is on its way between them and the store.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::properties;
use super::store::{Answer, Batch, Epoch, Event, Fence, Grant, Kind, Rules, Seq, Store};

/// How far the world is explored: it ends where these do.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub replicas: usize,
    pub claims: u8,
    /// Highest `seq` of any log.
    pub head: Seq,
    /// Tries of one append.
    pub tries: u8,
    /// Appends on their way at once.
    pub in_flight: usize,
    pub losses: u8,
    pub failovers: u8,
    /// Whether owners also replace a checkpoint without an event.
    pub notes: bool,
}

pub struct World {
    pub rules: Rules,
    pub bounds: Bounds,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub store: Store,
    /// What a copy of the store held some time ago.
    copy: Option<Box<Store>>,
    pub replicas: Vec<Replica>,
    /// Appends that are on their way, however long it takes; in order, so that equal states are one.
    pub flying: Vec<Request>,
    pub claims: Grant,
    losses: u8,
    failovers: u8,
    pub witness: Witness,
}

/// A replica that stands still, or is down, is one that does nothing for as long as that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Replica {
    /// Owns nothing, or has forgotten what it owned.
    Idle,
    /// Believes that it owns the log.
    Owner(Pen),
}

/// An owner's belief. It may be wrong for as long as nobody tells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pen {
    pub grant: Grant,
    pub fence: Fence,
    epoch: Epoch,
    head: Seq,
    open_turn: bool,
    version: u8,
    pending: Option<Pending>,
}

/// The append that an owner waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pending {
    batch: Batch,
    tries: u8,
    /// Of the newest try; an earlier one is not listened to any more.
    answer: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Request {
    from: usize,
    pub batch: Batch,
    try_number: u8,
}

/// What an observer of the whole world would have noticed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Witness {
    /// Every event that was ever readable: what is stored may be read at once, what an owner shows is.
    pub seen: BTreeSet<Event>,
    /// Events whose authors know that they are stored.
    pub acknowledged: BTreeSet<Event>,
    /// Who may write: the newest claim, until it is given up or its log is lost.
    right: Option<Grant>,
    pub shown_unstored: bool,
    pub trespassed: bool,
    pub checkpoint_went_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `heard: false`: the answer gets lost, or the request was late and its sender has stopped waiting.
    Claim {
        replica: usize,
        heard: bool,
    },
    Renew(usize),
    Release(usize),
    Send(usize, Kind),
    /// The request at this place arrives; its answer leaves.
    Deliver(usize),
    /// The answer arrives.
    Hear(usize),
    /// The owner has waited long enough: once more, or no longer.
    TimeOut(usize),
    Expire,
    /// And starts again, at once or later.
    Crash(usize),
    Lose,
    Copy,
    FailOver,
}

impl Action {
    /// Whether it is part of writing, and no disturbance.
    pub fn is_writing(self) -> bool {
        matches!(self, Self::Send(..) | Self::Deliver(_) | Self::Hear(_) | Self::TimeOut(_))
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let Bounds { replicas, losses, failovers, .. } = self.bounds;
        vec![State {
            store: Store::default(),
            copy: None,
            replicas: vec![Replica::Idle; replicas],
            flying: Vec::new(),
            claims: 0,
            losses,
            failovers,
            witness: Witness::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let more_claims = state.claims < self.bounds.claims;
        for (at, replica) in state.replicas.iter().enumerate() {
            if more_claims {
                actions.push(Action::Claim { replica: at, heard: false });
            }
            match replica {
                Replica::Idle if more_claims => {
                    actions.push(Action::Claim { replica: at, heard: true });
                }
                Replica::Idle => {}
                Replica::Owner(pen) => {
                    actions.extend([Action::Renew(at), Action::Release(at), Action::Crash(at)]);
                    match &pen.pending {
                        Some(pending) => {
                            actions.push(Action::TimeOut(at));
                            actions.extend(pending.answer.map(|_| Action::Hear(at)));
                        }
                        None => {
                            actions.extend(self.sendable(pen).map(|kind| Action::Send(at, kind)))
                        }
                    }
                }
            }
        }
        actions.extend((0..state.flying.len()).map(Action::Deliver));
        actions.push(Action::Expire);
        if state.losses > 0 {
            actions.push(Action::Lose);
        }
        if state.failovers > 0 {
            actions.extend([Action::Copy, Action::FailOver]);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let happens = match action {
            Action::Claim { replica, heard } => state.claim(self.rules, replica, heard),
            Action::Renew(at) => state.renew(at),
            Action::Release(at) => state.release(at),
            Action::Send(at, kind) => state.send(self, at, kind),
            Action::Deliver(index) => state.deliver(self.rules, index),
            Action::Hear(at) => state.hear(self.rules, at),
            Action::TimeOut(at) => state.time_out(self, at),
            Action::Expire => state.store.expire(),
            Action::Crash(at) => {
                state.replicas[at] = Replica::Idle;
                true
            }
            Action::Lose => {
                state.losses -= 1;
                state.witness.right = None;
                state.store.lose(self.rules);
                last.store.log.is_some()
            }
            Action::Copy => {
                state.copy = Some(Box::new(state.store.clone()));
                state.copy != last.copy
            }
            Action::FailOver => state.copy.take().is_some_and(|copy| {
                state.failovers -= 1;
                state.store.fail_over(self.rules, *copy);
                if state.store.log.is_none() {
                    state.witness.right = None;
                }
                true
            }),
        };
        happens.then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl World {
    fn sendable(&self, pen: &Pen) -> impl Iterator<Item = Kind> {
        let kinds: &[Kind] = match (pen.head < self.bounds.head, pen.open_turn) {
            (true, false) => &[Kind::Started],
            (true, true) => &[Kind::Text, Kind::Done, Kind::Note],
            (false, true) => &[Kind::Note],
            (false, false) => &[],
        };
        let notes = self.bounds.notes && pen.version < 3;
        kinds.iter().copied().filter(move |kind| notes || *kind != Kind::Note)
    }
}

impl State {
    /// Whether an append is on its way whose author is no owner any more.
    pub fn has_latecomer(&self) -> bool {
        self.flying.iter().any(|request| self.witness.right != Some(request.batch.event.author))
    }

    /// Whether an owner is told by the number alone that an earlier try of its append was taken.
    pub fn has_recognized(&self) -> bool {
        let mut pens = self.replicas.iter().filter_map(|replica| match replica {
            Replica::Owner(Pen { pending: Some(pending), .. }) => Some(pending),
            _ => None,
        });
        pens.any(|Pending { batch, tries, answer }| {
            *tries > 1 && *answer == Some(Answer::OutOfSequence { head: batch.leads_to() })
        })
    }

    fn pen(&mut self, at: usize) -> Option<&mut Pen> {
        match &mut self.replicas[at] {
            Replica::Owner(pen) => Some(pen),
            _ => None,
        }
    }

    /// Granting is one moment: until the answer is heard nobody can use the grant, and if it is heard late the fence
    /// tells.
    fn claim(&mut self, rules: Rules, replica: usize, heard: bool) -> bool {
        let Some(granted) = self.store.claim(rules, replica) else { return false };
        self.claims += 1;
        let grant = self.claims;
        self.witness.right = Some(grant);
        if heard {
            self.replicas[replica] = Replica::Owner(Pen {
                grant,
                fence: granted.fence,
                epoch: granted.epoch,
                head: granted.head,
                open_turn: granted.open_turn,
                version: 0,
                pending: None,
            });
        }
        true
    }

    fn renew(&mut self, at: usize) -> bool {
        let Some(fence) = self.pen(at).map(|pen| pen.fence) else { return false };
        if !self.store.renew(fence) {
            self.replicas[at] = Replica::Idle;
        }
        true
    }

    /// Also in the middle of an append: an owner that leaves does not wait for a log that does not answer.
    fn release(&mut self, at: usize) -> bool {
        let Some((fence, grant)) = self.pen(at).map(|pen| (pen.fence, pen.grant)) else {
            return false;
        };
        self.store.release(fence);
        self.witness.right.take_if(|right| *right == grant);
        self.replicas[at] = Replica::Idle;
        true
    }

    fn send(&mut self, world: &World, at: usize, kind: Kind) -> bool {
        let Some(pen) = self.pen(at) else { return false };
        pen.version += u8::from(kind.open().is_some());
        let event = Event { epoch: pen.epoch, seq: pen.head + 1, author: pen.grant, kind };
        let batch = Batch { fence: pen.fence, event, version: pen.version };
        pen.pending = Some(Pending { batch, tries: 1, answer: None });
        if !world.rules.log_first {
            self.show(batch);
        }
        self.fly(world, Request { batch, from: at, try_number: 1 })
    }

    fn fly(&mut self, world: &World, request: Request) -> bool {
        self.flying.push(request);
        self.flying.sort();
        self.flying.len() <= world.bounds.in_flight
    }

    fn deliver(&mut self, rules: Rules, index: usize) -> bool {
        let Request { batch, from, try_number } = self.flying.remove(index);
        let before = self.store.log.as_ref().and_then(|log| log.checkpoint);
        let answer = self.store.append(rules, batch);
        if answer == Answer::Stored {
            self.witness.trespassed |= self.witness.right != Some(batch.event.author);
            let noted = batch.checkpoint();
            self.witness.checkpoint_went_back |= noted.is_some() && noted < before;
            if let Some(log) = &self.store.log
                && batch.events() > 0
            {
                // As readers get to know it: by its place, not by what it says of itself.
                let event = Event { epoch: log.epoch, seq: log.head(), ..batch.event };
                self.witness.seen.insert(event);
            }
        }
        if let Replica::Owner(Pen { pending: Some(pending), .. }) = &mut self.replicas[from]
            && pending.batch == batch
            && pending.tries == try_number
        {
            pending.answer = Some(answer);
        }
        true
    }

    /// As `LogWriter` takes an answer.
    fn hear(&mut self, rules: Rules, at: usize) -> bool {
        let Some(pen) = self.pen(at) else { return false };
        let Some(Pending { batch, tries, answer: Some(answer) }) = pen.pending.take() else {
            return false;
        };
        let stored = match answer {
            Answer::Stored => true,
            Answer::OutOfSequence { head } => {
                tries > 1 && (head == batch.leads_to() || !rules.retry_compares_heads)
            }
            Answer::Fenced | Answer::Gone => false,
        };
        if !stored {
            self.replicas[at] = Replica::Idle;
            return true;
        }
        pen.head = batch.leads_to();
        pen.open_turn = batch.event.kind.open().unwrap_or(pen.open_turn);
        if batch.events() > 0 {
            self.witness.acknowledged.insert(batch.event);
        }
        self.show(batch);
        true
    }

    fn time_out(&mut self, world: &World, at: usize) -> bool {
        let Some(pen) = self.pen(at) else { return false };
        let Some(pending) = &mut pen.pending else { return false };
        if pending.tries == world.bounds.tries {
            // The pen is worthless, the lease is left to run out.
            self.replicas[at] = Replica::Idle;
            return true;
        }
        pending.tries += 1;
        pending.answer = None;
        let request = Request { batch: pending.batch, from: at, try_number: pending.tries };
        self.fly(world, request)
    }

    fn show(&mut self, batch: Batch) {
        if batch.events() > 0 {
            self.witness.shown_unstored |= !self.witness.seen.contains(&batch.event);
            self.witness.seen.insert(batch.event);
        }
    }
}
