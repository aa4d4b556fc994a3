//! The secret that every other key is derived from, and where it comes from.
//!
//! Signing, refresh tokens and sealed answers each use a key of their own, so that none of them says anything about
//! another. Read once at start, before the tree.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::{hkdf, rand as random};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::config;

/// HS256 wants a key at least as long as its output (RFC 7518, 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

const FILE: &str = "jwt.secret";
const GENERATED_BYTES: usize = 48;

/// The current secret and those that are still honoured. Shows nothing of itself.
#[derive(Clone)]
pub struct ServerSecret {
    current: Arc<SecretSlice<u8>>,
    older: Vec<Arc<SecretSlice<u8>>>,
}

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the secret has {0} bytes, at least {MIN_SECRET_BYTES} are needed")]
    TooShort(usize),
    #[error("{}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{}: has {bytes} bytes, at least {MIN_SECRET_BYTES} are needed; delete it to have a new one made, which signs everyone out", file.display())]
    FileTooShort { file: PathBuf, bytes: usize },
    #[error("{}: others than its owner can read it (mode {mode:03o}); set it to 600", file.display())]
    Exposed { file: PathBuf, mode: u32 },
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(…)")
    }
}

impl ServerSecret {
    /// # Errors
    /// [`SecretError::TooShort`] below [`MIN_SECRET_BYTES`].
    pub fn new(secret: &SecretString) -> Result<Self, SecretError> {
        let bytes = secret.expose_secret().as_bytes();
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort(bytes.len()));
        }
        Ok(Self { current: Arc::new(bytes.to_vec().into()), older: Vec::new() })
    }

    /// Goes on honouring what was made with the current secret of `older`.
    #[must_use]
    pub fn with_older(mut self, older: ServerSecret) -> Self {
        self.older.push(older.current);
        self.older.extend(older.older);
        self
    }

    /// The configured secret, else the one kept in `data_dir`, which is made there if there is none.
    ///
    /// # Errors
    /// A secret that is too short; a file that cannot be read or made, or that others can read.
    pub fn load(auth: &config::Auth, data_dir: &Path) -> Result<Self, SecretError> {
        if let Some(secret) = &auth.jwt_secret {
            return Self::new(secret);
        }
        let file = data_dir.join(FILE);
        let io = |source| SecretError::Io { file: file.clone(), source };
        match fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                generate(data_dir, &file).map_err(io)?;
            }
            found => _ = found.map_err(io)?,
        }
        check_mode(&file)?;
        let text = SecretString::from(fs::read_to_string(&file).map_err(io)?);
        let text = SecretString::from(text.expose_secret().trim());
        Self::new(&text).map_err(|_| SecretError::FileTooShort {
            bytes: text.expose_secret().len(),
            file: file.clone(),
        })
    }

    /// The keys for a purpose of the current secret and then of the older ones.
    pub(in crate::actors) fn derive_all(&self, purpose: &str) -> Vec<[u8; 32]> {
        self.all().map(|secret| derive(secret, purpose)).collect()
    }

    /// The secrets as they are, the current one first: access tokens are signed with them directly, so that whoever
    /// shares the configured secret can check them.
    pub(super) fn all(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.current).chain(&self.older).map(|secret| secret.expose_secret())
    }
}

/// HKDF-SHA256: 32 bytes of key for a purpose.
pub(in crate::actors) fn derive(secret: &[u8], purpose: &str) -> [u8; 32] {
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"whatif")
        .extract(secret)
        .expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .expect("HKDF-SHA256 gives up to 8160 bytes");
    key
}

/// Bytes that nobody can guess.
pub(in crate::actors) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Makes the file whole or not at all. If another process was first, its secret stays.
fn generate(folder: &Path, file: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let secret = SecretString::from(URL_SAFE_NO_PAD.encode(random_bytes::<GENERATED_BYTES>()));
    let draft = folder.join(format!(".{FILE}.{:016x}", u64::from_ne_bytes(random_bytes())));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut out| {
        writeln!(out, "{}", secret.expose_secret())?;
        out.sync_all()
    });
    // A link, unlike a rename, never replaces what is there.
    let linked = written.and_then(|()| fs::hard_link(&draft, file));
    let _ = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

#[cfg(unix)]
fn check_mode(file: &Path) -> Result<(), SecretError> {
    use std::os::unix::fs::PermissionsExt;
    let found =
        fs::metadata(file).map_err(|source| SecretError::Io { file: file.into(), source })?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(SecretError::Exposed { file: file.into(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_file: &Path) -> Result<(), SecretError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unset() -> config::Auth {
        config::Auth::default()
    }

    #[test]
    fn is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("new/data");
        let first = ServerSecret::load(&unset(), &data).unwrap();
        let again = ServerSecret::load(&unset(), &data).unwrap();
        assert_eq!(first.derive_all("x"), again.derive_all("x"));
        assert_ne!(first.derive_all("x"), first.derive_all("y"), "each purpose has its own key");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no drafts are left");
        assert_eq!(format!("{first:?}"), "ServerSecret(…)");
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let start = std::sync::Barrier::new(8);
            let keys: Vec<_> = std::thread::scope(|scope| {
                let load = || {
                    start.wait();
                    ServerSecret::load(&unset(), folder.path()).unwrap().derive_all("x")
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]));
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_exposed_or_cut_file_is_refused_by_name() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let set_mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::write(&file, "a".repeat(40)).unwrap();
        set_mode(0o640);
        let error = ServerSecret::load(&unset(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("jwt.secret") && error.contains("mode 640"), "{error}");
        set_mode(0o600);
        assert!(ServerSecret::load(&unset(), folder.path()).is_ok());
        fs::write(&file, "cut\n").unwrap();
        let error = ServerSecret::load(&unset(), folder.path()).unwrap_err().to_string();
        assert!(error.contains("jwt.secret: has 3 bytes"), "{error}");
    }

    #[test]
    fn a_configured_secret_wins_and_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let long: SecretString = "0123456789abcdef0123456789abcdef".into();
        let auth = config::Auth { jwt_secret: Some(long), ..unset() };
        assert!(ServerSecret::load(&auth, folder.path()).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let auth = config::Auth { jwt_secret: Some("short".into()), ..unset() };
        let refused = ServerSecret::load(&auth, folder.path());
        assert!(matches!(refused, Err(SecretError::TooShort(5))));
    }
}
