"""A reader of the store, written from docs/format.md: `python3 reader.py ROOT` prints what each session is."""
import json, os, re, stat, sys

JUNK = "\0\t\r\n \ufeff"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
NEEDED = {"turn": ("prompt", "response"), "prune": ("keep_from",)}
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

def event_at(text, start):
    """Returns the event that begins there, its bytes and where it ends; None if none does."""
    try:
        event, end = json.JSONDecoder().raw_decode(text, start)
        ulid, known = event["id"].upper(), NEEDED.get(event["type"] + "", ())
        ms = sum(CROCKFORD.index(c) << 5 * (9 - i) for i, c in enumerate(ulid[:10]))
        valid = re.fullmatch(f"[{CROCKFORD}]{{26}}", ulid) and ms <= 253402300799999
        valid = valid and (event.get("v", 1) > 1 or all(isinstance(event.get(k), str) for k in known))
        return valid and (event | {"id": ulid}, text[start:end].encode(), end) or None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None

def read(data, events):
    """Puts the events of a log into `events`; returns how many stretches of it are damage."""
    damage, lines = 0, data.split(b"\n")
    for number, line in enumerate(lines, 1 - len(lines)):
        text, found = line.decode("utf-8", "surrogateescape").strip(JUNK), []
        is_read = len(line) < 64 << 20
        if is_read and (whole := event_at(text, 0)) and whole[2] == len(text):
            text, found = "", [whole]
        elif number == 0:  # what follows the last newline
            continue
        at, debris = text.find('{"v":') if is_read else -1, 0
        while at >= 0:
            if salvaged := event_at(text, at):
                damage, found = damage + bool(text[debris:at].strip(JUNK)), found + [salvaged]
                debris = salvaged[2]
            at = text.find('{"v":', debris if salvaged else at + 1)
        damage += bool(text[debris:].strip(JUNK))
        for event, raw, _ in found:
            events[event["id"]] = max(events.get(event["id"], (b"",)), (raw, event), key=lambda e: e[0])
    return damage

def session(directory):
    names = [n for n in os.listdir(directory) if n.endswith(".jsonl") and not n.startswith(".")]
    paths = [os.path.join(directory, n) for n in sorted(names, key=lambda n: n == "events.jsonl")]
    if not all(stat.S_ISREG(os.lstat(path).st_mode) for path in paths):
        return None
    events, settings, turns, horizon = {}, {}, [], ""
    damage = sum(read(open(path, "rb").read(), events) for path in paths)
    for _, (_, event) in sorted(events.items()):
        if event["type"] in ("session", "set"):
            settings |= {k: event[k] for k in ("model", "system", "max_context_tokens") if k in event}
        elif event["type"] == "turn" and "prompt" in event:
            turns.append({k: event[k] for k in ("id", "prompt", "response")})
        elif event["type"] == "prune" and "keep_from" in event:
            horizon = max(horizon, event["keep_from"])
    return events and {"settings": settings, "turns": turns, "horizon": horizon or None, "damage": damage}

root = os.path.join(sys.argv[1], "sessions")
found = {name: session(os.path.join(root, name)) for name in sorted(os.listdir(root)) if UUID.fullmatch(name)}
print(json.dumps({name: what for name, what in found.items() if what}, indent=2))
