//! What each method finds, and what the findings come to.

#[cfg(feature = "auth")]
use super::PossessionFault;
use super::{CertificateFault, Guid, Method, Methods, TokenFault};

/// Who a client has shown to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// How it has.
    pub method: Method,
    /// Who it is, for logs: the device or user of a tenant, the subject of a certificate, the
    /// client of a site token. Nothing that would let anybody pass for it.
    pub name: String,
    /// Which client of the site, where the method names it by its GUID: tokens of the site do.
    pub client: Option<Guid>,
    /// Until when that is proven, in seconds since 1970 UTC.
    pub until: u64,
}

impl Principal {
    /// What the same client is called whatever it shows: its name, of a site token without the name
    /// of the token, which is another with each renewal.
    pub fn client(&self) -> &str {
        match self.method {
            Method::SiteToken => self.name.split(" by token ").next().unwrap_or(&self.name),
            Method::Entra | Method::Certificate => &self.name,
        }
    }
}

/// Why a credential that is there proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unproven {
    /// Of a token.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// Of a certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// Of a signature by which the client would have the key that it must have.
    #[cfg(feature = "auth")]
    #[error(transparent)]
    Possession(#[from] PossessionFault),
}

/// What one method finds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// The client shows nothing of the kind.
    Absent,
    /// It has shown who it is.
    Proven(Principal),
    /// It shows something, and that proves nothing.
    Unproven(Unproven),
}

/// What becomes of a credential that proves nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Strictness {
    /// The next method is tried. A client with an old token and a good certificate gets in.
    #[default]
    FallThrough,
    /// The request is refused, whatever else the client could show.
    Refuse,
}

/// The findings of one request, in the order in which they were made: of each method that was
/// tried, none after the first that proved something.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trail(Vec<(Method, Finding)>);

impl Trail {
    /// The findings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &(Method, Finding)> {
        self.0.iter()
    }

    /// Who the client is, if any method has proven it.
    pub fn principal(&self) -> Option<&Principal> {
        match self.0.last() {
            Some((_, Finding::Proven(principal))) => Some(principal),
            _ => None,
        }
    }
}

/// Tries `methods` in their order until one proves who the client is. `find` is asked at most once
/// for each, and for none behind the one that ends the search.
pub fn search(
    methods: &Methods,
    strictness: Strictness,
    mut find: impl FnMut(Method) -> Finding,
) -> Trail {
    let mut trail = Trail::default();
    for method in methods.iter() {
        let finding = find(method);
        let is_last = match &finding {
            Finding::Absent => false,
            Finding::Proven(_) => true,
            Finding::Unproven(_) => strictness == Strictness::Refuse,
        };
        trail.0.push((method, finding));
        if is_last {
            break;
        }
    }
    trail
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

    use super::*;

    fn finding(of: Method, kind: usize) -> Finding {
        match kind {
            0 => Finding::Absent,
            1 => Finding::Proven(Principal {
                method: of,
                name: of.to_string(),
                client: None,
                until: 1,
            }),
            _ => Finding::Unproven(match of {
                Method::Certificate => CertificateFault::Malformed.into(),
                Method::Entra | Method::SiteToken => TokenFault::Malformed.into(),
            }),
        }
    }

    /// Every way in which three methods can find something.
    fn all() -> impl Iterator<Item = [Finding; 3]> {
        (0..27).map(|ways: usize| {
            let kinds = [ways / 9, ways / 3 % 3, ways % 3];
            [0, 1, 2].map(|place| finding(Method::ALL[place], kinds[place]))
        })
    }

    #[test]
    fn the_first_that_proves_something_wins_and_nothing_behind_it_is_asked() {
        for found in all() {
            let mut asked = 0;
            let trail = search(&Methods::default(), Strictness::FallThrough, |method| {
                asked += 1;
                found[method as usize].clone()
            });
            let winner = found.iter().position(|it| matches!(it, Finding::Proven(_)));
            assert_eq!(trail.principal().map(|it| it.method), winner.map(|it| Method::ALL[it]));
            assert_eq!(asked, winner.map_or(3, |place| place + 1));
            let kept: Vec<_> = trail.iter().map(|(_, finding)| finding.clone()).collect();
            assert_eq!(kept, found[..asked], "each finding stays, with its reason");
        }
    }

    #[test]
    fn what_proves_nothing_refuses_all_where_that_is_asked_for() {
        for found in all() {
            let find = |method: Method| found[method as usize].clone();
            let trail = search(&Methods::default(), Strictness::Refuse, find);
            let first = found.iter().find(|it| **it != Finding::Absent);
            let proven = trail.principal().cloned().map(Finding::Proven);
            assert_eq!(proven.as_ref(), first.filter(|it| matches!(it, Finding::Proven(_))));
        }
    }

    #[test]
    fn a_client_has_one_name_whichever_token_of_the_site_it_shows() {
        let of = |method, name: &str| {
            let name = name.to_owned();
            Principal { method, name, client: None, until: 1 }.client().to_owned()
        };
        assert_eq!(of(Method::SiteToken, "client a by token b"), "client a");
        assert_eq!(of(Method::SiteToken, "bearer of token b"), "bearer of token b");
        assert_eq!(of(Method::Certificate, "CN=a by token b"), "CN=a by token b");
    }

    #[test]
    fn a_method_that_is_not_listed_is_never_asked() {
        let only = Methods::new(&[Method::SiteToken]).unwrap();
        let trail = search(&only, Strictness::FallThrough, |method| {
            assert_eq!(method, Method::SiteToken);
            finding(method, 1)
        });
        assert_eq!(trail.iter().count(), 1);
    }
}
