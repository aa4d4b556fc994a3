//! Whether the terminal shows what is typed. Off while a scene is written, so that stray keys do not end up in it.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios};

/// Owns the echo of standard input's terminal; gives it back when dropped.
pub struct Echo {
    /// How the terminal was found; `None` if it is none of ours to change.
    found: Option<Termios>,
}

impl Echo {
    /// Takes control if `wanted` and standard input is a terminal.
    pub fn new(wanted: bool) -> Self {
        Self { found: wanted.then(|| rustix::termios::tcgetattr(io::stdin()).ok()).flatten() }
    }

    pub fn off(&self) {
        if let Some(mut modes) = self.found.clone() {
            modes.local_modes.remove(LocalModes::ECHO);
            set(&modes);
        }
    }

    /// Shows what is typed from now on. Keys that were hit unseen, without a return, are dropped.
    pub fn on(&self) {
        if let Some(modes) = &self.found {
            let _ = rustix::termios::tcflush(io::stdin(), QueueSelector::IFlush);
            set(modes);
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(modes) = &self.found {
            set(modes);
        }
    }
}

/// A terminal that refuses is left as it is: echo is a nicety.
fn set(modes: &Termios) {
    let _ = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, modes);
}
