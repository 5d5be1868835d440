//! What a conversation is: ids, events, the fold over them, and the choice of what is sent.
//! Values in, values out: no file, socket, clock or environment.

pub mod attachment;
pub mod context;
pub mod event;
pub mod fold;
pub mod id;
pub mod importance;
pub mod pattern;
pub mod redact;
pub mod seek;
pub mod seen;
pub mod summary;
pub mod template;
pub mod usage;
