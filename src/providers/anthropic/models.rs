//! What is to be known of Claude models by their names, on whatever platform.

/// Whether the model goes on with a last message of its own. Those since 4.6 refuse it.
pub(in crate::providers) fn takes_prefill(model: &str) -> bool {
    let Some((_, name)) = model.rsplit_once("claude-") else { return false };
    let mut parts = name.split(['-', '@', ':', '.']);
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    match parts.next() {
        // Before the families came first: `claude-3-5-haiku-…`, `claude-2.1`.
        Some("instant" | "v2" | "2" | "3") => true,
        Some("opus" | "sonnet" | "haiku") if number(parts.next()) == Some(4) => {
            // What follows is the minor version, or a date for 4.0.
            number(parts.next()).is_none_or(|minor| !(6..=1_000).contains(&minor))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_decides() {
        for model in [
            "claude-3-haiku-20240307",
            "claude-3-7-sonnet-latest",
            "claude-opus-4-0",
            "claude-sonnet-4-20250514",
            "claude-opus-4-1-20250805",
            "claude-haiku-4-5",
            "claude-sonnet-4-5@20250929",
            "anthropic.claude-3-5-sonnet-20241022-v2:0",
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        ] {
            assert!(takes_prefill(model), "{model}");
        }
        for model in [
            "claude-opus-4-6",
            "claude-sonnet-4-6-20260201",
            "us.anthropic.claude-opus-4-7-v1",
            "claude-sonnet-5",
            "claude-fable-5-1",
            "amazon.nova-lite-v1:0",
            "gpt-4o",
        ] {
            assert!(!takes_prefill(model), "{model}");
        }
    }
}
