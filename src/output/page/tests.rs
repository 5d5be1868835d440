//! What every page has, whatever was said.

use super::*;
use crate::session::event::Usage;
use crate::session::id::EventId;

fn said(prompt: &str, response: &str) -> SaidTurn {
    SaidTurn {
        id: EventId::next(1, None, 7),
        ts: Timestamp::from_ms(1_700_000_000_000),
        at: None,
        turn: Turn {
            model: "m<1>".to_owned(),
            prompt: prompt.to_owned(),
            response: response.to_owned(),
            thinking: Some("hm </details>".to_owned()),
            usage: Usage {
                prompt_eval_count: Some(1234),
                eval_count: Some(5),
                total_duration: Some(1_500_000_000),
                ..Usage::default()
            },
            ..Turn::default()
        },
    }
}

fn page(about: &About, turns: &[SaidTurn]) -> String {
    let (mut page, mut html) = Page::begin(about);
    turns
        .iter()
        .for_each(|said| html += &page.turn(said, &[], false));
    html + &page.end(Timestamp::from_ms(0))
}

#[test]
fn a_turn_has_its_model_time_tokens_and_anchor() {
    let turn = said("a <b> & c", "*yes*");
    let html = page(&About::default(), std::slice::from_ref(&turn));
    let id = turn.id;
    for expected in [
        &format!("<article id=\"turn-{id}\" aria-labelledby=\"turn-{id}-head\">"),
        "m&lt;1&gt; · <time datetime=\"2023-11-14T22:13:20.000Z\">2023-11-14 22:13 UTC</time>",
        "1\u{202f}234 in, 5 out tokens · 1.5 s",
        "not in the context any more",
        "a &lt;b&gt; &amp; c",
        "<p><em>yes</em></p>",
        "hm &lt;/details&gt;",
    ] {
        assert!(html.contains(expected), "{expected} in {html}");
    }
}

#[test]
fn the_policy_names_the_very_script_and_style_of_the_page() {
    let html = page(&About::default(), &[]);
    let inside = |from: &str, to: &str| {
        let (_, rest) = html.split_once(from).expect("it is there");
        rest.split_once(to).expect("it ends").0.to_owned()
    };
    let policy = inside("Content-Security-Policy\" content=\"", "\"");
    for content in [
        inside("<style>", "</style>"),
        inside("<script>", "</script>"),
    ] {
        assert!(policy.contains(&hash(&content)), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

/// Relative luminance and contrast as WCAG 2.2 defines them.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |colour: &str| {
        let channel = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("a colour");
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn every_colour_of_text_can_be_read_on_every_ground() {
    let schemes: Vec<&str> = STYLE.split(":root").skip(1).collect();
    assert_eq!(schemes.len(), 3, "light, dark, print");
    for scheme in schemes {
        let colour = |name: &str| {
            let (_, rest) = scheme.split_once(&format!("--{name}: ")).expect(name);
            rest.split(';').next().expect("it ends").to_owned()
        };
        for ground in ["page", "raised", "user"] {
            for ink in [
                "text", "quiet", "link", "mark", "comment", "string", "keyword", "name", "value",
            ] {
                let ratio = contrast(&colour(ink), &colour(ground));
                assert!(ratio >= 4.5, "{ink} on {ground}: {ratio:.2} in {scheme}");
            }
        }
    }
}

#[test]
fn the_index_leads_to_every_page() {
    let about = About {
        title: Some("<i>one</i>".to_owned()),
        turns: 1200,
        ..About::default()
    };
    let html = index(&[(about, "a\"b.html".to_owned())]);
    assert!(
        html.contains("<a href=\"a&quot;b.html\">&lt;i&gt;one&lt;/i&gt;</a>"),
        "{html}"
    );
    assert!(html.contains("1\u{202f}200"), "{html}");
}

#[test]
fn numbers_are_grouped_by_thousands() {
    for (n, expected) in [
        (0, "0"),
        (999, "999"),
        (1000, "1\u{202f}000"),
        (1_234_567, "1\u{202f}234\u{202f}567"),
    ] {
        assert_eq!(grouped(n), expected);
    }
}
