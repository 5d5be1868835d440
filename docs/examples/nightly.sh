#!/usr/bin/env bash
# What to do with a store once a night: see whether it is sound, keep a copy of what is about to go, remove
# it, and free what is no longer needed. Prints a line of JSON for a log.
#
#   17 3 * * * DAYS=90 /usr/local/bin/nightly.sh >>"$HOME/nightly.log"
#
# Sessions not used for DAYS (90) go to ARCHIVE (~/ollama-prompt-archive), those not used for a day longer are
# removed: nothing goes that is not in the archive.
set -euo pipefail
days=${DAYS:-90} archive=${ARCHIVE:-$HOME/ollama-prompt-archive}

# Damage is told and repaired, which loses nothing; it is no reason to stop.
found=$(ollama-prompt session verify -q 2>/dev/null | jq '.problems | length') || true
[[ $found == 0 ]] || ollama-prompt session verify --repair -q >/dev/null || true

mkdir -p "$archive"
mapfile -t old < <(ollama-prompt session list --until "${days}d" | jq -r '.sessions[].session_id')
if ((${#old[@]})); then
  file=$archive/$(date -u +%F).jsonl
  ollama-prompt session export "${old[@]}" --out "$file.new" >/dev/null
  # A night that is called twice adds to what it has.
  [[ ! -e $file ]] || cat "$file" >>"$file.new"
  mv "$file.new" "$file"
fi
removed=$(ollama-prompt session purge --older-than "$((days + 1))d" -q | jq .removed)
freed=$(ollama-prompt session compact --all -q | jq .bytes_freed)
jq -cn --arg at "$(date -u +%FT%TZ)" --argjson problems "${found:-null}" --argjson archived "${#old[@]}" \
  --argjson removed "$removed" --argjson freed "$freed" '{$at, $problems, $archived, $removed, bytes_freed: $freed}'
