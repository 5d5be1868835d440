//! What `--help` ends with: calls as they are typed, for each command.
//!
//! Each is run by a test as it stands, in a directory that has what it names; `$ID` is a session
//! and `$TURN` its newest turn.

pub(super) const TURN: &str = "\
Examples:
  ollama-prompt --prompt \"Help me plan a web application\"
  # Go on: with a session, with that of a directory, with the one used last
  ollama-prompt --session-id \"$ID\" --prompt \"Now the database schema\"
  ollama-prompt --session-key \"$(basename \"$PWD\")\" --prompt \"What is left?\"
  ollama-prompt --continue --prompt \"And after that?\" --output text
  # Leave no trace
  git diff | ollama-prompt --no-session --prompt - --output text
  # Put files into the prompt, or beside it
  ollama-prompt --prompt \"Review @./src/main.rs against @./docs/:tree\"
  ollama-prompt -p \"Which colours?\" --image photo.png --format @schema.json
  # See what would be sent, and try without a server
  ollama-prompt --session-id \"$ID\" --prompt \"Now the tests\" --dry-run
  ollama-prompt --offline --prompt \"Hello\"
  # Every request once, however often the call is made
  ollama-prompt --session-id \"$ID\" --idempotency-key ci-42 --prompt \"Summarize\"";

pub(super) const SESSION: &str = "\
Examples:
  ollama-prompt session list --output table
  ollama-prompt session show \"$ID\" --output text
  # Each verb has its own: ollama-prompt session VERB --help";

pub(super) const LIST: &str = "\
Examples:
  ollama-prompt session list --output table
  ollama-prompt session list --tag work --since 7d --sort size --limit 10";

pub(super) const SHOW: &str = "\
Examples:
  ollama-prompt session show \"$ID\" --output text
  # One turn, and the session as it was after it
  ollama-prompt session show \"$ID:$TURN\"
  ollama-prompt session show \"$ID\" --at \"$TURN\" --output markdown
  # What the model was sent
  ollama-prompt session show \"$ID\" --context | jq '.request.messages | length'";

pub(super) const SEARCH: &str = "\
Examples:
  ollama-prompt session search 'database schema' --output text
  ollama-prompt session search -i 'todo|fixme' --role assistant --since 30d
  ollama-prompt session search -F 'C++' \"$ID\" --count
  ollama-prompt session search schema -l | jq -r .session_id";

pub(super) const STATS: &str = "\
Examples:
  ollama-prompt session stats --output table
  ollama-prompt session stats --since 30d --output svg > usage.svg";

pub(super) const UPDATE: &str = "\
Examples:
  ollama-prompt session update \"$ID\" --title \"Web application\" --tag work
  ollama-prompt session update \"$ID\" --system \"\" --max-context-tokens 32000
  # Of all that fit, only say what would change
  ollama-prompt session update --all --where older-than=90d --tag old --dry-run";

pub(super) const RETRACT: &str = "\
Examples:
  ollama-prompt session retract \"$ID:$TURN\"
  ollama-prompt session retract \"$ID:$TURN\" --compact";

pub(super) const REDACT: &str = "\
Examples:
  ollama-prompt session redact --fixed \"rosebud\" --all --compact
  # See first how much it would be
  ollama-prompt session redact 'sk-[A-Za-z0-9]{20,}' \"$ID\" --dry-run
  # What is on standard input is in no history of a shell
  echo \"$SECRET\" | ollama-prompt session redact -F --pattern-file - \"$ID\"";

pub(super) const PIN: &str = "\
Examples:
  ollama-prompt session pin \"$ID:$TURN\"";

pub(super) const UNPIN: &str = "\
Examples:
  ollama-prompt session unpin \"$ID:$TURN\"";

pub(super) const PRUNE: &str = "\
Examples:
  ollama-prompt session prune \"$ID\" --to 8000
  ollama-prompt session prune \"$ID\" --strategy summarize --to 8000";

pub(super) const COMPACT: &str = "\
Examples:
  ollama-prompt session compact \"$ID\"
  ollama-prompt session compact --all --drop-pruned";

pub(super) const DELETE: &str = "\
Examples:
  ollama-prompt session delete \"$ID\"";

pub(super) const PURGE: &str = "\
Examples:
  ollama-prompt session purge --older-than 90d --dry-run
  ollama-prompt session purge --older-than 30d --tag scratch";

pub(super) const FORK: &str = "\
Examples:
  ollama-prompt session fork \"$ID\"
  ollama-prompt session fork \"$ID\" --at \"$TURN\" | jq -r .session_id";

pub(super) const RETRY: &str = "\
Examples:
  ollama-prompt session retry \"$ID\"
  ollama-prompt session retry \"$ID\" --output text --timeout 20m";

pub(super) const DRAFTS: &str = "\
Examples:
  ollama-prompt session drafts
  ollama-prompt session drafts --clear";

pub(super) const WATCH: &str = "\
Examples:
  ollama-prompt session watch | jq -r '.event.response // empty'
  ollama-prompt session watch \"$ID\" --from-start";

pub(super) const VERIFY: &str = "\
Examples:
  ollama-prompt session verify
  ollama-prompt session verify \"$ID\" --repair";

pub(super) const REINDEX: &str = "\
Examples:
  ollama-prompt session reindex";

pub(super) const MERGE: &str = "\
Examples:
  cp -r ~/.ollama-prompt backup && ollama-prompt session merge backup";

pub(super) const COPY: &str = "\
Examples:
  ollama-prompt session copy --to backup";

pub(super) const IMPORT: &str = "\
Examples:
  ollama-prompt session import conversations.json
  ollama-prompt session import --from python --dry-run
  ollama-prompt session export --all | ollama-prompt session import -";

pub(super) const EXPORT: &str = "\
Examples:
  ollama-prompt session export --all --out sessions.jsonl
  ollama-prompt session export \"$ID\" --to markdown
  # A page for each
  ollama-prompt session export --all --to html --out pages/";

pub(super) const CLEANUP: &str = "\
Examples:
  ollama-prompt cleanup --older-than 365d --dry-run
  ollama-prompt cleanup --older-than 90d --tag scratch --every 1d";

pub(super) const TEMPLATE: &str = "\
Examples:
  ollama-prompt template save review --system \"Review {{language}}.\" --force
  ollama-prompt --template review --var language=Rust -p \"See @./src/main.rs\"
  # Each verb has its own: ollama-prompt template VERB --help";

pub(super) const TEMPLATE_LIST: &str = "\
Examples:
  ollama-prompt template list --output table";

pub(super) const TEMPLATE_SHOW: &str = "\
Examples:
  ollama-prompt template show review";

pub(super) const TEMPLATE_SAVE: &str = "\
Examples:
  ollama-prompt template save brief --system \"Be {{tone}}.\" --var tone=brief
  ollama-prompt template save web --from-session \"$ID\"";

pub(super) const TEMPLATE_DELETE: &str = "\
Examples:
  ollama-prompt template delete review";

pub(super) const COMPLETIONS: &str = "\
Examples:
  source <(ollama-prompt completions bash)
  ollama-prompt completions fish > ~/.config/fish/completions/ollama-prompt.fish";

pub(super) const MAN: &str = "\
Examples:
  ollama-prompt man > ollama-prompt.1";
