//! The tests of the program: each runs the real binary in a home of its own against a scripted
//! server in this process. One binary, so that it is linked once.

mod by_hand;
mod chat;
mod chat_request;
mod concurrency;
mod context;
mod crash;
mod damage;
mod docs;
mod errors;
mod faults;
mod foreign;
mod hostile;
mod interrupted;
mod not_stored;
mod plan;
mod prefix;
mod purge;
mod sessions;
mod settings;
mod sizes;
mod stored;
mod strategies;
mod support;
mod talk;
mod window;
