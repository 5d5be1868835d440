//! A conversation as one web page that needs nothing but itself and does nothing by itself.
//!
//! A page is written from its head to its foot, a turn at a time, so that a session of any length
//! needs the memory of its longest turn and of one number a turn. Nothing of a transcript becomes
//! markup of the page: what a model wrote in Markdown is rendered by `prose`, which lets through
//! elements it makes itself; everything else is text, escaped in `markup`. The policy in the head
//! holds even if that were wrong: only this page's own script runs and its own style applies, each
//! named by its hash, and nothing is loaded from anywhere.

mod chart;
mod code;
mod markup;
mod prose;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use self::chart::Chart;
use self::code::Highlighter;
use self::markup::{attribute, text};
use crate::json;
use crate::session::attachment::Image;
use crate::session::event::{Timestamp, Turn};
use crate::session::fold::SaidTurn;
use crate::session::id::SessionId;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("search.js");

/// Kinds of pictures that are shown: those that are nothing but pixels.
const PICTURES: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];

/// What a page says of its session before the first turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// The session.
    pub id: Option<SessionId>,
    /// Its title, if it was given one.
    pub title: Option<String>,
    /// The model its next turn asks.
    pub model: Option<String>,
    /// The system prompt in force.
    pub system: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// How many turns the page has.
    pub turns: u64,
    /// The context budget in tokens.
    pub max_context_tokens: Option<u64>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl About {
    /// Returns the heading: the title, or the id where there is none.
    fn heading(&self) -> String {
        match (&self.title, self.id) {
            (Some(title), _) if !title.trim().is_empty() => title.clone(),
            (_, Some(id)) => format!("Session {id}"),
            _ => "Session".to_owned(),
        }
    }
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    turns: u64,
    chart: Chart,
    highlighter: Highlighter,
}

impl Page {
    /// Begins a page; returns it with everything up to the first turn.
    #[must_use]
    pub fn begin(about: &About) -> (Self, String) {
        let page = Self {
            chart: Chart::new(about.max_context_tokens),
            ..Self::default()
        };
        let heading = text(&about.heading());
        let mut facts = Vec::new();
        if let Some(id) = about.id {
            facts.push(("Session", format!("<code>{id}</code>")));
        }
        facts.extend(about.model.as_ref().map(|model| ("Model", text(model))));
        facts.extend(about.created.map(|ts| ("Begun", time(ts))));
        facts.push(("Turns", grouped(about.turns)));
        facts.extend(
            about
                .max_context_tokens
                .map(|tokens| ("Context budget", format!("{} tokens", grouped(tokens)))),
        );
        if !about.tags.is_empty() {
            facts.push(("Tags", text(&about.tags.join(", "))));
        }
        let facts: String = facts
            .into_iter()
            .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"))
            .collect();
        let system = about.system.as_deref().filter(|said| !said.is_empty());
        let system = system.map_or(String::new(), |said| {
            format!(
                "<details class=\"system\"><summary>System prompt</summary>\n<div class=\"plain\" dir=\"auto\">{}</div></details>\n",
                text(said)
            )
        });
        let head = format!(
            "{}<header>\n<h1 dir=\"auto\">{heading}</h1>\n<dl>\n{facts}</dl>\n{system}\
             <nav aria-label=\"On this page\"><a href=\"#turns\">Turns</a> <a href=\"#context\">Context use</a></nav>\n\
             <search hidden><label for=\"find\">Find turns</label> <input id=\"find\" type=\"search\" autocomplete=\"off\"> <output id=\"found\" for=\"find\"></output></search>\n\
             </header>\n<main id=\"turns\">\n",
            opening(&heading)
        );
        (page, head)
    }

    /// Returns a turn with those of its images that are there; `is_in_context` tells whether the
    /// next request carries it.
    #[must_use]
    pub fn turn(&mut self, said: &SaidTurn, images: &[Image], is_in_context: bool) -> String {
        self.turns += 1;
        let (number, turn) = (self.turns, &said.turn);
        let used = turn.usage.prompt_eval_count;
        self.chart
            .add(used.unwrap_or(turn.tokens.prompt), used.is_some());
        let anchor = format!("turn-{}", said.id);
        let out = if is_in_context {
            ""
        } else {
            " <span class=\"out\">not in the context any more</span>"
        };
        let mut html = format!(
            "<article id=\"{anchor}\" aria-labelledby=\"{anchor}-head\">\n<div class=\"head\"><h2 id=\"{anchor}-head\"><a href=\"#{anchor}\">Turn {number}</a></h2> \
             <p>{} · {}{}{out}</p></div>\n",
            text(&turn.model),
            time(said.ts),
            figures(turn)
        );
        html += &format!(
            "<section class=\"user\"><h3>User</h3>\n{}<div class=\"plain\" dir=\"auto\">{}</div>\n{}{}</section>\n",
            tool_results(turn),
            text(&turn.prompt),
            pictures(turn, images),
            files(turn)
        );
        html += "<section class=\"assistant\"><h3>Assistant</h3>\n";
        if let Some(thinking) = turn.thinking.as_deref().filter(|text| !text.is_empty()) {
            html += &format!(
                "<details class=\"thinking\"><summary>Thinking</summary>\n<div class=\"plain\" dir=\"auto\">{}</div></details>\n",
                text(thinking)
            );
        }
        html += &format!(
            "<div class=\"prose\" dir=\"auto\">{}</div>\n",
            prose::render(&turn.response, &mut self.highlighter)
        );
        if let Some(calls) = &turn.tool_calls {
            html += &format!(
                "<details class=\"tools\"><summary>Tool calls</summary>\n<pre tabindex=\"0\"><code>{}</code></pre></details>\n",
                text(&json::document(calls))
            );
        }
        html + "</section>\n</article>\n"
    }

    /// Returns what comes after the last turn, which was stored at `last_used`.
    #[must_use]
    pub fn end(self, last_used: Timestamp) -> String {
        format!(
            "</main>\n<footer id=\"context\">\n<h2>Context use</h2>\n{}<p>Last used {}</p>\n</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
            self.chart.svg(),
            time(last_used)
        )
    }
}

/// Returns what tools had to say.
fn tool_results(turn: &Turn) -> String {
    let results = turn.tool_results.iter().map(|result| {
        format!(
            "<details class=\"tools\"><summary>Result of {}</summary>\n<div class=\"plain\" dir=\"auto\">{}</div></details>\n",
            text(&result.name),
            text(&result.content)
        )
    });
    results.collect()
}

/// Returns the images of a turn; of one that is not there, its name.
fn pictures(turn: &Turn, images: &[Image]) -> String {
    let shown = turn.blobs.iter().map(|blob| {
        let there = images.iter().find(|image| image.blob.sha256 == blob.sha256);
        let type_is_known = PICTURES.contains(&blob.media_type.as_str());
        match there.filter(|_| type_is_known) {
            Some(image) => format!(
                "<figure><img alt=\"{name}\" src=\"data:{};base64,{}\"><figcaption>{name}</figcaption></figure>\n",
                blob.media_type,
                image.data,
                name = attribute(&blob.name),
            ),
            None => format!("<p>Image: {}</p>\n", text(&blob.name)),
        }
    });
    shown.collect()
}

/// Returns what was read for a turn.
fn files(turn: &Turn) -> String {
    if turn.references.is_empty() {
        return String::new();
    }
    let files = turn.references.iter().map(|file| {
        let bytes = grouped(file.bytes);
        format!(
            "<li><code>{}</code>, {bytes} bytes</li>\n",
            text(&file.path)
        )
    });
    let files: String = files.collect();
    format!(
        "<details class=\"files\"><summary>Referred to</summary>\n<ul>\n{files}</ul></details>\n"
    )
}

/// Returns a page that leads to the pages of many sessions: what each is about, and its file.
#[must_use]
pub fn index(sessions: &[(About, String)]) -> String {
    let rows: String = sessions
        .iter()
        .map(|(about, file)| {
            format!(
                "<tr><th scope=\"row\" dir=\"auto\"><a href=\"{}\">{}</a></th><td>{}</td><td>{}</td><td class=\"number\">{}</td></tr>\n",
                attribute(file),
                text(&about.heading()),
                about.model.as_deref().map_or(String::new(), text),
                about.created.map_or(String::new(), time),
                grouped(about.turns)
            )
        })
        .collect();
    format!(
        "{}<header>\n<h1>Sessions</h1>\n<p>{} sessions</p>\n</header>\n<main>\n<table>\n<thead><tr><th scope=\"col\">Session</th><th scope=\"col\">Model</th>\
         <th scope=\"col\">Begun</th><th scope=\"col\" class=\"number\">Turns</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</main>\n</body>\n</html>\n",
        opening("Sessions"),
        grouped(sessions.len() as u64)
    )
}

/// Returns the beginning of a page. `title` is markup already.
fn opening(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n",
        hash(STYLE),
        hash(SCRIPT)
    )
}

/// Returns the source a policy knows an inline script or style by.
fn hash(content: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(content)))
}

fn time(ts: Timestamp) -> String {
    let shown = ts.0.format("%Y-%m-%d %H:%M UTC");
    format!("<time datetime=\"{ts}\">{shown}</time>")
}

/// Returns the tokens of a turn and how fast they came, where the server said that.
fn figures(turn: &Turn) -> String {
    let usage = &turn.usage;
    let read = usage
        .prompt_eval_count
        .map(|n| format!("{} in", grouped(n)));
    let made = usage.eval_count.map(|n| format!("{} out", grouped(n)));
    let tokens: Vec<String> = read.into_iter().chain(made).collect();
    if tokens.is_empty() {
        return String::new();
    }
    let duration = usage.total_duration;
    let took = duration.map_or(String::new(), |ns| format!(" · {:.1} s", ns as f64 / 1e9));
    format!(" · {} tokens{took}", tokens.join(", "))
}

/// Returns a number with a thin space between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
