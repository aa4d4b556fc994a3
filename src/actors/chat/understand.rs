//! The first step: what is asked, and which words to look for. By rules, so that it costs nothing and gives the same for
//! the same question; the model that answers reads the question itself anyway.

/// Most words that are looked for, and the longest of them, in characters.
const MAX_TERMS: usize = 7;
const MAX_TERM_CHARS: usize = 40;
/// Questions with fewer words of their own are about what was spoken of before.
const FEW: usize = 2;

/// What a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// What happened, and who is who.
    Story,
    /// How it is or was in the world that readers live in.
    World,
    /// What would follow if something else were so.
    WhatIf,
}

/// When the world is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Web {
    Always,
    /// Only about what the story does not tell.
    IfStoryIsSilent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Understood {
    pub about: About,
    pub web: Web,
    /// Words to look for, as they were written, the question's own first.
    pub terms: Vec<String>,
    /// How many of them are the question's own.
    own: usize,
}

impl Understood {
    /// What of the story is recalled: the question's own words, unless it has none. Words spoken of before are everywhere
    /// in a story.
    pub fn cue(&self) -> String {
        let own = if self.own == 0 { self.terms.len() } else { self.own };
        self.terms[..own].join(" ")
    }

    /// What is asked of a search; `None` if there is nothing to look for.
    pub fn query(&self) -> Option<String> {
        (!self.terms.is_empty()).then(|| self.terms.join(" "))
    }
}

/// `context`: what was spoken of before, the latest first; `in_story`: there is a story that it may be about.
pub fn understand(question: &str, context: &[&str], in_story: bool) -> Understood {
    let words = format!(" {} ", words(question).collect::<Vec<_>>().join(" ").to_lowercase());
    let lower = question.to_lowercase();
    // Scripts without spaces have no words to tell apart.
    let says = |marks: &[&str]| {
        marks.iter().any(|mark| match mark.is_ascii() || mark.contains(is_spaced) {
            true => words.contains(&format!(" {mark} ")),
            false => lower.contains(mark),
        })
    };
    let about = if says(WHAT_IF) {
        About::WhatIf
    } else if says(REALITY) || !in_story {
        About::World
    } else {
        About::Story
    };
    let web = if about == About::Story { Web::IfStoryIsSilent } else { Web::Always };
    let mut terms = Vec::new();
    add_terms(&mut terms, question);
    let own = terms.len();
    for text in context {
        if terms.len() >= FEW {
            break;
        }
        add_terms(&mut terms, text);
    }
    Understood { about, web, terms, own }
}

fn add_terms(terms: &mut Vec<String>, text: &str) {
    for word in words(text) {
        let lower = word.to_lowercase();
        let chars = word.chars().count();
        let least = if word.contains(is_spaced) { 3 } else { 2 };
        let known = terms.iter().any(|term| term.to_lowercase() == lower);
        if chars >= least && !COMMON.contains(&lower.as_str()) && !known && terms.len() < MAX_TERMS
        {
            terms.push(word.chars().take(MAX_TERM_CHARS).collect());
        }
    }
}

/// Runs of letters and digits: no search has operators among those.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    words.map(|word| word.trim_matches(['\'', '’'])).filter(|word| !word.is_empty())
}

/// Whether a letter's script has spaces between words.
fn is_spaced(c: char) -> bool {
    c.is_alphanumeric()
        && !matches!(c, '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..)
}

/// Signs of a conjecture, in the languages that readers write most.
const WHAT_IF: &[&str] = &[
    "what if",
    "what would",
    "would have",
    "suppose",
    "supposing",
    "imagine",
    "had never",
    "if instead",
    "was wäre wenn",
    "was wäre",
    "was würde",
    "angenommen",
    "stell dir vor",
    "et si",
    "que se passerait il",
    "qu'aurait",
    "imagine que",
    "supposons",
    "y si",
    "qué pasaría si",
    "qué habría",
    "que pasaria si",
    "imagina",
    "e se",
    "cosa succederebbe",
    "che cosa sarebbe",
    "immagina",
    "o que aconteceria",
    "e se fosse",
    "imagine se",
    "nếu",
    "giả sử",
    "что если",
    "что было бы",
    "представь",
    "もし",
    "如果",
    "假如",
    "要是",
    "만약",
];

/// Signs that the world is meant and not the story.
const REALITY: &[&str] = &[
    "really",
    "in reality",
    "real",
    "actually",
    "in fact",
    "historically",
    "history",
    "historical",
    "true",
    "wikipedia",
    "source",
    "sources",
    "our world",
    "our timeline",
    "today",
    "wirklich",
    "tatsächlich",
    "in wirklichkeit",
    "historisch",
    "geschichtlich",
    "quelle",
    "quellen",
    "heute",
    "vraiment",
    "en réalité",
    "réel",
    "réelle",
    "historiquement",
    "source fiable",
    "aujourd'hui",
    "realmente",
    "en realidad",
    "de verdad",
    "históricamente",
    "fuente",
    "hoy",
    "davvero",
    "in realtà",
    "storicamente",
    "fonte",
    "oggi",
    "na realidade",
    "de fato",
    "historicamente",
    "hoje",
    "thực sự",
    "thực tế",
    "lịch sử",
    "на самом деле",
    "исторически",
    "実際",
    "本当",
    "史実",
    "其实",
    "真的",
    "历史上",
    "실제",
];

/// Words that stand in every question, in the same languages.
const COMMON: &[&str] = &[
    "about", "after", "again", "all", "also", "and", "any", "are", "been", "before", "but", "can",
    "could", "did", "does", "doing", "ever", "explain", "for", "from", "had", "happen", "happened",
    "happens", "has", "have", "her", "him", "his", "how", "imagine", "instead", "into", "its",
    "just", "know", "like", "make", "many", "may", "more", "much", "never", "not", "now", "one",
    "our", "out", "over", "please", "really", "scene", "she", "should", "some", "story", "suppose",
    "tell", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this",
    "those", "too", "was", "were", "what", "when", "where", "which", "who", "whom", "whose", "why",
    "will", "with", "would", "you", "your", "aber", "auch", "auf", "aus", "bei", "das", "dem",
    "den", "der", "des", "die", "doch", "ein", "eine", "einen", "einer", "für", "hat", "hatte",
    "hätte", "ich", "ihr", "ist", "kann", "mit", "nach", "nicht", "noch", "oder", "sie", "sind",
    "und", "uns", "von", "war", "warum", "was", "welche", "wenn", "wer", "wie", "wird", "wäre",
    "würde", "avec", "aux", "cela", "ces", "cette", "comment", "dans", "des", "elle", "est", "ils",
    "les", "leur", "mais", "nous", "où", "par", "pas", "pour", "pourquoi", "quand", "que", "quel",
    "quelle", "quels", "qui", "quoi", "sont", "sur", "une", "vous", "était", "como", "cómo", "con",
    "cuando", "cuál", "cuándo", "del", "donde", "dónde", "ella", "era", "ese", "esta", "está",
    "las", "los", "más", "para", "pero", "por", "porque", "qué", "quién", "ser", "son", "sus",
    "una", "uno", "che", "chi", "come", "cosa", "dei", "del", "della", "delle", "dove", "era",
    "gli", "non", "perché", "più", "quale", "quando", "sono", "una", "com", "das", "dos", "ela",
    "ele", "então", "foi", "mais", "não", "onde", "quais", "qual", "quem", "seu", "sua", "uma",
    "được", "của", "không", "một", "những", "này", "như", "thế", "nào", "tại", "sao", "với",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_off_the_question() {
        use About::*;
        for (question, about) in [
            ("Who hid the bronze key?", Story),
            ("Why did Varro leave?", Story),
            ("Was there really a senate in 1204?", World),
            ("What are your sources?", World),
            ("What if Varro had stayed?", WhatIf),
            ("What would the priests do then?", WhatIf),
            ("Was wäre, wenn die Tore offen blieben?", WhatIf),
            ("Gab es das wirklich?", World),
            ("Et si Varro était resté ?", WhatIf),
            ("¿Qué pasaría si abrieran las puertas?", WhatIf),
            ("もし門が開いていたら？", WhatIf),
            ("これは史実ですか", World),
            ("如果城门没开呢？", WhatIf),
            ("What iffy plan was it?", Story),
        ] {
            let understood = understand(question, &[], true);
            assert_eq!(understood.about, about, "{question}");
            let web = if about == Story { Web::IfStoryIsSilent } else { Web::Always };
            assert_eq!(understood.web, web, "{question}");
        }
        assert_eq!(understand("Who hid the key?", &[], false).about, World, "there is no story");
    }

    #[test]
    fn the_words_that_tell_are_looked_for() {
        let terms = |question: &str, context: &[&str]| understand(question, context, true).terms;
        for (question, context, want) in [
            ("Who hid the bronze key?", &[][..], &["hid", "bronze", "key"][..]),
            ("Rome's senate, and ROME’S fall", &[], &["Rome's", "senate", "ROME’S", "fall"]),
            ("And why?", &["Who hid the key?"], &["hid", "key"]),
            ("Why?", &["And then?", "What if Rome never fell?"], &["Rome", "fell"]),
            (
                "site:evil.example \"x\" OR -intitle:Rome",
                &[],
                &["site", "evil", "example", "intitle", "Rome"],
            ),
            ("鍵はどこ？", &[], &["鍵はどこ"]),
            ("?!", &[], &[]),
        ] {
            assert_eq!(terms(question, context), want, "{question}");
        }
        let cue = |question| understand(question, &["What if Rome never fell?"], true).cue();
        assert_eq!(
            (cue("Is there a submarine?"), cue("And why?")),
            ("submarine".into(), "Rome fell".into())
        );
        let many: String = (0..99).map(|n| format!("word{n} ")).collect();
        let understood = understand(&many, &[], true);
        assert_eq!(understood.terms.len(), MAX_TERMS);
        let long = understand(&"x".repeat(2_000), &[], true).query().unwrap();
        assert_eq!(long.len(), MAX_TERM_CHARS);
        assert_eq!(understand("And why?", &[], true).query(), None);
    }
}
