//! Events from and to the lines of a log.
//!
//! What this program writes is read in one pass, keys in order; what people and other programs make
//! of a line is read in two.

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Body, Event, Header, Prune, Redact, Settings, Timestamp, Turn, VERSION};
use crate::json;
use crate::session::id::EventId;

impl Event {
    /// Returns the event as its line, without the newline.
    #[must_use]
    pub fn to_line(&self) -> String {
        let body = match &self.body {
            Body::Session(b) => json::line(b),
            Body::Turn(b) => json::line(b),
            Body::Set(b) => json::line(b),
            Body::Prune(b) => json::line(b),
            Body::Redact(b) => json::line(b),
            Body::Unknown(_) => unreachable!("only known events are written"),
        };
        #[derive(Serialize)]
        struct Envelope<'a> {
            v: u32,
            id: EventId,
            r#type: &'a str,
            ts: Timestamp,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<u64>,
        }
        let mut line = json::line(&Envelope {
            v: self.v,
            id: self.id,
            r#type: self.body.type_name(),
            ts: self.ts,
            at: self.at,
        });
        line.pop();
        if body != "{}" {
            line.push(',');
        }
        line.push_str(&body[1..]);
        line
    }

    /// Reads an event from the bytes of one JSON object.
    ///
    /// # Errors
    /// When the bytes are no JSON object with a valid id and a type, or say of a type this
    /// program knows, in a version it knows, what it does not understand.
    pub fn from_slice(bytes: &[u8]) -> serde_json::Result<Self> {
        Self::in_order(bytes).or_else(|_| Self::in_any_order(bytes))
    }

    /// Reads what this program writes, keys in order, in one pass.
    fn in_order(bytes: &[u8]) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let event = deserializer.deserialize_map(InOrder)?;
        deserializer.end()?;
        Ok(event)
    }

    /// Reads what people and other programs make of a line: first the envelope, then the rest.
    fn in_any_order(bytes: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(default = "version_one")]
            v: u32,
            id: EventId,
            r#type: String,
            ts: Option<Timestamp>,
            at: Option<u64>,
        }
        fn version_one() -> u32 {
            VERSION
        }
        let Envelope {
            v,
            id,
            r#type,
            ts,
            at,
        } = serde_json::from_slice(bytes)?;
        let body = match Body::read(&r#type, &mut serde_json::Deserializer::from_slice(bytes)) {
            Ok(body) => body,
            Err(_) if v > VERSION => Body::Unknown(r#type),
            Err(error) => return Err(error),
        };
        let ts = ts.unwrap_or_else(|| Timestamp::from_ms(id.timestamp_ms()));
        Ok(Self {
            v,
            id,
            ts,
            at,
            body,
        })
    }
}

impl Body {
    fn read<'de, D: Deserializer<'de>>(kind: &str, rest: D) -> Result<Self, D::Error> {
        Ok(match kind {
            "session" => Self::Session(Header::deserialize(rest)?),
            "turn" => Self::Turn(Box::new(Turn::deserialize(rest)?)),
            "set" => Self::Set(Settings::deserialize(rest)?),
            "prune" => Self::Prune(Prune::deserialize(rest)?),
            "redact" => Self::Redact(Redact::deserialize(rest)?),
            other => {
                IgnoredAny::deserialize(rest)?;
                Self::Unknown(other.to_owned())
            }
        })
    }
}

/// Reads the envelope and hands the rest of the same pass to the type's own struct, so that a
/// long prompt is read once.
struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let v: u32 = value_of("v", &mut map)?;
        let id: EventId = value_of("id", &mut map)?;
        let kind: &str = value_of("type", &mut map)?;
        let ts: Timestamp = value_of("ts", &mut map)?;
        if v > VERSION {
            return Err(A::Error::custom("a newer version"));
        }
        let mut key = map.next_key::<&'de str>()?;
        let mut at = None;
        if key == Some("at") {
            at = map.next_value()?;
            key = map.next_key()?;
        }
        let body = Body::read(kind, MapAccessDeserializer::new(Rest { key, map }))?;
        Ok(Event {
            v,
            id,
            ts,
            at,
            body,
        })
    }
}

fn value_of<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    key: &'static str,
    map: &mut A,
) -> Result<T, A::Error> {
    if map.next_key::<&'de str>()? != Some(key) {
        return Err(A::Error::custom("keys in another order"));
    }
    map.next_value()
}

/// The rest of an object whose next key was read already.
struct Rest<'de, A> {
    key: Option<&'de str>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        match self.key.take() {
            Some(key) => seed
                .deserialize(BorrowedStrDeserializer::new(key))
                .map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::event::tests::{event, id, turn};

    #[test]
    fn a_line_begins_with_the_four_keys_and_its_offset() {
        let mut e = turn(1_700_000_000_000, "hi", "ho");
        e.at = Some(17);
        let line = e.to_line();
        assert!(
            line.starts_with(&format!(
                r#"{{"v":1,"id":"{}","type":"turn","ts":"2023-11-14T22:13:20.000Z","at":17,"model":"#,
                e.id
            )),
            "{line}"
        );
        let empty = event(5, Body::Set(Settings::default()));
        assert!(
            empty
                .to_line()
                .ends_with(r#""ts":"1970-01-01T00:00:00.005Z"}"#)
        );
    }

    #[test]
    fn a_line_another_hand_wrote_is_read_the_same() {
        let e = turn(7, "a", "b");
        let shuffled = format!(
            r#" {{ "response":"b", "type":"turn","new":[1,{{"v":1}}],"prompt":"a","id":"{}" }}"#,
            e.id
        );
        let got = Event::from_slice(shuffled.as_bytes()).expect("an event");
        assert_eq!(got, e);
    }

    #[test]
    fn what_a_newer_program_wrote_is_kept_and_what_is_broken_is_not() {
        let id = id(9);
        let rows: [(String, Option<&str>); 8] = [
            (
                format!(
                    r#"{{"v":1,"id":"{id}","type":"dance","ts":"2026-01-01T00:00:00Z","x":1}}"#
                ),
                Some("dance"),
            ),
            (
                format!(
                    r#"{{"v":2,"id":"{id}","type":"turn","ts":"2026-01-01T00:00:00Z","prompt":{{}}}}"#
                ),
                Some("turn"),
            ),
            (
                format!(
                    r#"{{"v":2,"id":"{id}","type":"set","ts":"2026-01-01T00:00:00Z","model":"m"}}"#
                ),
                Some("set"),
            ),
            (
                format!(
                    r#"{{"v":1,"id":"{id}","type":"turn","ts":"2026-01-01T00:00:00Z","prompt":7}}"#
                ),
                None,
            ),
            (
                format!(r#"{{"v":1,"id":"{id}","ts":"2026-01-01T00:00:00Z"}}"#),
                None,
            ),
            (
                r#"{"v":1,"id":"zzz","type":"turn","ts":"2026-01-01T00:00:00Z"}"#.to_owned(),
                None,
            ),
            (format!(r#"[{{"v":1,"id":"{id}"}}]"#), None),
            (
                format!(r#"{{"v":1,"id":"{id}","type":"set","ts":"2026-01-01T00:00:00Z"}} x"#),
                None,
            ),
        ];
        for (line, expected) in rows {
            let got = Event::from_slice(line.as_bytes()).ok();
            assert_eq!(got.as_ref().map(|e| e.body.type_name()), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_turn_comes_back_from_its_line(prompt: String, response: String, thinking: Option<String>, at: Option<u64>) {
            let mut e = turn(3, &prompt, &response);
            e.at = at;
            if let Body::Turn(t) = &mut e.body { t.thinking = thinking; }
            let line = e.to_line();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(line.matches("{\"v\":").count(), 1);
            prop_assert_eq!(Event::in_order(line.as_bytes()).expect("as written"), e);
        }

        #[test]
        fn a_line_cut_anywhere_is_no_event(cut in 0usize..200) {
            let line = turn(3, "hello {\"v\":1", "x").to_line();
            let cut = cut.min(line.len() - 1);
            prop_assert!(Event::from_slice(&line.as_bytes()[..cut]).is_err());
        }
    }
}
