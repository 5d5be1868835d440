//! Where a store is, and the one place that knows every kind of store there is.

use std::fmt;
use std::path::PathBuf;

use super::Store;
use super::files::FileStore;
use super::follow::Follower;
use crate::error::{Code, Error, Result};
use crate::session::id::SessionId;

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of files, which may have to be made.
    Files(PathBuf),
    /// A database.
    Database(Uri),
}

impl Location {
    /// Tells whether looking there costs nothing to speak of: nobody has to be connected to.
    #[must_use]
    pub fn is_at_hand(&self) -> bool {
        matches!(self, Self::Files(_))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(root) => write!(f, "{}", root.display()),
            Self::Database(uri) => write!(f, "{uri}"),
        }
    }
}

/// The address of a database. It may have a password in it, which is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Uri(String);

impl Uri {
    /// Reads an address.
    ///
    /// # Errors
    /// Why it is none, as the end of a sentence, and without it.
    pub fn new(text: String) -> std::result::Result<Self, &'static str> {
        if text.starts_with("mongodb://") || text.starts_with("mongodb+srv://") {
            Ok(Self(text))
        } else {
            Err("it begins with neither mongodb:// nor mongodb+srv://")
        }
    }

    /// Returns the whole of it, for whoever connects.
    #[must_use]
    pub fn with_secrets(&self) -> &str {
        &self.0
    }
}

/// The address without user and password.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        // Options may have secrets as well.
        let place = rest.split(['?', '#']).next().unwrap_or_default();
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        write!(f, "{scheme}://{place}")
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}

/// Opens the store at a location; `None` where there is none yet.
///
/// # Errors
/// When it is there and cannot be opened; `config` where this build has no such kind of store.
pub fn open(location: &Location) -> Result<Option<Box<dyn Store>>> {
    match location {
        Location::Files(root) => Ok(FileStore::open(root)?.map(|store| Box::new(store) as _)),
        Location::Database(uri) => database(uri).map(Some),
    }
}

/// Opens the store at a location, making what is missing of it.
///
/// # Errors
/// When something is missing and cannot be made; otherwise as [`open`].
pub fn open_or_make(location: &Location) -> Result<Box<dyn Store>> {
    match location {
        Location::Files(root) => Ok(Box::new(FileStore::open_or_make(root)?)),
        Location::Database(uri) => database(uri),
    }
}

/// Follows the store at a location, which need not be there yet: one session of it, or all. What
/// is there already is told only `from_start`.
///
/// # Errors
/// As [`open`]; when it cannot be said which sessions there are.
pub fn follow(
    location: &Location,
    only: Option<SessionId>,
    from_start: bool,
) -> Result<Box<dyn Follower>> {
    match (open(location)?, location) {
        (Some(store), _) => store.follow(only, from_start),
        (None, Location::Files(root)) => Ok(FileStore::follow_missing(root, only)),
        (None, Location::Database(_)) => unreachable!("a database is there or is an error"),
    }
}

/// Connects to a database: here a build has the kinds it was built with.
fn database(_: &Uri) -> Result<Box<dyn Store>> {
    Err(Error::new(
        Code::Config,
        "OLLAMA_PROMPT_DB_URI is set, and this build has no database backend",
    )
    .hint("unset it to use the files under ~/.ollama-prompt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        let rows = [
            ("mongodb://h:27017/db", "mongodb://h:27017/db"),
            (
                "mongodb://u:p%40x@h,i:1/?tls=true&authMechanismProperties=k:s",
                "mongodb://h,i:1/",
            ),
            ("mongodb+srv://u:p@ss@h/db", "mongodb+srv://h/db"),
        ];
        for (text, expected) in rows {
            let uri = Uri::new(text.to_owned()).expect("an address");
            assert_eq!(uri.to_string(), expected);
            assert_eq!(format!("{uri:?}"), format!("Uri({expected})"));
            assert_eq!(uri.with_secrets(), text);
        }
        assert!(Uri::new("postgres://h".to_owned()).is_err());
    }
}
