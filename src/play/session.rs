//! One sitting with one story: between the link, the reader state machine, the screen and the player.
//!
//! It attaches after every reconnection from where the reader stands, sends commands with an idempotency key and
//! sends them again if a cut came before the answer. It decides when the player is asked.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use super::account::Account;
use super::client::Client;
use super::commands::{HELP, Input};
use super::link::{LinkEvent, until};
use super::outgoing::{Kind, Outgoing};
use super::reader::{Output, Reader, Verdict};
use super::terminal::{Screen, draw_tree};
use super::wire::{Attached, Incoming, LogFrame, Refusal, Scene};

/// Attachments in a row that bring no event although some are missing, before the connection is given up.
const MAX_FRUITLESS: u32 = 3;

/// What the player does other than typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Asked from outside to end.
    Terminate,
}

/// What the loop does next.
enum Flow {
    Go,
    Quit,
}

pub struct Session<'a> {
    client: Client,
    account: Arc<Mutex<Account>>,
    scenario: String,
    reader: Reader,
    screen: Screen<'a>,
    outgoing: Outgoing,
    /// The answer to the current connection's `attach` has come.
    attached: bool,
    fruitless: u32,
    /// A turn that was accepted and whose first event has not come.
    expected: Option<String>,
    /// Typed ahead.
    lines: VecDeque<String>,
    input_over: bool,
    asking: bool,
    /// The player was told of the cut.
    told: bool,
}

impl<'a> Session<'a> {
    pub fn new(
        client: Client,
        account: Arc<Mutex<Account>>,
        scenario: String,
        reader: Reader,
        screen: Screen<'a>,
    ) -> Self {
        Self {
            client,
            account,
            scenario,
            reader,
            screen,
            outgoing: Outgoing::default(),
            attached: false,
            fruitless: 0,
            expected: None,
            lines: VecDeque::new(),
            input_over: false,
            asking: false,
            told: false,
        }
    }

    /// Plays until the player leaves.
    ///
    /// # Errors
    /// If the server refuses for good, or the story cannot be written.
    pub async fn play(
        &mut self,
        mut link: mpsc::Receiver<LinkEvent>,
        lines: &mut mpsc::Receiver<String>,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> anyhow::Result<()> {
        loop {
            anyhow::ensure!(
                !self.reader.is_stillborn(),
                "the first scene could not be written; try the story again later"
            );
            if self.is_ready() {
                if let Some(line) = self.lines.pop_front() {
                    if !std::mem::replace(&mut self.asking, true) {
                        self.screen.ask("")?;
                    }
                    match self.on_line(&line, false).await? {
                        Flow::Go => continue,
                        Flow::Quit => return Ok(()),
                    }
                }
                if self.input_over {
                    return Ok(());
                }
                if !std::mem::replace(&mut self.asking, true) {
                    self.screen.ask("")?;
                }
            }
            // A script's lines wait in the pipe until they are asked for; a person may type ahead.
            let listen = !self.input_over && (self.asking || self.screen.is_interactive());
            let flow = tokio::select! {
                biased;
                event = link.recv() => {
                    let event = event.unwrap_or_else(|| LinkEvent::Fatal(anyhow!("the connection's task is gone")));
                    self.on_link(event).await?;
                    Flow::Go
                }
                Some(signal) = signals.recv() => self.on_signal(signal).await,
                () = until(self.outgoing.next_due()) => {
                    self.outgoing.repeat_due().await;
                    Flow::Go
                }
                line = lines.recv(), if listen => match line {
                    Some(line) => self.on_typed(line).await?,
                    None => {
                        self.input_over = true;
                        Flow::Go
                    }
                },
            };
            if let Flow::Quit = flow {
                return Ok(());
            }
        }
    }

    /// Nothing is being written and nothing is under way: it is the player's turn.
    fn is_ready(&self) -> bool {
        self.reader.open_turn().is_none()
            && !self.reader.is_catching_up()
            && self.reader.current().is_some()
            && self.expected.is_none()
            && !self.outgoing.awaits(Kind::Turn)
    }

    async fn on_signal(&mut self, signal: Signal) -> Flow {
        let stopping = self.outgoing.awaits(Kind::Stop);
        let writing = self.reader.open_turn().is_some();
        match signal {
            Signal::Interrupt if writing && !stopping && self.outgoing.is_connected() => {
                self.stop().await;
                Flow::Go
            }
            Signal::Interrupt | Signal::Terminate => Flow::Quit,
        }
    }

    async fn on_typed(&mut self, line: String) -> anyhow::Result<Flow> {
        if self.asking || Input::parse(&line).is_immediate() {
            return self.on_line(&line, true).await;
        }
        self.lines.push_back(line);
        Ok(Flow::Go)
    }

    async fn on_line(&mut self, line: &str, seen: bool) -> anyhow::Result<Flow> {
        if std::mem::take(&mut self.asking) {
            self.screen.answered(line, seen)?;
        }
        let input = Input::parse(line);
        match &input {
            Input::Quit => return Ok(Flow::Quit),
            Input::Empty => {}
            Input::Help => self.screen.lines(HELP)?,
            Input::Mistaken(why) => self.screen.aside(why)?,
            Input::Stop if self.reader.open_turn().is_some() => self.stop().await,
            Input::Stop => self.screen.aside("nothing is being written")?,
            Input::Tree => self.show_tree().await?,
            _ => {
                let Some(scene) = self.reader.current() else { return Ok(Flow::Go) };
                match input.frame(scene) {
                    Ok(Some(mut frame)) => {
                        frame["scenario"] = json!(self.scenario);
                        frame["idem"] = json!(Uuid::new_v4());
                        if !self.outgoing.is_connected() {
                            self.screen
                                .remark("not connected; this is sent when the server is back…")?;
                        }
                        self.outgoing.submit(Kind::Turn, frame).await;
                    }
                    Ok(None) => {}
                    Err(why) => self.screen.aside(&why)?,
                }
            }
        }
        Ok(Flow::Go)
    }

    async fn stop(&mut self) {
        if let Some(turn) = self.reader.open_turn() {
            let frame = json!({ "type": "stop", "scenario": self.scenario, "turn": turn });
            self.outgoing.submit(Kind::Stop, frame).await;
        }
    }

    async fn show_tree(&mut self) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Tree {
            items: Vec<Scene>,
        }
        let path = format!("/scenarios/{}/tree", self.scenario);
        match super::authorized(&self.client, &self.account, async |client, token| {
            client.get::<Tree>(&path, token).await
        })
        .await
        {
            Ok(Tree { items }) => {
                let current = self.reader.current().map(|scene| scene.id.as_str());
                self.screen.lines(&draw_tree(&items, current))?;
            }
            Err(error) => self.screen.aside(&format!("no tree right now: {error:#}"))?,
        }
        Ok(())
    }

    async fn attach(&mut self) {
        self.outgoing.forget(Kind::Attach);
        self.attached = false;
        let (epoch, after) = self.reader.position();
        let mut frame = json!({ "type": "attach", "scenario": self.scenario, "after": after });
        if let Some(epoch) = epoch {
            frame["epoch"] = json!(epoch);
        }
        self.outgoing.submit(Kind::Attach, frame).await;
    }

    async fn on_link(&mut self, event: LinkEvent) -> anyhow::Result<()> {
        match event {
            LinkEvent::Up(outbox) => {
                self.outgoing.connected(outbox);
                self.fruitless = 0;
                self.attach().await;
                self.outgoing.repeat_all().await;
            }
            LinkEvent::Down { planned } => {
                self.outgoing.disconnected();
                // At the prompt a cut concerns nobody.
                if !planned && !self.asking && !std::mem::replace(&mut self.told, true) {
                    self.screen.remark("connection lost, resuming…")?;
                }
            }
            LinkEvent::Frame(frame) => self.on_frame(*frame).await?,
            LinkEvent::Fatal(error) => {
                self.screen.take_back()?;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn on_frame(&mut self, frame: Incoming) -> anyhow::Result<()> {
        let mut out = Vec::new();
        let verdict = match frame {
            Incoming::Log(frame) if frame.scenario == self.scenario => self.apply(frame, &mut out),
            Incoming::Snapshot(snapshot) if snapshot.scenario == self.scenario => {
                self.expected = None;
                self.reader.snapshot(snapshot, &mut out)
            }
            Incoming::Gap { scenario, to } if scenario == self.scenario => {
                if to > self.reader.position().1 { Verdict::Hole } else { Verdict::Dropped }
            }
            Incoming::Ack { id, result } => {
                self.on_ack(&id, &result, &mut out)?;
                Verdict::Dropped
            }
            Incoming::Error(refusal) => {
                self.on_refusal(&refusal)?;
                Verdict::Dropped
            }
            _ => Verdict::Dropped,
        };
        if !out.is_empty() {
            // Another reader of the same story went on while this one was asked.
            self.asking = false;
            self.screen.show(&out)?;
        }
        match verdict {
            Verdict::Applied => {
                self.fruitless = 0;
                if std::mem::take(&mut self.told) {
                    self.screen.take_back()?;
                }
            }
            Verdict::Hole if self.attached => {
                self.fruitless += 1;
                anyhow::ensure!(
                    self.fruitless <= MAX_FRUITLESS,
                    "the server leaves out events of this story, however often it is asked"
                );
                self.attach().await;
            }
            // The answer to an attach under way fills it.
            Verdict::Hole | Verdict::Dropped => {}
        }
        Ok(())
    }

    fn apply(&mut self, frame: LogFrame, out: &mut Vec<Output>) -> Verdict {
        let verdict = self.reader.apply(frame, out);
        if self.expected.as_ref().is_some_and(|turn| self.reader.has_seen(turn)) {
            self.expected = None;
        }
        verdict
    }

    fn on_ack(&mut self, id: &str, result: &Value, out: &mut Vec<Output>) -> anyhow::Result<()> {
        match self.outgoing.acknowledged(id) {
            Some(Kind::Attach) => {
                let answer = Attached::deserialize(result)
                    .map_err(|error| anyhow!("the answer to attach cannot be read: {error}"))?;
                self.attached = true;
                self.reader.attached(&answer, out);
            }
            Some(Kind::Turn) => {
                let turn = result.get("turn").map(|turn| turn.get("id").unwrap_or(turn));
                self.expected = turn
                    .and_then(Value::as_str)
                    .filter(|turn| !self.reader.has_seen(turn))
                    .map(str::to_owned);
            }
            Some(Kind::Stop) | None => {}
        }
        Ok(())
    }

    fn on_refusal(&mut self, refusal: &Refusal) -> anyhow::Result<()> {
        let Refusal { code, message, .. } = refusal;
        match self.outgoing.refused(refusal) {
            Some(Kind::Attach) => Err(anyhow!("{message} ({code})")),
            Some(Kind::Turn) => Ok(self.screen.aside(&format!("{message} ({code})"))?),
            // A stop that comes too late: the turn has ended by itself.
            Some(Kind::Stop) | None => Ok(()),
        }
    }

    /// What to say when the player is gone.
    pub fn farewell(&mut self) -> io::Result<()> {
        self.screen.take_back()?;
        if self.asking {
            self.screen.unanswered()?;
        }
        if self.screen.is_interactive() {
            let mut command = format!("whatif play --scenario {}", self.scenario);
            if self.client.base() != super::DEFAULT_SERVER {
                command.push_str(&format!(" --server {}", self.client.base()));
            }
            self.screen.aside(&format!("kept. go on with:\n  {command}"))?;
        }
        Ok(())
    }
}
