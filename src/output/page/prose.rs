//! What a model wrote in Markdown, as markup of the page.
//!
//! The parser tells structure from text; of what it finds only elements that can do nothing go
//! through. HTML in the Markdown is text, as are targets that are not `http`, `https` or `mailto`.
//! An image is a link to it: showing it would be a request that tells a stranger who reads.

use pulldown_cmark::{
    CodeBlockKind, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html,
};

use super::code::Highlighter;
use super::markup::shown;

/// The longest text that is taken for Markdown, in bytes; a longer one is shown as it is. The
/// parser is fast, but a page of one enormous message helps nobody read.
const LONGEST: usize = 4 << 20;

/// Returns Markdown as markup.
pub(super) fn render(markdown: &str, highlighter: &mut Highlighter) -> String {
    if markdown.len() > LONGEST {
        return format!(
            "<pre tabindex=\"0\">{}</pre>",
            super::markup::text(markdown)
        );
    }
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut harmless = Harmless {
        highlighter,
        code: None,
        links: Vec::new(),
    };
    let events = Parser::new_ext(markdown, options).filter_map(|event| harmless.pass(event));
    let mut out = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut out, events);
    out
}

/// Lets events through, made harmless.
struct Harmless<'h> {
    highlighter: &'h mut Highlighter,
    /// The code block that is being read: its language and what it has so far.
    code: Option<(String, String)>,
    /// For each link or image that is open, whether it leads anywhere.
    links: Vec<bool>,
}

impl Harmless<'_> {
    fn pass<'e>(&mut self, event: Event<'e>) -> Option<Event<'e>> {
        if let Some((_, code)) = &mut self.code {
            match event {
                Event::Text(text) => code.push_str(&text),
                Event::End(TagEnd::CodeBlock) => {
                    let (language, code) = self.code.take()?;
                    let markup = self.highlighter.block(&language, &code);
                    return Some(Event::Html(markup.into()));
                }
                _ => {}
            }
            return None;
        }
        Some(match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                self.code = Some((language(&kind), String::new()));
                return None;
            }
            Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
            Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
            Event::Html(text) | Event::InlineHtml(text) | Event::Text(text) => {
                Event::Text(shown(&text).into_owned().into())
            }
            Event::Code(text) => Event::Code(shown(&text).into_owned().into()),
            // The page's own headings end at the third level.
            Event::Start(Tag::Heading { level, .. }) => Event::Start(Tag::Heading {
                level: below(level),
                id: None,
                classes: Vec::new(),
                attrs: Vec::new(),
            }),
            Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(below(level))),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let leads = is_harmless(&dest_url);
                self.links.push(leads);
                if !leads {
                    return None;
                }
                Event::Start(Tag::Link {
                    link_type: LinkType::Inline,
                    dest_url,
                    title: CowStr::Borrowed(""),
                    id: CowStr::Borrowed(""),
                })
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                if !self.links.pop()? {
                    return None;
                }
                Event::End(TagEnd::Link)
            }
            other => other,
        })
    }
}

fn language(kind: &CodeBlockKind<'_>) -> String {
    match kind {
        CodeBlockKind::Fenced(info) => info
            .split([' ', ',', '{', '\t'])
            .next()
            .unwrap_or_default()
            .to_owned(),
        CodeBlockKind::Indented => String::new(),
    }
}

fn below(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H4,
        HeadingLevel::H2 => HeadingLevel::H5,
        _ => HeadingLevel::H6,
    }
}

/// Tells whether a link may lead where it says. Browsers forgive much in a target (case, white
/// space, control characters); what is spelled in any such way leads nowhere.
fn is_harmless(target: &str) -> bool {
    ["http://", "https://", "mailto:"].iter().any(|scheme| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(markdown: &str) -> String {
        render(markdown, &mut Highlighter::default())
    }

    #[test]
    fn structure_goes_through_and_nothing_that_does_anything() {
        let rows = [
            (
                "*a* **b** `c<d`",
                "<p><em>a</em> <strong>b</strong> <code>c&lt;d</code></p>\n",
            ),
            ("# big", "<h4>big</h4>\n"),
            ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>\n"),
            (
                "[a](https://b.c/?d=\"e)",
                "<p><a href=\"https://b.c/?d=%22e\">a</a></p>\n",
            ),
            ("[a](javascript:alert(1))", "<p>a</p>\n"),
            ("[a](java&#115;cript:alert(1))", "<p>a</p>\n"),
            (
                "[a](\u{1}javascript:alert(1))",
                "<p>[a](\\u{1}javascript:alert(1))</p>\n",
            ),
            ("[a](<\tjavascript:alert(1)>)", "<p>a</p>\n"),
            ("[a](data:text/html,x)", "<p>a</p>\n"),
            ("[a](//host/x)", "<p>a</p>\n"),
            ("[a](#turns)", "<p>a</p>\n"),
            ("<javascript:alert(1)>", "<p>javascript:alert(1)</p>\n"),
            (
                "<https://a.b>",
                "<p><a href=\"https://a.b\">https://a.b</a></p>\n",
            ),
            (
                "![alt](https://a.b/x.png)",
                "<p><a href=\"https://a.b/x.png\">alt</a></p>\n",
            ),
            ("![alt](data:image/svg+xml,x)", "<p>alt</p>\n"),
            (
                "[![in](https://a.b/i)](javascript:x)",
                "<p><a href=\"https://a.b/i\">in</a></p>\n",
            ),
            ("a\u{202e}b", "<p>a\\u{202e}b</p>\n"),
        ];
        for (markdown, expected) in rows {
            assert_eq!(rendered(markdown), expected, "{markdown}");
        }
    }

    #[test]
    fn html_of_any_kind_is_text() {
        for html in [
            "<script>alert(1)</script>",
            "<div onclick=x>\n\nmore\n\n</div>",
            "a <img src=x onerror=y> b",
            "<!-- a comment -->",
            "<![CDATA[x]]>",
            "<?php x ?>",
            "<style>*{}</style>",
            "<svg/onload=x>",
        ] {
            let markup = rendered(html);
            let elements = markup.replace("<p>", "").replace("</p>", "");
            assert!(!elements.contains('<'), "{html}: {markup}");
        }
    }

    #[test]
    fn a_text_too_long_for_markdown_is_shown_as_it_is() {
        let long = "*".repeat(LONGEST + 1);
        assert!(rendered(&long).starts_with("<pre tabindex=\"0\">***"));
    }

    /// The elements that can stand in what is rendered, and their attributes.
    const KNOWN: &str = "p em strong code pre del ul ol li blockquote h4 h5 h6 hr br a table thead tbody tr th td input span div";

    proptest! {
        #[test]
        fn whatever_is_written_becomes_known_elements(
            markdown in "([<>a-z\"'=/!&;:#*_`~\\[\\]() \n|-]|javascript:|https://|<img |onerror=|<script|```){0,60}"
        ) {
            let markup = rendered(&markdown);
            for element in markup.split('<').skip(1) {
                let name: String = element.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
                prop_assert!(KNOWN.split(' ').any(|known| known == name), "<{name}> in {markup}");
                let tag = element.split('>').next().unwrap_or_default();
                let names: String = tag.split('"').step_by(2).collect();
                prop_assert!(!names.contains(" on"), "{tag}");
                if let Some((_, target)) = tag.split_once("href=\"") {
                    prop_assert!(is_harmless(target), "{target}");
                }
            }
        }
    }
}
