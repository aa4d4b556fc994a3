//! What a run says at its end: a table on standard output, every single figure in a JSON file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use crate::clock;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was asked of the relay, e.g. `200 streams`.
    pub case: String,
    /// Which relay.
    pub relay: String,
    pub round: usize,
    /// Names carry their unit.
    pub figures: BTreeMap<&'static str, f64>,
    /// What went wrong; such a row's figures mean nothing.
    pub faults: Vec<String>,
    /// Anything else worth keeping.
    pub notes: Vec<String>,
}

/// One group's rows against another's, round by round.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub figure: &'static str,
    pub by: By,
    pub of: Group,
    pub to: Group,
    pub value: Spread,
}

/// Times are subtracted, because what a relay adds to them does not grow with them; all else is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Difference,
    Ratio,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    pub case: String,
    pub relay: String,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

#[derive(Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub command: Vec<String>,
    pub unix_s: u64,
    pub cores: usize,
    pub rows: Vec<Row>,
    pub comparisons: Vec<Comparison>,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.max >= 1000.0 { 0 } else { 2 };
        write!(f, "{:.digits$}", self.median)?;
        if self.min < self.max {
            write!(f, " [{:.digits$} to {:.digits$}]", self.min, self.max)?;
        }
        Ok(())
    }
}

impl Group {
    pub fn new(case: &str, relay: &str) -> Self {
        Self { case: case.into(), relay: relay.into() }
    }

    fn owns(&self, row: &Row) -> bool {
        row.case == self.case && row.relay == self.relay
    }
}

impl Report {
    pub fn new(scenario: &'static str, rows: Vec<Row>) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let command = std::env::args().skip(1).collect();
        Self {
            scenario,
            command,
            unix_s: clock::unix_micros() / 1_000_000,
            cores,
            rows,
            comparisons: Vec::new(),
        }
    }

    fn groups(&self) -> Vec<Group> {
        let mut groups = Vec::new();
        for row in &self.rows {
            let group = Group::new(&row.case, &row.relay);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        groups
    }

    /// Compares each relay with the first of the same case.
    pub fn compare_relays(mut self, figures: &[&'static str]) -> Self {
        let groups = self.groups();
        for of in &groups {
            if let Some(to) = groups.iter().find(|to| to.case == of.case).filter(|to| *to != of) {
                self.compare(of, to, figures);
            }
        }
        self
    }

    /// Compares each case with the first one of the same relay.
    pub fn compare_cases(mut self, figures: &[&'static str]) -> Self {
        let groups = self.groups();
        for of in &groups {
            if let Some(to) = groups.iter().find(|to| to.relay == of.relay).filter(|to| *to != of) {
                self.compare(of, to, figures);
            }
        }
        self
    }

    fn compare(&mut self, of: &Group, to: &Group, figures: &[&'static str]) {
        for figure in figures {
            let by = if figure.ends_with("_ms") { By::Difference } else { By::Ratio };
            let values = self.rows.iter().filter(|row| of.owns(row)).filter_map(|row| {
                let other =
                    self.rows.iter().find(|other| to.owns(other) && other.round == row.round)?;
                let (mine, theirs) = (row.figures.get(figure)?, other.figures.get(figure)?);
                match by {
                    By::Difference => Some(mine - theirs),
                    By::Ratio => (*theirs != 0.0).then(|| mine / theirs),
                }
            });
            if let Some(value) = Spread::of(values.collect()) {
                self.comparisons.push(Comparison {
                    figure,
                    by,
                    of: of.clone(),
                    to: to.clone(),
                    value,
                });
            }
        }
    }

    /// Prints the table (medians, with the range over the rounds) and writes the file.
    ///
    /// # Errors
    /// If the file cannot be written, or any measurement was flawed.
    pub fn publish(&self, folder: &Path) -> anyhow::Result<()> {
        for group in self.groups() {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| group.owns(row)).collect();
            println!("\n{} | {} | {} round(s)", group.case, group.relay, rows.len());
            let names: Vec<&str> =
                rows.first().map(|row| row.figures.keys().copied().collect()).unwrap_or_default();
            for name in names {
                let values = rows.iter().filter_map(|row| row.figures.get(name).copied()).collect();
                if let Some(spread) = Spread::of(values) {
                    println!("  {name:<28} {spread}");
                }
            }
            for row in rows {
                row.notes.iter().for_each(|note| println!("  round {}: {note}", row.round));
                row.faults
                    .iter()
                    .for_each(|fault| println!("  round {} FAULT: {fault}", row.round));
            }
        }
        println!();
        for Comparison { figure, by, of, to, value } in &self.comparisons {
            let sign = if *by == By::Difference { "minus" } else { "over" };
            println!(
                "{figure}: {} ({}) {sign} {} ({}): {value}",
                of.relay, of.case, to.relay, to.case
            );
        }
        println!("\n{}", self.write(folder)?.display());
        let flawed = self.rows.iter().filter(|row| !row.faults.is_empty()).count();
        anyhow::ensure!(flawed == 0, "{flawed} of {} measurements were flawed", self.rows.len());
        Ok(())
    }

    fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!(
            "{}-{}-{}.json",
            env!("CARGO_CRATE_NAME"),
            self.scenario,
            self.unix_s
        ));
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
