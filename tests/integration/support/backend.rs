//! What keeps the sessions of a test that is to hold whatever keeps them.

use super::env::TestEnv;

/// A kind of store that the program can keep its sessions in.
pub(crate) trait Backend {
    /// Tells whether there is what it takes; if not, that is said, and the tests of this kind pass.
    fn is_there() -> bool;

    /// Makes a world whose runs keep their sessions in a store of their own, which is empty.
    fn world() -> TestEnv;
}

/// A directory of files, in the home of the world.
pub(crate) struct Files;

impl Backend for Files {
    fn is_there() -> bool {
        true
    }

    fn world() -> TestEnv {
        TestEnv::new()
    }
}
