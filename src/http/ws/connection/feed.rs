//! What the server says: its answers first, then the logs' events as far as the network takes them.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::{Message, Utf8Bytes};
use futures::Sink;
use serde_json::json;

use super::{Attachment, Connection, End, Page, Writing};
use crate::actors::generation::{Attached, Taken};
use crate::domain::event::Frame;
use crate::http::wire;
use crate::http::ws::commands;
use crate::http::ws::frames::{Close, ServerFrame};
use crate::http::ws::merge::merge;

impl Connection {
    pub(super) fn attached(&mut self, id: Option<String>, attached: Attached) {
        let Attached { reader, head, snapshot } = attached;
        let scenario = reader.scenario();
        let before = self.attachments.iter().position(|a| a.reader.scenario() == scenario);
        if let Some(id) = id {
            let recovered = snapshot.is_none();
            let result =
                json!({ "epoch": &**reader.epoch(), "head": head, "recovered": recovered });
            self.ack(&id, result);
        } else if let Some(before) = before.map(|at| &self.attachments[at].reader) {
            let scenario = scenario.to_string();
            let (from, to) = (before.cursor() + 1, head);
            let gap = ServerFrame::Gap { scenario: &scenario, from, to }.encode();
            self.outbox.push_back(gap);
        }
        if let Some(snapshot) = snapshot {
            let frame = wire::snapshot(&scenario.to_string(), reader.epoch(), snapshot);
            self.outbox.push_back(frame.to_string());
        }
        let attachment = Attachment { reader, older: None };
        match before {
            Some(at) => self.attachments[at] = attachment,
            None => self.attachments.push(attachment),
        }
    }

    pub(super) fn older(&mut self, index: usize, page: Page) -> Result<(), End> {
        let frames = page.map_err(|_| Some(Close::ServerError))?;
        let Some(attachment) = self.attachments.get_mut(index) else { return Ok(()) };
        if attachment.reader.advance(&frames) {
            return self.feed(frames).map_err(|_| None);
        }
        self.restart(index);
        Ok(())
    }

    /// The cursor means nothing any more: attach anew, from a snapshot.
    fn restart(&mut self, index: usize) {
        if self.job.is_none()
            && let (Some(attachment), Some(admitted)) = (self.attachments.get(index), &self.caller)
        {
            let scenario = attachment.reader.scenario();
            let (state, wake) = (self.state.clone(), Arc::clone(&self.wake));
            let caller = admitted.caller;
            let nowhere = Some("-".to_owned());
            let attach = || commands::attach(state, caller, None, scenario, nowhere, 0, wake);
            self.job = Some(self.span(None).in_scope(attach));
        }
    }

    /// Writes what there is, as soon as the last write has left.
    pub(super) fn fill(&mut self) -> Result<(), End> {
        if self.writing != Writing::Idle {
            return Ok(());
        }
        while let Some(frame) = self.outbox.pop_front() {
            self.put(Message::Text(frame.into())).map_err(|_| None)?;
        }
        let budget = self.state.config.sockets.write_buffer_bytes;
        let share = budget / self.attachments.len().max(1);
        let mut level = true;
        for index in 0..self.attachments.len() {
            let attachment = &mut self.attachments[index];
            if attachment.older.is_some() {
                level = false;
                continue;
            }
            let mut frames = Vec::new();
            match attachment.reader.take(share, &mut frames) {
                Taken::Frames => {
                    level = false;
                    self.feed(frames).map_err(|_| None)?;
                }
                Taken::Level => {}
                Taken::Older => {
                    level = false;
                    attachment.older = Some(attachment.reader.read_older());
                }
                Taken::Lost => self.restart(index),
            }
        }
        if level && self.writing == Writing::Idle {
            self.times.behind = None;
        }
        Ok(())
    }

    fn feed(&mut self, frames: Vec<(u64, Frame)>) -> Result<(), axum::Error> {
        self.events_sent.increment(frames.len() as u64);
        if self.times.behind.is_some() && frames.len() > 1 {
            for frame in merge(frames) {
                self.put(text(&frame))?;
            }
        } else {
            for (_, frame) in frames {
                self.put(text(&frame))?;
            }
        }
        Ok(())
    }

    pub(super) fn put(&mut self, message: Message) -> Result<(), axum::Error> {
        Pin::new(&mut self.socket).start_send(message)?;
        if self.writing == Writing::Idle {
            self.writing = Writing::Flushing { waited: false };
        }
        Ok(())
    }
}

fn text(frame: &Frame) -> Message {
    match Utf8Bytes::try_from(frame.bytes().clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Text(Utf8Bytes::default()),
    }
}
