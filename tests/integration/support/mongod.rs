//! A MongoDB server for a test: the real one, on loopback, with data of its own.
//!
//! There is one of each [`Kind`] for all tests of a process, and a database for each test; a test
//! that kills its server starts one for itself. A shell stands between the test and the server:
//! when its standard input ends, which it does however the test ends, the server is killed and its
//! data removed.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Document, doc};

use super::tools::{is_installed, outside, profile, required, say_skipped};
use super::{Backend, PATIENCE, TestEnv};

/// Where the server is, if not on the search path.
const VARIABLE: &str = "OLLAMA_PROMPT_TEST_MONGOD";

/// Kills the server and starts it again as it is told, and removes the data when nobody is there
/// any more to tell it.
const KEEPER: &str = r#"
data=$1; shift
start() { "$@" >/dev/null 2>&1 </dev/null & pid=$!; }
stop() { kill -9 "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; }
while read -r word; do
  case $word in
    start) start "$@"; echo started ;;
    kill) stop; echo killed ;;
  esac
done
stop
rm -rf "$data"
"#;

/// How a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A replica set with one member.
    ReplicaSet,
    /// By itself.
    Standalone,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::ReplicaSet, Self::Standalone];
}

/// A running server.
pub(crate) struct Mongod {
    keeper: Child,
    answers: BufReader<ChildStdout>,
    kind: Kind,
    port: u16,
    data: PathBuf,
    /// What clients must say besides, for example that they speak TLS.
    pub(crate) options: String,
}

/// Tells whether there is a server to be started, as [`super::need`] does.
#[track_caller]
pub(crate) fn need_mongod() -> bool {
    if program().is_some() {
        return true;
    }
    assert!(
        !required(),
        "mongod is required and not installed: set {VARIABLE}"
    );
    say_skipped("mongod");
    false
}

fn program() -> Option<PathBuf> {
    match outside(VARIABLE) {
        Some(path) => Some(path.into()),
        None => is_installed("mongod").then(|| "mongod".into()),
    }
}

impl Mongod {
    /// Returns the address of a database of its own on the server of all tests.
    pub(crate) fn database(kind: Kind) -> String {
        static SERVERS: [OnceLock<Mongod>; 2] = [OnceLock::new(), OnceLock::new()];
        let server = &SERVERS[usize::from(kind == Kind::Standalone)];
        server.get_or_init(|| Self::start(kind, &[], "")).uri()
    }

    /// Starts a server with these flags, to which clients must say `options`.
    pub(crate) fn start(kind: Kind, flags: &[&str], options: &str) -> Self {
        let program = program().expect("the test asked whether there is a server");
        let data = tempfile::Builder::new()
            .prefix("mongod-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let data = data.expect("a directory for its data").keep();
        let port = free_port();
        let mut keeper = Command::new("sh");
        keeper
            .arg("-c")
            .arg(KEEPER)
            .arg("keeper")
            .arg(&data)
            .arg(program);
        keeper
            .arg("--dbpath")
            .arg(&data)
            .args(["--port", &port.to_string()]);
        keeper
            .arg("--logpath")
            .arg(data.join("log"))
            .arg("--logappend");
        keeper.args([
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
            "--wiredTigerCacheSizeGB",
            "0.25",
            "--oplogSize",
            "64",
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
        ]);
        if kind == Kind::ReplicaSet {
            keeper.args(["--replSet", "rs0"]);
        }
        keeper.args(flags);
        // A signal for the tests is none for the server.
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut keeper = keeper.spawn().expect("a shell");
        let answers = BufReader::new(keeper.stdout.take().expect("it was asked for"));
        let options = options.to_owned();
        let mut server = Self {
            keeper,
            answers,
            kind,
            port,
            data,
            options,
        };
        server.restart();
        if kind == Kind::ReplicaSet {
            server.initiate();
        }
        server
    }

    /// Kills the server, as a loss of the machine would.
    pub(crate) fn kill(&mut self) {
        assert_eq!(self.tell("kill"), "killed");
    }

    /// Starts the server again and waits until it listens.
    pub(crate) fn restart(&mut self) {
        assert_eq!(self.tell("start"), "started");
        let ends = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                Instant::now() < ends,
                "mongod does not listen: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the address of a database that no other test has.
    pub(crate) fn uri(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        self.uri_of(&format!("test_{n}"))
    }

    /// Returns the address of a database.
    pub(crate) fn uri_of(&self, database: &str) -> String {
        let is_set = self.kind == Kind::ReplicaSet;
        self.address(database, if is_set { "replicaSet=rs0" } else { "" })
    }

    fn address(&self, database: &str, option: &str) -> String {
        let options = [option, &self.options];
        let options: Vec<&str> = options
            .into_iter()
            .filter(|option| !option.is_empty())
            .collect();
        let options = if options.is_empty() {
            String::new()
        } else {
            format!("?{}", options.join("&"))
        };
        format!("mongodb://127.0.0.1:{}/{database}{options}", self.port)
    }

    /// Returns where the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns everything the server wrote of what it did.
    fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log")).unwrap_or_default()
    }

    /// Runs a command of an administrator.
    pub(crate) fn admin(&self, command: Document) -> Result<Document, mongodb::error::Error> {
        let uri = self.address("", "directConnection=true");
        run(&uri, "admin", command)
    }

    fn tell(&mut self, word: &str) -> String {
        let keeper = self.keeper.stdin.as_mut().expect("it was asked for");
        writeln!(keeper, "{word}").expect("the shell reads");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the shell answers");
        answer.trim_end().to_owned()
    }

    fn initiate(&self) {
        let host = format!("127.0.0.1:{}", self.port);
        let config = doc! {"_id": "rs0", "members": [{"_id": 0, "host": host}]};
        let initiated = self.admin(doc! {"replSetInitiate": config});
        initiated.expect("it becomes a replica set");
        let ends = Instant::now() + PATIENCE;
        let writes = |hello: Document| hello.get_bool("isWritablePrimary").unwrap_or(false);
        while !self.admin(doc! {"hello": 1}).is_ok_and(writes) {
            assert!(Instant::now() < ends, "the replica set has no primary");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Runs a command by a client of its own.
pub(crate) fn run(
    uri: &str,
    database: &str,
    command: Document,
) -> Result<Document, mongodb::error::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = Client::with_uri_str(uri).await?;
        client.database(database).run_command(command).await
    })
}

/// Returns what a server did in a database while `work` ran: its profile, oldest first.
pub(crate) fn profiled(uri: &str, database: &str, work: impl FnOnce()) -> Vec<Document> {
    let run = |command| run(uri, database, command).expect("it is done");
    run(doc! {"profile": 2});
    work();
    run(doc! {"profile": 0});
    let found = run(doc! {"find": "system.profile", "batchSize": 1000});
    let cursor = found.get_document("cursor").expect("a cursor");
    let batch = cursor.get_array("firstBatch").expect("what was found");
    let entries = batch.iter().filter_map(|entry| entry.as_document());
    entries.cloned().collect()
}

/// Returns the name of the database in an address.
pub(crate) fn database_in(uri: &str) -> &str {
    let (_, rest) = uri.rsplit_once('/').expect("an address");
    rest.split('?').next().expect("a name")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Makes a certificate for the loopback address, and the key to it; returns the file with both.
pub(crate) fn certificate(directory: &Path) -> PathBuf {
    let (key, cert) = (directory.join("key.pem"), directory.join("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
        ])
        .args([
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(made.success(), "openssl makes a certificate");
    let both = directory.join("both.pem");
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&both)
        .expect("a new file");
    for part in [&key, &cert] {
        file.write_all(&std::fs::read(part).expect("it was made"))
            .expect("writable");
    }
    both
}

/// A database on the replica set of all tests.
pub(crate) struct InReplicaSet;

/// A database on the standalone server of all tests.
pub(crate) struct InStandalone;

impl Backend for InReplicaSet {
    fn is_there() -> bool {
        need_mongod()
    }

    fn world() -> TestEnv {
        world(Kind::ReplicaSet)
    }
}

impl Backend for InStandalone {
    fn is_there() -> bool {
        need_mongod()
    }

    fn world() -> TestEnv {
        world(Kind::Standalone)
    }
}

/// Makes a world whose runs keep their sessions in a database of its own.
pub(crate) fn world(kind: Kind) -> TestEnv {
    world_in(Mongod::database(kind))
}

/// Makes a world whose runs keep their sessions in this database.
pub(crate) fn world_in(uri: String) -> TestEnv {
    TestEnv::keeping_sessions_in(vec![("OLLAMA_PROMPT_DB_URI", uri.into())], ())
}

/// A suite that ran without a server must not look like one that ran with it.
#[test]
fn a_test_without_a_server_says_that_it_is_skipped_while_it_passes() {
    let nothing = tempfile::tempdir().expect("a directory");
    let mut tests = Command::new(std::env::current_exe().expect("this program"));
    tests.env_clear().env("PATH", nothing.path());
    if let Some(file) = profile() {
        tests.env("LLVM_PROFILE_FILE", file);
    }
    let name = "mongo::program::a_document_that_somebody_removed_is_missed";
    let tests = tests.args([name, "--exact"]).output().expect("it runs");
    let (out, err) = (
        String::from_utf8_lossy(&tests.stdout),
        String::from_utf8_lossy(&tests.stderr),
    );
    assert!(tests.status.success() && out.contains("1 passed"), "{out}");
    assert_eq!(err, format!("SKIPPED: {name} needs mongod\n"));
}
