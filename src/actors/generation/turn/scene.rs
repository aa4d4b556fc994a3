//! The end of a turn: the scene is stored first, then the log says so.

use std::sync::Arc;

use super::script::Running;
use crate::actors::generation::draft::Draft;
use crate::actors::generation::material::Context;
use crate::actors::generation::session::Current;
use crate::actors::generation::writer::WriteError;
use crate::domain::event::Event;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::patch::{self, Object};
use crate::domain::scenario::{Author, Finish, Scene, content_hash};
use crate::error::{Code, ServiceError};

impl Running {
    /// Ends a draft whose text is whole (or stopped): stores it as a scene and closes the turn.
    pub(super) async fn finish(
        &mut self,
        draft: &mut Draft,
        context: &Context,
        finish: Finish,
    ) -> Result<(), WriteError> {
        self.close_draft(draft, finish).await?;
        if let Some(category) = self.blocked_after_all(draft).await {
            return self.retract(draft, &category).await;
        }
        let scene = Arc::new(self.scene(draft, context, finish));
        match self.store(&scene).await {
            Some(Ok(scene)) => {
                let done = Event::TurnDone {
                    turn: draft.turn,
                    scene: scene.id,
                    finish: scene.finish,
                    usage: scene.usage,
                    hash: scene.hash.clone(),
                };
                self.close(&[done]).await?;
                self.current = Some(Current { scene: scene.id, choices: scene.choices.clone() });
                self.trim().await;
                Ok(())
            }
            Some(Err(error)) => self.close_failed(draft.turn, error).await,
            None => Ok(()),
        }
    }

    /// Ends a turn that could not be told to its end. Text that was shown is kept as a scene.
    pub(super) async fn fail(
        &mut self,
        draft: &Draft,
        context: Option<&Context>,
        error: ServiceError,
    ) -> Result<(), WriteError> {
        if let Some(context) = context
            && !draft.text.is_empty()
        {
            if let Some(category) = self.blocked_after_all(draft).await {
                return self.retract(draft, &category).await;
            }
            let mut draft = draft.clone();
            self.close_draft(&mut draft, Finish::Failed).await?;
            let scene = Arc::new(self.scene(&draft, context, Finish::Failed));
            match self.store(&scene).await {
                Some(Ok(scene)) => {
                    self.current =
                        Some(Current { scene: scene.id, choices: scene.choices.clone() });
                }
                Some(Err(error)) => {
                    tracing::error!(scenario = %self.scenario.id, %error, "scene was not stored");
                }
                None => return Ok(()),
            }
        }
        self.close_failed(draft.turn, error).await
    }

    /// Says that text, choices and patch will not grow any more, and makes sure that a successor knows why.
    async fn close_draft(&mut self, draft: &mut Draft, finish: Finish) -> Result<(), WriteError> {
        let turn = draft.turn;
        let mut events = Vec::new();
        if !draft.text_done {
            events.push(Event::TextDone { turn, len: draft.units });
        }
        if !draft.choices_done {
            events.push(Event::ChoicesDone { turn });
        }
        // Said also when there is none: a successor would ask for it again, and might store another state.
        if draft.patch.is_none() && matches!(finish, Finish::Complete | Finish::Length) {
            events.push(Event::StatePatch { turn, patch: Object::new() });
        }
        let known = self.checkpoint.open.as_ref().and_then(|open| open.finish);
        if events.is_empty() && (finish == Finish::Complete || known == Some(finish)) {
            return Ok(());
        }
        if let Some(open) = &mut self.checkpoint.open {
            open.finish = Some(finish);
        }
        let checkpoint = self.checkpoint.clone();
        self.writer.append(&events, Some(&checkpoint)).await?;
        events.iter().for_each(|event| draft.apply(event));
        Ok(())
    }

    fn scene(&self, draft: &Draft, context: &Context, finish: Finish) -> Scene {
        let mut state = (*context.state).clone();
        if let Some(changes) = &draft.patch {
            patch::merge(&mut state, changes);
        }
        // Who wrote nothing is no author, unless nobody wrote anything.
        let ends = draft.authors.iter().skip(1).map(|next| next.off).chain([draft.units]);
        let wrote = |(author, end): &(&Author, usize)| author.off < *end || draft.units == 0;
        let authors = draft.authors.iter().zip(ends).filter(wrote).map(|(author, _)| {
            let model = match self.deps.texts.find(&author.provider) {
                Some(text) if author.model.is_empty() => self.model_of(&text.name, &text.model),
                _ => author.model.clone(),
            };
            Author { model, ..author.clone() }
        });
        Scene {
            scenario: self.scenario.id,
            id: draft.scene,
            parent: draft.parent,
            via: draft.via.clone(),
            text: draft.text.clone(),
            choices: draft.choices.clone(),
            state,
            authors: authors.collect(),
            usage: self.usage,
            finish,
            hash: content_hash(&draft.text),
            turn: draft.turn,
            created_at: self.deps.clock.now(),
        }
    }

    /// Waits for the store as long as configured; gives the scene as it is stored. `None`: halted meanwhile; whoever
    /// takes the turn up stores it.
    async fn store(&mut self, scene: &Arc<Scene>) -> Option<Result<Arc<Scene>, ServiceError>> {
        let stored = self.try_store(scene).await;
        self.doubtful |= matches!(stored, Some(Err(_)));
        stored
    }

    async fn try_store(&self, scene: &Arc<Scene>) -> Option<Result<Arc<Scene>, ServiceError>> {
        let put = self.patiently(|running| running.deps.history.put_scene(Arc::clone(scene)));
        match put.await? {
            // Stored before, by an owner that died before it could say so.
            Err(error) if error.code == Code::Conflict => {
                let stored = self.patiently(|running| running.stored(scene.id)).await?;
                Some(match stored {
                    Ok(Some(stored)) if stored.turn == scene.turn && stored.hash == scene.hash => {
                        Ok(Arc::new(stored))
                    }
                    Ok(_) => Err(error),
                    Err(error) => Err(error),
                })
            }
            settled => Some(settled.map(|()| Arc::clone(scene))),
        }
    }

    async fn stored(&self, scene: SceneId) -> Result<Option<Scene>, ServiceError> {
        self.deps.history.find_scene(self.scenario.id, scene).await
    }

    pub(super) async fn close_failed(
        &mut self,
        turn: TurnId,
        error: ServiceError,
    ) -> Result<(), WriteError> {
        tracing::error!(scenario = %self.scenario.id, %turn, %error, "turn failed");
        self.close(&[failed(turn, error)]).await
    }

    /// Takes back what was shown before anybody could judge it: the turn fails and leaves no scene. Both are said in one
    /// write, so that nobody takes the turn up in between.
    async fn retract(&mut self, draft: &Draft, category: &str) -> Result<(), WriteError> {
        let turn = draft.turn;
        tracing::warn!(scenario = %self.scenario.id, %turn, category, "a turn is retracted");
        metrics::counter!("whatif_retractions_total").increment(1);
        let error = ServiceError::new(
            Code::ContentBlocked,
            format!("what was told is not allowed here: {category}"),
        );
        let reason = error.code.as_str().to_owned();
        let retracted = Event::TurnRetracted { turn, scene: draft.scene, reason };
        self.close(&[retracted, failed(turn, error)]).await
    }

    /// Logs the turn's last events.
    async fn close(&mut self, last: &[Event]) -> Result<(), WriteError> {
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.close(self.writer.head() + last.len() as u64);
        self.signals.end();
        self.writer.append(last, Some(&checkpoint)).await?;
        self.checkpoint = checkpoint;
        Ok(())
    }

    async fn trim(&self) {
        let now = self.deps.clock.now();
        if let Some(up_to) = self.checkpoint.trimmable(self.deps.retention, now) {
            self.writer.trim(up_to).await;
        }
    }
}

fn failed(turn: TurnId, error: ServiceError) -> Event {
    Event::TurnFailed {
        turn,
        error: error.code.as_str().into(),
        message: error.message.into_owned(),
        retryable: error.code.retryable(),
    }
}
