//! Connecting, the collections, and the one place that waits for the driver.
//!
//! Every write is acknowledged by a majority of the servers and journaled, and every read is of
//! the primary, whatever the address says: with the defaults of a standalone server acknowledged
//! turns are lost when it is killed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::doc;
use mongodb::error::Error as DriverError;
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference,
    SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};
use tokio::runtime::{Builder, Runtime};

use super::failure::{Failed, is_unknown};
use super::patience::Patience;
use crate::error::{Code, Error, Result};
use crate::signals;
use crate::store::uri::Uri;

/// How long a server is looked for, unless the address says.
const LOOKED_FOR: Duration = Duration::from_secs(3);

/// How long a majority may take to acknowledge a write before its outcome is unknown.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// A database on a server. Clones are the same connection.
#[derive(Debug, Clone)]
pub struct Database(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    // An option only to be taken out when the connection goes.
    runtime: Option<Runtime>,
    database: mongodb::Database,
    uri: Uri,
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
            options.server_selection_timeout.get_or_insert(LOOKED_FOR);
            options.connect_timeout.get_or_insert(LOOKED_FOR);
            Client::with_options(options)
        });
        match connected {
            Ok(client) => Ok(Self(Arc::new(Connection {
                database: client.database(uri.database()),
                runtime: Some(runtime),
                uri: uri.clone(),
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

    /// Tells whether this is the same connection.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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
    /// What is asked must do the same however often it is done.
    pub(super) fn insist<T, F>(
        &self,
        patience: &mut Patience,
        mut ask: impl FnMut() -> F,
    ) -> std::result::Result<T, DriverError>
    where
        F: Future<Output = std::result::Result<T, DriverError>>,
    {
        self.wait(async {
            loop {
                match ask().await {
                    // A signal that is held back ends the waiting, as it ends that for a lock.
                    Err(error) if is_unknown(&error) => match patience.next_wait() {
                        Some(wait) if signals::held_back().is_none() => {
                            tokio::time::sleep(wait).await;
                        }
                        _ => return Err(error),
                    },
                    asked => {
                        patience.is_renewed();
                        return asked;
                    }
                }
            }
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

impl Drop for Connection {
    /// Leaves, without waiting for a server that does not answer.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
