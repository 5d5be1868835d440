//! The request: values in, the exact bytes of `POST /api/chat` out.
//!
//! Text is written straight from where it lies: a request that fills a context window is
//! copied once, into the body.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::json;

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions the conversation runs under.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool the model called.
    Tool,
}

impl Role {
    /// Returns the name, as it is sent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: Cow<'a, str>,
    /// The images with it, base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<&'a str>,
    /// The tools the model wanted called, as the server gave them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<&'a Value>,
    /// The tool whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<&'a str>,
    /// The call whose result this is, where it has an id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Makes a message of text alone.
    #[must_use]
    pub fn text(role: Role, content: impl Into<Cow<'a, str>>) -> Self {
        Self {
            role,
            content: content.into(),
            images: Vec::new(),
            tool_calls: None,
            tool_name: None,
            tool_call_id: None,
        }
    }

    /// Returns about how many bytes it takes in a request.
    fn size(&self) -> usize {
        let images: usize = self.images.iter().map(|image| image.len() + 3).sum();
        self.content.len() + images + 64
    }
}

/// What a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct ChatRequest<'a> {
    /// The name of the model, as the user spelled it.
    pub model: &'a str,
    /// The conversation, oldest message first.
    pub messages: &'a [Message<'a>],
    /// Sampling options, as the server names them.
    pub options: &'a Map<String, Value>,
    /// Whether to think, or how hard; the model decides where absent.
    pub think: Option<&'a Value>,
    /// `"json"` or a JSON Schema the reply must follow.
    pub format: Option<&'a Value>,
    /// How long the model stays loaded afterwards.
    pub keep_alive: Option<&'a Value>,
    /// The tools the model may ask for.
    pub tools: Option<&'a Value>,
}

/// Returns the bytes to send.
///
/// They ask for a stream, so that silence can be timed and a broken reply kept; and that
/// nothing be cut from the prompt (`truncate`) or dropped while the reply is made (`shift`)
/// without a word.
#[must_use]
pub fn body(request: &ChatRequest<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        messages: &'a [Message<'a>],
        stream: bool,
        truncate: bool,
        shift: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        think: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        keep_alive: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tools: Option<&'a Value>,
        options: &'a Map<String, Value>,
    }
    let text: usize = request.messages.iter().map(Message::size).sum();
    // Escapes make JSON a little longer than its text.
    let mut bytes = Vec::with_capacity(text + text / 16 + 512);
    let body = Body {
        model: request.model,
        messages: request.messages,
        stream: true,
        truncate: false,
        shift: false,
        think: request.think,
        format: request.format,
        keep_alive: request.keep_alive,
        tools: request.tools,
        options: request.options,
    };
    json::append_line(&mut bytes, &body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ollama::fixtures;
    use proptest::prelude::*;
    use serde_json::json;

    fn message(role: Role, content: &str) -> Message<'_> {
        Message::text(role, content)
    }

    fn request<'a>(
        messages: &'a [Message<'a>],
        options: &'a Map<String, Value>,
    ) -> ChatRequest<'a> {
        ChatRequest {
            model: "gemma3:270m",
            messages,
            options,
            think: None,
            format: None,
            keep_alive: None,
            tools: None,
        }
    }

    #[test]
    fn a_bare_request_is_these_bytes() {
        let messages = [
            message(Role::System, "Be brief."),
            message(Role::User, "Say \"é\"\n🦀"),
            message(Role::Assistant, "é"),
        ];
        assert_eq!(
            String::from_utf8(body(&request(&messages, &Map::new()))).expect("UTF-8"),
            concat!(
                r#"{"model":"gemma3:270m","messages":[{"role":"system","content":"Be brief."},"#,
                r#"{"role":"user","content":"Say \"é\"\n🦀"},{"role":"assistant","content":"é"}],"#,
                r#""stream":true,"truncate":false,"shift":false,"options":{}}"#
            )
        );
    }

    #[test]
    fn what_was_asked_for_follows_in_order() {
        let options = json!({"temperature": 0.1, "num_predict": 24, "stop": ["END"]});
        let (think, format, keep, tools) =
            (json!("low"), json!("json"), json!(-1), json!([{"x": null}]));
        let request = ChatRequest {
            think: Some(&think),
            format: Some(&format),
            keep_alive: Some(&keep),
            tools: Some(&tools),
            ..request(&[], options.as_object().expect("an object"))
        };
        assert_eq!(
            String::from_utf8(body(&request)).expect("UTF-8"),
            concat!(
                r#"{"model":"gemma3:270m","messages":[],"stream":true,"truncate":false,"shift":false,"#,
                r#""think":"low","format":"json","keep_alive":-1,"tools":[{"x":null}],"#,
                r#""options":{"temperature":0.1,"num_predict":24,"stop":["END"]}}"#
            )
        );
    }

    #[test]
    fn a_message_carries_images_calls_and_results() {
        let calls = json!([{"id": "c1", "function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]);
        let messages = [
            Message {
                images: vec!["iVBORw==", "/9j/"],
                ..message(Role::User, "look")
            },
            Message {
                tool_calls: Some(&calls),
                ..message(Role::Assistant, "")
            },
            Message {
                tool_name: Some("f"),
                tool_call_id: Some("c1"),
                ..message(Role::Tool, "3")
            },
        ];
        let sent: String =
            String::from_utf8(body(&request(&messages, &Map::new()))).expect("UTF-8");
        assert!(
            sent.contains(concat!(
                r#"[{"role":"user","content":"look","images":["iVBORw==","/9j/"]},"#,
                r#"{"role":"assistant","content":"","tool_calls":[{"id":"c1","function":{"name":"f","arguments":{"b":1,"a":2}}}]},"#,
                r#"{"role":"tool","content":"3","tool_name":"f","tool_call_id":"c1"}]"#
            )),
            "{sent}"
        );
    }

    /// What a real server answered to, plus the two keys it takes for more honesty.
    #[test]
    fn a_recorded_request_is_written_again() {
        for case in ["chat-multi-turn", "chat-think-stream", "chat-stream"] {
            let mut sent = fixtures::request(case);
            let messages: Vec<Message<'_>> = sent["messages"]
                .as_array()
                .expect("messages")
                .iter()
                .map(|m| {
                    let role = match m["role"].as_str() {
                        Some("system") => Role::System,
                        Some("user") => Role::User,
                        _ => Role::Assistant,
                    };
                    Message::text(role, m["content"].as_str().expect("text"))
                })
                .collect();
            let got = body(&ChatRequest {
                model: sent["model"].as_str().expect("a model"),
                messages: &messages,
                options: sent["options"].as_object().expect("options"),
                think: sent.get("think"),
                format: None,
                keep_alive: None,
                tools: None,
            });
            let got: Value = serde_json::from_slice(&got).expect("JSON");
            sent["truncate"] = json!(false);
            sent["shift"] = json!(false);
            assert_eq!(got, sent, "{case}");
        }
    }

    proptest! {
        #[test]
        fn any_text_arrives_as_it_was_said(prompt: String, answer: String) {
            let messages = [message(Role::User, &prompt), message(Role::Assistant, &answer)];
            let sent: Value = serde_json::from_slice(&body(&request(&messages, &Map::new()))).expect("JSON");
            prop_assert_eq!(&sent["messages"][0]["content"], &json!(prompt));
            prop_assert_eq!(&sent["messages"][1]["content"], &json!(answer));
        }
    }
}
