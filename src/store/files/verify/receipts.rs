//! The file of receipts, read as far as it is one.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};

use serde::Deserialize;

use crate::session::id::SessionId;
use crate::store::files::dir::not_a_file;
use crate::store::files::log::{Damage, FromStart, Scanned, trim};

/// The longest receipt that is read.
const LONGEST_RECEIPT: u64 = 1 << 20;

/// What the file of receipts holds.
#[derive(Debug, Default)]
pub(in crate::store::files) struct Receipts {
    pub(in crate::store::files) sessions: Vec<SessionId>,
    pub(in crate::store::files) damage: Vec<Damage>,
    pub(super) scanned: Scanned,
}

impl Receipts {
    /// Returns every stretch of bytes that is no receipt, an unfinished last line included.
    pub(in crate::store::files) fn all_damage(self) -> Vec<Damage> {
        self.damage.into_iter().chain(self.scanned.torn).collect()
    }
}

/// Reads the receipts, as far as they are.
pub(in crate::store::files) fn read_receipts(file: &File) -> io::Result<Receipts> {
    /// All that is needed of a receipt, whichever version wrote it.
    #[derive(Deserialize)]
    struct Named {
        session: SessionId,
    }
    if !file.metadata()?.is_file() {
        return Err(not_a_file());
    }
    let mut reader = BufReader::new(FromStart::of(file));
    let mut receipts = Receipts::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let offset = receipts.scanned.consumed;
        let mut piece = reader.by_ref().take(LONGEST_RECEIPT);
        let bytes = piece.read_until(b'\n', &mut line)? as u64;
        if bytes == 0 {
            return Ok(receipts);
        }
        let scanned = &mut receipts.scanned;
        scanned.lines += 1;
        match serde_json::from_slice::<Named>(trim(&line)) {
            Ok(named) => receipts.sessions.push(named.session),
            Err(_) if trim(&line).is_empty() => {}
            Err(_) if bytes < LONGEST_RECEIPT && !line.ends_with(b"\n") => {
                scanned.torn = Some(Damage { offset, bytes });
                return Ok(receipts);
            }
            Err(_) => receipts.damage.push(Damage { offset, bytes }),
        }
        scanned.consumed += bytes;
    }
}
