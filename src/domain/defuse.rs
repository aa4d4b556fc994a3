//! Takes the fuse out of text that others wrote: whatever a careless client does with it, no markup begins in it.
//!
//! A `<` that could begin a tag, a comment or a declaration becomes `‹`, and `](` of a Markdown link or picture `] (`.
//! Everything else stays as it is, `a < b` too.

/// For text that comes in pieces.
#[derive(Debug, Default)]
pub struct Defuser {
    /// The last character, when what follows decides about it.
    held: Option<char>,
}

impl Defuser {
    /// Appends what is certain of the next piece.
    pub fn push(&mut self, piece: &str, out: &mut String) {
        for c in piece.chars() {
            match self.held.take() {
                Some('<') if opens_tag(c) => out.push('‹'),
                Some(']') if c == '(' => out.push_str("] "),
                Some(held) => out.push(held),
                None => {}
            }
            match c {
                '<' | ']' => self.held = Some(c),
                c => out.push(c),
            }
        }
    }

    /// Appends what was held back: nobody knows what will follow it.
    pub fn finish(&mut self, out: &mut String) {
        match self.held.take() {
            Some('<') => out.push('‹'),
            Some(held) => out.push(held),
            None => {}
        }
    }
}

fn opens_tag(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')
}

/// A text that is known as a whole.
pub fn defuse(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut defuser = Defuser::default();
    defuser.push(text, &mut out);
    defuser.finish(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_tag_and_no_link_begins() {
        for (text, harmless) in [
            ("a <script>alert(1)</script> b", "a ‹script>alert(1)‹/script> b"),
            ("<!-- x --><?php", "‹!-- x -->‹?php"),
            ("1 < 2, a <3 b, x<", "1 < 2, a <3 b, x‹"),
            ("[click](javascript:x) ![](x)", "[click] (javascript:x) ![] (x)"),
            ("array[1] (see)", "array[1] (see)"),
            ("<<b>", "<‹b>"),
        ] {
            assert_eq!(defuse(text), harmless);
        }
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same_as_the_whole(text in "[<>\\[\\]()a/! é]{0,40}", cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let (mut out, mut defuser) = (String::new(), Defuser::default());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| text.floor_char_boundary(cut)).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                defuser.push(&text[from..cut], &mut out);
                from = cut;
            }
            defuser.finish(&mut out);
            prop_assert_eq!(&out, &defuse(&text));
            let bytes = out.as_bytes();
            prop_assert!(!bytes.windows(2).any(|two| two[0] == b'<' && opens_tag(two[1].into())));
            prop_assert!(!out.contains("]("));
        }
    }
}
