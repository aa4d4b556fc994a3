//! What a new account must look like. All bad fields are told at once.

use secrecy::{ExposeSecret, SecretString};

use crate::domain::user::Registration;
use crate::error::{FieldError, ServiceError};

/// Longest address that mail can be sent to (RFC 5321, 4.5.3.1.3 less the brackets), in bytes.
pub const MAX_EMAIL_BYTES: usize = 254;
pub const MIN_PASSWORD_CHARS: usize = 8;
pub const MAX_PASSWORD_BYTES: usize = 1_024;
pub const MAX_NAME_CHARS: usize = 80;

/// A registration that keeps the rules, trimmed. The password is as it was given.
#[derive(Debug)]
pub struct Checked {
    pub email: String,
    pub password: SecretString,
    pub display_name: String,
}

/// # Errors
/// `invalid_request` with a detail for each bad field.
pub fn check(registration: Registration) -> Result<Checked, ServiceError> {
    let email = registration.email.trim();
    let name = registration.display_name.trim();
    let problems = [
        ("email", email_problem(email)),
        ("password", password_problem(registration.password.expose_secret())),
        ("display_name", name_problem(name)),
    ];
    let details: Vec<_> = problems
        .into_iter()
        .filter_map(|(field, problem)| {
            problem.map(|message| FieldError { field: field.into(), message })
        })
        .collect();
    if !details.is_empty() {
        let mut error = ServiceError::invalid("the account cannot be opened like this");
        error.details = details;
        return Err(error);
    }
    Ok(Checked { email: email.into(), display_name: name.into(), password: registration.password })
}

fn email_problem(email: &str) -> Option<String> {
    if email.len() > MAX_EMAIL_BYTES {
        return Some(format!("must have at most {MAX_EMAIL_BYTES} bytes"));
    }
    garde::rules::email::parse_email(email).err().map(|_| "is not an e-mail address".into())
}

fn password_problem(password: &str) -> Option<String> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Some(format!("must have at least {MIN_PASSWORD_CHARS} characters"));
    }
    (password.len() > MAX_PASSWORD_BYTES)
        .then(|| format!("must have at most {MAX_PASSWORD_BYTES} bytes"))
}

fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("must not be empty".into());
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Some(format!("must have at most {MAX_NAME_CHARS} characters"));
    }
    name.chars()
        .any(|c| c.is_control() || reorders(c))
        .then(|| "must not have control characters".into())
}

/// Characters that show a text in another order than it has, so that one name can pass for another.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(email: &str, password: &str, name: &str) -> Registration {
        Registration { email: email.into(), password: password.into(), display_name: name.into() }
    }

    #[test]
    fn names_every_bad_field_and_no_good_one() {
        let long_email = format!("{}@{}.example", "a".repeat(64), "b.".repeat(95));
        let (at_limit, over_limit) = ("p".repeat(1_024), "p".repeat(1_025));
        let emoji = "😀".repeat(80);
        for (name, email, password, display, bad) in [
            ("good", "ada@example.org", "12345678", "Ada", &[][..]),
            ("trimmed", " ada@example.org\n", "12345678", "  Ada ", &[]),
            ("plus and dots", "a.b+c@example.org", "12345678", "Ada", &[]),
            ("long but allowed", "ada@example.org", &at_limit, &emoji, &[]),
            ("eight wide characters", "ada@example.org", "ååååååå8", "Ada", &[]),
            ("all bad", "ada", "1234567", " ", &["email", "password", "display_name"]),
            ("no domain", "ada@", "12345678", "Ada", &["email"]),
            ("two ats", "a@b@example.org", "12345678", "Ada", &["email"]),
            ("blank inside", "a da@example.org", "12345678", "Ada", &["email"]),
            ("line break", "ada@example.org\nx", "12345678", "Ada", &["email"]),
            ("long e-mail", &long_email, "12345678", "Ada", &["email"]),
            ("long password", "ada@example.org", &over_limit, "Ada", &["password"]),
            ("few characters, many bytes", "ada@example.org", "😀😀😀", "Ada", &["password"]),
            ("long name", "ada@example.org", "12345678", &"n".repeat(81), &["display_name"]),
            ("control", "ada@example.org", "12345678", "A\u{7}da", &["display_name"]),
            ("reordered", "ada@example.org", "12345678", "\u{202e}adA", &["display_name"]),
        ] {
            let found: Vec<_> = match check(registration(email, password, display)) {
                Ok(checked) => {
                    assert_eq!(checked.email, checked.email.trim(), "{name}");
                    assert_eq!(checked.display_name, display.trim(), "{name}");
                    Vec::new()
                }
                Err(error) => error.details.into_iter().map(|detail| detail.field).collect(),
            };
            assert_eq!(found, bad, "{name}");
        }
    }

    #[test]
    fn a_refusal_never_repeats_the_password() {
        let error = check(registration("x", "hunter2", "x")).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
