//! The tests of the program: each runs the real binary in a home of its own against a scripted
//! server in this process. One binary, so that it is linked once.

mod copies;
mod docs;
mod index;
mod merge;
mod support;
