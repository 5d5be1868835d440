"""A reader of the store, written from docs/format.md: `python3 reader.py ROOT` prints what each session is."""
import glob, itertools, json, os, re, stat, sys
JUNK, UUID = "\0\t\r\n \ufeff", re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ULID, LAST = re.compile("[0-9A-HJKMNP-TV-Z]{26}"), "76EZ91ZPZZ"  # the last millisecond of the year 9999
NEEDED = {"turn": ("prompt", "response"), "prune": ("keep_from",), "redact": ("turn",)}

def event_at(text, start):
    """Returns the event that begins there, its bytes and where it ends; None if none does."""
    try:
        event, end = json.JSONDecoder().raw_decode(text, start)
        ulid, kind = event["id"].upper(), event["type"] + ""
        known = all(isinstance(event.get(key), str) for key in NEEDED.get(kind, ()))
        if ULID.fullmatch(ulid) and ulid[:10] <= LAST and (known or event["v"] > 1):
            return event | {"id": ulid, "type": kind if known else "newer"}, text[start:end].encode(), end
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None

def read(data, events):
    """Puts the events of a log into `events`; returns how many stretches of it are damage."""
    damage, lines = 0, data.split(b"\n")
    for number, line in enumerate(lines, 1 - len(lines)):
        text = line.decode("utf-8", "surrogateescape").strip(JUNK) if len(line) <= 64 << 20 else "too long"
        is_whole, debris = (event_at(text, 0) or [0])[-1] == len(text), 0
        if number == 0 and not is_whole:  # what follows the last newline
            continue
        for at in [0] if is_whole else [found.start() for found in re.finditer('{"v":', text)]:
            if at >= debris and (found := event_at(text, at)):
                damage += bool(text[debris:at].strip(JUNK))
                event, raw, debris = found
                events[event["id"]] = max(events.get(event["id"], (b"",)), (raw, event), key=lambda e: e[0])
        damage += bool(text[debris:].strip(JUNK))
    return damage

def show(text, ranges):
    """Returns a text with a marker for each hidden stretch: of whole characters, those side by side as one."""
    ends = [0, *itertools.accumulate(len(c.encode()) for c in text)]
    hidden = [any(max(a, at) < min(b, end) for a, b in ranges) for at, end in zip(ends, ends[1:])]
    return "".join("[redacted]" * (not was) if is_ else c for c, is_, was in zip(text, hidden, [False] + hidden))

def session(paths):
    events, settings, horizon = {}, {"options": {}, "pins": {}, "tags": {}}, {}
    if not all(stat.S_ISREG(os.lstat(path).st_mode) for path in paths): return None
    damage = sum(read(open(path, "rb").read(), events) for path in paths)
    of = lambda *types: [event for _, (_, event) in sorted(events.items()) if event["type"] in types]
    hides = lambda event: [redact.get("fields") for redact in of("redact") if redact["turn"] == event["id"]]
    ranges = lambda event, key: [r for fields in hides(event) for r in (fields or {}).get(key, [])]
    for event in of("session", "set"):
        event = {key: show(value, ranges(event, key)) if key in ("system", "title") else value for key, value
                 in event.items() if key not in ("options", "tags") or not any(key in (fields or {}) for fields in hides(event))}
        settings |= event | {key: settings[key] | event.get(key, {}) for key in ("options", "pins", "tags")}
    for event in of("prune"):
        horizon = event if event.get("back") or event["keep_from"] >= horizon.get("keep_from", "") else horizon
    kept = [turn["id"] for turn in horizon.get("keep", [])] + [id for id, pin in settings["pins"].items() if pin]
    turns = [{key: show(turn[key], ranges(turn, key))
              for key in ("prompt", "response", "thinking") if isinstance(turn.get(key), str)}
             | {"id": turn["id"], "in_context": turn["id"] >= horizon.get("keep_from", "") or turn["id"] in kept}
             for turn in of("turn") if all(hides(turn))]
    what = {"settings": settings, "turns": turns, "horizon": horizon.get("keep_from"), "damage": damage}
    return events and what

found = {path[-36:]: session(sorted(glob.glob(path + "/*.jsonl"), key=lambda log: log.endswith("/events.jsonl")))
         for path in glob.glob(sys.argv[1] + "/sessions/*") if UUID.fullmatch(os.path.basename(path))}
print(json.dumps({name: what for name, what in found.items() if what}, indent=2))
