//! A conversation that began with a fact and went on about other things, for tests of what stays
//! of it.

use serde_json::Value;

use crate::support::{Output, Reply, Request, Run, TestEnv, counted, honest};

/// What was said first.
pub(crate) const FACT: &str =
    "The vault code is 4711 and Anselm keeps the spare key in the greenhouse.";

/// A budget that lets most of it leave.
pub(crate) const SMALLER: [&str; 4] = ["--max-context-tokens", "400", "--max_tokens", "50"];

/// A conversation that began with a fact and went on about other things.
pub(crate) struct Talk {
    pub(crate) env: TestEnv,
    pub(crate) id: String,
    pub(crate) prompts: Vec<String>,
    pub(crate) turns: Vec<String>,
}

impl Talk {
    pub(crate) fn held(turns: usize) -> Self {
        let env = TestEnv::new();
        env.server().handle(honest);
        let mut talk = Self {
            env,
            id: String::new(),
            prompts: Vec::new(),
            turns: Vec::new(),
        };
        for at in 0..turns {
            let prompt = match at {
                0 => FACT.to_owned(),
                _ => format!("filler {at} is about weather, lunch and other matters of the day"),
            };
            let run = talk.env.chat(&prompt).args(["--durability", "relaxed"]);
            let run = match at {
                0 => run.args(["--model", "m"]),
                _ => run.session(&talk.id),
            };
            let output = run.run();
            talk.id = output.session_id();
            let turn = output.json()["turn"]["id"].as_str().map(str::to_owned);
            talk.turns.extend(turn);
            talk.prompts.push(prompt);
        }
        talk
    }

    pub(crate) fn say(&self, prompt: &str) -> Run<'_> {
        self.env.chat(prompt).session(&self.id)
    }

    pub(crate) fn pin(&self, verb: &str, turn: &str) -> Output {
        let address = format!("{}:{turn}", self.id);
        self.env.command().args(["session", verb, &address]).run()
    }

    /// Returns the last event of a type.
    pub(crate) fn last(&self, name: &str) -> Option<Value> {
        let mut lines = self.env.lines(&self.id).into_iter();
        lines.rfind(|line| line["type"] == name)
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        let log = self.env.log(&self.id);
        log.matches(&format!("\"type\":\"{name}\"")).count()
    }

    /// Makes the line of a turn unreadable, so that whoever reads it says so.
    pub(crate) fn damage_turn(&self, at: usize) {
        let log = self.env.log(&self.id);
        let line = log
            .lines()
            .filter(|l| l.contains(r#""type":"turn""#))
            .nth(at);
        let damaged = line.map(|line| log.replace(line, &"#".repeat(line.len())));
        self.env
            .write(self.env.log_path(&self.id), damaged.unwrap_or(log));
    }
}

/// Sums up where it is asked to, and is honest otherwise.
pub(crate) fn summarizing(request: &Request) -> Reply {
    if is_summary(request) {
        counted(request, " the gist of it\n")
    } else {
        honest(request)
    }
}

pub(crate) fn is_summary(request: &Request) -> bool {
    request.contents()[0].starts_with("You keep the memory of a conversation.")
}
