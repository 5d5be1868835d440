//! The tests of the program: each runs the real binary in a home of its own against a scripted
//! server in this process. One binary, so that it is linked once.

mod by_hand;
mod chat;
mod chat_request;
mod compact;
mod concurrency;
mod context;
mod copies;
mod crash;
mod damage;
mod delete;
mod docs;
mod errors;
mod faults;
mod foreign;
mod format;
mod hostile;
mod index;
mod interrupted;
mod merge;
mod not_stored;
mod plan;
mod power_loss;
mod prefix;
mod purge;
mod sessions;
mod settings;
mod sizes;
mod stored;
mod stores;
mod strategies;
mod support;
mod talk;
mod verify;
mod watch;
mod window;
