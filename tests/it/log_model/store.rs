//! What a log store promises, for one scenario: the rules of `LogStore`, as a value that can be copied and compared.

/// A claim that was granted, numbered over the whole run. Stores know fences, which may be anything that rises; the
/// model knows who is who.
pub type Grant = u8;
pub type Epoch = u8;
pub type Seq = u8;
pub type Fence = u8;

/// Which rules are in force. [`Rules::REAL`] has them all; leaving one out shows what it is for.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// An append is refused unless its fence is the newest.
    pub fence: bool,
    /// An append is refused unless it continues the head.
    pub number: bool,
    /// Who is no owner hears that first, before its number is looked at.
    pub fence_before_number: bool,
    /// A refused append leaves the checkpoint alone too.
    pub whole_or_nothing: bool,
    /// Also the holder itself gets a new fence when it claims again.
    pub every_claim_raises: bool,
    /// A lease that was given up gives no right to append.
    pub release_ends: bool,
    /// A turn whose owner gave its lease up is an orphan like one whose owner is gone.
    pub released_is_orphan: bool,
    /// A store that lost everything does not give out an old fence again.
    pub fences_survive_loss: bool,
    /// A log that is begun anew has a new epoch.
    pub loss_changes_epoch: bool,
    /// What becomes of a log when the store fails over to a copy that lags.
    pub failover: FailOver,
    /// A repeated append that is out of sequence was stored before only if the head is where it led to.
    pub retry_compares_heads: bool,
    /// Events are shown when the store has accepted them.
    pub log_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailOver {
    /// The log counts as lost.
    BeginsAnew,
    /// It goes on as the copy has it: under the same epoch, with the lease of that time.
    AsItWas,
}

impl Rules {
    pub const REAL: Self = Self {
        fence: true,
        number: true,
        fence_before_number: true,
        whole_or_nothing: true,
        every_claim_raises: true,
        release_ends: true,
        released_is_orphan: true,
        fences_survive_loss: true,
        loss_changes_epoch: true,
        failover: FailOver::BeginsAnew,
        retry_compares_heads: true,
        log_first: true,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Opens a turn.
    Started,
    Text,
    /// Closes it.
    Done,
    /// No event: a new checkpoint alone.
    Note,
}

impl Kind {
    /// Whether a turn is open after it, if that is its to say. Who says it, replaces the checkpoint.
    pub fn open(self) -> Option<bool> {
        match self {
            Kind::Started | Kind::Note => Some(true),
            Kind::Text => None,
            Kind::Done => Some(false),
        }
    }
}

/// An event as its author encoded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    pub epoch: Epoch,
    pub seq: Seq,
    pub author: Grant,
    pub kind: Kind,
}

/// The `version`th checkpoint of that author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Checkpoint {
    pub author: Grant,
    pub version: u8,
}

/// What an append asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    pub fence: Fence,
    /// The one event, or with [`Kind::Note`] only the number that the next one would have.
    pub event: Event,
    pub version: u8,
}

impl Batch {
    pub fn checkpoint(self) -> Option<Checkpoint> {
        let Event { author, kind, .. } = self.event;
        kind.open().map(|_| Checkpoint { author, version: self.version })
    }

    pub fn events(self) -> Seq {
        u8::from(self.event.kind != Kind::Note)
    }

    /// The head that it leads to.
    pub fn leads_to(self) -> Seq {
        self.event.seq + self.events() - 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    Stored,
    Fenced,
    Gone,
    OutOfSequence { head: Seq },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    pub fence: Fence,
    pub holder: usize,
    pub live: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    pub epoch: Epoch,
    /// The head that it began with.
    pub begin: Seq,
    pub events: Vec<Event>,
    pub checkpoint: Option<Checkpoint>,
    pub open_turn: bool,
    pub lease: Option<Lease>,
    /// The fence of a lease that was given up.
    released: Option<Fence>,
}

impl Log {
    pub fn head(&self) -> Seq {
        self.begin + self.events.len() as Seq
    }

    /// The event that readers find under `seq`.
    pub fn at(&self, seq: Seq) -> Option<Event> {
        let index = usize::from(seq).checked_sub(usize::from(self.begin) + 1)?;
        self.events.get(index).copied()
    }
}

/// What a granted claim tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub fence: Fence,
    pub epoch: Epoch,
    pub head: Seq,
    pub open_turn: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Store {
    pub log: Option<Log>,
    last_fence: Fence,
    /// Logs that were begun.
    pub epochs: Epoch,
}

impl Store {
    /// `None`: someone else holds the lease.
    pub fn claim(&mut self, rules: Rules, holder: usize) -> Option<Granted> {
        let log = self.log.get_or_insert_with(|| {
            self.epochs += 1;
            Log {
                epoch: if rules.loss_changes_epoch { self.epochs } else { 1 },
                begin: u8::from(self.epochs > 1),
                events: Vec::new(),
                checkpoint: None,
                open_turn: false,
                lease: None,
                released: None,
            }
        });
        let fence = match &log.lease {
            Some(lease) if lease.live && lease.holder != holder => return None,
            Some(lease) if lease.holder == holder && !rules.every_claim_raises => lease.fence,
            _ => {
                self.last_fence += 1;
                self.last_fence
            }
        };
        log.lease = Some(Lease { fence, holder, live: true });
        log.released = None;
        Some(Granted { fence, epoch: log.epoch, head: log.head(), open_turn: log.open_turn })
    }

    /// Whether the lease is still that of the fence; it is then as good as new.
    pub fn renew(&mut self, fence: Fence) -> bool {
        match self.log.as_mut().and_then(|log| log.lease.as_mut()) {
            Some(lease) if lease.fence == fence => {
                lease.live = true;
                true
            }
            _ => false,
        }
    }

    pub fn release(&mut self, fence: Fence) {
        if let Some(log) = &mut self.log
            && log.lease.as_ref().is_some_and(|lease| lease.fence == fence)
        {
            log.lease = None;
            log.released = Some(fence);
        }
    }

    pub fn append(&mut self, rules: Rules, batch: Batch) -> Answer {
        let Some(log) = &mut self.log else { return Answer::Gone };
        let newest = match &log.lease {
            Some(lease) => Some(lease.fence),
            None if rules.release_ends => None,
            None => log.released,
        };
        let fenced = rules.fence && newest != Some(batch.fence);
        let head = log.head();
        let elsewhere = rules.number && batch.event.seq != head + 1;
        if fenced && (rules.fence_before_number || !elsewhere) {
            return Answer::Fenced;
        }
        if !elsewhere || !rules.whole_or_nothing {
            log.checkpoint = batch.checkpoint().or(log.checkpoint);
            log.open_turn = batch.event.kind.open().unwrap_or(log.open_turn);
        }
        if elsewhere {
            return Answer::OutOfSequence { head };
        }
        if batch.events() > 0 {
            log.events.push(batch.event);
        }
        Answer::Stored
    }

    /// Whether a claim by `holder` would be granted and its next append taken.
    pub fn would_take(mut self, rules: Rules, holder: usize, kind: Kind) -> bool {
        let Some(Granted { fence, epoch, head, .. }) = self.claim(rules, holder) else {
            return false;
        };
        let event = Event { epoch, seq: head + 1, author: Grant::MAX, kind };
        self.append(rules, Batch { fence, event, version: 1 }) == Answer::Stored
    }

    /// The lease's time is over.
    pub fn expire(&mut self) -> bool {
        match self.log.as_mut().and_then(|log| log.lease.as_mut()) {
            Some(lease) => std::mem::replace(&mut lease.live, false),
            None => false,
        }
    }

    /// Whether the log is listed among those with an open turn that nobody owns.
    pub fn is_orphan(&self, rules: Rules) -> bool {
        self.log.as_ref().is_some_and(|log| {
            log.open_turn
                && match &log.lease {
                    Some(lease) => !lease.live,
                    None => rules.released_is_orphan,
                }
        })
    }

    /// Comes back empty.
    pub fn lose(&mut self, rules: Rules) {
        self.log = None;
        if !rules.fences_survive_loss {
            self.last_fence = 0;
        }
    }

    /// Goes on as `copy`, which was taken earlier.
    pub fn fail_over(&mut self, rules: Rules, copy: Store) {
        match rules.failover {
            FailOver::BeginsAnew => self.lose(rules),
            FailOver::AsItWas => {
                let given = self.last_fence;
                *self = copy;
                if rules.fences_survive_loss {
                    self.last_fence = given;
                }
            }
        }
    }
}
