#!/usr/bin/env bash
# One conversation for a project, for as long as it lasts: each call goes on where the last one ended,
# on whichever day, in whichever terminal.
#
#   docs/examples/project.sh ask "What comes first?"       takes a turn; standard input is brought along
#   docs/examples/project.sh decide "We use PostgreSQL"    the same, and it stays, however long this gets
#   docs/examples/project.sh since 1d                      what was said in the last day
#   docs/examples/project.sh find 'index(es|ing)'          where something was said
#
# The project is the git repository it is called in, or the directory; PROJECT names another.
set -euo pipefail
top=$(git rev-parse --show-toplevel 2>/dev/null || pwd)
project=${PROJECT:-$(basename "$top")}
do_what=${1:-} text=${2:-}
[[ $do_what && $text ]] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

key=(--session-key "project:$project")

# Prints the answer as one line of JSON. What leaves the context in the end is summed up, not lost.
turn() {
  { echo "$1"; [[ -t 0 ]] || cat; } |
    ollama-prompt "${key[@]}" --prune summarize --prompt - --output compact -q
}

# Prints the id that belongs to the name. Nothing is asked or written.
id() {
  ollama-prompt "${key[@]}" --dry-run --prompt "Which session?" | jq -r .session_id
}

case $do_what in
ask) turn "$text" | jq -r .response ;;
decide)
  answer=$(turn "Decided, and not to be asked again: $text")
  ollama-prompt session pin "$(jq -r '"\(.session_id):\(.turn.id)"' <<<"$answer")" >/dev/null
  jq -r .response <<<"$answer"
  ;;
since) ollama-prompt session search '^' "$(id)" --since "$text" --output text ;;
find) ollama-prompt session search "$text" "$(id)" --output text ;;
*) echo "ask, decide, since or find; not $do_what" >&2; exit 2 ;;
esac
