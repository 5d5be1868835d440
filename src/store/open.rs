//! Where a store is, and the one place that knows every kind of store there is.

use std::fmt;
use std::path::PathBuf;

use super::Store;
use super::files::FileStore;
use super::follow::Follower;
use super::uri::Uri;
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

    /// Returns it, if this build has such a kind of store. `given_by` is what said it, `otherwise`
    /// what may be done without another build.
    ///
    /// # Errors
    /// `config`, without its address.
    pub fn in_this_build(self, given_by: &str, otherwise: &str) -> Result<Self> {
        let Self::Database(uri) = &self else {
            return Ok(self);
        };
        let (why, is_there) = if cfg!(not(feature = "mongodb")) {
            ("this build has no database backend", false)
        } else if uri.is_by_dns() {
            let why = "this build does not look up mongodb+srv:// addresses";
            (why, cfg!(feature = "mongodb-srv"))
        } else {
            ("", true)
        };
        if is_there {
            return Ok(self);
        }
        let feature = if uri.is_by_dns() {
            "mongodb-srv"
        } else {
            "mongodb"
        };
        let sentence = format!("{given_by} cannot be used: {why}");
        Err(Error::new(Code::Config, sentence)
            .hint(format!("build with --features {feature}, or {otherwise}")))
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

/// Gets ready to speak to a database.
#[cfg(feature = "mongodb")]
fn database(uri: &Uri) -> Result<Box<dyn Store>> {
    Ok(Box::new(super::mongo::MongoStore::open(uri)?))
}

/// This build speaks to none.
#[cfg(not(feature = "mongodb"))]
fn database(uri: &Uri) -> Result<Box<dyn Store>> {
    let location = Location::Database(uri.clone());
    location.in_this_build(&uri.to_string(), "name a directory")?;
    unreachable!("no build without databases has one")
}
