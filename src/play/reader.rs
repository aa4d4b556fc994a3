//! The client's side of the log: frames in, things to show out.
//!
//! A pure state machine, driven by `session`. It holds the apply rule (a frame is applied iff its first `seq`
//! follows the last one applied) and therefore the promise that whatever happens to the connection, no letter is
//! shown twice and none is left out. It never touches a socket, a clock or a terminal.

use std::collections::HashSet;

use super::wire::{Attached, Choice, Event, LogFrame, OpenTurn, Scene, Snapshot, Via};
use crate::domain::scenario::utf16_len;

/// Something for the screen, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A new scene begins.
    Started {
        via: Via,
    },
    /// The next letters of the scene.
    Text(String),
    TextDone,
    /// The `number`th way on, from 1.
    Choice {
        number: usize,
        choice: Choice,
    },
    Failover {
        from: String,
        to: String,
    },
    Done {
        finish: String,
        choices: usize,
    },
    Failed {
        message: String,
    },
    /// What was shown of the scene is taken back; it fails.
    Retracted,
    /// What was shown of the scene is not what the server kept; its text follows from the start.
    Rewritten,
    /// What was shown of the scene was not kept by the server.
    Lost,
    /// The reader is now at a scene that was finished before; its text and choices follow.
    Back {
        scene: String,
    },
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Applied,
    /// Seen before.
    Dropped,
    /// Something is missing before it: attach again from [`Reader::position`].
    Hole,
}

#[derive(Debug)]
struct Open {
    turn: String,
    scene: Scene,
    text_done: bool,
}

/// The state of one scenario as far as its log was read.
#[derive(Debug)]
pub struct Reader {
    epoch: Option<String>,
    last: u64,
    scenes: Vec<Scene>,
    current: Option<String>,
    open: Option<Open>,
    turns: HashSet<String>,
    catch_up: CatchUp,
}

/// Whether the past is being read silently, to be shown at its end as one scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CatchUp {
    Over,
    /// Until the log's head is known.
    Asking,
    Until(u64),
}

impl Reader {
    /// For a scenario that is new in `epoch`: everything is shown.
    pub fn from_start(epoch: Option<String>) -> Self {
        Self {
            epoch,
            last: 0,
            scenes: Vec::new(),
            current: None,
            open: None,
            turns: HashSet::new(),
            catch_up: CatchUp::Over,
        }
    }

    /// For a scenario with a past: reads it silently, then shows where the story stands.
    pub fn catching_up() -> Self {
        Self { catch_up: CatchUp::Asking, ..Self::from_start(None) }
    }

    /// What `attach` has to say: the epoch, if known, and the last `seq` applied.
    pub fn position(&self) -> (Option<&str>, u64) {
        (self.epoch.as_deref(), self.last)
    }

    pub fn is_catching_up(&self) -> bool {
        self.catch_up != CatchUp::Over
    }

    /// The id of the turn that is running.
    pub fn open_turn(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.turn.as_str())
    }

    pub fn has_seen(&self, turn: &str) -> bool {
        self.turns.contains(turn)
    }

    /// The first turn failed and left nothing to go on from.
    pub fn is_stillborn(&self) -> bool {
        let over = self.open.is_none() && !self.turns.is_empty() && !self.is_catching_up();
        over && self.scenes.is_empty()
    }

    /// The scene the reader is at, once it is finished.
    pub fn current(&self) -> Option<&Scene> {
        self.scene(self.current.as_deref()?)
    }

    fn scene(&self, id: &str) -> Option<&Scene> {
        self.scenes.iter().find(|scene| scene.id == id)
    }

    /// Takes the answer to `attach`.
    pub fn attached(&mut self, answer: &Attached, out: &mut Vec<Output>) {
        if self.epoch.is_none() && answer.recovered {
            self.epoch = Some(answer.epoch.clone());
        }
        if self.catch_up == CatchUp::Asking {
            self.catch_up = CatchUp::Until(answer.head);
        }
        // Without recovery the snapshot is the past, even if the head is 0.
        if answer.recovered {
            self.end_catch_up(out);
        }
    }

    /// Takes an event of the log, by the apply rule.
    pub fn apply(&mut self, frame: LogFrame, out: &mut Vec<Output>) -> Verdict {
        match &self.epoch {
            Some(epoch) if *epoch != frame.epoch => return Verdict::Hole,
            _ if frame.seq <= self.last => return Verdict::Dropped,
            _ if frame.seq_from.unwrap_or(frame.seq) != self.last + 1 => return Verdict::Hole,
            _ => {}
        }
        if let (Event::TextDelta { turn, off, .. }, Some(open)) = (&frame.event, &self.open)
            && *turn == open.turn
            && *off > utf16_len(&open.scene.text)
        {
            return Verdict::Hole;
        }
        self.epoch = Some(frame.epoch);
        self.last = frame.seq;
        if self.is_catching_up() {
            self.apply_event(frame.event, &mut Vec::new());
            self.end_catch_up(out);
        } else {
            self.apply_event(frame.event, out);
        }
        Verdict::Applied
    }

    fn apply_event(&mut self, event: Event, out: &mut Vec<Output>) {
        if let Event::TurnStarted { turn, scene, parent, via } = event {
            self.turns.insert(turn.clone());
            if via.kind != "jump" {
                out.push(Output::Started { via: via.clone() });
            }
            let scene = Scene { id: scene, parent, via, ..Scene::default() };
            self.open = Some(Open { turn, scene, text_done: false });
            return;
        }
        let Some(open) = &mut self.open else { return };
        match event {
            Event::TextDelta { turn, off, text } if turn == open.turn => {
                let shown = std::mem::take(&mut open.scene.text);
                open.scene.text = format!("{}{text}", prefix_utf16(&shown, off));
                show_rest(&shown, &open.scene.text, out);
            }
            Event::TextDone { turn } if turn == open.turn => {
                open.text_done = true;
                out.push(Output::TextDone);
            }
            Event::Choice { turn, choice }
                if turn == open.turn
                    && open.scene.choices.iter().all(|known| known.id != choice.id) =>
            {
                open.scene.choices.push(choice.clone());
                out.push(Output::Choice { number: open.scene.choices.len(), choice });
            }
            Event::TurnFailover { turn, from, to } if turn == open.turn => {
                out.push(Output::Failover { from, to });
            }
            Event::TurnDone { turn, scene, finish } if turn == open.turn => {
                self.close(scene, finish, out);
            }
            Event::TurnRetracted { turn } if turn == open.turn => {
                open.scene.text.clear();
                open.scene.choices.clear();
                out.push(Output::Retracted);
            }
            Event::TurnFailed { turn, message } if turn == open.turn => {
                let (scene, kept) = (open.scene.id.clone(), !open.scene.text.is_empty());
                if kept {
                    self.close(scene, "failed".into(), out);
                } else {
                    self.open = None;
                }
                out.push(Output::Failed { message });
            }
            _ => {}
        }
    }

    /// Ends the open turn: its scene is finished and the reader is there.
    fn close(&mut self, id: String, finish: String, out: &mut Vec<Output>) {
        let Some(mut open) = self.open.take() else { return };
        self.current = Some(id.clone());
        if let Some(known) = self.scene(&id) {
            show_again(known, out);
            return;
        }
        if !open.text_done {
            out.push(Output::TextDone);
        }
        out.push(Output::Done { finish: finish.clone(), choices: open.scene.choices.len() });
        open.scene.id = id;
        open.scene.finish = finish;
        self.scenes.push(open.scene);
    }

    fn end_catch_up(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.catch_up, CatchUp::Until(head) if self.last >= head) {
            return;
        }
        self.catch_up = CatchUp::Over;
        if let Some(open) = &self.open {
            show_open(open, out);
        } else if let Some(scene) = self.current() {
            show_again(scene, out);
        }
    }

    /// Takes the whole state where the log could not be replayed, and shows what is new in it.
    pub fn snapshot(&mut self, snapshot: Snapshot, out: &mut Vec<Output>) -> Verdict {
        if self.epoch.as_ref() == Some(&snapshot.epoch) && snapshot.seq < self.last {
            return Verdict::Dropped;
        }
        let known: HashSet<String> = self.scenes.drain(..).map(|scene| scene.id).collect();
        let before = self.open.take();
        self.epoch = Some(snapshot.epoch);
        self.last = snapshot.seq;
        self.scenes = snapshot.scenes;
        self.open = snapshot.open_turn.map(Open::from);
        self.turns.extend(self.open.iter().map(|open| open.turn.clone()));
        let newest = self.scenes.last().map(|scene| scene.id.clone());

        if self.is_catching_up() {
            self.current = newest;
            self.catch_up = CatchUp::Until(0);
            self.end_catch_up(out);
            return Verdict::Applied;
        }
        for scene in self.scenes.iter().filter(|scene| !known.contains(&scene.id)) {
            match &before {
                Some(before) if before.scene.id == scene.id => before.catch_up_with(scene, out),
                _ => show_finished(scene, out),
            }
            self.current = Some(scene.id.clone());
        }
        match (&self.open, &before) {
            (Some(open), Some(before)) if open.scene.id == before.scene.id => {
                show_rest(&before.scene.text, &open.scene.text, out);
                show_choices(&open.scene.choices, before.scene.choices.len(), out);
            }
            (Some(open), _) => show_open(open, out),
            _ => {}
        }
        if let Some(before) = &before
            && !before.scene.text.is_empty()
            && self.open.as_ref().is_none_or(|open| open.scene.id != before.scene.id)
            && self.scene(&before.scene.id).is_none()
        {
            out.push(Output::Lost);
        }
        if self.current().is_none() {
            self.current = newest;
            if let (None, Some(scene)) = (&self.open, self.current()) {
                show_again(scene, out);
            }
        }
        Verdict::Applied
    }
}

impl From<OpenTurn> for Open {
    fn from(open: OpenTurn) -> Self {
        let OpenTurn { turn, scene, parent, via, text, choices } = open;
        let text_done = !choices.is_empty();
        let scene = Scene { id: scene, parent, via, text, choices, finish: String::new() };
        Self { turn, scene, text_done }
    }
}

impl Open {
    /// Shows what a scene has beyond what was shown of it while it was written.
    fn catch_up_with(&self, scene: &Scene, out: &mut Vec<Output>) {
        show_rest(&self.scene.text, &scene.text, out);
        let rewritten = out.contains(&Output::Rewritten);
        if !self.text_done || rewritten {
            out.push(Output::TextDone);
        }
        show_choices(&scene.choices, self.scene.choices.len(), out);
        out.push(Output::Done { finish: scene.finish.clone(), choices: scene.choices.len() });
    }
}

fn show_open(open: &Open, out: &mut Vec<Output>) {
    out.push(Output::Started { via: open.scene.via.clone() });
    show_rest("", &open.scene.text, out);
    if open.text_done {
        out.push(Output::TextDone);
    }
    show_choices(&open.scene.choices, 0, out);
}

fn show_finished(scene: &Scene, out: &mut Vec<Output>) {
    out.push(Output::Started { via: scene.via.clone() });
    show_rest("", &scene.text, out);
    out.push(Output::TextDone);
    show_choices(&scene.choices, 0, out);
    out.push(Output::Done { finish: scene.finish.clone(), choices: scene.choices.len() });
}

fn show_again(scene: &Scene, out: &mut Vec<Output>) {
    out.push(Output::Back { scene: scene.id.clone() });
    show_finished(scene, out);
}

fn show_choices(choices: &[Choice], already: usize, out: &mut Vec<Output>) {
    for (index, choice) in choices.iter().enumerate().skip(already) {
        out.push(Output::Choice { number: index + 1, choice: choice.clone() });
    }
}

/// Shows `whole` to a reader who has `shown` before their eyes.
fn show_rest(shown: &str, whole: &str, out: &mut Vec<Output>) {
    let rest = whole.strip_prefix(shown).unwrap_or_else(|| {
        out.push(Output::Rewritten);
        whole
    });
    if !rest.is_empty() {
        out.push(Output::Text(rest.to_owned()));
    }
}

/// The first `units` UTF-16 code units of `text`, to the last whole character.
fn prefix_utf16(text: &str, units: usize) -> &str {
    let mut left = units;
    for (at, char) in text.char_indices() {
        match left.checked_sub(char.len_utf16()) {
            Some(rest) => left = rest,
            None => return &text[..at],
        }
    }
    text
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
