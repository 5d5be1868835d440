#!/usr/bin/env python3
"""Makes a recording of a terminal: runs commands as a reader would, and prints what was seen as SVG.

    python3 docs/recording/record.py docs/recording/commands.sh >recording.svg

runs each line of the file in one bash on a terminal of its own, with whatever `ollama-prompt`, server and
store its environment has. The recording in the README is made, and compared with what comes, by
`cargo test --test integration -- recording::`, against a server whose answers are scripted. Needs nothing
but the standard library.

The picture shows everything to whoever has no animation; with it, lines appear one after the other.
"""
import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import termios

COLUMNS, ROWS = 96, 50
CHARACTER, LINE, MARGIN, TOP = 8.0, 19, 18, 44
# What a terminal shows for the parameters of its colour sequences.
CLASSES = {1: "bold", 2: "dim", 3: "italic", 4: "underlined", 31: "red", 32: "green", 33: "yellow", 34: "blue",
           35: "magenta", 36: "cyan", 91: "red", 92: "green", 93: "yellow", 94: "blue", 95: "magenta", 96: "cyan"}
STYLE = """
  text { font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre }
  .prompt, .green { fill: #a3be8c } .comment, .dim { fill: #8a93a5 } .command, .bold { font-weight: bold }
  .red { fill: #e06c75 } .yellow { fill: #ebcb8b } .blue { fill: #81a1c1 } .magenta { fill: #b48ead } .cyan { fill: #88c0d0 }
  .italic { font-style: italic } .underlined { text-decoration: underline }
  @keyframes appear { from { opacity: 0 } to { opacity: 1 } }
  text { animation: appear 0.1s backwards }
  @media (prefers-reduced-motion: reduce) { text { animation: none } }
"""
# Stands before what a command prints; nothing prints it by itself.
MARK = "\x1e"


def seen(commands):
    """Runs the commands in one bash on a terminal; returns what each showed there."""
    script = "".join(f"printf '{MARK}'\n{command}\n" for command in commands)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    child = subprocess.Popen(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                             env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # what a terminal says when nobody has it open any more
            break
        if not piece:
            break
        shown += piece
    child.wait()
    texts = shown.decode().replace("\r\n", "\n").split(MARK)[1:]
    if len(texts) != len(commands):
        sys.exit(f"{len(commands)} commands were begun {len(texts)} times: {shown!r}")
    return [text.rstrip("\n").split("\n") if text.strip() else [] for text in texts]


def wrapped(line):
    """Cuts a line as a terminal does; sequences take no room. Yields pairs of classes and text."""
    rows, width, classes = [[]], 0, []
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b["):
            for number in (int(n or 0) for n in part[2:-1].split(";")):
                classes = [] if number == 0 else classes + [CLASSES[number]]
            continue
        if any(ord(c) < 32 for c in part):
            sys.exit(f"a control sequence that is not known here: {part!r}")
        while part:
            if width == COLUMNS:
                rows.append([])
                width = 0
            piece, part = part[:COLUMNS - width], part[COLUMNS - width:]
            rows[-1].append((" ".join(classes), piece))
            width += len(piece)
    return rows


def drawn(at, moment, row):
    """Returns a row of the picture; `row` is pairs of classes and text."""
    text = "".join(piece for _, piece in row)
    spans = "".join(f'<tspan class="{name}">{html.escape(piece)}</tspan>' if name else html.escape(piece, quote=False)
                    for name, piece in row)
    # Whatever the font, a character takes one column.
    width = f' textLength="{len(text) * CHARACTER:g}"' if text.strip() else ""
    return (f'  <text x="{MARGIN}" y="{TOP + LINE * at:g}"{width} xml:space="preserve"'
            f' style="animation-delay:{moment:.1f}s">{spans}</text>')


def main(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    outputs = iter(seen([line for line in lines if not line.startswith("#")]))
    rows, moment, at = [], 0.3, 0

    def show(row):
        nonlocal at
        rows.append(drawn(at, moment, row))
        at += 1

    for line in lines:
        if line.startswith("#"):
            at += 0.4 if at else 0
            show([("comment", line)])
            moment += 0.9
            continue
        show([("prompt", "$ "), ("command", line)])
        moment += 0.9
        for text in next(outputs):
            for row in wrapped(text):
                show(row)
        moment += 1.2
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, TOP + LINE * at + MARGIN / 2
    dots = "".join(f'<circle cx="{20 + 18 * n}" cy="16" r="5.5" fill="{fill}"/>'
                   for n, fill in enumerate(["#e06c75", "#ebcb8b", "#a3be8c"]))
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
          f' role="img">\n  <title>{html.escape(" · ".join(l[2:] for l in lines if l.startswith("#")))}</title>\n'
          f'  <style>{STYLE}  </style>\n  <rect width="100%" height="100%" rx="8" fill="#22262e"/>\n  {dots}')
    print("\n".join(rows))
    print("</svg>")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
