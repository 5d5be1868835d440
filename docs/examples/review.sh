#!/usr/bin/env bash
# Reviews files in parallel. Each file has a session of its own, named after it, so that the next
# review of the same file knows what was said in this one.
#
#   docs/examples/review.sh src/*.rs        the reviews go to review/
#
# JOBS is how many are under way at once, PAUSE the seconds before a call is made again, REVIEWS
# where the reviews go.
set -euo pipefail
export JOBS=${JOBS:-4} PAUSE=${PAUSE:-2} REVIEWS=${REVIEWS:-review}

review() {
  local file=$1 out=$REVIEWS/${1//\//_}.md answer attempt failure
  failure=$(mktemp)
  for attempt in 1 2 3; do
    # The prompt goes through standard input: it may be longer than an argument can be.
    if answer=$({ printf 'Review this file. Name only bugs, each with its line.\n\n'; cat -- "$file"; } |
      ollama-prompt --session-key "review:$file" --prompt - --output compact -q 2>"$failure"); then
      jq -r .response <<<"$answer" >"$out"
      rm -f "$failure"
      return
    fi
    # What went wrong is one line of JSON; it says whether the same call can succeed later.
    jq -e .retryable "$failure" >/dev/null || break
    sleep "$PAUSE"
  done
  jq -r --arg file "$file" '"\($file): \(.error)"' "$failure" >&2
  rm -f "$failure"
  return 1
}
export -f review

mkdir -p "$REVIEWS"
printf '%s\0' "$@" | xargs -0 -r -n 1 -P "$JOBS" bash -c 'review "$1"' review
