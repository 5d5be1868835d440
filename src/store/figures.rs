//! The figures of turns, without their texts: what a sum over a whole store needs, and can hold.

use crate::session::usage::TurnFigures;

/// What was read of a session: the figures of its turns, each once, and how many places of it are
/// damaged. `None` where there is no session of that id.
pub type Figures = Option<(Vec<TurnFigures>, usize)>;
