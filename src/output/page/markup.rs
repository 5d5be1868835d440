//! Text as it stands in a page: no character of it is markup, and none moves what is around it.

use std::borrow::Cow;

use crate::output::text::harmless;

/// Returns text as the content of an element.
pub(super) fn text(text: &str) -> String {
    escaped(&shown(text))
}

/// Returns text as the value of an attribute in double quotes.
pub(super) fn attribute(text: &str) -> String {
    escaped(&shown(text))
}

/// Returns text with what is no text made visible: control characters, and those that turn the
/// direction of what follows, as on a terminal. A line that ends as on Windows just ends.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") {
        let text = text.replace("\r\n", "\n");
        return Cow::Owned(harmless(&text).into_owned());
    }
    harmless(text)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_of_a_text_is_markup() {
        let rows = [
            (
                "a < b && c > \"d'\"",
                "a &lt; b &amp;&amp; c &gt; &quot;d&#39;&quot;",
            ),
            ("\0\u{1b}[31m", "\\u{0}\\u{1b}[31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\r\nb", "a\nb"),
            ("é日🦀", "é日🦀"),
        ];
        for (raw, expected) in rows {
            assert_eq!(text(raw), expected);
        }
    }
}
