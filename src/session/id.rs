//! Ids of sessions and events, and their grammar.
//!
//! A session id is a UUID; new ones are version 7 (48 bits of milliseconds, then random), so
//! they sort by age. An event id is a ULID. Whatever comes from outside is held to these types
//! before a path is built from it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use uuid::Uuid;

/// The id of a session: a UUID, written in lower case with hyphens; also its directory's name.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize,
)]
#[serde(transparent)]
#[schemars(extend("format" = "uuid"))]
pub struct SessionId(#[schemars(with = "String")] Uuid);

impl SessionId {
    /// Makes a new id from milliseconds since 1970 and 80 random bits (74 of them are used).
    #[must_use]
    pub fn from_parts(now_ms: u64, random: u128) -> Self {
        let bits = Ulid::from_parts(now_ms, random).0;
        Self(
            uuid::Builder::from_u128(bits)
                .with_version(uuid::Version::SortRand)
                .with_variant(uuid::Variant::RFC4122)
                .into_uuid(),
        )
    }

    /// Returns the id that `name` always has: a version 5 UUID (SHA-1) under the URL namespace,
    /// of `ollama-prompt:session:NAME`, so that other programs can compute it.
    #[must_use]
    pub fn from_key(name: &str) -> Self {
        let name = format!("ollama-prompt:session:{name}");
        Self(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
    }

    /// Returns the number, 0 to 255, of the lock file this session shares with others: its last
    /// two hexadecimal digits.
    #[must_use]
    pub fn stripe(self) -> u8 {
        self.0.as_bytes()[15]
    }
}

impl FromStr for SessionId {
    type Err = NotAnId;

    /// Reads a UUID with hyphens, or the 26-character ULID spelling of the same bits, in any case.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        match text.len() {
            36 => Uuid::try_parse(text).map(Self).map_err(|_| NotAnId),
            26 => Ulid::from_string(text)
                .map(|u| Self(Uuid::from_u128(u.0)))
                .map_err(|_| NotAnId),
            _ => Err(NotAnId),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// The id of an event: a ULID. The order of ids is the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"))]
pub struct EventId(#[schemars(with = "String")] Ulid);

impl EventId {
    /// The last millisecond of the year 9999, as milliseconds since 1970: later ids are damage.
    pub const MAX_MS: u64 = 253_402_300_799_999;

    /// Returns the id that follows everything seen: its time is now, or one millisecond after
    /// the highest id the session has, whichever is later, so that a clock that stepped back or
    /// another machine's that was ahead never reorders a conversation. The random bits are fresh
    /// each time: two copies of a session that go on apart never mint the same id.
    #[must_use]
    pub fn next(now_ms: u64, highest: Option<Self>, random: u128) -> Self {
        let after = highest.map_or(0, |id| id.timestamp_ms() + 1);
        Self(Ulid::from_parts(
            now_ms.max(after).min(Self::MAX_MS),
            random,
        ))
    }

    /// Returns the random part, 80 bits.
    #[must_use]
    pub fn random(self) -> u128 {
        self.0.random()
    }

    /// Returns the time part, in milliseconds since 1970.
    #[must_use]
    pub fn timestamp_ms(self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl FromStr for EventId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let id = Ulid::from_string(text).map(Self).map_err(|_| NotAnId)?;
        if id.timestamp_ms() > Self::MAX_MS {
            Err(NotAnId)
        } else {
            Ok(id)
        }
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnId;

impl fmt::Display for NotAnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id")
    }
}

impl std::error::Error for NotAnId {}

/// A session as a user names it: an id, or a fragment from its beginning or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionRef {
    /// The full id.
    Full(SessionId),
    /// Eight characters or more that may be the beginning or the end of one, in lower case.
    Fragment(String),
}

impl FromStr for SessionRef {
    type Err = NotAnId;

    /// Accepts `[0-9A-Za-z-]{8,64}`: what is no id and no fragment of one names nothing, which
    /// is for the store to say.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Full(id));
        }
        let grammatical = (8..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if grammatical {
            Ok(Self::Fragment(text.to_ascii_lowercase()))
        } else {
            Err(NotAnId)
        }
    }
}

impl SessionRef {
    /// Tells whether this names `id`.
    #[must_use]
    pub fn matches(&self, id: SessionId) -> bool {
        match self {
            Self::Full(full) => *full == id,
            Self::Fragment(part) => {
                let text = id.to_string();
                text.starts_with(part.as_str()) || text.ends_with(part.as_str())
            }
        }
    }
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(id) => id.fmt(f),
            Self::Fragment(part) => f.write_str(part),
        }
    }
}

/// A turn of a session, written `ID:TURN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The session.
    pub session: SessionRef,
    /// The turn.
    pub turn: EventId,
}

impl FromStr for Address {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (session, turn) = text.split_once(':').ok_or(NotAnId)?;
        Ok(Self {
            session: session.parse()?,
            turn: turn.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RANDOM: u128 = 0x1234_5678_9abc_def0_1234;

    #[test]
    fn a_new_session_id_is_a_version_7_uuid_of_its_time() {
        let id = SessionId::from_parts(0x0199_aabb_ccdd, u128::MAX >> 48).to_string();
        assert_eq!(id, "0199aabb-ccdd-7fff-bfff-ffffffffffff");
        let uuid = Uuid::try_parse(&id).expect("a UUID");
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn a_key_always_names_the_same_session() {
        // python3 -c "import uuid; print(uuid.uuid5(uuid.NAMESPACE_URL, 'ollama-prompt:session:main'))"
        assert_eq!(
            SessionId::from_key("main").to_string(),
            "8029a7ef-a5c3-5f6d-9fba-0a44b16eb20a"
        );
        assert_ne!(SessionId::from_key("main"), SessionId::from_key("Main"));
    }

    #[test]
    fn what_names_a_session_and_what_does_not() {
        let id = SessionId::from_parts(1_700_000_000_000, RANDOM);
        let text = id.to_string();
        let ulid = Ulid(Uuid::try_parse(&text).expect("a UUID").as_u128()).to_string();
        for full in [
            text.clone(),
            text.to_uppercase(),
            ulid.clone(),
            ulid.to_lowercase(),
        ] {
            assert_eq!(full.parse(), Ok(SessionRef::Full(id)), "{full}");
        }
        for part in [&text[..8], &text[28..], &text[..20], &text[1..]] {
            let reference: SessionRef = part.parse().expect("a fragment");
            assert!(reference.matches(id), "{part}");
        }
        for no in [&text[1..9], "f8e3c2a1-4b5d-6e7f-8g9h-0i1j2k3l4m5n"] {
            let reference: SessionRef = no.parse().expect("grammatical");
            assert!(!reference.matches(id), "{no}");
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "null",
            "1234567",
            "../../etc/passwd",
            "0199aabb/ccdd",
            "é2345678",
            &long,
        ] {
            assert_eq!(bad.parse::<SessionRef>(), Err(NotAnId), "{bad}");
        }
    }

    #[test]
    fn an_id_past_the_year_9999_is_damage() {
        let last = Ulid::from_parts(EventId::MAX_MS, 0).to_string();
        let beyond = Ulid::from_parts(EventId::MAX_MS + 1, 0).to_string();
        assert!(last.parse::<EventId>().is_ok());
        assert!(beyond.parse::<EventId>().is_err());
    }

    proptest! {
        #[test]
        fn a_later_event_sorts_after_everything_its_writer_saw(
            now in 0..EventId::MAX_MS, seen in 0..EventId::MAX_MS - 1, a: u128, b: u128,
        ) {
            let seen = EventId::next(seen, None, a);
            let next = EventId::next(now, Some(seen), b);
            prop_assert!(next > seen);
            prop_assert!(next.timestamp_ms() >= now);
            prop_assert_eq!(next.to_string().parse::<EventId>(), Ok(next));
        }

        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text: String) {
            let _ = text.parse::<SessionRef>();
            let _ = text.parse::<EventId>();
        }
    }
}
