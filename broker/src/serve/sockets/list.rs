//! The sockets of a guest, as the operator is told of them.

use super::{SocketGrant, Sockets};
use crate::control::message::{ListedSocket, OPTION_SHOWN, SocketPage};

/// Sockets of one page: two texts of [`OPTION_SHOWN`] bytes at most each.
const SOCKETS_OF_A_PAGE: usize = 6;

impl Sockets {
    /// The page that starts with number `first`.
    #[must_use]
    pub fn list(&self, first: u64) -> SocketPage {
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let rest = self.granted.get(first..).unwrap_or_default();
        let shown = |text: &str| text.chars().take(OPTION_SHOWN / 4).collect();
        let listed = |grant: &SocketGrant| ListedSocket {
            role: grant.role,
            address: shown(&grant.address()),
            option: shown(&grant.option),
        };
        let sockets = rest.iter().take(SOCKETS_OF_A_PAGE).map(|grant| listed(grant)).collect();
        let next = (rest.len() > SOCKETS_OF_A_PAGE).then(|| (first + SOCKETS_OF_A_PAGE) as u64);
        SocketPage { sockets, next }
    }
}
