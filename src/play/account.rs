//! Who plays: a login per server, kept in a file that only its owner can read.
//!
//! Without an e-mail address a guest is registered on first use. Tokens are renewed here and nowhere else: by the
//! refresh token, then by the password, then (guests only, when the server forgot them) by a new registration.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::client::{CallError, Client};

/// How the player wants to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    Guest,
    /// The password is never written to the file.
    Member {
        email: String,
        password: String,
    },
}

/// What is kept per server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    email: String,
    /// A guest's only: it was made here and nobody else knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_password: Option<String>,
    access_token: String,
    refresh_token: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    servers: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
    refresh_token: String,
}

/// The login in use.
#[derive(Debug)]
pub struct Account {
    client: Client,
    login: Login,
    file: PathBuf,
    entry: Entry,
}

impl Account {
    /// Takes the kept login, or makes one.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses, or the file cannot be read or written.
    pub async fn open(client: Client, login: Login, home: &Path) -> anyhow::Result<Self> {
        let file = home.join("accounts.json");
        let kept = read(&file)?.servers.remove(client.base()).filter(|entry| match &login {
            Login::Guest => entry.guest_password.is_some(),
            Login::Member { email, .. } => entry.email.eq_ignore_ascii_case(email),
        });
        let entry = match (kept, &login) {
            (Some(entry), _) => return Ok(Self { client, login, file, entry }),
            (None, Login::Guest) => register_guest(&client).await?,
            (None, Login::Member { email, password }) => sign_in(&client, email, password).await?,
        };
        let account = Self { client, login, file, entry };
        account.keep()?;
        Ok(account)
    }

    pub fn access_token(&self) -> &str {
        &self.entry.access_token
    }

    /// Gets a token in place of `stale`, which the server refused. Returns the new one.
    ///
    /// # Errors
    /// If the server cannot be reached or accepts none of what is known.
    pub async fn renew(&mut self, stale: &str) -> anyhow::Result<String> {
        // Another player on this machine may have renewed it; the refresh token we hold is then spent.
        if let Some(kept) = read(&self.file)?.servers.remove(self.client.base())
            && kept.email == self.entry.email
        {
            self.entry = kept;
        }
        if self.entry.access_token == stale {
            self.entry = self.fresh_entry().await?;
            self.keep()?;
        }
        Ok(self.entry.access_token.clone())
    }

    async fn fresh_entry(&self) -> Result<Entry, CallError> {
        let body = json!({ "refresh_token": self.entry.refresh_token });
        match self.client.post::<Tokens>("/auth/refresh", None, None, &body).await {
            Ok(Tokens { access_token, refresh_token }) => {
                return Ok(Entry { access_token, refresh_token, ..self.entry.clone() });
            }
            Err(error) if error.is_passing() => return Err(error),
            Err(_) => {}
        }
        match (&self.login, &self.entry.guest_password) {
            (Login::Member { email, password }, _) => sign_in(&self.client, email, password).await,
            (Login::Guest, Some(password)) => {
                match sign_in(&self.client, &self.entry.email, password).await {
                    Ok(entry) => Ok(Entry { guest_password: Some(password.clone()), ..entry }),
                    Err(error) if error.is_passing() => Err(error),
                    Err(_) => register_guest(&self.client).await,
                }
            }
            (Login::Guest, None) => register_guest(&self.client).await,
        }
    }

    /// Writes the entry beside those of other servers; whole or not at all.
    fn keep(&self) -> anyhow::Result<()> {
        let mut book = read(&self.file)?;
        book.servers.insert(self.client.base().to_owned(), self.entry.clone());
        write(&self.file, &book).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

/// Where accounts are kept: `WHATIF_PLAY_HOME`, else `whatif` in the user's configuration folder.
///
/// # Errors
/// If there is no home folder at all.
pub fn default_home() -> anyhow::Result<PathBuf> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("WHATIF_PLAY_HOME")
        .or_else(|| folder("XDG_CONFIG_HOME").map(|path| path.join("whatif")))
        .or_else(|| folder("HOME").map(|path| path.join(".config/whatif")))
        .context("no home folder: set WHATIF_PLAY_HOME to a folder for the login")
}

async fn register_guest(client: &Client) -> Result<Entry, CallError> {
    let email = format!("guest-{}@guest.invalid", Uuid::new_v4().simple());
    // 244 random bits, and all the kinds of character that a password rule may ask for.
    let password = format!("Aa1-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let body = json!({ "email": email, "password": password, "display_name": "Guest" });
    let key = Uuid::new_v4().to_string();
    let tokens: Tokens = client.post("/auth/register", None, Some(&key), &body).await?;
    let Tokens { access_token, refresh_token } = tokens;
    Ok(Entry { email, guest_password: Some(password), access_token, refresh_token })
}

async fn sign_in(client: &Client, email: &str, password: &str) -> Result<Entry, CallError> {
    let body = json!({ "email": email, "password": password });
    let Tokens { access_token, refresh_token } =
        client.post("/auth/login", None, None, &body).await?;
    Ok(Entry { email: email.to_owned(), guest_password: None, access_token, refresh_token })
}

fn read(file: &Path) -> anyhow::Result<Book> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged: repair or delete it", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Book::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn write(file: &Path, book: &Book) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let draft = file.with_extension(format!("{}.tmp", Uuid::new_v4().simple()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut out| {
            out.write_all(&serde_json::to_vec_pretty(book)?)?;
            out.sync_all()
        })
        .and_then(|()| fs::rename(&draft, file));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    Ok(written?)
}
