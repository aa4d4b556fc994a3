//! Reads a content folder from the disk: the only place of the engine that does I/O, for authors at work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::content::{PACK_FILES, SHARED_FILES, Sources};

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    #[error("no folder of a language, such as en, in {0}")]
    NoLanguage(PathBuf),
}

/// The sources in a folder like `assets/storyteller`: a folder for each language, and in it one for each pack.
///
/// # Errors
/// When something there cannot be read, or there is nothing.
pub fn from_folder(folder: &Path) -> Result<Vec<Sources>, FolderError> {
    let mut sources = Vec::new();
    for language in folders(folder)? {
        let place = folder.join(&language);
        let mut packs = Vec::new();
        for id in folders(&place)? {
            let files = texts(&place.join(&id), PACK_FILES)?;
            packs.push((id, files));
        }
        sources.push(Sources { language, shared: texts(&place, SHARED_FILES)?, packs });
    }
    if sources.is_empty() {
        return Err(FolderError::NoLanguage(folder.to_owned()));
    }
    Ok(sources)
}

/// The names of the folders in `place`, in order.
fn folders(place: &Path) -> Result<Vec<String>, FolderError> {
    let unreadable = |error| FolderError::Unreadable(place.to_owned(), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(place).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn texts<const N: usize>(
    place: &Path,
    files: [&str; N],
) -> Result<[Option<String>; N], FolderError> {
    let mut texts = [const { None }; N];
    for (text, file) in texts.iter_mut().zip(files) {
        let path = place.join(format!("{file}.toml"));
        *text = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(FolderError::Unreadable(path, error)),
        };
    }
    Ok(texts)
}
