//! A server that cannot be used: each reason has its own code, a hint, and no password in it.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use ollama_prompt::error::{Code, Error};
use ollama_prompt::store::Uri;
use ollama_prompt::store::mongo::database::Database;

use crate::support::mongod::{Kind, Mongod, certificate, need_mongod};
use crate::support::{NOBODY_LISTENS, need};

const PASSWORD: &str = "p%40ss%2Fw0rd";
const PASSWORD_MEANT: &str = "p@ss/w0rd";

fn failure(uri: &str) -> Error {
    let begun = Instant::now();
    let uri = Uri::new(String::from(uri)).expect("an address");
    let failure = match Database::connect(&uri) {
        Ok(database) => database.ping().expect_err("it cannot be used"),
        Err(error) => error,
    };
    // The driver's own patience would be 30 seconds.
    assert!(begun.elapsed() < Duration::from_secs(25), "{failure}");
    failure
}

#[track_caller]
fn assert_told(error: &Error, code: Code) {
    let told = serde_json::to_string(&error.report()).expect("JSON");
    assert_eq!(error.code, code, "{told}");
    assert!(told.contains("\"hint\":"), "{told}");
    for secret in [PASSWORD, PASSWORD_MEANT, "wrong-one"] {
        assert!(!told.contains(secret), "{told}");
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
}

#[test]
fn nobody_who_listens() {
    let address = NOBODY_LISTENS.trim_start_matches("http://");
    let error = failure(&format!("mongodb://u:{PASSWORD}@{address}/db"));
    assert_told(&error, Code::StoreUnreachable);
    let told = error.to_string();
    assert!(told.contains(address) && told.contains("refused"), "{told}");
}

#[test]
fn a_server_is_looked_for_as_long_as_the_address_says() {
    let address = NOBODY_LISTENS.trim_start_matches("http://");
    let looked_for = |option: &str| {
        let begun = Instant::now();
        let error = failure(&format!("mongodb://{address}/db{option}"));
        assert_told(&error, Code::StoreUnreachable);
        begun.elapsed()
    };
    let (usual, short) = (looked_for(""), looked_for("?serverSelectionTimeoutMS=100"));
    let longer = Duration::from_millis(1500);
    assert!(usual > short + longer, "{usual:?} and {short:?}");
}

#[test]
fn a_host_that_cannot_be_found() {
    let error = failure(&format!("mongodb://u:{PASSWORD}@no-such-host.invalid/db"));
    assert_told(&error, Code::StoreUnreachable);
}

#[test]
fn an_option_that_makes_no_sense() {
    let uri = format!("mongodb://u:{PASSWORD}@localhost/db?maxPoolSize=many");
    let error = failure(&uri);
    assert_eq!(error.code, Code::Config, "{error}");
    assert!(!error.to_string().contains(PASSWORD), "{error}");
}

#[test]
fn who_is_not_let_in_is_told_so() {
    if !need_mongod() {
        return;
    }
    let server = Mongod::start(Kind::Standalone, &["--auth"], "");
    let roles = vec!["root"];
    let user = doc! {"createUser": "u", "pwd": PASSWORD_MEANT, "roles": roles};
    server
        .admin(user)
        .expect("the first user is made from the machine itself");
    let address = |login: &str| {
        format!(
            "mongodb://{login}127.0.0.1:{}/db?authSource=admin",
            server.port()
        )
    };

    let right = Uri::new(String::from(&address(&format!("u:{PASSWORD}@")))).expect("an address");
    Database::connect(&right)
        .expect("a database")
        .ping()
        .expect("let in");
    let error = failure(&address("u:wrong-one@"));
    assert_told(&error, Code::StoreAuth);

    let nobody = Uri::new(String::from(&address(""))).expect("an address");
    let nobody = Database::connect(&nobody).expect("a database");
    let journal = ollama_prompt::store::mongo::journal::Journal::of(&nobody);
    let error = journal
        .heads(&mut super::patience())
        .expect_err("nobody is asked who");
    assert_told(&error, Code::StoreAuth);
}

#[test]
fn what_is_no_tls_or_not_the_right_one_is_told_so() {
    if !need_mongod() || !need("openssl") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = certificate(directory.path());
    let other = tempfile::tempdir().expect("a directory");
    certificate(other.path());
    let (ca, other) = (
        directory.path().join("cert.pem"),
        other.path().join("cert.pem"),
    );
    let options = format!("tls=true&tlsCAFile={}", ca.display());
    let flags = [
        "--tlsMode",
        "requireTLS",
        "--tlsCertificateKeyFile",
        file.to_str().expect("a name"),
    ];
    let server = Mongod::start(Kind::Standalone, &flags, &options);
    let address = |options: &str| {
        format!(
            "mongodb://u:{PASSWORD}@127.0.0.1:{}/db?{options}",
            server.port()
        )
    };

    let right = Uri::new(String::from(&server.uri())).expect("an address");
    Database::connect(&right)
        .expect("a database")
        .ping()
        .expect("a server that is believed");
    for options in [
        "tls=true".to_owned(),
        format!("tls=true&tlsCAFile={}", other.display()),
    ] {
        assert_told(&failure(&address(&options)), Code::StoreTls);
    }
    assert_told(
        &failure(&address("tls=true&tlsCAFile=/no/such/file")),
        Code::StoreTls,
    );
    assert_told(&failure(&address("tls=false")), Code::StoreTls);

    let plain = Mongod::start(Kind::Standalone, &[], "");
    let uri = format!("mongodb://127.0.0.1:{}/db?{options}", plain.port());
    assert_told(&failure(&uri), Code::StoreTls);
}
