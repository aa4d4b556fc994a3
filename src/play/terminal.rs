//! The screen: how a story looks, on a terminal and in a pipe.
//!
//! The story goes to the first writer (standard output), remarks about the connection to the second (standard
//! error). In a pipe nothing is coloured or wrapped. It knows nothing about frames or sockets.

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal, Write};

use super::echo::Echo;
use super::reader::Output;
use super::wire::Scene;
use super::wrap::{Wrapper, hang};
use crate::domain::scenario::title_from_prompt;

/// Widest line of running text: longer ones are hard to read.
const MAX_WIDTH: usize = 84;

/// How wide the story may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// No wrapping.
    Free,
    Fixed(usize),
    /// As wide as the terminal is at the time.
    Terminal,
}

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub color: bool,
    pub width: Width,
    /// Someone types at a terminal that shows what they type.
    pub interactive: bool,
    /// Both writers are the same terminal, so that a remark may be taken back.
    pub shared: bool,
    /// Hide what is typed on the process's own terminal while a scene is written.
    pub hush: bool,
}

impl Style {
    /// For the process's own standard streams.
    pub fn of_process(width: Option<usize>) -> Self {
        let out = io::stdout().is_terminal();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = match width {
            Some(0) => Width::Free,
            Some(columns) => Width::Fixed(columns),
            None if out => Width::Terminal,
            None => Width::Free,
        };
        let interactive = out && io::stdin().is_terminal();
        Self {
            color: out && !dumb && !no_color,
            width,
            interactive,
            hush: interactive,
            shared: out && !dumb && io::stderr().is_terminal(),
        }
    }

    fn columns(self) -> Option<usize> {
        match self.width {
            Width::Free => None,
            Width::Fixed(columns) => Some(columns),
            Width::Terminal => Some(terminal_columns().map_or(80, |columns| columns - 1)),
        }
    }
}

/// Columns of the terminal on standard output, at least 20.
fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col).max(20))
}

/// Who writes on the two streams.
pub struct Screen<'a> {
    out: Box<dyn Write + Send + 'a>,
    err: Box<dyn Write + Send + 'a>,
    style: Style,
    echo: Echo,
    text: Wrapper,
    /// A remark stands on the line below the story's last one and will be taken back.
    remark: bool,
    /// Choices of this scene were begun.
    in_choices: bool,
}

impl<'a> Screen<'a> {
    pub fn new(
        out: Box<dyn Write + Send + 'a>,
        err: Box<dyn Write + Send + 'a>,
        style: Style,
    ) -> Self {
        let echo = Echo::new(style.hush);
        echo.off();
        let text = Wrapper::new(None);
        Self { out, err, style, echo, text, remark: false, in_choices: false }
    }

    pub fn is_interactive(&self) -> bool {
        self.style.interactive
    }

    /// Shows what the reader state machine put out.
    ///
    /// # Errors
    /// If the story cannot be written; a closed pipe is [`io::ErrorKind::BrokenPipe`].
    pub fn show(&mut self, outputs: &[Output]) -> io::Result<()> {
        for output in outputs {
            self.show_one(output)?;
        }
        self.out.flush()
    }

    fn show_one(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::Started { .. } => {
                self.break_line()?;
                self.in_choices = false;
                let width = self.style.columns().map(|columns| columns.min(MAX_WIDTH));
                self.text = Wrapper::new(width);
                self.put("\n")
            }
            Output::Text(text) => {
                self.take_back()?;
                let text = self.text.push(&visible(text));
                self.put(&text)
            }
            Output::TextDone => self.break_line(),
            Output::Choice { number, choice } => {
                self.break_line()?;
                if !std::mem::replace(&mut self.in_choices, true) {
                    self.put("\n")?;
                }
                let width = self.style.columns().map(|columns| columns.min(MAX_WIDTH));
                let label = hang(&visible(&choice.label), 5, width);
                self.put(&format!("  {}  {label}\n", self.paint(BOLD, &number.to_string())))?;
                match choice.hint.as_deref().map(visible) {
                    Some(hint) if !hint.is_empty() => {
                        let hint = hang(&hint, 5, width);
                        self.put(&format!("     {}\n", self.paint(DIM, &hint)))
                    }
                    _ => Ok(()),
                }
            }
            Output::Done { finish, choices } => {
                self.break_line()?;
                match (finish.as_str(), choices) {
                    ("stopped", _) => self.aside("(stopped)"),
                    ("length", 0) => self.aside("(cut short by its length; /retry tells it again)"),
                    ("complete", 0) => self.aside("— The end. —"),
                    _ => Ok(()),
                }
            }
            Output::Failed { message } => {
                self.break_line()?;
                self.aside(&format!(
                    "(the scene broke off: {}; /retry tells it again)",
                    visible(message)
                ))
            }
            Output::Failover { from, to } => {
                self.remark(&format!("{from} fell silent, {to} goes on…"))
            }
            Output::Retracted => {
                self.break_line()?;
                self.aside("(what stands above was taken back: it should not have been told)")
            }
            Output::Rewritten => {
                self.break_line()?;
                self.aside(
                    "(the server kept another version of this scene; here it is from its start)",
                )?;
                self.put("\n")
            }
            Output::Lost => {
                self.break_line()?;
                self.aside("(the server did not keep the scene above)")
            }
            Output::Back { scene } => self.aside(&format!("· {scene} ·")),
        }
    }

    /// The story's title line.
    pub fn title(&mut self, prompt: &str) -> io::Result<()> {
        let prompt = self.paint(BOLD, &visible(prompt));
        self.put(&format!("{prompt}\n"))?;
        self.out.flush()
    }

    /// Asks for the next line of input.
    pub fn ask(&mut self, label: &str) -> io::Result<()> {
        self.break_line()?;
        self.put(&format!("\n{label}{} ", self.paint(BOLD, "›")))?;
        self.echo.on();
        self.out.flush()
    }

    /// After a line was read. One that was not `seen` (from a pipe, or typed ahead) is shown now.
    pub fn answered(&mut self, line: &str, seen: bool) -> io::Result<()> {
        self.echo.off();
        if !(seen && self.style.interactive) {
            self.put(&format!("{line}\n"))?;
        }
        self.text = Wrapper::new(None);
        Ok(())
    }

    /// When the player left without an answer.
    pub fn unanswered(&mut self) -> io::Result<()> {
        self.put("\n")?;
        self.out.flush()
    }

    /// A line of the program itself, apart from the story.
    pub fn aside(&mut self, text: &str) -> io::Result<()> {
        self.break_line()?;
        let text = self.paint(DIM, text);
        self.put(&format!("\n{text}\n"))?;
        self.out.flush()
    }

    /// Preformatted lines (help, tree).
    pub fn lines(&mut self, text: &str) -> io::Result<()> {
        self.break_line()?;
        self.put(&format!("\n{text}"))?;
        self.out.flush()
    }

    /// A passing remark about the connection. On a terminal it stands below the story until the story goes on.
    pub fn remark(&mut self, text: &str) -> io::Result<()> {
        self.out.flush()?;
        if !self.style.shared {
            writeln!(self.err, "whatif: {text}")?;
            return self.err.flush();
        }
        // One line, so that exactly one is taken back.
        let room = terminal_columns().unwrap_or(80) - 1;
        let text: String = text.chars().take(room).collect();
        self.take_back()?;
        let text = self.paint(DIM, &text);
        write!(self.err, "\n{text}")?;
        self.remark = true;
        self.err.flush()
    }

    /// Erases the remark and puts the cursor back to where the story stopped.
    pub fn take_back(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.remark) {
            write!(self.err, "\r\x1b[2K\x1b[A")?;
            match self.text.column() {
                0 => {}
                column => write!(self.err, "\x1b[{column}C")?,
            }
            self.err.flush()?;
        }
        Ok(())
    }

    /// Ends the story's current line, if anything is on it.
    fn break_line(&mut self) -> io::Result<()> {
        self.take_back()?;
        let rest = self.text.finish();
        self.put(&rest)?;
        if self.text.column() > 0 {
            self.put("\n")?;
        }
        self.text = Wrapper::new(None);
        Ok(())
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        if !text.is_empty() {
            self.take_back()?;
        }
        self.out.write_all(text.as_bytes())
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.style.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";

/// Text from the network without control characters: a story must not be able to drive the terminal.
fn visible(text: &str) -> String {
    text.chars().filter(|char| *char == '\n' || !char.is_control()).collect()
}

/// The scenes as an indented tree; `current` is marked. A line of descent stays at one depth, only a fork indents.
pub fn draw_tree(scenes: &[Scene], current: Option<&str>) -> String {
    let ids: HashSet<&str> = scenes.iter().map(|scene| scene.id.as_str()).collect();
    let mut children: HashMap<Option<&str>, Vec<&Scene>> = HashMap::new();
    // A stack pops the last first.
    for scene in scenes.iter().rev() {
        let parent = scene.parent.as_deref().filter(|parent| ids.contains(parent));
        children.entry(parent).or_default().push(scene);
    }
    let mut out = String::new();
    let roots = children.remove(&None).unwrap_or_default();
    let mut stack: Vec<(&Scene, usize)> = roots.into_iter().map(|scene| (scene, 0)).collect();
    while let Some((scene, depth)) = stack.pop() {
        let mark = if current == Some(scene.id.as_str()) { '▸' } else { ' ' };
        let indent = depth * 2;
        out.push_str(&format!("{mark} {:indent$}{:<4} {}\n", "", scene.id, headline(scene)));
        let below = children.remove(&Some(scene.id.as_str())).unwrap_or_default();
        let deeper = depth + usize::from(below.len() > 1);
        stack.extend(below.into_iter().map(|child| (child, deeper)));
    }
    out
}

/// What led to a scene, or else how it begins.
fn headline(scene: &Scene) -> String {
    let line = match (scene.via.kind.as_str(), scene.via.text.as_deref()) {
        ("retry" | "edit", text) => format!("({}) {}", scene.via.kind, text.unwrap_or(&scene.text)),
        (_, text) => text.unwrap_or(&scene.text).to_owned(),
    };
    title_from_prompt(&visible(&line), 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::play::wire::Via;

    fn scene(id: &str, parent: Option<&str>, text: &str) -> Scene {
        let via = Via { kind: "choose".into(), text: Some(text.into()) };
        Scene { id: id.into(), parent: parent.map(Into::into), via, ..Scene::default() }
    }

    #[test]
    fn a_tree_shows_forks_and_where_the_reader_is() {
        let scenes = [
            scene("n1", None, "What if?"),
            scene("n2", Some("n1"), "war"),
            scene("n3", Some("n2"), "siege"),
            scene("n4", Some("n1"), "peace"),
        ];
        let tree = draw_tree(&scenes, Some("n4"));
        assert_eq!(tree, "  n1   What if?\n    n2   war\n    n3   siege\n▸   n4   peace\n");
    }

    fn shown(style: Style, steps: impl FnOnce(&mut Screen<'_>)) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen::new(Box::new(&mut out), Box::new(&mut err), style);
        steps(&mut screen);
        drop(screen);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_remark_on_a_shared_terminal_is_taken_back_before_the_story_goes_on() {
        let style = Style {
            color: false,
            width: Width::Fixed(40),
            interactive: true,
            shared: true,
            hush: false,
        };
        let (out, err) = shown(style, |screen| {
            screen.show(&[Output::Text("Rome nev".into())]).unwrap();
            screen.remark("resuming…").unwrap();
            screen.show(&[Output::Text("er fell.".into())]).unwrap();
        });
        assert_eq!(out, "Rome never fell.");
        assert_eq!(err, "\nresuming…\r\x1b[2K\x1b[A\x1b[8C");
    }

    #[test]
    fn a_story_cannot_drive_the_terminal() {
        let style = Style {
            color: false,
            width: Width::Free,
            interactive: false,
            shared: false,
            hush: false,
        };
        let (out, _) = shown(style, |screen| {
            screen.show(&[Output::Text("a\x1b[2Jb\u{9b}c\nd".into())]).unwrap();
        });
        assert_eq!(out, "a[2Jbc\nd");
    }
}
