//! The course of a turn: accept the command, have the scene told, store it, say that it is done.

use std::sync::Arc;

use super::expense::Expense;
use super::{Accepted, Broken, Outcome, Signals, TurnArgs, TurnError, Work};
use crate::actors::generation::GenerationDeps;
use crate::actors::generation::carry::Carry;
use crate::actors::generation::checkpoint::{Checkpoint, OpenTurn};
use crate::actors::generation::draft::{Draft, text_deltas};
use crate::actors::generation::material::Context;
use crate::actors::generation::session::Current;
use crate::actors::generation::speculate::Begun;
use crate::actors::generation::writer::{LogWriter, WriteError};
use crate::domain::event::Event;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::scenario::{MAX_SCENES, Scenario, Scene, Usage, Via, utf16_len};
use crate::domain::turn::Command;
use crate::error::{Code, ServiceError};
use crate::providers::text::StoryRequest;

/// Who is named as the author of a text that the reader wrote.
const READER: &str = "reader";

/// A turn under way.
pub(super) struct Running {
    pub deps: Arc<GenerationDeps>,
    pub scenario: Arc<Scenario>,
    pub writer: LogWriter,
    pub checkpoint: Checkpoint,
    pub current: Option<Current>,
    pub signals: Signals,
    pub usage: Usage,
    pub doubtful: bool,
    /// Something of the scene was shown that moderation could not judge.
    pub unchecked: bool,
    /// The call that was reserved when the turn was begun, and its provider.
    pub prepaid: Option<(String, Expense)>,
    /// The first call, if it was begun, and paid for, before the command came.
    pub begun: Option<Begun>,
    /// What was told of a turn that is left open.
    pub left: Option<Draft>,
}

/// Why a command did not become a turn.
enum Refusal {
    Caller(ServiceError),
    Write(WriteError),
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        Refusal::Caller(error)
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        Refusal::Write(error)
    }
}

pub(super) async fn run(args: TurnArgs) -> Result<Outcome, Broken> {
    let TurnArgs {
        deps, scenario, writer, checkpoint, current, ahead, work, signals, permit, ..
    } = args;
    let (usage, doubtful, unchecked, prepaid, left) = Default::default();
    let begun = match (ahead, &work) {
        (Some(ahead), Work::Begin { command, .. }) => ahead.take(command).await,
        _ => None,
    };
    let mut running = Running {
        deps,
        scenario,
        writer,
        checkpoint,
        current,
        signals,
        usage,
        doubtful,
        unchecked,
        prepaid,
        begun,
        left,
    };
    let ended = running.work(work).await;
    running.give_back().await;
    drop(permit);
    let Running { writer, checkpoint, current, doubtful, left, .. } = running;
    match ended {
        Ok(()) => Ok(Outcome { writer, checkpoint, current, doubtful, left }),
        Err(error) => {
            let (epoch, head) = (Arc::clone(writer.epoch()), writer.head());
            let carry = Box::new(Carry { epoch, head, checkpoint, draft: left });
            Err(Broken { error, carry })
        }
    }
}

impl Running {
    async fn work(&mut self, work: Work) -> Result<(), TurnError> {
        match work {
            Work::Begin { command: Command::Jump { scene }, key, turn, accepted } => {
                let jumped = self.jump(scene, key, turn).await;
                self.answer(accepted, turn, jumped)?;
            }
            Work::Begin { command, key, turn, accepted } => {
                let begun = self.begin(command, key, turn).await;
                if let Some((draft, context)) = self.answer(accepted, turn, begun)? {
                    self.tell(draft, &context).await?;
                }
            }
            Work::Resume => self.resume(None).await?,
            Work::GiveUp => self.resume(Some(ServiceError::internal())).await?,
        }
        Ok(self.hand_over().await?)
    }

    /// Tells the caller; only the log's failures end the turn without an outcome.
    fn answer<T>(
        &self,
        accepted: Accepted,
        turn: TurnId,
        begun: Result<T, Refusal>,
    ) -> Result<Option<T>, WriteError> {
        match begun {
            Ok(begun) => {
                accepted.send(Ok(turn));
                Ok(Some(begun))
            }
            Err(Refusal::Caller(error)) => {
                self.signals.end();
                accepted.send(Err(error.into()));
                Ok(None)
            }
            Err(Refusal::Write(error)) => {
                // A worthless pen is no answer: the command is asked again, of whoever has the right one.
                if let WriteError::Unavailable(_) = error {
                    let retry = self.deps.config.lease_ttl;
                    accepted.send(Err(ServiceError::unavailable("event log", retry).into()));
                }
                Err(error)
            }
        }
    }

    /// Checks the command against what is stored, and logs the turn's first event.
    async fn begin(
        &mut self,
        command: Command,
        key: String,
        turn: TurnId,
    ) -> Result<(Draft, Context), Refusal> {
        let scene = self.checkpoint.next_scene;
        if scene.0 > MAX_SCENES {
            let text = format!("a scenario has at most {MAX_SCENES} scenes");
            return Err(ServiceError::new(Code::Conflict, text).into());
        }
        let (parent, via) = self.resolve(&command).await?;
        let context = self.context(parent).await?;
        if let Some(text) = command.text() {
            self.deps.moderation.check_input("text", text).await?;
        }
        let written = match &command {
            Command::Edit { text, .. } => Some(text.trim()),
            _ => None,
        };
        let (provider, model) = match written {
            Some(_) => (READER.to_owned(), String::new()),
            None => self.first_author(),
        };
        if written.is_none() && self.begun.as_ref().is_none_or(|begun| begun.by != provider) {
            let (provider, model) = (provider.clone(), model.clone());
            let draft = Draft::new(turn, scene, parent, via.clone(), provider, model);
            self.prepay(&draft, &context).await?;
        }
        let started = Event::TurnStarted { turn, scene, parent, via: via.clone(), provider, model };
        let mut events = vec![started];
        events.extend(written.into_iter().flat_map(|text| whole_text(turn, text)));

        let mut checkpoint = self.checkpoint.clone();
        checkpoint.accept(key, &command, turn, self.deps.clock.now());
        checkpoint.next_scene = scene.next();
        let from = self.writer.head() + 1;
        checkpoint.open =
            Some(OpenTurn { turn, scene, parent, via, from, finish: None, attempts: 0 });
        self.writer.append(&events, Some(&checkpoint)).await?;
        self.checkpoint = checkpoint;
        let draft = Draft::fold(&events).ok_or_else(ServiceError::internal)?;
        Ok((draft, context))
    }

    /// The parent of the scene that the command asks for, and what leads to it.
    async fn resolve(&self, command: &Command) -> Result<(Option<SceneId>, Via), ServiceError> {
        Ok(match command {
            Command::Begin | Command::Jump { .. } => (None, Via::Prompt),
            Command::Choose { scene, choice } => {
                let offered = self.current.iter().flat_map(|current| &current.choices);
                let label = offered.clone().find(|offered| offered.id == *choice);
                let text = label.map(|label| label.label.clone()).unwrap_or_default();
                (Some(*scene), Via::Choose { choice: choice.clone(), text })
            }
            Command::Say { scene, text } => {
                (Some(*scene), Via::Say { text: text.trim().to_owned() })
            }
            // A first turn that left no scene can only be told again.
            Command::Retry { .. } if self.current.is_none() => (None, Via::Prompt),
            Command::Retry { scene: of } => {
                let told = self.find_scene(*of).await?;
                let (choice, text) = self.action(told.via).await?;
                (told.parent, Via::Retry { of: *of, choice, text })
            }
            Command::Edit { scene: of, .. } => {
                let told = self.find_scene(*of).await?;
                (told.parent, Via::Edit { of: *of })
            }
        })
    }

    /// Choice and words that led to a scene, through any edits of it.
    async fn action(&self, via: Via) -> Result<(Option<String>, Option<String>), ServiceError> {
        let mut via = via;
        loop {
            via = match via {
                Via::Prompt | Via::Jump => return Ok((None, None)),
                Via::Choose { choice, text } => return Ok((Some(choice), Some(text))),
                Via::Say { text } => return Ok((None, Some(text))),
                Via::Retry { choice, text, .. } => return Ok((choice, text)),
                Via::Edit { of } => self.find_scene(of).await?.via,
            }
        }
    }

    async fn find_scene(&self, scene: SceneId) -> Result<Scene, ServiceError> {
        let found = self.deps.history.find_scene(self.scenario.id, scene).await?;
        found.ok_or_else(ServiceError::scene_not_found)
    }

    /// What the providers need to know of the scenes before.
    async fn context(&self, parent: Option<SceneId>) -> Result<Context, ServiceError> {
        self.deps.context(&self.scenario, parent).await
    }

    /// Provider and model that will be asked first.
    fn first_author(&self) -> (String, String) {
        let wanted = self.scenario.provider.as_deref();
        match self.deps.texts.candidates(wanted).first() {
            Some(text) => (text.name.clone(), self.model_of(&text.name, &text.model)),
            None => Default::default(),
        }
    }

    pub(super) fn model_of(&self, provider: &str, default: &str) -> String {
        self.deps.model_for(&self.scenario, provider).unwrap_or_else(|| default.to_owned())
    }

    /// Everything that a provider may use to go on with the draft.
    pub(super) fn request(&self, draft: &Draft, context: &Context, provider: &str) -> StoryRequest {
        self.deps.request(&self.scenario, draft, context, provider)
    }

    /// Takes the open turn up where the log ends, or ends it there with the error it failed with.
    async fn resume(&mut self, failed: Option<ServiceError>) -> Result<(), TurnError> {
        let Some(open) = &mut self.checkpoint.open else { return Ok(()) };
        open.attempts += 1;
        let (from, parent, turn) = (open.from, open.parent, open.turn);
        let checkpoint = self.checkpoint.clone();
        self.writer.append(&[], Some(&checkpoint)).await?;
        let draft = match self.draft(from).await {
            Ok(draft) => draft,
            Err(error) => {
                let Some(failed) = failed else { return Err(error) };
                // It has to end all the same.
                return Ok(self.close_failed(turn, failed).await?);
            }
        };
        tracing::info!(scenario = %self.scenario.id, %turn, shown = draft.units, "turn taken up");
        metrics::counter!("whatif_turns_resumed_total").increment(1);
        // Nobody knows any more what of it was judged.
        self.unchecked = self.deps.moderation.is_lenient();
        // The interrupted call's bill is not known any more; what it wrote is.
        self.usage.output_tokens += draft.units as u64 / 4;
        let context = self.patiently(|running| running.context(parent)).await;
        if let Some(Ok(context)) = &context {
            self.settle_left(&draft, context).await;
        }
        match context {
            Some(Ok(context)) => match failed {
                None => Ok(self.tell(draft, &context).await?),
                Some(error) => Ok(self.fail(&draft, Some(&context), error).await?),
            },
            Some(Err(error)) => Ok(self.fail(&draft, None, error).await?),
            None => {
                self.left = Some(draft);
                Ok(())
            }
        }
    }

    /// The open turn's scene as far as the log holds it.
    async fn draft(&self, from: u64) -> Result<Draft, TurnError> {
        let events = self.writer.read_from(from).await?;
        Draft::fold(&events).ok_or(TurnError::Unreadable)
    }

    /// A turn that is left to another owner in good order has not failed: it was no attempt.
    async fn hand_over(&mut self) -> Result<(), WriteError> {
        if self.signals.is_halted()
            && let Some(open) = &mut self.checkpoint.open
            && open.attempts > 0
        {
            open.attempts -= 1;
            let checkpoint = self.checkpoint.clone();
            self.writer.append(&[], Some(&checkpoint)).await?;
        }
        Ok(())
    }

    /// Goes to a scene that exists: the log shows it once more, whole.
    async fn jump(&mut self, scene: SceneId, key: String, turn: TurnId) -> Result<(), Refusal> {
        let told = self.find_scene(scene).await?;
        if !self.deps.history.set_current_scene(self.scenario.id, scene).await? {
            return Err(ServiceError::scene_not_found().into());
        }
        let first = told.authors.first();
        let mut events = vec![Event::TurnStarted {
            turn,
            scene,
            parent: told.parent,
            via: Via::Jump,
            provider: first.map(|author| author.provider.clone()).unwrap_or_default(),
            model: first.map(|author| author.model.clone()).unwrap_or_default(),
        }];
        events.extend(whole_text(turn, &told.text));
        let choices = told.choices.iter().cloned();
        events.extend(choices.map(|choice| Event::Choice { turn, choice }));
        events.push(Event::ChoicesDone { turn });
        let (finish, usage, hash) = (told.finish, Usage::default(), told.hash);
        events.push(Event::TurnDone { turn, scene, finish, usage, hash });
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.accept(key, &Command::Jump { scene }, turn, self.deps.clock.now());
        self.signals.end();
        self.writer.append(&events, Some(&checkpoint)).await?;
        self.checkpoint = checkpoint;
        self.current = Some(Current { scene, choices: told.choices });
        Ok(())
    }
}

/// A text that is known at once, as events.
fn whole_text(turn: TurnId, text: &str) -> Vec<Event> {
    let mut events = text_deltas(turn, 0, text);
    events.push(Event::TextDone { turn, len: utf16_len(text) });
    events
}
