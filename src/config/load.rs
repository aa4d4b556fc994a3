//! Reads `config.toml` and the environment and merges them into one [`Config`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat};

use super::{Config, check};

/// Names that operators expect, and the keys they stand for. A `WHATIF__…` name wins over them.
const CONVENTIONAL: &[(&str, &str)] = &[
    ("APP_ENV", "env"),
    ("APP_PORT", "server.port"),
    ("PORT", "server.port"),
    ("DATA_DIR", "data_dir"),
    ("LOG_LEVEL", "log.level"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("REDIS_URL", "redis.url"),
    ("OPENAI_API_KEY", "providers.openai.api_key"),
    ("OPENAI_BASE_URL", "providers.openai.base_url"),
];

/// Seconds as a bare number, as this conventional name has it.
const JWT_EXPIRATION: &str = "JWT_EXPIRATION";

/// One line for the person who starts the process.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {cause}")]
    File { path: String, cause: String },
    #[error("bad configuration in {origin}: {message}")]
    Value { origin: String, message: String },
    #[error("bad configuration: {key}: {message}")]
    Rule { key: &'static str, message: String },
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Outcome {
    pub config: Config,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

impl Outcome {
    /// For a person: where the configuration came from, what it is, and which back ends follow from it.
    pub fn report(&self) -> String {
        let config = &self.config;
        let file = self.file.as_ref().map_or("no file".into(), |file| file.display().to_string());
        let text: Vec<&str> = config
            .providers
            .text
            .iter()
            .map(String::as_str)
            .filter(|name| *name != "openai" || config.providers.openai.is_configured())
            .filter(|name| *name != "storyteller")
            .chain(["storyteller"])
            .collect();
        format!(
            "configuration of {file} and the environment is valid\n\n\
             users          SQLite in {dir}\n\
             scenarios      embedded DynamoDB engine in {dir}\n\
             event log      {log}\n\
             text           {text}\n\n{config:#?}",
            dir = config.data_dir.display(),
            log = match config.redis.servers() {
                Ok(Some(servers)) => servers.to_string(),
                _ => format!("{:?} (embedded)", config.event_log.durability),
            },
            text = text.join(", "),
        )
    }
}

/// Loads `file` (or `config.toml` in the working directory, if there is one) and the given environment.
///
/// # Errors
/// [`ConfigError`] names the file and the key.
pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Outcome, ConfigError> {
    let file = match file {
        Some(path) => Some(path.to_path_buf()),
        None => Some(PathBuf::from("config.toml")).filter(|path| path.exists()),
    };
    let mut builder = config::Config::builder();
    if let Some(path) = &file {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::File { path: name.clone(), cause: error.to_string() })?;
        // Read once on its own, so that a mistake in the file is reported with the file's name.
        let source = File::from_str(&text, FileFormat::Toml);
        parse(config::Config::builder().add_source(source.clone()), &name)?;
        builder = builder.add_source(source);
    }
    let mut conventional = config::Config::builder();
    for (name, key) in CONVENTIONAL {
        if let Some(value) = read_variable(env, name)? {
            conventional = set(conventional, name, key, value)?;
        }
    }
    if let Some(value) = read_variable(env, JWT_EXPIRATION)? {
        let seconds: u64 = value.trim().parse().map_err(|_| ConfigError::Value {
            origin: JWT_EXPIRATION.into(),
            message: format!("`{value}` is not a number of seconds"),
        })?;
        conventional = set(conventional, JWT_EXPIRATION, "auth.access_ttl", format!("{seconds}s"))?;
    }
    let ours: config::Map<String, String> =
        env.iter().filter(|(name, _)| name.starts_with("WHATIF__")).map(own).collect();
    let ours = Environment::with_prefix("WHATIF")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("server.origins")
        .with_list_parse_key("server.trusted_proxies")
        .with_list_parse_key("providers.text")
        .source(Some(ours));
    let conventional = conventional.build().map_err(|error| ConfigError::Value {
        origin: "the environment".into(),
        message: one_line(&error),
    })?;
    let config = parse(builder.add_source(conventional).add_source(ours), "the environment")?;
    check::rules(&config)?;
    Ok(Outcome { config, file })
}

fn own((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

type Builder = config::ConfigBuilder<config::builder::DefaultState>;

/// A variable, or the content of the file that `NAME_FILE` points to. Empty counts as absent.
fn read_variable(
    env: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<String>, ConfigError> {
    if let Some(value) = env.get(name).filter(|value| !value.is_empty()) {
        return Ok(Some(value.clone()));
    }
    let Some(path) = env.get(&format!("{name}_FILE")).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) => Err(ConfigError::File { path: path.clone(), cause: error.to_string() }),
    }
}

fn set(builder: Builder, name: &str, key: &str, value: String) -> Result<Builder, ConfigError> {
    builder
        .set_override(key, value)
        .map_err(|error| ConfigError::Value { origin: name.into(), message: error.to_string() })
}

fn parse(builder: Builder, source: &str) -> Result<Config, ConfigError> {
    builder
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| ConfigError::Value { origin: source.into(), message: one_line(&error) })
}

fn one_line(error: &config::ConfigError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn the_shipped_file_says_what_the_defaults_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
        let shipped = load(Some(&path), &env(&[])).unwrap().config;
        assert_eq!(format!("{shipped:#?}"), format!("{:#?}", Config::default()));
    }

    #[test]
    fn our_names_win_over_conventional_ones_and_both_over_the_file() {
        let toml = file("[server]\nport = 1111\n[log]\nlevel = \"warn\"\n");
        let vars = env(&[
            ("PORT", "2222"),
            ("WHATIF__SERVER__PORT", "3333"),
            ("JWT_EXPIRATION", "60"),
            ("WHATIF__SERVER__ORIGINS", "https://a.example,https://b.example"),
            ("WHATIF__SERVER__TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8"),
            ("WHATIF__INTERNAL__ENABLED", "false"),
        ]);
        let config = load(Some(toml.path()), &vars).unwrap().config;
        assert_eq!(config.server.port, 3333);
        assert_eq!(config.log.level, "warn");
        assert_eq!(config.auth.access_ttl.as_secs(), 60);
        assert_eq!(config.server.origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.server.trusted_proxies.len(), 2);
        assert!(!config.internal.enabled);
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_is_never_printed() {
        let secret = "0123456789012345678901234567890123456789";
        let held = file(&format!("{secret}\n"));
        let vars = env(&[("JWT_SECRET_FILE", held.path().to_str().unwrap())]);
        let config = load(Some(file("").path()), &vars).unwrap().config;
        assert_eq!(config.auth.jwt_secret.as_ref().unwrap().expose_secret(), secret);
        assert!(!format!("{config:?}").contains(secret));

        let url = format!("redis://:{secret}@redis.example:6379");
        let outcome = load(Some(file("").path()), &env(&[("REDIS_URL", &url)])).unwrap();
        let report = outcome.report();
        assert!(report.contains("Redis at redis.example:6379\n") && !report.contains(secret));
    }

    #[test]
    fn mistakes_are_named_in_one_line() {
        let cases = [
            ("unknown key", "[server]\nprot = 1\n", &[][..], "prot"),
            ("bad type", "[server]\nport = \"many\"\n", &[], "server.port"),
            ("not toml", "[server\n", &[], "bad configuration"),
            ("bad variable", "", &[("PORT", "70000")], "server.port"),
            ("unknown variable", "", &[("WHATIF__SERVER__PROT", "1")], "prot"),
            ("short secret", "", &[("JWT_SECRET", "short")], "auth.jwt_secret"),
            ("limit", "[limits]\nper_user = 0\n", &[], "limits.per_user"),
            ("proxy", "", &[("WHATIF__SERVER__TRUSTED_PROXIES", "10.0.0.0/99")], "10.0.0.0/99"),
            ("redis", "", &[("REDIS_URL", "http://localhost")], "redis.url"),
            ("lease", "[sessions]\nlease_renew = \"5s\"\n", &[], "sessions.lease_renew"),
            ("production", "", &[("APP_ENV", "production")], "auth.jwt_secret"),
        ];
        for (name, toml, vars, expected) in cases {
            let error = load(Some(file(toml).path()), &env(vars)).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
            assert_eq!(error.lines().count(), 1, "{name}: {error}");
        }
    }
}
