//! Which of several refresh tokens counts: they are read and judged, and nothing is written.
//!
//! A browser sends every cookie of a name, such as one left over from another `cookies.domain`, and does not say
//! which is which. Exchanging a stale one would be taken for theft.

use super::Sessions;
use super::rotation::{self, Claim, Verdict};
use crate::store::{AnyConnection, QueryResult, StoreError, sessions};
use crate::tokens::refresh::{Presented, Refused};

/// The newest token of a session among those that were presented.
struct Candidate {
    /// Which of the tokens it is.
    index: usize,
    /// Which of the tokens was the first of its session.
    first: usize,
    presented: Presented,
}

impl Sessions {
    /// Which of `tokens` to exchange. Of one session the newest counts; of several sessions the first whose token can
    /// be exchanged or is a late duplicate. If there is none, the first, so that its refusal is the answer.
    ///
    /// # Errors
    ///
    /// If the database gave no answer, or it cannot be told whose a token is.
    pub async fn which_counts(&self, tokens: &[String], ip_address: Option<&str>) -> Result<usize, StoreError> {
        let inner = &self.0;
        let now = inner.clock.now();
        let (candidates, unknown) = self.candidates(tokens);
        let ids: Vec<_> = candidates.iter().map(|candidate| candidate.presented.session_id()).collect();
        let find_all = move |conn: &mut AnyConnection| {
            ids.iter().map(|id| sessions::find(conn, *id)).collect::<QueryResult<Vec<_>>>()
        };
        let rows = if candidates.is_empty() { Vec::new() } else { inner.store.read(find_all).await? };
        let usable = candidates.iter().zip(rows).find(|(candidate, row)| {
            let presented = &candidate.presented;
            let row = row.as_ref().filter(|row| row.user_id == presented.user_id());
            let claim = Claim::of(presented, &inner.refresh, now, ip_address);
            is_usable(rotation::judge(row, &claim, now, &inner.settings.policy))
        });
        if usable.is_none() && unknown {
            return Err(StoreError::Unavailable(Refused::UnknownKey.into()));
        }
        let counts = usable.map(|(candidate, _)| candidate);
        let counts = counts.or_else(|| candidates.first().filter(|candidate| candidate.first == 0));
        Ok(counts.map_or(0, |candidate| candidate.index))
    }

    /// The newest token of each session, in the order in which the sessions were first named; and whether there is one of which
    /// it cannot be told whose it is.
    fn candidates(&self, tokens: &[String]) -> (Vec<Candidate>, bool) {
        let now = self.0.clock.now();
        let (mut newest, mut unknown): (Vec<Candidate>, bool) = (Vec::new(), false);
        for (index, token) in tokens.iter().enumerate() {
            let presented = match self.presented(token, now) {
                Ok(presented) => presented,
                Err(refused) => {
                    unknown |= refused == Refused::UnknownKey;
                    continue;
                }
            };
            let same = |known: &&mut Candidate| known.presented.session_id() == presented.session_id();
            match newest.iter_mut().find(same) {
                None => newest.push(Candidate { index, first: index, presented }),
                Some(known) if known.presented.position() < presented.position() => {
                    *known = Candidate { index, presented, ..*known };
                }
                Some(_) => {}
            }
        }
        (newest, unknown)
    }
}

/// Whether exchanging a token with this verdict neither ends its session nor is refused.
fn is_usable(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Current | Verdict::Repeat { .. } | Verdict::Recover | Verdict::Adopt | Verdict::Conflict => true,
        Verdict::Refuse(_) | Verdict::Reused(_) => false,
    }
}
