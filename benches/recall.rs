//! How often a fact that was said early is still in the context when it is asked for: `importance`
//! against `fifo`, on conversations made from a fixed seed. A count, not a time; the table in
//! docs/session-management.md is what this prints (`cargo bench --bench recall`).
//!
//! Each conversation has 120 turns of small talk, drawn from a list of subjects, and eight facts,
//! said within the first 40 turns at random places. From turn 60 on each fact is asked for once,
//! by one of the words it had and in another sentence. A fact is recalled if its turn is among those
//! sent with the question.
#![expect(clippy::print_stdout, reason = "a bench tells its figures")]

use ollama_prompt::session::context::{Budget, Candidate, Order, plan};
use ollama_prompt::session::importance::{Said, scores};

const TURNS: usize = 120;
const FACTS: usize = 8;
const CONVERSATIONS: u64 = 50;

fn main() {
    println!("| context, in turns | fifo | importance |");
    println!("| --- | --- | --- |");
    for turns in [10u64, 20, 40, 80] {
        let recalled = |by_importance| -> usize {
            (0..CONVERSATIONS)
                .map(|seed| recalled(seed, turns, by_importance))
                .sum()
        };
        let all = FACTS * usize::try_from(CONVERSATIONS).expect("fifty");
        let percent = |count: usize| count as f64 * 100.0 / all as f64;
        println!(
            "| {turns} | {:.0} % | {:.0} % |",
            percent(recalled(false)),
            percent(recalled(true))
        );
    }
}

/// A conversation in the making; the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).expect("below n")
    }
}

struct Turn {
    prompt: String,
    response: String,
}

const SUBJECTS: [&str; 12] = [
    "the weather on the coast",
    "a recipe with lentils",
    "the history of bread",
    "a walk in the hills",
    "how bridges are built",
    "an old film",
    "the care of roses",
    "a train journey",
    "the tides",
    "a game of chess",
    "the making of paper",
    "a choir rehearsal",
];
const THINGS: [&str; FACTS] = [
    "vault", "deadline", "printer", "landlord", "invoice", "passport", "server", "garage",
];

/// Returns how many of the facts were in the context when they were asked for.
fn recalled(seed: u64, context_turns: u64, by_importance: bool) -> usize {
    let mut random = Random(seed);
    let mut said_at: Vec<usize> = Vec::new();
    while said_at.len() < FACTS {
        let at = random.below(40);
        if !said_at.contains(&at) {
            said_at.push(at);
        }
    }
    let code: Vec<usize> = (0..FACTS).map(|_| 1000 + random.below(9000)).collect();
    let mut turns: Vec<Turn> = Vec::new();
    let mut in_context: Vec<usize> = Vec::new();
    let mut hits = 0;
    for at in 0..TURNS {
        let fact = said_at.iter().position(|place| *place == at);
        let asked = (at >= 60 && (at - 60) % 7 == 0)
            .then(|| (at - 60) / 7)
            .filter(|fact| *fact < FACTS);
        let subject = SUBJECTS[random.below(SUBJECTS.len())];
        let prompt = match (fact, asked) {
            (Some(fact), _) => format!(
                "Note that the {} has the number {}.",
                THINGS[fact], code[fact]
            ),
            (_, Some(fact)) => format!("Remind me, what was it about the {}?", THINGS[fact]),
            _ => format!("Tell me something about {subject}, please."),
        };
        // Every turn costs 50 tokens, so that the budget is a number of turns.
        let tokens = |_: &usize| Candidate {
            tokens: 50,
            is_pinned: false,
            with_previous: false,
        };
        let candidates: Vec<Candidate> = in_context.iter().map(tokens).collect();
        let texts = in_context.iter().map(|turn| Said {
            prompt: &turns[*turn].prompt,
            response: &turns[*turn].response,
            tokens: 50,
        });
        let scores = scores(&texts.collect::<Vec<_>>(), &prompt);
        let order = if by_importance {
            Order::LeastImportant(&scores)
        } else {
            Order::Oldest
        };
        let budget = Budget::new(context_turns * 50 * 10 / 9 + 50, 50);
        let plan = plan(&candidates, 25, budget, order).expect("one turn fits");
        in_context = in_context
            .iter()
            .zip(&plan.keep)
            .filter(|(_, keep)| **keep)
            .map(|(turn, _)| *turn)
            .collect();
        if let Some(fact) = asked {
            hits += usize::from(in_context.contains(&said_at[fact]));
        }
        let response = format!("There is much to say about {subject}, and this is some of it.");
        turns.push(Turn { prompt, response });
        in_context.push(at);
    }
    hits
}
