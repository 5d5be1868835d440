#!/usr/bin/env bash
# Reviews what a branch changes, in a CI job: prints what was found as FILE:LINE: WHAT, and fails the job
# if the model would not have it merged.
#
#   docs/examples/ci.sh origin/main
#
# The same commits are asked about once: a job that is run again gets the answer it got. If the model cannot
# be asked, the job goes on with a warning; UNASKED=fail has it fail.
set -euo pipefail
base=${1:?the branch the change is to go to}
top=$(git rev-parse --show-toplevel)
range=$(git merge-base "$base" HEAD)..$(git rev-parse HEAD)

answer=$(mktemp) failure=$(mktemp) schema=$(mktemp)
trap 'rm -f "$answer" "$failure" "$schema"' EXIT
cat >"$schema" <<'JSON'
{
  "type": "object",
  "properties": {
    "merge": {"type": "boolean"},
    "findings": {
      "type": "array",
      "items": {
        "type": "object",
        "properties": {"file": {"type": "string"}, "line": {"type": "integer"}, "what": {"type": "string"}},
        "required": ["file", "line", "what"]
      }
    }
  },
  "required": ["merge", "findings"]
}
JSON

for pause in 5 30 0; do
  # The diff comes through standard input, so nothing in it is a reference or an option.
  if git diff "$range" | ollama-prompt --session-key "ci:$(basename "$top"):$range" --idempotency-key review \
    --system "You review changes. Name only bugs. Say whether to merge." --format "@$schema" \
    --prompt "Review this change: @-" --output compact -q >"$answer" 2>"$failure"; then
    jq -r '.response | fromjson | .findings[] | "\(.file):\(.line): \(.what)"' "$answer"
    jq -e '.response | fromjson | .merge' "$answer" >/dev/null && exit 0
    exit 1
  fi
  # What went wrong is one line of JSON; it says whether the same call can succeed later.
  jq -e .retryable "$failure" >/dev/null || break
  sleep "${PAUSE:-$pause}"
done
jq -r '"not reviewed: \(.error)"' "$failure" >&2
[[ ${UNASKED:-pass} == pass ]]
