#!/usr/bin/env python3
"""Asks from Python: one function that returns the answer, and an exception that says what to do.

    python3 docs/examples/ask.py SESSION-NAME PROMPT…

takes a turn for each prompt and prints the replies. Needs nothing but the standard library.
"""
import json
import subprocess
import sys
import time

NOT_STORED = 7


class Failed(Exception):
    """The program's own words: `code`, `hint`, `retryable`, and after a reply that could not be
    stored that reply as `answer`."""

    def __init__(self, status, failure, answer=None):
        super().__init__(failure["error"])
        self.status, self.answer = status, answer
        self.code, self.retryable = failure["code"], failure["retryable"]
        self.hint = failure.get("hint")


def ask(prompt, *flags, program="ollama-prompt", attempts=3, pause=2.0):
    """Takes a turn and returns the answer, a dict. The prompt goes through standard input: it may
    be longer than an argument can be, and is not seen in the list of processes."""
    command = [program, "--prompt", "-", "--output", "compact", "-q", *flags]
    while True:
        attempts -= 1
        done = subprocess.run(command, input=prompt.encode(), capture_output=True)
        if done.returncode == 0:
            return json.loads(done.stdout)
        if done.returncode < 0:
            raise RuntimeError(f"{program} was ended by signal {-done.returncode}")
        failure = json.loads(done.stderr.splitlines()[-1])
        # A reply that arrived and could not be stored is on standard output all the same.
        if done.returncode == NOT_STORED and done.stdout:
            raise Failed(done.returncode, failure, json.loads(done.stdout))
        if attempts == 0 or not failure["retryable"]:
            raise Failed(done.returncode, failure)
        time.sleep(pause)


def main(name, *prompts):
    try:
        for prompt in prompts:
            answer = ask(prompt, "--session-key", name)
            print(answer["response"])
            for warning in answer.get("warnings", []):
                print("warning:", warning, file=sys.stderr)
    except Failed as failed:
        if failed.answer:
            print(failed.answer["response"])
        print(f"{failed.code}: {failed}", failed.hint or "", file=sys.stderr)
        return failed.status
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
