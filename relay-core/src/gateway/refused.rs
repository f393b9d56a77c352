//! What a peer is told that gets no link.

use crate::link::{self, Link};
use crate::mux::LinkError;

use super::serve::{Gateway, LinkRefused};

impl LinkRefused {
    /// What the peer's administrator is told, in at most 128 octets where names are short; `None`
    /// if the peer cannot be told, or has been by the protocol itself. The peer has shown a
    /// certificate of the site; it learns what that says, and nothing of others.
    fn told(&self) -> Option<String> {
        Some(match self {
            Self::Connect(_)
            | Self::Link(_)
            | Self::Config(_)
            | Self::TooManyHandshakes(_)
            | Self::TooManyOfAddress(_)
            | Self::TooManyWaiting(_) => {
                return None;
            }
            Self::TooMany(links) => format!("as many links as it takes are up ({links})"),
            Self::Certificate(error) => error.to_string(),
            Self::NotItsName { claimed, certified } => {
                format!("the certificate names {certified}, not `{claimed}`; change either")
            }
            Self::Stale(_) => "a later link has its place; do two connection points share its \
                               name?"
                .to_owned(),
        })
    }
}

impl Gateway {
    /// Tells the peer of `link` why it gets none, and returns why.
    ///
    /// It may hold a handshake's place until it has heard, and no link's: where the former are all
    /// taken it is not told.
    pub(super) async fn turn_away(
        &self,
        link: &Link,
        driver: impl Future<Output = LinkError>,
        why: LinkRefused,
    ) -> LinkRefused {
        if let Some(told) = why.told()
            && let Ok(_place) = self.inner.link_handshakes.try_acquire()
        {
            link::turn_away(link, driver, &told).await;
        }
        why
    }
}
