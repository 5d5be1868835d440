#!/usr/bin/env bash
# Conversations that a team shares through git: brings what is new here to the others, and what is new
# there to you. Call it as often as you like, also while turns are being taken.
#
#   docs/examples/team.sh ~/transcripts        a clone of the repository the transcripts are in
#
# Your own store is OLLAMA_PROMPT_HOME or ~/.ollama-prompt, as for every call: give the team's conversations a
# store of their own if others are none of theirs. The clone is a store as well, which only this script
# writes to, so git never changes a file under a turn that is being stored.
set -euo pipefail
clone=$(cd "${1:?the clone}" && pwd)
own=${OLLAMA_PROMPT_HOME:-$HOME/.ollama-prompt}

exec 9>"$clone/.git/team.lock"
flock 9
git() { command git -C "$clone" "$@"; }

for ((tries = 0; tries < 10; tries++)); do
  [[ ! -d $own ]] || OLLAMA_PROMPT_HOME=$clone ollama-prompt session merge "$own" >/dev/null
  git add --all
  git diff --cached --quiet || git commit --quiet -m "Conversations up to $(date -u +%FT%TZ)"
  # Logs are merged as the union of their lines, which is what .gitattributes in the store says.
  # The first to share have no commit in common; a repository that is still empty has nothing to pull.
  branch=$(git branch --show-current)
  if git ls-remote --exit-code origin "$branch" >/dev/null; then
    git pull --quiet --no-rebase --no-edit --allow-unrelated-histories origin "$branch"
  fi
  # Somebody else may push in between: then once more.
  if why=$(git push --quiet origin HEAD 2>&1); then
    ollama-prompt session merge "$clone" | jq -r '"\(.sessions_added) sessions and \(.events_added) events are new here"'
    exit 0
  fi
done
echo "cannot push to $(git remote get-url origin): $why" >&2
exit 1
