//! The page of a session in a real browser: what a hostile transcript does there, which is
//! nothing, and what a reader finds.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::support::{BROWSER, Browser, Reply, TestEnv, need};

/// Where hostile transcripts would load things from; nobody is there, and nothing may go there.
const ELSEWHERE: &str = "http://elsewhere.example/x";

/// What a transcript may contain to make a page do something: run `owned=1`, or load ELSEWHERE.
const HOSTILE: [&str; 20] = [
    "<script>window.owned=1;fetch('ELSEWHERE')</script>",
    "<img src=ELSEWHERE onerror=\"window.owned=1\">\n\n<img src=x onerror=window.owned=1>",
    "<svg onload=\"window.owned=1\"><image href=\"ELSEWHERE\"/><script>window.owned=1</script></svg>",
    "<details open ontoggle=\"window.owned=1\"><summary>s</summary></details>",
    "[click](javascript:window.owned=1) <a href=\"javascript:window.owned=1\">click</a> <javascript:window.owned=1>",
    "[page](data:text/html,<script>opener.owned=1</script>) ![i](data:image/svg+xml,<svg/onload=window.owned=1>)",
    "<style>@import 'ELSEWHERE'; body{background:url(ELSEWHERE);display:none}</style><p style=\"background:url(ELSEWHERE)\">p</p>",
    "</div></section></article></main></body></html><script>window.owned=1</script><div><table><b><i>",
    "</title></style></textarea></script></noscript><script>window.owned=1</script>",
    "<iframe srcdoc=\"<script>parent.owned=1</script>\"></iframe><iframe src=ELSEWHERE></iframe><object data=ELSEWHERE></object><embed src=ELSEWHERE>",
    "<meta http-equiv=refresh content=\"0;url=ELSEWHERE\"><base href=\"ELSEWHERE\"><link rel=stylesheet href=ELSEWHERE><link rel=prefetch href=ELSEWHERE>",
    "<form action=ELSEWHERE><input autofocus onfocus=\"window.owned=1\" name=find id=find></form><search id=found></search>",
    "![a\"onerror=\"window.owned=1](ELSEWHERE \"t\\\" onload=\\\"window.owned=1\") ![](ELSEWHERE)",
    "```html\" onmouseover=\"window.owned=1\n</code></pre><script>window.owned=1</script>\n```",
    "<!--><script>window.owned=1</script>--><![CDATA[<script>window.owned=1</script>]]><?x <script>window.owned=1</script> ?>",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=window.owned=1&gt;\">",
    "<video poster=ELSEWHERE src=ELSEWHERE onerror=window.owned=1 autoplay></video><audio src=ELSEWHERE></audio><link rel=dns-prefetch href=//elsewhere.example>",
    "\u{202e}tpircs<\u{202c} \u{2066}<script>window.owned=1</script>\u{2069} \u{0}\u{1b}[2J\u{85}\u{2028}",
    "&lt;script&gt;window.owned=1&lt;/script&gt; &#60;script&#62;window.owned=1&#60;/script&#62; +ADw-script+AD4-window.owned=1+ADw-/script+AD4-",
    "[x]: javascript:window.owned=1\n[ref][x] [y](<java\nscript:window.owned=1>) <https://a.example/\"onclick=\"window.owned=1>\n\n<a name=body id=body><template><script>window.owned=1</script></template>",
];

fn hostile(pattern: &str) -> String {
    pattern.replace("ELSEWHERE", ELSEWHERE)
}

/// What a page shows of having been made to do something.
const HARM: &str = "(() => {
  const all = Array.from(document.querySelectorAll('*'));
  const on = all.filter(e => Array.from(e.attributes).some(a => a.name.startsWith('on') || a.name === 'style'));
  const targets = all.flatMap(e => ['href', 'src', 'data', 'action', 'srcdoc', 'poster'].map(n => e.getAttribute(n)).filter(Boolean));
  const known = t => t.startsWith('#') || /^(https?:\\/\\/|mailto:)/.test(t);
  return {
    owned: window.owned === undefined ? null : window.owned,
    handlers: on.map(e => e.outerHTML.slice(0, 100)),
    targets: targets.filter(t => !known(t)),
    loads: document.querySelectorAll('img, iframe, object, embed, video, audio, link, base, form, meta[http-equiv=refresh]').length,
    scripts: document.scripts.length,
    styles: document.styleSheets.length,
    articles: document.querySelectorAll('main > article').length,
    shown: getComputedStyle(document.body).display,
  };
})()";

/// Returns what a page did that was not to open it.
fn deeds(browser: &mut Browser) -> Vec<String> {
    browser.evaluate(
        "new Promise(done => setTimeout(() => requestAnimationFrame(done), 0)).then(() => true)",
    );
    let requests = browser.happened("Network.requestWillBeSent");
    let urls = requests.iter().map(|sent| &sent["request"]["url"]);
    let mut deeds: Vec<String> = urls.skip(1).map(|url| format!("asked for {url}")).collect();
    for (event, what) in [
        ("Page.javascriptDialogOpening", "a dialog"),
        ("Page.windowOpen", "a window"),
    ] {
        deeds.extend(browser.happened(event).iter().map(|_| what.to_owned()));
    }
    deeds
}

/// A talk in which user, model, thinking and system prompt all say the same hostile thing.
fn hostile_talk(env: &TestEnv, text: &str) -> String {
    let file = env.write("prompt", text);
    let turn = env.command().arg("--prompt-file").arg(&file);
    let turn = turn.arg("--system-file").arg(&file);
    turn.answered(Reply::text(text).thinking(text))
        .run()
        .ok()
        .session_id()
}

#[test]
fn twenty_hostile_transcripts_do_nothing_and_ask_for_nothing() {
    if !need(BROWSER) {
        return;
    }
    let env = TestEnv::new();
    let trap = TestEnv::new();
    let proxy = trap.server().url().replace("http://", "");
    let mut browser = Browser::start(&proxy);

    // The same things on a page that lets them: so it is known that they would be seen.
    let naive: String = HOSTILE[..5].iter().map(|text| hostile(text)).collect();
    let open = env.write("naive.html", format!("<!doctype html><body>{naive}"));
    browser.open(&open);
    assert_eq!(browser.evaluate("window.owned"), 1);
    assert!(!deeds(&mut browser).is_empty());
    browser.evaluate(&format!(
        "fetch('{ELSEWHERE}').catch(() => 0).then(() => 0)"
    ));
    // A browser has its own things to ask for; what counts is what a page asks.
    let asked = || trap.server().count_with("elsewhere");
    let heard_by_trap = asked();
    assert!(heard_by_trap > 0, "the proxy is asked");

    for (at, pattern) in HOSTILE.iter().enumerate() {
        let id = hostile_talk(&env, &hostile(pattern));
        let page = env.work().join(format!("{at}.html"));
        let export = ["session", "export", &id, "--to", "html", "--out"];
        env.command().args(export).arg(&page).run().ok();
        let mut fresh = Browser::start(&proxy);
        fresh.open(&page);
        let harm = fresh.evaluate(HARM);
        let none = serde_json::json!({
            "owned": null, "handlers": [], "targets": [], "loads": 0,
            "scripts": 1, "styles": 1, "articles": 1, "shown": "block",
        });
        assert_eq!(harm, none, "{pattern}");
        assert_eq!(deeds(&mut fresh), [""; 0], "{pattern}");
        let said = fresh.evaluate("document.querySelector('.user .plain').textContent");
        let said = said.as_str().expect("a text");
        assert!(
            said.contains("owned") || said.contains("elsewhere"),
            "{said}"
        );
    }
    assert_eq!(asked(), heard_by_trap, "no page of ours asked for anything");
}

#[test]
fn a_page_of_two_thousand_turns_opens_and_is_searched() {
    if !need(BROWSER) {
        return;
    }
    let env = TestEnv::new();
    let id = env.chat("first").replies("one").session_id();
    let line = env.lines(&id).pop().expect("a turn");
    let mut log = env.log(&id);
    for n in 1..2000_u32 {
        let mut turn = line.clone();
        turn["id"] = format!("01KAG4{n:020}").into();
        turn["prompt"] = format!("question {n}").into();
        turn["response"] =
            format!("Answer **{n}**:\n\n```rust\nfn f{n}() -> u32 {{ {n} }}\n```\n").into();
        turn["thinking"] = format!("thought {n}").into();
        turn.as_object_mut().expect("an object").shift_remove("at");
        log += &format!("{turn}\n");
    }
    env.write(env.log_path(&id), &log);
    let page = env.work().join("page.html");
    let export = ["session", "export", &id, "--to", "html", "--out"];
    env.command().args(export).arg(&page).run().ok();

    let mut browser = Browser::start(env.server().url().trim_start_matches("http://"));
    browser.open(&page);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('main > article').length"),
        2000
    );
    assert_eq!(
        browser.evaluate("document.querySelectorAll('#context svg polyline').length"),
        1
    );
    let search = |wanted: &str| {
        format!(
            "(async () => {{
              const box = document.getElementById('find'), found = document.getElementById('found');
              const changed = new Promise(done => new MutationObserver(done).observe(found, {{childList: true, characterData: true, subtree: true}}));
              box.value = {wanted:?};
              box.dispatchEvent(new Event('input', {{bubbles: true}}));
              await changed;
              const shown = Array.from(document.querySelectorAll('article')).filter(a => !a.hidden);
              return [found.textContent, shown.length, shown[0] ? shown[0].querySelector('details').open : null];
            }})()"
        )
    };
    let rows: [(&str, Value); 3] = [
        (
            "Question 1234",
            serde_json::json!(["1 of 2000 turns", 1, false]),
        ),
        (
            "thought 77",
            serde_json::json!(["11 of 2000 turns", 11, true]),
        ),
        (
            "no such thing",
            serde_json::json!(["0 of 2000 turns", 0, null]),
        ),
    ];
    for (wanted, expected) in rows {
        assert_eq!(browser.evaluate(&search(wanted)), expected, "{wanted}");
    }
}

/// A PNG of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Headings that skip a level, text whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3), and what
/// else a reader who cannot see the page would miss.
const HINDRANCES: &str = "(() => {
  const found = [];
  const one = selector => { const n = document.querySelectorAll(selector).length; if (n !== 1) found.push(n + ' ' + selector); };
  ['h1', 'main', 'body > header', 'body > footer', 'nav[aria-label]', 'html[lang]'].forEach(one);
  let level = 0;
  for (const heading of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) found.push('from h' + level + ' to h' + next + ': ' + heading.textContent);
    level = next;
  }
  for (const article of document.querySelectorAll('article')) {
    if (!document.getElementById(article.getAttribute('aria-labelledby'))) found.push('no label: ' + article.id);
  }
  for (const input of document.querySelectorAll('input:not([type=checkbox])')) if (!input.labels.length) found.push('no label: ' + input.id);
  for (const pre of document.querySelectorAll('pre')) if (pre.tabIndex !== 0) found.push('cannot be scrolled by keyboard: pre');
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => { const f = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  document.querySelectorAll('details').forEach(d => d.open = true);
  for (const e of document.querySelectorAll('body *')) {
    if (!Array.from(e.childNodes).some(n => n.nodeType === 3 && n.textContent.trim()) || ['SCRIPT', 'STYLE', 'TITLE'].includes(e.tagName)) continue;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(contrast.toFixed(2) + ': ' + e.outerHTML.slice(0, 80));
  }
  return found;
})()";

#[test]
fn a_page_is_read_by_everyone_in_the_dark_on_a_phone_and_on_paper() {
    if !need(BROWSER) {
        return;
    }
    let env = TestEnv::new();
    let reply = "# Plan\n\n1. *one*\n2. `two`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\n```python\n# why\nprint(\"x\" * 3)  # a very long line that does not fit on any phone there ever was, not even sideways\n```\n\n[link](https://example.com)";
    let pixel = BASE64_STANDARD.decode(PIXEL).expect("base64");
    let image = env.write("<pixel>.png", pixel);
    let turn = env.chat("How?\n  indented").args(["--system", "Be brief."]);
    let turn = turn.arg("--image").arg(image);
    let id = turn
        .answered(Reply::text(reply).thinking("hm").counts(20, 30))
        .run()
        .ok()
        .session_id();
    let page = env.work().join("page.html");
    let export = ["session", "export", &id, "--to", "html", "--out"];
    env.command().args(export).arg(&page).run().ok();
    let mut browser = Browser::start(env.server().url().trim_start_matches("http://"));
    browser.open(&page);
    for scheme in ["light", "dark"] {
        let features =
            serde_json::json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", features);
        assert_eq!(
            browser.evaluate(HINDRANCES),
            serde_json::json!([]),
            "{scheme}"
        );
        let ground = browser.evaluate("getComputedStyle(document.body).backgroundColor");
        let expected = if scheme == "dark" {
            "rgb(13, 17, 23)"
        } else {
            "rgb(255, 255, 255)"
        };
        assert_eq!(ground, expected);
    }
    let phone =
        serde_json::json!({"width": 360, "height": 740, "deviceScaleFactor": 3, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", phone);
    let widths = browser.evaluate("[document.documentElement.scrollWidth, window.innerWidth]");
    assert_eq!(widths, serde_json::json!([360, 360]));
    let coloured = browser.evaluate(
        "document.querySelectorAll('.prose code .c-comment, .prose code .c-string').length",
    );
    assert!(coloured.as_u64() > Some(0), "{coloured}");
    let folded =
        browser.evaluate("Array.from(document.querySelectorAll('summary'), s => s.textContent)");
    assert_eq!(folded, serde_json::json!(["System prompt", "Thinking"]));
    let anchor = browser.evaluate("document.querySelector('article h2 a').hash === '#' + document.querySelector('article').id");
    assert_eq!(anchor, true);
    let image = browser.evaluate("[document.images[0].naturalWidth, document.images[0].alt]");
    assert_eq!(image, serde_json::json!([1, "<pixel>.png"]));
    let printed = browser.call("Page.printToPDF", serde_json::json!({}));
    let pdf = printed["data"].as_str().expect("a document");
    assert!(pdf.starts_with("JVBER"), "it is a PDF: {}", &pdf[..20]);
}
