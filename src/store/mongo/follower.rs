//! Following: of each session what is new is what has a higher number.

use std::collections::BTreeMap;

use super::document::Position;
use super::{MongoStore, at_once, events_of};
use crate::error::Result;
use crate::session::event::Timestamp;
use crate::session::id::SessionId;
use crate::store::follow::{Followed, Follower, Tell};

/// Who follows the sessions of a database.
#[derive(Debug)]
pub(super) struct MongoFollower {
    store: MongoStore,
    only: Option<SessionId>,
    followed: BTreeMap<SessionId, (Position, Followed)>,
}

impl MongoFollower {
    /// Begins with what is there now, of which nothing is told, or with nothing.
    ///
    /// # Errors
    /// `store_*`.
    pub(super) fn new(
        store: MongoStore,
        only: Option<SessionId>,
        from_start: bool,
    ) -> Result<Self> {
        let mut follower = Self {
            store,
            only,
            followed: BTreeMap::new(),
        };
        if !from_start {
            follower.go_on(|followed, _, entries| followed.learn(entries))?;
        }
        Ok(follower)
    }

    /// Hands over what came into each session since the last time.
    fn go_on(
        &mut self,
        mut take: impl FnMut(&mut Followed, SessionId, &[crate::session::fold::Entry]),
    ) -> Result<()> {
        let journal = &self.store.journal;
        let heads = match self.only {
            Some(id) => journal.head(id, &mut at_once())?.into_iter().collect(),
            None => journal.heads(&mut at_once())?,
        };
        for head in heads {
            let (seen, followed) = self.followed.entry(head.session).or_default();
            if head.at.n == seen.n {
                continue;
            }
            let news = match journal.read_after(head.session, *seen, &mut at_once()) {
                Ok(news) => news,
                // One of many that cannot be read now may be the next time.
                Err(_) if self.only.is_none() => continue,
                Err(error) => return Err(error),
            };
            if let Some(last) = news.last() {
                *seen = last.at;
            }
            let mut entries = events_of(&news).entries;
            entries.sort_by_key(|entry| entry.event.id);
            take(followed, head.session, &entries);
        }
        Ok(())
    }
}

impl Follower for MongoFollower {
    fn sessions(&self) -> usize {
        let is_open = |(seen, _): &&(Position, Followed)| seen.end > 0;
        self.followed.values().filter(is_open).count()
    }

    fn look(&mut self, _: Timestamp, tell: &mut Tell<'_>) -> Result<()> {
        self.go_on(|followed, id, entries| followed.tell(id, entries, tell))
    }
}
