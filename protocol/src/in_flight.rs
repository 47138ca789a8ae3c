//! The requests that wait for an answer.

use crate::limits::MAX_IN_FLIGHT;
use crate::message::{RequestId, Success};

/// Ids of unanswered requests, each with what success is. At most
/// [`MAX_IN_FLIGHT`], so that a walk over all of them is as fast as any index, and allocated once.
#[derive(Debug)]
pub(crate) struct InFlight {
    waiting: Vec<(RequestId, Success)>,
    limit: usize,
}

/// Why a request cannot be added.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CannotAdd {
    /// As many are waiting as may.
    Full,
    /// One with this id is waiting.
    Reused,
}

impl InFlight {
    /// Room for `limit` requests, or [`MAX_IN_FLIGHT`] if that is less.
    pub(crate) fn with_limit(limit: usize) -> Self {
        let limit = limit.min(MAX_IN_FLIGHT);
        Self { waiting: Vec::with_capacity(limit), limit }
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether request `id` waits.
    pub(crate) fn contains(&self, id: RequestId) -> bool {
        self.success(id).is_some()
    }

    /// What success of request `id` is; `None` if it is not waiting.
    pub(crate) fn success(&self, id: RequestId) -> Option<Success> {
        let found = self.waiting.iter().find(|(waiting, _)| *waiting == id);
        found.map(|(_, success)| *success)
    }

    /// Notes that request `id` waits.
    ///
    /// # Errors
    /// [`CannotAdd`]; a reused id is named before a full table.
    pub(crate) fn add(&mut self, id: RequestId, success: Success) -> Result<(), CannotAdd> {
        if self.contains(id) {
            return Err(CannotAdd::Reused);
        }
        if self.len() >= self.limit {
            return Err(CannotAdd::Full);
        }
        self.waiting.push((id, success));
        Ok(())
    }

    /// Notes that request `id` is answered.
    pub(crate) fn remove(&mut self, id: RequestId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_reuse_are_told_apart() {
        let mut in_flight = InFlight::with_limit(2);
        assert_eq!(in_flight.add(RequestId(7), Success::Descriptor), Ok(()));
        assert_eq!(in_flight.add(RequestId(7), Success::Descriptor), Err(CannotAdd::Reused));
        assert_eq!(in_flight.add(RequestId(8), Success::Done), Ok(()));
        assert_eq!(in_flight.add(RequestId(9), Success::Status), Err(CannotAdd::Full));
        in_flight.remove(RequestId(7));
        assert_eq!(in_flight.success(RequestId(7)), None);
        assert_eq!(in_flight.success(RequestId(8)), Some(Success::Done));
        assert_eq!(in_flight.add(RequestId(7), Success::Status), Ok(()));
    }

    #[test]
    fn no_limit_is_above_the_protocols() {
        let in_flight = InFlight::with_limit(usize::MAX);
        assert_eq!(in_flight.limit, MAX_IN_FLIGHT);
    }
}
