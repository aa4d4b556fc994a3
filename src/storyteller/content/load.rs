//! The files themselves: compiled in, or a folder for its authors' checks. Packs are parsed when a story first needs
//! them, so that a process starts at once whatever the content's size.

use std::sync::{LazyLock, OnceLock};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{
    CastFile, Common, EndingFile, NameFile, Pack, PackFile, Period, PeriodFile, Pool, StoryFile,
    Taste, TopicFile, Voice, VoiceFile, phrase_hits,
};

/// The files of a pack, in the order of reading.
pub const PACK_FILES: [&str; 7] = ["pack", "cast", "early", "middle", "late", "papers", "endings"];
/// The files that the packs of a language share.
pub const SHARED_FILES: [&str; 5] = ["common", "names", "topics", "periods", "voices"];

/// The text of a language's files.
#[derive(Debug, Clone)]
pub struct Sources {
    pub language: String,
    /// In the order of [`SHARED_FILES`]; `None` for a file that is not there.
    pub shared: [Option<String>; 5],
    /// A pack's folder and its files, in the order of [`PACK_FILES`]. The last pack takes what no other knows.
    pub packs: Vec<(String, [Option<String>; 7])>,
}

type PackSource = (&'static str, [&'static str; 7]);

struct LanguageSource {
    tag: &'static str,
    shared: [&'static str; 5],
    packs: &'static [PackSource],
}

macro_rules! file {
    ($($part:literal),+) => { include_str!(concat!("../../../assets/storyteller/", $($part),+)) };
}

macro_rules! pack {
    ($language:literal, $id:literal) => {
        (
            $id,
            [
                file!($language, "/", $id, "/pack.toml"),
                file!($language, "/", $id, "/cast.toml"),
                file!($language, "/", $id, "/early.toml"),
                file!($language, "/", $id, "/middle.toml"),
                file!($language, "/", $id, "/late.toml"),
                file!($language, "/", $id, "/papers.toml"),
                file!($language, "/", $id, "/endings.toml"),
            ],
        )
    };
}

macro_rules! language {
    ($tag:literal, [$($id:literal),+]) => {
        LanguageSource {
            tag: $tag,
            shared: [
                file!($tag, "/common.toml"),
                file!($tag, "/names.toml"),
                file!($tag, "/topics.toml"),
                file!($tag, "/periods.toml"),
                file!($tag, "/voices.toml"),
            ],
            packs: &[$(pack!($tag, $id)),+],
        }
    };
}

/// The first language serves whoever asks for one that is not here; the last pack of each takes whatever no other
/// pack knows.
const LANGUAGES: [LanguageSource; 2] = [
    language!(
        "en",
        [
            "empire",
            "faith",
            "plague",
            "invention",
            "war",
            "space",
            "nature",
            "personal",
            "anywhere"
        ]
    ),
    language!("vi", ["anywhere"]),
];

/// The content of this build as text.
pub fn compiled_in() -> Vec<Sources> {
    LANGUAGES
        .iter()
        .map(|language| Sources {
            language: language.tag.to_owned(),
            shared: language.shared.map(|text| Some(text.to_owned())),
            packs: language
                .packs
                .iter()
                .map(|(id, files)| ((*id).to_owned(), files.map(|text| Some(text.to_owned()))))
                .collect(),
        })
        .collect()
}

/// The files of a pack, parsed; those that are missing or unsound are as if they were empty.
#[derive(Debug, Default)]
pub struct Files {
    pub pack: PackFile,
    pub cast: CastFile,
    pub early: StoryFile,
    pub middle: StoryFile,
    pub late: StoryFile,
    pub papers: StoryFile,
    pub endings: EndingFile,
}

fn read<T: DeserializeOwned>(place: &str, file: &str, source: &str) -> T {
    // Compiled in and linted by a test: it cannot fail in a build that passed its tests.
    toml::from_str(source)
        .unwrap_or_else(|error| panic!("assets/storyteller/{place}/{file}.toml: {error}"))
}

/// What the choice of a pack needs to know of it.
#[derive(Debug, Deserialize)]
struct Subject {
    keywords: Vec<String>,
}

#[derive(Debug)]
struct Volume {
    language: &'static str,
    source: &'static PackSource,
    subject: Subject,
    pack: OnceLock<Pack>,
}

impl Volume {
    fn pack(&self) -> &Pack {
        self.pack.get_or_init(|| {
            let (id, [pack, cast, early, middle, late, papers, endings]) = *self.source;
            let place = format!("{}/{id}", self.language);
            Files {
                pack: read(&place, "pack", pack),
                cast: read(&place, "cast", cast),
                early: read(&place, "early", early),
                middle: read(&place, "middle", middle),
                late: read(&place, "late", late),
                papers: read(&place, "papers", papers),
                endings: read(&place, "endings", endings),
            }
            .join()
        })
    }
}

/// Everything a story in one language is made of.
#[derive(Debug)]
pub struct Content {
    pub language: &'static str,
    pub common: Common,
    pub voices: Vec<Voice>,
    /// The last one serves everywhere.
    pub names: Vec<Pool>,
    pub topics: TopicFile,
    pub periods: Vec<Period>,
    packs: Vec<Volume>,
}

pub static CONTENT: LazyLock<Vec<Content>> =
    LazyLock::new(|| LANGUAGES.iter().map(Content::read).collect());

/// The content for a language tag: that language's, or English.
pub fn content(tag: &str) -> &'static Content {
    let primary = tag.split(['-', '_']).next().unwrap_or_default();
    let all = &*CONTENT;
    all.iter().find(|content| content.language.eq_ignore_ascii_case(primary)).unwrap_or(&all[0])
}

impl Content {
    fn read(source: &'static LanguageSource) -> Self {
        let [common, names, topics, periods, voices] = source.shared;
        let mut common: Common = read(source.tag, "common", common);
        let mut topics: TopicFile = read(source.tag, "topics", topics);
        let mut periods: PeriodFile = read(source.tag, "periods", periods);
        let mut voices: VoiceFile = read(source.tag, "voices", voices);
        common.resolve();
        topics.resolve();
        periods.resolve();
        voices.resolve();
        Self {
            language: source.tag,
            common,
            voices: voices.voice,
            names: read::<NameFile>(source.tag, "names", names).pool,
            topics,
            periods: periods.period,
            packs: source
                .packs
                .iter()
                .map(|pack| Volume {
                    language: source.tag,
                    source: pack,
                    subject: read(source.tag, pack.0, pack.1[0]),
                    pack: OnceLock::new(),
                })
                .collect(),
        }
    }

    /// The first voice of a kind that one of the words asks for; of the other kind when there is none.
    pub fn voice(&self, words: &[String], kind: Taste) -> Option<&Voice> {
        let find = |of_kind: bool| {
            words.iter().find_map(|word| {
                self.voices
                    .iter()
                    .find(|voice| (voice.kind == kind) == of_kind && voice.keywords.contains(word))
            })
        };
        find(true).or_else(|| find(false))
    }

    pub fn pack(&self, id: &str) -> Option<&Pack> {
        self.packs.iter().find(|volume| volume.source.0 == id).map(Volume::pack)
    }

    #[cfg(test)]
    pub fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.packs.iter().map(Volume::pack)
    }

    /// The pack whose keywords the prompt's words hit most; the last pack when none does.
    pub fn pack_for(&self, words: &[String]) -> &Pack {
        let mut best = &self.packs[self.packs.len() - 1];
        let mut most = 0;
        for volume in &self.packs {
            let hits = phrase_hits(&volume.subject.keywords, words);
            if hits > most {
                (best, most) = (volume, hits);
            }
        }
        best.pack()
    }

    /// The pool of names that the words call for, by its number; the last one when they call for none.
    pub fn names_for(&self, words: &[String]) -> usize {
        let last = self.names.len() - 1;
        let (mut best, mut most) = (last, 0);
        for (at, pool) in self.names.iter().enumerate() {
            let hits = phrase_hits(&pool.keywords, words);
            if hits > most {
                (best, most) = (at, hits);
            }
        }
        best
    }
}
