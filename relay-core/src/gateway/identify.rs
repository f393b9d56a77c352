//! Finding out who the client of a request is.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::auth::{Methods, Presented, Refusal, Use};
use crate::exchange::ProvenCertificate;
use crate::policy::{EndpointKind, Route};

use super::access::{Access, Client};
use super::failure::Failure;
use super::possession::Shows;
use super::relay::Relay;

impl Relay {
    /// Finds out who the client is. Nothing of a request whose client is not known goes on. Returns
    /// what a token service is told of its certificate.
    pub(super) fn identify(
        &self,
        (site, route, allowed): (&str, &Route<'_>, Methods),
        headers: &HeaderMap,
        client: Option<&Client>,
        access: &mut Access,
    ) -> Result<Option<ProvenCertificate>, Failure> {
        let authorization = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let presented = Presented::new(authorization);
        let chain = client.map_or(&[][..], |client| &client.chain);
        let shows = Shows::new(presented, purpose(route), chain, headers);
        let clients = self.settings.clients(site);
        let trail = clients.as_ref().map(|it| it.search(allowed, &shows)).unwrap_or_default();
        let is_barred = || {
            let client = trail.principal();
            clients.zip(client).is_some_and(|(clients, client)| clients.bars(client))
        };
        let refusal = Refusal::of(&trail, &shows.presented)
            .or_else(|| is_barred().then_some(Refusal::ClientBarred));
        self.proofs.note(&trail);
        access.note_found(trail);
        match refusal {
            Some(refusal) => Err(Failure::Unproven(refusal)),
            None => Ok(shows.for_token_service()),
        }
    }
}

/// What a token is shown for. A bulk token opens one door: that of whoever is no client yet.
fn purpose(route: &Route<'_>) -> Use {
    match route.endpoint.kind {
        EndpointKind::TokenService if route.is_registration() => Use::Registration,
        EndpointKind::TokenService => Use::Renewal,
        _ => Use::Traffic,
    }
}
