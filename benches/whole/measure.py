#!/usr/bin/env python3
"""What whole processes cost, beside the least that does the same.

    benches/whole/measure.py                  every part but the largest stores
    benches/whole/measure.py turn lengths     these parts
    benches/whole/measure.py large list       10 000 and 100 000 sessions, 1 GB
    benches/whole/measure.py mongodb          sessions in a MongoDB server beside files; only where it is asked for

Builds the program, the generator of stores and `floor.rs`, and prints a table a part, in Markdown: each line is
a median of pairs, the program and its baseline in turn, so that a machine which drifts drifts for both. The ratio
is taken pair by pair; behind it stand the tenth and the ninetieth percentile. Needs strace for counts, GNU time for
memory and ripgrep for the search; a figure whose tool is missing is "-". `mongodb` needs `mongod`, on the search path
or named by OLLAMA_PROMPT_TEST_MONGOD.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/ollama-prompt"
TURNS_IN_10 = 10
# What a turn of `lengths` and of the full context says, in bytes: about 250 tokens.
SAID = 1000


def main():
    parts = {
        "turn": turn,
        "counts": counts,
        "lengths": lengths,
        "neighbours": neighbours,
        "contention": contention,
        "list": listing,
        "search": search,
        "bulk": bulk,
        "mongodb": mongodb,
    }
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts) + "; and large")
    options.add_argument("--pairs", type=int, default=41, help="runs of each side (short programs)")
    options.add_argument("--program", type=pathlib.Path, help="this binary instead of target/release/ollama-prompt")
    options.add_argument("--scratch", type=pathlib.Path, help="where stores are made; they are removed")
    options = options.parse_args()
    options.large = "large" in options.parts
    options.parts = [part for part in options.parts if part != "large"]
    for part in options.parts:
        if part not in parts:
            sys.exit(f"{part!r} is none of {', '.join(parts)}")
    # As the program makes its files: others are not to read them.
    os.umask(0o077)
    with Bench(options) as bench:
        print(bench.machine(), end="\n\n")
        for name, part in parts.items():
            if name in options.parts or not options.parts and name != "mongodb":
                part(bench)
                print()


# The parts ----------------------------------------------------------------------------------------------------------


def turn(bench):
    """A turn against a server that answers at once; F is a bare program that makes the same request."""
    home = bench.home()
    session = home.session(TURNS_IN_10)
    ask = ["--model", "m", "--prompt", "two and two?"]
    table = Table("a turn", "F")
    table.pair(bench, "`--help`", home.run("--help"), home.bare())
    table.pair(bench, "`--version`", home.run("--version"), home.bare())
    table.pair(bench, "turn, stateless", home.run("--no-session", *ask), home.bare())
    table.pair(bench, "turn, new session", home.run(*ask), home.bare())
    continued = home.run("--session-id", session, "--prompt", "two and two?")
    table.pair(bench, "turn, 10 exchanges before it", continued, home.bare(), before=home.as_it_is(session))
    # About 55 000 tokens: the most that is sent before the oldest turns leave.
    whole = home.session(185)
    full = home.run("--session-id", whole, "--prompt", "two and two?")
    table.pair(bench, "turn that sends a full 64 000 tokens", full, home.bare(), before=home.as_it_is(whole))
    table.print(memory=bench.has("time"))
    print()
    table = Table("the floor", "F")
    store = home.path / "by-hand"
    table.pair(bench, "an empty program", bench.floor("empty"), home.bare())
    table.pair(bench, "F with a draft, a lock and a synced line", bench.floor("turn", home.port, home.body, store), home.bare())
    table.pair(bench, "F with a draft, a lock and a new synced log", bench.floor("begin", home.port, home.body, store), home.bare())
    table.print(memory=bench.has("time"))


def counts(bench):
    """System calls and bytes, as strace counts them."""
    if not bench.has("strace"):
        print("(no strace: no counts)")
        return
    home = bench.home()
    session = home.session(TURNS_IN_10)
    ask = ["--model", "m", "--prompt", "two and two?"]
    runs = {
        "`--version`": home.run("--version"),
        "stateless": home.run("--no-session", *ask),
        "new session": home.run(*ask),
        "10 exchanges before it": home.run("--session-id", session, "--prompt", "two and two?"),
        "bare program (F)": home.bare(),
    }
    print("| | system calls | of them before `main` | read, bytes | written, bytes | files opened | syncs | threads |")
    print("| --- " * 8 + "|")
    for name, run in runs.items():
        calls = bench.trace(run)
        print(f"| {name} | {calls.all} | {calls.before_main} | {calls.read} | {calls.written} | {calls.opened} | {calls.syncs} | {calls.threads} |")


def lengths(bench):
    """A turn in a session of any length reads what it sends, and no more."""
    home = bench.home()
    sizes = [10, 1000, 100_000] if bench.large else [10, 1000, 20_000]
    print("| turns before it | log, bytes | system calls | read of the log, bytes | lines parsed | sent turns |")
    print("| --- " * 6 + "|")
    sessions = {}
    for turns in sizes + [250, 50_000 if bench.large else 10_000]:
        sessions[turns] = home.session(turns)
    for turns in sizes:
        run = home.run("--session-id", sessions[turns], "--prompt", "x", "--verbose")
        size = home.log(sessions[turns]).stat().st_size
        calls = bench.trace(run) if bench.has("strace") else None
        restore = home.as_it_is(sessions[turns])
        said = run.output()
        restore()
        sent = json.loads(said)["context_usage"]["kept_turns"]
        shown = (calls.all, calls.read_of_log, calls.lines) if calls else ("-",) * 3
        print(f"| {turns} | {size} | {shown[0]} | {shown[1]} | {shown[2]} | {sent} |")
    print()
    few, many = 250, max(sessions)
    table = Table("the same turn", f"with {few} exchanges")
    for most in [50_000 if bench.large else 10_000, many]:
        if most in sessions:
            asked = [home.run("--session-id", sessions[n], "--prompt", "x") for n in (most, few)]
            both = [home.as_it_is(sessions[n]) for n in (most, few)]
            table.pair(bench, f"{most} exchanges", *asked, before=lambda: [restore() for restore in both])
    table.print()


def neighbours(bench):
    """A turn knows nothing of the other sessions."""
    alone, among = bench.home(), bench.home()
    count = 100_000 if bench.large else 10_000
    bench.make(among.store, count, 1, 200)
    table = Table("a turn", "in an empty store")
    runs = [home.run("--session-id", home.session(TURNS_IN_10), "--prompt", "x") for home in (among, alone)]
    table.pair(bench, f"continued, {count} other sessions", *runs)
    ask = ["--model", "m", "--prompt", "x"]
    table.pair(bench, f"new, {count} other sessions", among.run(*ask), alone.run(*ask))
    table.print()


def contention(bench):
    """Many at once, on one session and on one each."""
    home = bench.home()
    table = Table("at once", "as many bare requests")
    for many in (16, 64):
        bare = Together([home.bare()] * many)
        own = Together([home.run("--session-id", home.session(3), "--prompt", "x", "--quiet") for _ in range(many)])
        one = home.session(3)
        before = home.turns(one)
        same = Together([home.run("--session-id", one, "--prompt", "x", "--quiet")] * many)
        table.pair(bench, f"{many} turns on {many} sessions", own, bare, pairs=15)
        table.pair(bench, f"{many} turns on one session", same, bare, pairs=15)
        kept = home.turns(one) - before
        table.note(f"Of {16 * many} turns on one session, {many} at a time, {kept} were kept.")
    slow = bench.home(bench.slow_port)
    one = slow.session(3)
    same = Together([slow.run("--session-id", one, "--prompt", "x", "--quiet")] * 64)
    table.pair(bench, "64 turns on one session, the model takes 0.2 s", same, Together([slow.bare()] * 64), pairs=15)
    table.print()
    one = home.session(1)
    before = home.turns(one)
    processes, rounds = 64, 20
    queue = [home.run("--session-id", one, "--prompt", "x", "--quiet")] * rounds
    threads = [threading.Thread(target=lambda: [run() for run in queue]) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"\n{processes} processes x {rounds} turns on one session: {home.turns(one) - before} of {processes * rounds} kept.")
    if bench.has("strace"):
        held(bench, home)


def held(bench, home):
    """How long the lock of a session is held while 16 append to it, and how often they sync."""
    one = home.session(3)
    traces = [bench.scratch / f"held-{n}" for n in range(64)]
    only = ["strace", "-f", "--seccomp-bpf", "-ttt", "-e", "trace=flock,fdatasync,fsync,syncfs"]
    runs = [home.run("--session-id", one, "--prompt", "x", "--quiet", through=[*only, "-o", trace]) for trace in traces]
    for n in range(0, len(runs), 16):
        Together(runs[n : n + 16])()
    microseconds, waited, syncs = [], 0, 0
    for trace in traces:
        taken, asked = {}, {}
        for line in trace.read_text().splitlines():
            process, at, call = line.split(None, 2)
            syncs += re.match(r"f?sync|fdatasync|syncfs", call) is not None
            begun = re.match(r"flock\((\d+), (\S+?)[ )]", call)
            if begun:
                asked[process] = begun.groups()
            ended = re.search(r"flock(?: resumed>|\().*= (-?\d+)", call)
            if not ended:
                continue
            file, how = asked[process]
            waited += "LOCK_NB" in how and ended[1] != "0"
            if how.startswith("LOCK_EX") and ended[1] == "0":
                taken[file] = float(at)
            elif how == "LOCK_UN" and file in taken:
                microseconds.append((float(at) - taken.pop(file)) * 1e6)
    print(f"\nThe lock, 16 at a time on one session, traced ({len(microseconds)} appends; tracing adds to each): "
          f"found taken {waited} times; {syncs / len(traces):.2f} syncs a turn.\n")
    print("| held for at most, microseconds | appends |")
    print("| --- | --- |")
    limits = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 10**9]
    found = collections.Counter(next(limit for limit in limits if us <= limit) for us in microseconds)
    for limit in limits:
        if found[limit]:
            print(f"| {limit if limit < 10**9 else 'more'} | {found[limit]} |")


def listing(bench):
    """The list beside readdir, one stat a session and reading the index."""
    for sessions in [10_000, 100_000] if bench.large else [10_000]:
        home = bench.home()
        bench.make(home.store, sessions, 2, 500)
        index = home.store / "cache/index.jsonl"
        run = home.run("--list-sessions")
        cold = statistics.median(bench.timed(run, before=lambda: index.unlink(missing_ok=True)) for _ in range(5))
        index.unlink(missing_ok=True)
        rebuild = statistics.median(bench.timed(home.run("session", "reindex")) for _ in range(5))
        home.settle()
        floor = bench.floor("list", home.store)
        table = Table(f"{sessions} sessions", "readdir, a stat a session, the index")
        pairs = 15
        table.pair(bench, "`--list-sessions`, warm", run, floor, pairs=pairs)
        table.pair(bench, "`session list --limit 20`", home.run("session", "list", "--limit", "20"), floor, pairs=pairs)
        logs = sorted((home.store / "sessions").glob("*/events.jsonl"))[:: 100]

        def change():
            home.settle()
            for log in logs:
                os.utime(log)

        table.pair(bench, "after 1 % of the sessions changed", run, floor, pairs=pairs, before=change)
        home.settle()
        table.note(f"Without an index: {cold:.0f} ms; `session reindex`: {rebuild:.0f} ms.")
        table.print(memory=bench.has("time"))


def search(bench):
    """The search beside ripgrep on the same files."""
    ripgrep = shutil.which("rg")
    if not ripgrep:
        print("(no ripgrep: no search)")
        return
    large = bench.large
    for sessions, turns, said in [(83_000, 5, 2000), (1, 83_000 * 5, 2000)] if large else [(8300, 5, 2000), (1, 41_500, 2000)]:
        home = bench.home()
        size = bench.make(home.store, sessions, turns, said)
        home.run("--list-sessions")()
        table = Table(f"{size / 1e6:.0f} MB in {sessions} session{'s' * (sessions > 1)}", "ripgrep")
        for word in ("quetzalcoatlus", "nothing-says-this"):
            theirs = Run([ripgrep, "-c", "-F", word, home.store / "sessions"], home.environment, accepts=(0, 1))
            ours = home.run("session", "search", word)
            table.pair(bench, f"`session search {word}`", ours, theirs, pairs=15)
        theirs = Run([ripgrep, "-c", "-i", "-F", "Quetzalcoatlus", home.store / "sessions"], home.environment, accepts=(0, 1))
        table.pair(bench, "ignoring case", home.run("session", "search", "-i", "Quetzalcoatlus"), theirs, pairs=15)
        table.print(memory=bench.has("time"))
        shutil.rmtree(home.store)


def bulk(bench):
    """Import, export, verify and compaction of what is large, beside reading every byte once."""
    home = bench.home()
    turns = 1_000_000 if bench.large else 100_000
    sessions = turns // 10
    size = bench.make(home.store, sessions, 10, 500)
    floor = bench.floor("read", home.store)
    table = Table(f"{turns} turns in {sessions} sessions, {size / 1e6:.0f} MB", "reading the logs")
    exported = bench.scratch / "exported.jsonl"
    all_of_it = ["session", "export", "--all", "--out", exported]
    table.pair(bench, "export to one file", home.run(*all_of_it), floor, pairs=15)
    table.pair(bench, "verify", home.run("session", "verify"), floor, pairs=15)
    table.pair(bench, "stats", home.run("session", "stats"), floor, pairs=15)
    into = bench.home()
    fresh = lambda: shutil.rmtree(into.store, ignore_errors=True)
    table.pair(bench, "import of that file", into.run("session", "import", exported), floor, pairs=15, before=fresh)
    table.print(memory=bench.has("time"))
    shutil.rmtree(home.store)
    fresh()
    exported.unlink()
    one = bench.home()
    size = bench.make(one.store, 1, 415_000 if bench.large else 41_500, 2000)
    session = next((one.store / "sessions").glob("*/events.jsonl")).parent.name
    floor = bench.floor("read", one.store)
    table = Table(f"one session of {size / 1e6:.0f} MB", "reading it")
    for form in ("jsonl", "markdown", "html"):
        out = bench.scratch / "exported"
        table.pair(bench, f"export as {form}", one.run("session", "export", session, "--to", form, "--out", out), floor, pairs=15)
    table.pair(bench, "verify", one.run("session", "verify", session), floor, pairs=15)
    table.pair(bench, "compact", one.run("session", "compact", session), floor, pairs=15)
    table.print(memory=bench.has("time"))


# What runs and what is measured -------------------------------------------------------------------------------------


def mongodb(bench):
    """Turns whose sessions are in a MongoDB server on this machine, beside the same turns with files."""
    alone, of_one = bench.mongod(), bench.mongod("--replSet", "rs0")
    command(of_one, {"replSetInitiate": {"_id": "rs0", "members": [{"_id": 0, "host": f"127.0.0.1:{of_one}"}]}})
    while b"isWritablePrimary\0\1" not in command(of_one, {"hello": 1}):
        time.sleep(0.1)
    ask = ["--model", "m", "--prompt", "two and two?", "--quiet"]
    table = Table("sessions in MongoDB", "files")
    for name, uri in [
        ("by itself", f"mongodb://127.0.0.1:{alone}/m"),
        ("a replica set of one", f"mongodb://127.0.0.1:{of_one}/m?replicaSet=rs0"),
    ]:
        files, home = bench.home(), bench.home()
        home.environment["OLLAMA_PROMPT_DB_URI"] = uri
        table.pair(bench, f"turn, new session, {name}", home.run(*ask), files.run(*ask))
        both = []
        for place in (home, files):
            session = f"{os.urandom(4).hex()}-0000-7000-8000-000000000000"
            for _ in range(TURNS_IN_10):
                place.run("--create", "--session-id", session, *ask)()
            both.append(place.run("--session-id", session, *ask))
        table.pair(bench, f"turn, 10 exchanges before it, {name}", *both)
        at_once = [Together([run] * 16) for run in both]
        table.pair(bench, f"16 turns on one session at once, {name}", *at_once, pairs=15)
    table.print(memory=bench.has("time"))


def command(port, document):
    """Sends a command to the database `admin` of a MongoDB server and returns its answer, as bytes."""
    body = bson({**document, "$db": "admin"})
    with socket.create_connection(("127.0.0.1", port)) as server:
        # Length, id, in answer to, OP_MSG; flags, and a section of one document.
        server.sendall(struct.pack("<iiiiIB", 21 + len(body), 1, 0, 2013, 0, 0) + body)
        return server.recv(1 << 16)


def bson(value):
    """What BSON makes of objects and lists of strings and small numbers."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    made = b""
    for key, item in items:
        if isinstance(item, str):
            kind, content = b"\x02", struct.pack("<i", len(item.encode()) + 1) + item.encode() + b"\0"
        elif isinstance(item, int):
            kind, content = b"\x10", struct.pack("<i", item)
        else:
            kind, content = b"\x03" if isinstance(item, dict) else b"\x04", bson(item)
        made += kind + str(key).encode() + b"\0" + content
    return struct.pack("<i", len(made) + 5) + made + b"\0"


class Bench:
    """The programs, a server, and room for stores."""

    def __init__(self, options):
        self.large, self.pairs = options.large, options.pairs
        self.program = options.program or PROGRAM
        self._room = tempfile.TemporaryDirectory(prefix="measure-", dir=options.scratch)
        self.scratch = pathlib.Path(self._room.name)
        build = ["cargo", "build", "--release", "--quiet"]
        if "mongodb" in options.parts:
            build.append("--features=mongodb")
        if not options.program:
            subprocess.run(build, cwd=ROOT, check=True)
        self.generator = self._generator()
        self.bare = self.scratch / "floor"
        rustc = os.environ.get("RUSTC", "rustc")
        source = ROOT / "benches/whole/floor.rs"
        subprocess.run([rustc, "-O", "--edition", "2024", "-o", self.bare, source], check=True)
        self.servers = []
        self.port, self.slow_port = self.serve(0), self.serve(200)

    def mongod(self, *flags):
        """Starts a MongoDB server on loopback, and returns its port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = tempfile.mkdtemp(dir=self.scratch)
        words = [os.environ.get("OLLAMA_PROMPT_TEST_MONGOD", "mongod"), "--dbpath", data, "--port", str(port)]
        words += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--logpath", f"{data}/log", "--wiredTigerCacheSizeGB", "0.25", *flags]
        self.servers.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.1)
        sys.exit("mongod does not listen: " + pathlib.Path(data, "log").read_text()[-2000:])

    def serve(self, milliseconds):
        """Starts a server that answers after so long, and returns its port."""
        server = subprocess.Popen([self.bare, "serve", str(milliseconds)], stdout=subprocess.PIPE)
        self.servers.append(server)
        return server.stdout.readline().decode().strip()

    @staticmethod
    def _generator():
        build = ["cargo", "bench", "--bench", "make", "--profile", "dev", "--no-run", "--quiet", "--message-format=json"]
        for line in subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.splitlines():
            built = json.loads(line)
            if built.get("executable") and built["target"]["name"] == "make":
                return built["executable"]
        sys.exit("cargo built no generator")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.kill()
            server.wait()
        self._room.cleanup()

    def machine(self):
        model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
        load = pathlib.Path("/proc/loadavg").read_text().split()[0]
        version = subprocess.run([self.program, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        size = self.program.stat().st_size / 1e6
        return (f"{version}, {size:.1f} MB; {os.cpu_count()} x {model[1] if model else platform.machine()}, "
                f"Linux {platform.release()}, load {load} when it began.")

    def has(self, tool):
        return shutil.which(tool) is not None

    def home(self, port=None):
        return Home(self, pathlib.Path(tempfile.mkdtemp(dir=self.scratch)), port or self.port)

    def floor(self, *words):
        return Run([self.bare, *words], {})

    def make(self, store, sessions, turns, said):
        """Makes a store, and returns the bytes of its logs."""
        words = [self.generator, str(sessions), str(turns), str(said), store]
        return int(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)

    def timed(self, run, before=None):
        """Milliseconds of one run."""
        if before:
            before()
        start = time.perf_counter_ns()
        run()
        return (time.perf_counter_ns() - start) / 1e6

    def memory(self, run):
        """The most memory a run had at once, in MB: resident pages, those of the program's file among them."""
        report = self.scratch / "memory"
        run.through("time", "-f", "%M", "-o", report)()
        return int(report.read_text().split()[-1]) / 1024

    def trace(self, run):
        report = self.scratch / "trace"
        # All of what is read, for the lines in it.
        run.through("strace", "-f", "-y", "-s", str(1 << 24), "-o", report)()
        return Calls(report.read_text(errors="replace").splitlines())


class Home:
    """A home directory with a store of its own."""

    def __init__(self, bench, path, port):
        self.bench, self.path, self.port = bench, path, port
        self.store = path / ".ollama-prompt"
        self.environment = {"HOME": str(path), "OLLAMA_HOST": f"http://127.0.0.1:{port}"}
        self.body = path / "body"
        message = {"role": "user", "content": "two and two?"}
        self.body.write_text(json.dumps({"model": "m", "messages": [message], "stream": True}))

    def run(self, *words, through=()):
        return Run([*through, self.bench.program, *words], self.environment)

    def bare(self):
        return self.bench.floor("ask", self.port, self.body)

    def log(self, session):
        return self.store / "sessions" / session / "events.jsonl"

    def session(self, turns):
        """Makes a session of so many turns with the generator, lets the server be asked once, and returns its id."""
        made = pathlib.Path(tempfile.mkdtemp(dir=self.path))
        self.bench.make(made, 1, turns, SAID)
        name = next((made / "sessions").glob("*/events.jsonl")).parent.name
        fresh = f"{os.urandom(4).hex()}-{os.urandom(2).hex()}-7{os.urandom(2).hex()[1:]}-a{os.urandom(2).hex()[1:]}-{os.urandom(6).hex()}"
        (self.store / "sessions").mkdir(parents=True, exist_ok=True)
        (made / "sessions" / name).rename(self.store / "sessions" / fresh)
        shutil.rmtree(made)
        # Its first turn lets the oldest leave the context where they do not fit, as they would have long before.
        self.run("--session-id", fresh, "--prompt", "x", "--quiet")()
        return fresh

    def as_it_is(self, session):
        """Returns what puts the log of `session` back to its present length."""
        log = self.log(session)
        length = log.stat().st_size
        return lambda: os.truncate(log, length)

    def turns(self, session):
        return self.log(session).read_bytes().count(b'"type":"turn"')

    def settle(self):
        """Makes every log so much older than the index that the index is believed."""
        index = self.store / "cache/index.jsonl"
        if not index.exists():
            self.run("--list-sessions")()
        later = time.time() + 3600
        os.utime(index, (later, later))


class Run:
    """One command, ready to be run any number of times."""

    def __init__(self, words, environment, accepts=(0,)):
        self.words = [str(word) for word in words]
        self.words[0] = shutil.which(self.words[0]) or self.words[0]
        self.environment, self.accepts = environment, accepts

    def through(self, *words):
        return Run([*words, *self.words], self.environment, self.accepts)

    def start(self):
        silent = [(os.POSIX_SPAWN_OPEN, file, os.devnull, os.O_RDWR, 0) for file in (0, 1)]
        return os.posix_spawn(self.words[0], self.words, self.environment, file_actions=silent)

    def end(self, process):
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status not in self.accepts:
            sys.exit(f"{' '.join(self.words)}: exit status {status}")

    def __call__(self):
        self.end(self.start())

    def output(self):
        return subprocess.run(self.words, env=self.environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


class Together:
    """Several commands at the same time."""

    def __init__(self, runs):
        self.runs = runs

    def __call__(self):
        for run, process in [(run, run.start()) for run in self.runs]:
            run.end(process)


class Table:
    """Lines of a part: the program, its baseline, and the ratio of the two."""

    def __init__(self, what, baseline):
        self.what, self.baseline = what, baseline
        self.lines, self.notes = [], []

    def pair(self, bench, name, run, baseline, pairs=None, before=None):
        ours, theirs = [], []
        for n in range((pairs or bench.pairs) + 1):
            theirs.append(bench.timed(baseline))
            ours.append(bench.timed(run, before))
        # The first of each warms the caches.
        ours, theirs = ours[1:], theirs[1:]
        ratios = sorted(a / b for a, b in zip(ours, theirs))
        memory = bench.memory(run) if bench.has("time") and isinstance(run, Run) else None
        self.lines.append((name, statistics.median(ours), statistics.median(theirs), ratios, memory))

    def note(self, text):
        self.notes.append(text)

    def print(self, memory=False):
        print(f"| {self.what} | ms | {self.baseline}, ms | ratio | 10 % to 90 % of the pairs | pairs |" + " memory, MB |" * memory)
        print("| --- " * (6 + memory) + "|")
        for name, ours, theirs, ratios, most in self.lines:
            low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
            shown = f"| {name} | {ours:.2f} | {theirs:.2f} | {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} | {len(ratios)} |"
            print(shown + (f" {most:.1f} |" if most and memory else " - |" * memory))
        for note in self.notes:
            print(f"\n{note}")


class Calls:
    """What strace saw of one run."""

    def __init__(self, lines):
        calls = [line.split(" ", 1)[1].lstrip() for line in lines if "resumed>" not in line]
        calls = [call for call in calls if re.match(r"\w+\(", call)]
        self.all = len(calls)
        # The runtime's first act in `main` is to look at the three standard streams.
        self.before_main = next((n for n, call in enumerate(calls) if call.startswith("poll(")), 0)
        count = lambda *names: sum(call.split("(")[0] in names for call in calls)
        self.opened, self.threads = count("open", "openat"), count("clone", "clone3") + 1
        self.syncs = count("fsync", "fdatasync", "syncfs")
        moved = lambda names, where="": sum(
            int(call.rsplit("= ", 1)[1].split()[0])
            for call in calls
            if call.split("(")[0] in names and where in call.split(",")[0] and re.search(r"= \d+$", call)
        )
        reads, writes = ("read", "pread64", "readv", "recvfrom"), ("write", "pwrite64", "writev", "sendto")
        self.read, self.written = moved(reads), moved(writes)
        self.read_of_log = moved(reads, "events.jsonl")
        logs = [call for call in calls if call.split("(")[0] in reads and "events.jsonl" in call.split(",")[0]]
        self.lines = sum(len(re.findall(r"(?<!\\)(?:\\\\)*\\n", call)) for call in logs)


if __name__ == "__main__":
    main()
