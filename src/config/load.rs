//! Reads `config.toml` and the environment and merges them into one [`Config`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat};

use super::database::{parse_url, place};
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
    ("DATABASE_URL", "database.url"),
    ("DATABASE_READ_URL", "database.read_url"),
    ("DATABASE_POOL_SIZE", "database.pool_size"),
    ("AWS_DEFAULT_REGION", "dynamodb.region"),
    ("AWS_REGION", "dynamodb.region"),
    ("AWS_ENDPOINT_URL", "dynamodb.endpoint"),
    ("AWS_ENDPOINT_URL_DYNAMODB", "dynamodb.endpoint"),
    ("DYNAMODB_ENDPOINT", "dynamodb.endpoint"),
    ("AWS_ACCESS_KEY_ID", "dynamodb.access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "dynamodb.secret_access_key"),
    ("AWS_SESSION_TOKEN", "dynamodb.session_token"),
    ("AWS_DEFAULT_REGION", "providers.bedrock.region"),
    ("AWS_REGION", "providers.bedrock.region"),
    ("AWS_ACCESS_KEY_ID", "providers.bedrock.access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "providers.bedrock.secret_access_key"),
    ("AWS_SESSION_TOKEN", "providers.bedrock.session_token"),
    ("AWS_BEARER_TOKEN_BEDROCK", "providers.bedrock.api_key"),
    ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "providers.bedrock.base_url"),
    ("OPENAI_API_KEY", "providers.openai.api_key"),
    ("OPENAI_BASE_URL", "providers.openai.base_url"),
    ("ANTHROPIC_API_KEY", "providers.anthropic.api_key"),
    ("ANTHROPIC_BASE_URL", "providers.anthropic.base_url"),
    ("GEMINI_API_KEY", "providers.gemini.api_key"),
    ("GEMINI_BASE_URL", "providers.gemini.base_url"),
    ("OLLAMA_BASE_URL", "providers.ollama.base_url"),
    ("SEARXNG_BASE_URL", "search.searxng.base_url"),
    ("TAVILY_API_KEY", "search.tavily.api_key"),
];

/// Likewise, for durations: seconds as a bare number, as these names have it, or with a unit.
const CONVENTIONAL_SECONDS: &[(&str, &str)] =
    &[("JWT_EXPIRATION", "auth.access_ttl"), ("DATABASE_TIMEOUT", "database.timeout")];

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
        format!(
            "configuration of {file} and the environment is valid\n\n\
             users          {users}\n\
             scenarios      {scenarios}\n\
             event log      {log}\n\
             text           {text}\n\
             moderation     {moderation}\n\n{config:#?}",
            users = users(config),
            log = match config.redis.servers() {
                Ok(Some(servers)) => servers.to_string(),
                _ => format!("{:?} (embedded)", config.event_log.durability),
            },
            scenarios = config.dynamodb.describe(&config.data_dir),
            text = config.providers.describe(),
            moderation = config.moderation.describe(),
        )
    }
}

/// Where accounts and kept answers are.
fn users(config: &Config) -> String {
    let shown = |url| match parse_url(url) {
        Ok(server) => place(&server),
        // Refused when it was loaded.
        Err(wrong) => wrong,
    };
    match (&config.database.url, &config.database.read_url) {
        (None, _) => format!("SQLite in {}", config.data_dir.display()),
        (Some(url), None) => format!("PostgreSQL at {}", shown(url)),
        (Some(url), Some(read)) => {
            format!("PostgreSQL at {}, read replica at {}", shown(url), shown(read))
        }
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
    for (name, key) in CONVENTIONAL_SECONDS {
        if let Some(value) = read_variable(env, name)? {
            conventional = set(conventional, name, key, duration(name, value.trim())?)?;
        }
    }
    let ours: config::Map<String, String> =
        env.iter().filter(|(name, _)| name.starts_with("WHATIF__")).map(own).collect();
    let mut environment = Environment::with_prefix("WHATIF")
        .prefix_separator("__")
        .separator("__")
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("server.origins")
        .with_list_parse_key("server.trusted_proxies")
        .with_list_parse_key("providers.text")
        .with_list_parse_key("moderation.words")
        .with_list_parse_key("search.providers")
        .with_list_parse_key("search.wikipedia.languages");
    for name in ours.keys().filter(|name| name.ends_with("__MODELS")) {
        let key = name.trim_start_matches("WHATIF__").replace("__", ".").to_lowercase();
        environment = environment.with_list_parse_key(&key);
    }
    let ours = environment.source(Some(ours));
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

fn duration(name: &str, value: &str) -> Result<String, ConfigError> {
    if value.parse::<u64>().is_ok() {
        return Ok(format!("{value}s"));
    }
    match humantime_serde::re::humantime::parse_duration(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err(ConfigError::Value {
            origin: name.into(),
            message: format!("`{value}` is not a number of seconds"),
        }),
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
    use crate::config::DynamoEngine;

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
            ("DATABASE_TIMEOUT", "7"),
            ("WHATIF__SERVER__ORIGINS", "https://a.example,https://b.example"),
            ("WHATIF__SERVER__TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8"),
            ("WHATIF__INTERNAL__ENABLED", "false"),
        ]);
        let config = load(Some(toml.path()), &vars).unwrap().config;
        assert_eq!(config.server.port, 3333);
        assert_eq!(config.log.level, "warn");
        assert_eq!(config.auth.access_ttl.as_secs(), 60);
        assert_eq!(config.database.timeout.as_secs(), 7);
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
    fn a_database_is_told_without_its_password() {
        let url = "postgres://ada:hush@db.example/whatif";
        let held = file(&format!("{url}\n"));
        let secret = "0123456789abcdef0123456789abcdef";
        let vars = env(&[
            ("DATABASE_URL_FILE", held.path().to_str().unwrap()),
            ("DATABASE_READ_URL", "postgres://ada:hush@replica.example/whatif"),
            ("DATABASE_POOL_SIZE", "7"),
            ("DATABASE_TIMEOUT", "1500ms"),
            ("JWT_SECRET", secret),
        ]);
        let outcome = load(Some(file("").path()), &vars).unwrap();
        let database = &outcome.config.database;
        assert_eq!(database.url.as_ref().unwrap().expose_secret(), url);
        assert_eq!((database.pool_size, database.timeout.as_millis()), (7, 1_500));
        let report = outcome.report();
        let users =
            "PostgreSQL at db.example:5432/whatif, read replica at replica.example:5432/whatif";
        assert!(report.contains(users) && !report.contains("hush"), "{report}");
    }

    #[test]
    fn the_names_of_aws_choose_the_engine_and_its_own_name_wins() {
        let mut vars = env(&[
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ]);
        let load = |vars: &BTreeMap<String, String>| {
            load(Some(file("").path()), vars).unwrap().config.dynamodb
        };
        let aws = DynamoEngine::Aws { region: "eu-central-1", endpoint: None };
        assert_eq!(load(&vars).engine(), aws);
        assert_eq!(load(&vars).secret_access_key.unwrap().expose_secret(), "hush");
        vars.insert("AWS_ENDPOINT_URL".into(), "http://127.0.0.1:4566".into());
        vars.insert("DYNAMODB_ENDPOINT".into(), "http://127.0.0.1:8000".into());
        assert_eq!(load(&vars).endpoint.unwrap(), "http://127.0.0.1:8000");
    }

    #[test]
    fn a_key_is_all_that_a_provider_needs() {
        let text = |vars: &[(&str, &str)]| {
            let report = load(Some(file("").path()), &env(vars)).unwrap().report();
            let line = report.lines().find_map(|line| line.strip_prefix("text "));
            assert!(!report.contains("hush"), "{report}");
            line.unwrap().trim().to_owned()
        };
        let held = file("hush\n");
        let path = held.path().to_str().unwrap();
        assert_eq!(text(&[]), "storyteller");
        assert_eq!(
            text(&[("ANTHROPIC_API_KEY", "hush")]),
            "anthropic (claude-haiku-4-5), storyteller"
        );
        assert_eq!(
            text(&[
                ("OPENAI_API_KEY_FILE", path),
                ("GEMINI_API_KEY_FILE", path),
                ("WHATIF__PROVIDERS__OPENAI__MODEL", "o"),
                ("WHATIF__PROVIDERS__GEMINI__MODEL", "g"),
                ("WHATIF__PROVIDERS__GEMINI__MODELS", "g,h"),
            ]),
            "openai (o), gemini (g), storyteller"
        );
        // Credentials of AWS may be there for its database alone.
        let aws = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "hush"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ];
        assert_eq!(text(&aws), "storyteller");
        let chosen = ("WHATIF__PROVIDERS__TEXT", "local,bedrock");
        let local = ("WHATIF__PROVIDERS__LOCAL__KIND", "ollama");
        let url = ("WHATIF__PROVIDERS__LOCAL__BASE_URL", "http://127.0.0.1:11434");
        let model = ("WHATIF__PROVIDERS__BEDROCK__MODEL", "b");
        let vars = [&aws[..], &[chosen, local, url, model]].concat();
        assert_eq!(text(&vars), "local (llama3.2), bedrock (b), storyteller");
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
            ("cache", "[cache]\nstore_timeout = \"0s\"\n", &[], "cache.store_timeout"),
            ("proxy", "", &[("WHATIF__SERVER__TRUSTED_PROXIES", "10.0.0.0/99")], "10.0.0.0/99"),
            ("redis", "", &[("REDIS_URL", "http://localhost")], "redis.url"),
            ("lease", "[sessions]\nlease_renew = \"5s\"\n", &[], "sessions.lease_renew"),
            ("half a key", "", &[("AWS_ACCESS_KEY_ID", "AKIA")], "dynamodb.secret_access_key"),
            ("endpoint", "", &[("DYNAMODB_ENDPOINT", "localhost:8000")], "dynamodb.endpoint"),
            ("production", "", &[("APP_ENV", "production")], "auth.jwt_secret"),
            ("no secret", "", &[("DATABASE_URL", "postgres://db/whatif")], "JWT_SECRET"),
            ("no url", "", &[("DATABASE_READ_URL", "postgres://db/whatif")], "DATABASE_URL"),
            ("bad url", "", &[("DATABASE_URL", "db.example")], "database.url"),
            ("bad pool", "", &[("DATABASE_POOL_SIZE", "many")], "database.pool_size"),
            ("bad timeout", "", &[("DATABASE_TIMEOUT", "soon")], "DATABASE_TIMEOUT"),
            ("provider", "", &[("WHATIF__PROVIDERS__TEXT", "oracle")], "`oracle`"),
            ("moderation", "[moderation]\nprovider = \"wordlist\"\n", &[], "moderation.words_file"),
            ("window", "[moderation]\nwindow_chars = 1\n", &[], "moderation.window_chars"),
            ("provider key", "", &[("WHATIF__PROVIDERS__GEMINI__MODLE", "m")], "modle"),
        ];
        for (name, toml, vars, expected) in cases {
            let error = load(Some(file(toml).path()), &env(vars)).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
            assert_eq!(error.lines().count(), 1, "{name}: {error}");
        }
    }
}
