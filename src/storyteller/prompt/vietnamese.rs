//! Prompts in Vietnamese: "Nếu … thì sao?", "Điều gì sẽ xảy ra nếu …?".

use super::question::{first_sentence, strip_question};
use super::{Operator, Prompt, quoted, tame, words_of, year};

/// What a statement turns on, the longest words first where one holds another.
const OPERATORS: [(Operator, &[&str]); 8] = [
    (Operator::Instead, &["thay vì", "thay cho", "thay thế"]),
    (
        Operator::Vanished,
        &["biến mất", "không còn", "tuyệt chủng", "qua đời", "chết", "ngừng", "bị phá hủy"],
    ),
    (
        Operator::Never,
        &["không bao giờ", "chưa bao giờ", "chưa từng", "chẳng bao giờ", "không hề", "không"],
    ),
    (Operator::Always, &["luôn luôn", "mãi mãi", "luôn", "lúc nào cũng"]),
    (
        Operator::Discovered,
        &["phát minh", "phát hiện", "khám phá", "tìm ra", "sáng chế", "xây dựng"],
    ),
    (Operator::Survived, &["sống sót", "tồn tại", "vẫn còn", "sống mãi", "ở lại"]),
    (Operator::Lost, &["thất bại", "sụp đổ", "thua", "bại trận", "đầu hàng"]),
    (Operator::Won, &["chiến thắng", "đánh bại", "thắng", "thống nhất", "cai trị"]),
];
/// Words that end the subject of a statement.
const VERBS: [&str; 14] = [
    "có thể",
    "biết",
    "được",
    "bị",
    "đã",
    "sẽ",
    "đang",
    "là",
    "có",
    "trở thành",
    "phải",
    "nói",
    "bay",
    "cũng",
];
const TIMES: [&str; 10] = [
    "vào năm",
    "năm",
    "vào thế kỷ",
    "thế kỷ",
    "thời",
    "vào thời",
    "tối nay",
    "hôm nay",
    "ngày mai",
    "trong tương lai",
];

pub fn parse(line: &str) -> Prompt {
    let words = words_of(line);
    let (clause, asked) = strip_question(line);
    let clause = first_sentence(clause);
    let clause = clause.strip_suffix("thì sao").unwrap_or(clause).trim_end_matches([' ', ',']);
    let folded = format!(" {} ", clause.to_lowercase());
    let found = |word: &str| folded.find(&format!(" {word} "));
    let operator = OPERATORS
        .iter()
        .find(|(_, known)| known.iter().any(|word| found(word).is_some()))
        .map(|(operator, _)| *operator)
        .or_else(|| found("có thể").or_else(|| found("biết")).map(|_| Operator::Could));
    let verb = OPERATORS
        .iter()
        .flat_map(|(_, known)| known.iter())
        .chain(&VERBS)
        .filter_map(|word| found(word))
        .min();
    // Lower case may change how long a text is; then nobody can say where the subject ends.
    let aligned = folded.len() == clause.len() + 2;
    let actor = verb.filter(|at| *at > 0 && aligned).and_then(|at| clause.get(..at));
    let Some(actor) = actor.map(str::trim).filter(|actor| !actor.is_empty()) else {
        return Prompt {
            era: era(clause),
            year: the_year(clause),
            ..quoted(line, clause, asked, words)
        };
    };
    let object = clause.get(actor.len()..).unwrap_or_default().trim();
    Prompt {
        premise: addressed(clause),
        actor: match actor.to_lowercase().as_str() {
            "tôi" | "mình" | "em" => "đời bạn".to_owned(),
            "mọi người" | "ai cũng" | "ai" | "không ai" | "chẳng ai" => {
                "sự đổi thay".to_owned()
            }
            "nó" => "thế giới".to_owned(),
            "tất cả" | "chúng ta" => "tất cả chúng ta".to_owned(),
            _ => tame(actor, 60),
        },
        operator: operator.unwrap_or(Operator::Other),
        object: object.to_owned(),
        era: era(clause),
        year: the_year(clause),
        words,
    }
}

/// The reader's "I" as the story's "you".
fn addressed(clause: &str) -> String {
    let words = clause.split(' ').map(|word| match word {
        "tôi" => "bạn",
        "Tôi" => "Bạn",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// From the word that says when to the end of the statement.
fn era(clause: &str) -> Option<String> {
    let folded = clause.to_lowercase();
    let at = TIMES.iter().filter_map(|time| folded.find(time)).min()?;
    let starts_word =
        clause.get(..at).is_some_and(|before| before.is_empty() || before.ends_with(' '));
    let era = clause.get(at..)?;
    (starts_word && era.split(' ').count() <= 6).then(|| era.to_owned())
}

fn the_year(clause: &str) -> Option<i32> {
    let folded = clause.to_lowercase();
    let number = |after: &str| -> Option<i32> {
        let tail = &folded[folded.find(after)? + after.len()..];
        tail.split_whitespace().next()?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    let before = folded.contains("trước công nguyên") || folded.contains("tcn");
    if let Some(century) = number("thế kỷ").filter(|century| (1..=60).contains(century)) {
        return Some(if before { 50 - century * 100 } else { century * 100 - 50 });
    }
    if let Some(year) = number("năm").filter(|year| (1..10_000).contains(year)) {
        return Some(if before { -year } else { year });
    }
    let words =
        |known: &[&str], year| known.iter().any(|word| folded.contains(word)).then_some(year);
    words(&["tối nay", "hôm nay", "ngày mai", "ngày nay"], "today")
        .or_else(|| words(&["tương lai"], "future"))
        .or_else(|| words(&["trung cổ"], "medieval"))
        .and_then(|word| year::of(&[word.to_owned()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_statements_are_read() {
        use Operator as O;
        for (source, premise, actor, operator, year) in [
            (
                "Nếu La Mã không bao giờ sụp đổ thì sao?",
                "La Mã không bao giờ sụp đổ",
                "La Mã",
                O::Never,
                None,
            ),
            ("Điều gì sẽ xảy ra nếu ong biến mất?", "ong biến mất", "ong", O::Vanished, None),
            (
                "Điều gì xảy ra nếu máy in được phát minh vào năm 1200?",
                "máy in được phát minh vào năm 1200",
                "máy in",
                O::Discovered,
                Some(1200),
            ),
            ("Nếu mèo biết nói thì sao?", "mèo biết nói", "mèo", O::Could, None),
            ("Nếu tôi không ngủ thì sao?", "bạn không ngủ", "đời bạn", O::Never, None),
            ("phở", "phở", "“phở”", O::Quoted, None),
        ] {
            let prompt = parse(source);
            assert_eq!(
                (prompt.premise.as_str(), prompt.actor.as_str(), prompt.operator, prompt.year),
                (premise, actor, operator, year),
                "{source}"
            );
        }
    }
}
