//! Stores of any size for benches: the same for the same seed, and made by writing their files.
//!
//! What is said is like what people and models say, as far as a search can tell: words with the
//! frequencies of words (the n-th of them as often as 1/n), sentences and paragraphs, code with
//! quotes and backslashes that JSON escapes, and now and then another script.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use ollama_prompt::session::event::{
    Body, Counted, Event, Header, Settings, Timestamp, Tokens, Turn, Usage, VERSION,
};
use ollama_prompt::session::id::{EventId, SessionId};

/// How large a store is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Sessions.
    pub(crate) sessions: u64,
    /// Turns of each.
    pub(crate) turns: u64,
    /// Bytes of what is said in a turn, about.
    pub(crate) said: usize,
}

/// A word that is in one turn of a thousand, and in no vocabulary.
pub(crate) const RARE: &str = "quetzalcoatlus";

/// 2024-01-01, in milliseconds since 1970.
const BEGIN: u64 = 1_704_067_200_000;

/// What lies between two sessions, and between two turns, in milliseconds.
const PAUSE: u64 = 600_000;
const THOUGHT: u64 = 30_000;

const MODELS: [&str; 4] = [
    "llama3.2:3b",
    "qwen3:8b",
    "deepseek-v3.1:671b-cloud",
    "gemma3:270m",
];

/// Makes a store. Returns the bytes of its logs.
pub(crate) fn make(root: &Path, size: Size) -> u64 {
    let mut random = Random(7);
    let vocabulary = Vocabulary::new(&mut random);
    let mut bytes = 0;
    for n in 0..size.sessions {
        let began = BEGIN + n * PAUSE;
        let id = SessionId::from_parts(began, random.bits());
        let log = log(size, began, &vocabulary, &mut random);
        let directory = root.join("sessions").join(id.to_string());
        fs::create_dir_all(&directory).expect("a directory");
        let file = File::options()
            .create_new(true)
            .write(true)
            .open(directory.join("events.jsonl"));
        file.expect("a new log")
            .write_all(log.as_bytes())
            .expect("writable");
        bytes += log.len() as u64;
    }
    fs::create_dir_all(root.join("sessions")).expect("a directory");
    bytes
}

fn log(size: Size, began: u64, vocabulary: &Vocabulary, random: &mut Random) -> String {
    let mut log = String::new();
    let write = |ms, bits, body, log: &mut String| {
        let event = Event {
            v: VERSION,
            id: EventId::next(ms, None, bits),
            ts: Timestamp::from_ms(ms),
            at: Some(log.len() as u64),
            body,
        };
        *log += &event.to_line();
        log.push('\n');
    };
    let model = MODELS[random.below(MODELS.len())].to_owned();
    let settings = Settings {
        model: Some(model.clone()),
        max_context_tokens: Some(64_000),
        ..Settings::default()
    };
    let header = Body::Session(Header {
        app: None,
        imported: None,
        forked_from: None,
        settings,
    });
    write(began, random.bits(), header, &mut log);
    for n in 0..size.turns {
        let mut prompt = vocabulary.text(size.said / 4, random);
        if random.below(1000) == 0 {
            prompt = prompt + " " + RARE;
        }
        let response = vocabulary.text(size.said - size.said / 4, random);
        let (read, written) = (prompt.len() as u64 / 4, response.len() as u64 / 4);
        let turn = Turn {
            model: model.clone(),
            usage: Usage {
                prompt_eval_count: Some(read),
                eval_count: Some(written),
                eval_duration: Some(written * 20_000_000),
                total_duration: Some(written * 25_000_000),
                ..Usage::default()
            },
            tokens: Tokens {
                prompt: read,
                response: written,
                counted: Counted::Measured,
            },
            prompt,
            response,
            ..Turn::default()
        };
        let ms = began + (n + 1) * THOUGHT;
        write(ms, random.bits(), Body::Turn(Box::new(turn)), &mut log);
    }
    log
}

/// Words from the most to the least frequent.
struct Vocabulary(Vec<String>);

impl Vocabulary {
    const WORDS: usize = 8000;

    fn new(random: &mut Random) -> Self {
        const FREQUENT: &str = "the of and to a in is that it was for on are as with be at this have from or \
            had by not but what some we can out other were all there when up use your how said an each which she";
        const SYLLABLES: &str = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo zu an er in on al est ing ion";
        let syllables: Vec<&str> = SYLLABLES.split_whitespace().collect();
        let mut words: Vec<String> = FREQUENT.split_whitespace().map(str::to_owned).collect();
        while words.len() < Self::WORDS {
            let length = 1 + random.below(3) + random.below(2);
            words.push(
                (0..=length)
                    .map(|_| syllables[random.below(syllables.len())])
                    .collect(),
            );
        }
        Self(words)
    }

    /// Returns a word, the n-th as often as 1/n.
    fn word(&self, random: &mut Random) -> &str {
        let rank = (self.0.len() as f64).powf(random.fraction());
        &self.0[(rank as usize).min(self.0.len() - 1)]
    }

    fn text(&self, bytes: usize, random: &mut Random) -> String {
        let mut text = String::with_capacity(bytes + 64);
        while text.len() < bytes {
            match random.below(40) {
                0 => self.code(&mut text, random),
                1 => {
                    text.push_str("Übrigens: 日本語の文もあります — naïve café, Ελληνικά, 🦀.\n\n")
                }
                _ => self.sentence(&mut text, random),
            }
        }
        text
    }

    fn sentence(&self, text: &mut String, random: &mut Random) {
        for n in 0..4 + random.below(16) {
            if n > 0 {
                text.push(' ');
            }
            text.push_str(self.word(random));
        }
        text.push_str(if random.below(5) == 0 { ".\n\n" } else { ". " });
    }

    fn code(&self, text: &mut String, random: &mut Random) {
        text.push_str("```rust\n");
        for _ in 0..2 + random.below(6) {
            let (name, called) = (self.word(random), self.word(random));
            *text += &format!("    let {name} = {called}(\"{name}\\n\", '\\t')?;\n");
        }
        text.push_str("```\n\n");
    }
}

/// Numbers that are the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("less than a usize")
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}
