//! Stories in another language than English.

use std::collections::HashSet;

use super::play::{Play, check_prose, check_scene, say};
use super::*;

const VIETNAMESE: [&str; 5] = [
    "Nếu La Mã không bao giờ sụp đổ thì sao?",
    "Điều gì sẽ xảy ra nếu tất cả ong biến mất tối nay?",
    "Nếu tôi chưa từng gặp vợ tôi thì sao?",
    "Nếu mèo biết nói vào năm 1900 thì sao?",
    "phở",
];

fn vietnamese(prompt: &'static str, seed: u64, length: Length) -> Play {
    Play { language: "vi-VN", ..Play::new(prompt, seed, length) }
}

/// Whether a text has letters that English does not know, and no common English word.
fn is_vietnamese(text: &str) -> bool {
    let english = ["the", "and", "with", "was", "you"];
    text.chars().any(|c| "ạảấầẩậắặẹẻếềểệịọốồổộớờợụủứừựđ".contains(c))
        && !words_of(text).iter().any(|word| english.contains(&word.as_str()))
}

#[test]
fn stories_in_vietnamese_keep_what_they_promise() {
    for (at, prompt) in VIETNAMESE.into_iter().enumerate() {
        for seed in 0..if cfg!(debug_assertions) { 10 } else { 400 } {
            let length = [Length::Short, Length::Medium, Length::Long][(seed as usize + at) % 3];
            let mut play = vietnamese(prompt, seed, length);
            let mut seen = HashSet::new();
            let mut ended = false;
            for turn in 0..12 {
                let via = play.whim(turn);
                let scene = play.turn(&via);
                let whose = format!("{prompt:?} seed {seed} turn {turn}");
                check_scene(&scene, &whose);
                assert!(is_vietnamese(&scene.prose), "{whose}: {}", scene.prose);
                for choice in &scene.choices {
                    assert!(is_vietnamese(&format!("{} {}", choice.label, choice.hint)), "{whose}");
                }
                for sentence in scene.prose.split("\n\n").flat_map(sentences).map(str::trim) {
                    if count_words(sentence) > 5 {
                        assert!(seen.insert(sentence.to_owned()), "{whose}: again {sentence:?}");
                    }
                }
                ended |= play.ended();
            }
            assert!(ended, "{prompt:?} seed {seed} did not end");
        }
    }
}

#[test]
fn a_vietnamese_reader_s_words_are_answered() {
    let mut play = vietnamese(VIETNAMESE[0], 3, Length::Medium);
    play.play(3);
    let scene = play.turn(&say("Mở cửa cho mọi người"));
    assert!(scene.prose.contains("“Mở cửa cho mọi người"), "{}", scene.prose);
    check_prose(&scene.prose, "said");
    let choices =
        choices_for(&play.input(&say("Chờ"), 0), "Ông Lê Lợi đứng dậy. Cả làng nhìn Lê Lợi.");
    assert!(choices.iter().any(|choice| choice.label.contains("Lê Lợi")), "{choices:?}");
}

#[test]
fn a_language_without_content_gets_english() {
    let via = Via::Prompt;
    let english = Play::new(PROMPTS[0], 1, Length::Short);
    for language in ["fr", "en-GB", "EN", "", "zh-Hant-TW"] {
        let other = Play { language, ..Play::new(PROMPTS[0], 1, Length::Short) };
        assert_eq!(compose(&other.input(&via, 0)), compose(&english.input(&via, 0)), "{language}");
    }
}
