//! Connecting, the collections, and the one place that waits for the driver.
//!
//! Every write is acknowledged by a majority of the servers and journaled, and every read is of
//! the primary, whatever the address says: with the defaults of a standalone server acknowledged
//! turns are lost when it is killed.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference,
    SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};
use tokio::runtime::{Builder, Runtime};

use super::failure::{Failed, NoAnswer, is_unknown};
use super::patience::Patience;
use crate::error::{Code, Error, Result};
use crate::signals;
use crate::store::uri::Uri;

/// How long a server is looked for, unless the address says.
const LOOKED_FOR: Duration = Duration::from_secs(3);

/// How long a majority may take to acknowledge a write before its outcome is unknown.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// How much longer than that and than the search for a server an attempt may take.
const SLACK: Duration = Duration::from_secs(5);

/// How often who waits for an answer looks whether to go on waiting.
const LOOK: Duration = Duration::from_millis(100);

/// How long the indexes of a list may take to be made before a turn goes on without.
const INDEXED_WITHIN: Duration = Duration::from_secs(2);

/// A database on a server. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Database(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    // An option only to be taken out when the connection goes.
    runtime: Option<Runtime>,
    database: mongodb::Database,
    uri: Uri,
    /// How long a single attempt may take.
    longest: Duration,
}

impl Database {
    /// Gets ready to speak to the server at `uri`. Nothing is sent before something is asked.
    ///
    /// # Errors
    /// `config` where the address has options that make no sense; `store_tls` where a file with
    /// certificates cannot be read.
    pub fn connect(uri: &Uri) -> Result<Self> {
        if uri.is_by_dns() && !cfg!(feature = "mongodb-srv") {
            return Err(Error::new(Code::Config, format!("cannot keep sessions in {uri}"))
                .because("this build does not look up mongodb+srv:// addresses")
                .hint("name the servers in a mongodb:// address, or build with --features mongodb-srv"));
        }
        // One thread, beside the one that asks: it keeps what is held while a model is waited for.
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|cause| Error::new(Code::Internal, "cannot start a thread").because(cause))?;
        let connected = runtime.block_on(async {
            let mut options = ClientOptions::parse(uri.with_secrets()).await?;
            options
                .app_name
                .get_or_insert_with(|| "ollama-prompt".into());
            let looked_for = *options.server_selection_timeout.get_or_insert(LOOKED_FOR);
            options.connect_timeout.get_or_insert(LOOKED_FOR);
            Ok((Client::with_options(options)?, looked_for))
        });
        match connected {
            Ok((client, looked_for)) => Ok(Self(Arc::new(Connection {
                database: client.database(uri.database()),
                runtime: Some(runtime),
                uri: uri.clone(),
                longest: looked_for.saturating_add(ACKNOWLEDGED_WITHIN + SLACK),
            }))),
            Err(error) => {
                runtime.shutdown_background();
                Err(Failed {
                    uri,
                    doing: "keep sessions",
                }
                .told(&error))
            }
        }
    }

    /// Tells whether this is the same database, by its address.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.uri == other.0.uri
    }

    /// Asks the server whether it is there and lets us in.
    ///
    /// # Errors
    /// `store_unreachable`, `store_auth`, `store_tls`.
    pub fn ping(&self) -> Result<()> {
        let asked = self.wait(async { self.0.database.run_command(doc! {"ping": 1}).await });
        asked
            .map(drop)
            .map_err(|error| self.failed("reach the store", &error))
    }

    /// Returns a collection whose writes are durable when they are acknowledged.
    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        let durable = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(ACKNOWLEDGED_WITHIN)
            .build();
        self.collection_with(name, durable)
    }

    /// Returns a collection of what may get lost in a crash: its writes are acknowledged by one
    /// server, before they are on its disk.
    pub(super) fn passing<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        let concern = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        self.collection_with(name, concern)
    }

    fn collection_with<T: Send + Sync>(&self, name: &str, concern: WriteConcern) -> Collection<T> {
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let options = CollectionOptions::builder()
            .write_concern(concern)
            .read_concern(ReadConcern::local())
            .selection_criteria(primary)
            .build();
        self.0.database.collection_with_options(name, options)
    }

    /// Waits for what was asked.
    pub(super) fn wait<F: Future>(&self, asked: F) -> F::Output {
        self.runtime().block_on(asked)
    }

    /// Goes on with something while others are asked.
    pub(super) fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.runtime().spawn(task)
    }

    /// Asks, and asks again as long as it cannot be said whether it was done and `patience` lasts.
    /// What is asked must do the same however often it is done. An attempt ends also when a server
    /// takes it and does not answer, as one does whose files are locked for a backup.
    pub(super) fn insist<T, F>(
        &self,
        patience: &mut Patience,
        ask: impl FnMut() -> F,
    ) -> std::result::Result<T, DriverError>
    where
        F: Future<Output = std::result::Result<T, DriverError>>,
    {
        self.insist_for(patience, self.0.longest, ask)
    }

    /// The same for what takes as long as there is something to read.
    pub(super) fn read_all<T, F>(
        &self,
        patience: &mut Patience,
        ask: impl FnMut() -> F,
    ) -> std::result::Result<T, DriverError>
    where
        F: Future<Output = std::result::Result<T, DriverError>>,
    {
        self.insist_for(patience, Duration::MAX, ask)
    }

    fn insist_for<T, F>(
        &self,
        patience: &mut Patience,
        longest: Duration,
        mut ask: impl FnMut() -> F,
    ) -> std::result::Result<T, DriverError>
    where
        F: Future<Output = std::result::Result<T, DriverError>>,
    {
        self.wait(async {
            loop {
                match answered(ask(), longest).await {
                    // A signal that is held back ends the waiting, as it ends that for a lock.
                    Err(error) if is_unknown(&error) => match patience.next_wait() {
                        Some(wait) if signals::held_back().is_none() => {
                            tokio::time::sleep(wait).await;
                        }
                        _ => return Err(error),
                    },
                    asked => return asked,
                }
            }
        })
    }

    /// Does something a turn can go without, if it does not take long.
    pub(super) fn try_briefly(&self, asked: impl Future) {
        self.wait(async {
            let _ = tokio::time::timeout(INDEXED_WITHIN, asked).await;
        });
    }

    /// Waits before the next try, unless a signal that is held back says to end.
    pub(super) fn pause(&self, wait: Duration) -> Result<()> {
        if let Some(signal) = signals::held_back() {
            return Err(signal);
        }
        self.wait(async { tokio::time::sleep(wait).await });
        Ok(())
    }

    /// Returns the time it is by the clock of the server.
    ///
    /// # Errors
    /// `store_*`.
    pub fn time(&self, patience: &mut Patience) -> Result<DateTime> {
        let hello = self.insist(patience, || async {
            self.0.database.run_command(doc! {"hello": 1}).await
        });
        let hello = hello.map_err(|error| self.failed("ask for the time", &error))?;
        hello.get_datetime("localTime").copied().map_err(|cause| {
            Error::new(Code::StoreIo, "cannot ask the server for the time").because(cause)
        })
    }

    /// Returns a failure of the driver as it is told.
    pub(super) fn failed(&self, doing: &str, error: &DriverError) -> Error {
        if is_unknown(error)
            && let Some(signal) = signals::held_back()
        {
            return signal;
        }
        Failed {
            uri: &self.0.uri,
            doing,
        }
        .told(error)
    }

    fn runtime(&self) -> &Runtime {
        self.0
            .runtime
            .as_ref()
            .expect("the runtime goes with the database")
    }
}

/// Waits for an answer, but not for ever, and not when a signal is held back.
async fn answered<T>(
    asked: impl Future<Output = std::result::Result<T, DriverError>>,
    longest: Duration,
) -> std::result::Result<T, DriverError> {
    let begun = Instant::now();
    let no_answer = async {
        while begun.elapsed() < longest && signals::held_back().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        biased;
        answer = asked => answer,
        () = no_answer => Err(DriverError::custom(NoAnswer)),
    }
}

impl Drop for Connection {
    /// Leaves, without waiting for a server that does not answer.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
