//! The answer of last resort: no model, no network, made of what the story says and of what was found, and it says so.
//!
//! It quotes and adds nothing of its own, so it cannot be wrong about the story; it cannot reason either.

use super::look_up::{Material, Source};
use super::understand::About;
use crate::domain::recall::sentences;

/// Under which name it answers, as the storyteller's scenes do, and as which model.
pub const PROVIDER: &str = crate::providers::storyteller::NAME;
pub const MODEL: &str = "recall-1";

/// Most sentences of the last scene that are told when nothing else is there to tell.
const LAST_SENTENCES: usize = 2;

/// Its own words, in one language.
struct Words {
    language: &'static str,
    /// Before what the story says.
    story: &'static str,
    /// Before what was found elsewhere.
    world: &'static str,
    /// When neither has anything.
    nothing: &'static str,
    /// The story cannot be read.
    away: &'static str,
    /// Before the end of the last scene.
    stands: &'static str,
    /// After a conjecture that nobody has worked out.
    conjecture: &'static str,
    /// Before all this, in the middle of somebody else's answer.
    broken: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    story: "No language model can answer right now. This is what the story itself says about it:",
    world: "This was found about it:",
    nothing: "No language model can answer right now, and I find nothing about this in what I can look up.",
    away: "No language model can answer right now, and the story cannot be read at the moment.",
    stands: "The story stands here:",
    conjecture: "What would follow I cannot work out; you can try it as your next step in the story.",
    broken: "(The answer broke off here.)",
};

const WORDS: [Words; 7] = [
    ENGLISH,
    Words {
        language: "de",
        story: "Gerade kann kein Sprachmodell antworten. Das sagt die Geschichte selbst dazu:",
        world: "Dazu wurde gefunden:",
        nothing: "Gerade kann kein Sprachmodell antworten, und ich finde dazu nichts.",
        away: "Gerade kann kein Sprachmodell antworten, und die Geschichte ist im Moment nicht lesbar.",
        stands: "Die Geschichte steht hier:",
        conjecture: "Was daraus folgen würde, kann ich nicht herleiten; du kannst es als nächsten Schritt in der Geschichte versuchen.",
        broken: "(Hier brach die Antwort ab.)",
    },
    Words {
        language: "fr",
        story: "Aucun modèle de langage ne peut répondre pour le moment. Voici ce qu'en dit l'histoire elle-même :",
        world: "Voici ce qui a été trouvé à ce sujet :",
        nothing: "Aucun modèle de langage ne peut répondre pour le moment, et je ne trouve rien à ce sujet.",
        away: "Aucun modèle de langage ne peut répondre pour le moment, et l'histoire est momentanément illisible.",
        stands: "L'histoire en est là :",
        conjecture: "Je ne peux pas déduire ce qui s'ensuivrait ; vous pouvez l'essayer comme prochaine action dans l'histoire.",
        broken: "(La réponse s'est interrompue ici.)",
    },
    Words {
        language: "es",
        story: "Ahora mismo no puede responder ningún modelo de lenguaje. Esto es lo que dice la propia historia:",
        world: "Esto es lo que se ha encontrado:",
        nothing: "Ahora mismo no puede responder ningún modelo de lenguaje, y no encuentro nada sobre esto.",
        away: "Ahora mismo no puede responder ningún modelo de lenguaje, y la historia no se puede leer en este momento.",
        stands: "La historia está en este punto:",
        conjecture: "No puedo deducir qué ocurriría; puedes probarlo como tu próximo paso en la historia.",
        broken: "(La respuesta se interrumpió aquí.)",
    },
    Words {
        language: "it",
        story: "In questo momento nessun modello linguistico può rispondere. Ecco cosa ne dice la storia stessa:",
        world: "Ecco cosa è stato trovato:",
        nothing: "In questo momento nessun modello linguistico può rispondere, e non trovo nulla in proposito.",
        away: "In questo momento nessun modello linguistico può rispondere, e la storia non è leggibile.",
        stands: "La storia è a questo punto:",
        conjecture: "Non so dedurre che cosa ne seguirebbe; puoi provarlo come prossima mossa nella storia.",
        broken: "(La risposta si è interrotta qui.)",
    },
    Words {
        language: "pt",
        story: "Neste momento nenhum modelo de linguagem pode responder. Isto é o que a própria história diz:",
        world: "Isto foi o que se encontrou:",
        nothing: "Neste momento nenhum modelo de linguagem pode responder, e não encontro nada sobre isto.",
        away: "Neste momento nenhum modelo de linguagem pode responder, e não é possível ler a história.",
        stands: "A história está neste ponto:",
        conjecture: "Não consigo deduzir o que aconteceria; pode experimentar como próximo passo na história.",
        broken: "(A resposta foi interrompida aqui.)",
    },
    Words {
        language: "vi",
        story: "Hiện không có mô hình ngôn ngữ nào trả lời được. Đây là điều chính câu chuyện nói:",
        world: "Đây là những gì tìm được:",
        nothing: "Hiện không có mô hình ngôn ngữ nào trả lời được, và tôi không tìm thấy gì về điều này.",
        away: "Hiện không có mô hình ngôn ngữ nào trả lời được, và tạm thời không đọc được câu chuyện.",
        stands: "Câu chuyện đang ở đây:",
        conjecture: "Tôi không thể suy ra điều gì sẽ xảy ra; bạn có thể thử nó như bước tiếp theo trong câu chuyện.",
        broken: "(Câu trả lời bị ngắt tại đây.)",
    },
];

/// The answer's paragraphs; the first one may follow `shown` of another's.
pub fn answer(material: &Material, language: Option<&str>, shown: &str) -> Vec<String> {
    let words = words(language);
    let scenes = || {
        material.sources.iter().enumerate().filter_map(|(at, source)| match source {
            Source::Scene { text, .. } => Some(format!("— {} [{}]", text.trim(), at + 1)),
            Source::Page(_) => None,
        })
    };
    let pages = || {
        material.sources.iter().enumerate().filter_map(|(at, source)| match source {
            Source::Page(page) => Some(format!("— {}: {} [{}]", page.title, page.snippet, at + 1)),
            Source::Scene { .. } => None,
        })
    };
    let mut answer = Vec::new();
    if !shown.is_empty() {
        answer.push(words.broken.to_owned());
    }
    let has_scenes = scenes().next().is_some();
    let opening = if has_scenes {
        words.story
    } else if material.story_away {
        words.away
    } else {
        words.nothing
    };
    let has_pages = pages().next().is_some();
    // What was found speaks for itself.
    if has_scenes || material.story_away || !has_pages {
        answer.push(opening.to_owned());
    }
    answer.extend(scenes());
    if has_pages {
        answer.push(words.world.to_owned());
        answer.extend(pages());
    }
    if !has_scenes && let Some(last) = ending(material) {
        answer.push(format!("{} {last}", words.stands));
    }
    if material.about == Some(About::WhatIf) && material.facts.is_some() {
        answer.push(words.conjecture.to_owned());
    }
    answer
}

fn words(language: Option<&str>) -> &'static Words {
    let primary = language.and_then(|tag| tag.split('-').next()).unwrap_or_default();
    let of = |words: &&Words| words.language.eq_ignore_ascii_case(primary);
    WORDS.iter().find(of).unwrap_or(&WORDS[0])
}

/// The last sentences of the scene where the story stands.
fn ending(material: &Material) -> Option<String> {
    let told: Vec<&str> = sentences(&material.facts.as_ref()?.last).collect();
    let last = told[told.len().saturating_sub(LAST_SENTENCES)..].join(" ");
    (!last.is_empty()).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::super::story::Facts;
    use super::super::story::tests::{path, scenario};
    use super::*;
    use crate::domain::ids::SceneId;
    use crate::providers::search::Found;

    fn scene(text: &str) -> Source {
        Source::Scene { scene: SceneId(1), text: text.into() }
    }

    fn page() -> Source {
        let (title, url) = ("Rome".into(), "https://rome.example".into());
        Source::Page(Found { title, url, snippet: "A city.".into() })
    }

    fn material(about: About, sources: Vec<Source>) -> Material {
        let facts = Facts::of(&scenario(), &path(&["One. Two. Three.", "Four. Five. Six."]));
        Material { about: Some(about), facts: Some(facts), sources, ..Material::default() }
    }

    #[test]
    fn it_quotes_what_is_there_and_says_what_it_is() {
        let material = material(About::Story, vec![scene("The key turned."), page()]);
        let told = answer(&material, Some("en"), "");
        let want = [ENGLISH.story, "— The key turned. [1]", ENGLISH.world, "— Rome: A city. [2]"];
        assert_eq!(told, want);
    }

    #[test]
    fn with_nothing_to_say_it_says_where_the_story_stands() {
        let told = answer(&material(About::WhatIf, vec![]), None, "");
        let want = [ENGLISH.nothing, "The story stands here: Five. Six.", ENGLISH.conjecture];
        assert_eq!(told, want);
        assert_eq!(answer(&Material::default(), None, ""), [ENGLISH.nothing]);
        let away = Material { story_away: true, ..Material::default() };
        assert_eq!(answer(&away, None, ""), [ENGLISH.away]);
        let found = Material { sources: vec![page()], ..Material::default() };
        assert_eq!(answer(&found, None, ""), [ENGLISH.world, "— Rome: A city. [1]"]);
    }

    #[test]
    fn it_speaks_the_scenarios_language_and_admits_a_break() {
        let material = material(About::Story, vec![scene("Das Tor fiel.")]);
        for (language, opening) in [
            ("de-AT", "Gerade kann kein Sprachmodell antworten. Das sagt"),
            ("FR", "Aucun modèle de langage"),
            ("vi", "Hiện không có"),
            ("tlh", "No language model"),
        ] {
            assert!(answer(&material, Some(language), "")[0].starts_with(opening), "{language}");
        }
        let after = answer(&material, Some("de"), "Varro war ein Ver");
        assert_eq!(after[0], "(Hier brach die Antwort ab.)");
    }
}
