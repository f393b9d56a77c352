//! Whether the files of one site fit each other, as far as shows without asking anybody.
//!
//! Each file was read and judged by itself. What is between them is tried as the roles do it: a
//! connection point's TLS shakes hands with that of an instance, in memory. Whether an instance is
//! where a connection point looks for it only a link shows.

use std::fmt::Display;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
};

use super::connection_point::LoadedConnectionPoint;
use super::error::{Invalid, Place};
use super::gateway::LoadedGateway;

/// What does not fit between the files of one site, each of which can be used: two instances with
/// one number, two connection points with one name, a connection point that does not dial an
/// instance or that it shares no authority with, and versions of what is published that cannot both
/// hold.
pub fn site_misfits(gateways: &[LoadedGateway], points: &[LoadedConnectionPoint]) -> Vec<Invalid> {
    let mut found: Vec<_> = each_beside_those_before(gateways, same_instance).collect();
    found.extend(each_beside_those_before(points, same_name));
    found.extend(each_beside_those_before(points, other_settings));
    let service = |gateway: &LoadedGateway| gateway.config.service.to_ascii_lowercase();
    let are_of_one_service = gateways.windows(2).all(|pair| service(&pair[0]) == service(&pair[1]));
    if are_of_one_service {
        let links = points.iter().flat_map(|point| gateways.iter().map(move |it| (point, it)));
        found.extend(links.filter_map(|(point, gateway)| link(point, gateway)));
    }
    found
}

/// What `judge` finds of each and the first of those before that it finds anything with.
fn each_beside_those_before<T>(
    all: &[T],
    judge: impl Fn(&T, &T) -> Option<Invalid>,
) -> impl Iterator<Item = Invalid> {
    let judge =
        move |(at, one): (usize, &T)| all[..at].iter().find_map(|before| judge(one, before));
    all.iter().enumerate().filter_map(judge)
}

fn misfit(place: &Place, problem: String, help: impl Into<String>) -> Invalid {
    Invalid { problem, place: place.clone(), help: help.into() }
}

fn same_instance(gateway: &LoadedGateway, before: &LoadedGateway) -> Option<Invalid> {
    let (number, service) = (gateway.config.instance, &gateway.config.service);
    let is_same =
        number == before.config.instance && service.eq_ignore_ascii_case(&before.config.service);
    is_same.then(|| {
        misfit(
            &gateway.instance_place,
            format!("instance {number} of {service} is in {}, too", shown(&before.instance_place)),
            "give each instance of a service a number of its own: connection points tell them \
             apart by it",
        )
    })
}

fn same_name(point: &LoadedConnectionPoint, before: &LoadedConnectionPoint) -> Option<Invalid> {
    let (one, other) = (&point.config, &before.config);
    let is_same = (&one.site, &one.name) == (&other.site, &other.name);
    is_same.then(|| {
        misfit(
            &point.places.name,
            format!("connection point `{}` is in {}, too", one.name, shown(&before.places.name)),
            "give each connection point of a site a name of its own, and a certificate that \
             carries it",
        )
    })
}

/// Where both say which version they publish: it is one, and of the same.
fn other_settings(
    point: &LoadedConnectionPoint,
    before: &LoadedConnectionPoint,
) -> Option<Invalid> {
    let (one, other) = (&point.config, &before.config);
    let (place, _) = (point.places.version.as_ref()?, before.places.version.as_ref()?);
    if one.site != other.site {
        return None;
    }
    let (version, there) = (one.settings_version, shown(&before.places.name));
    if version != other.settings_version {
        let problem = format!(
            "version {version} is published here, and version {} in {there}",
            other.settings_version
        );
        let help = "the higher one holds, and nothing of the other is published: publish the same \
                    in both, with the same version";
        return Some(misfit(place, problem, help));
    }
    let is_same = one.settings().encode().ok() == other.settings().encode().ok();
    (!is_same).then(|| {
        misfit(
            place,
            format!("version {version} publishes something else here than in {there}"),
            "make `[[endpoint]]`, `[[tenant]]`, `[clients]` and the times of backends the same in \
             both, and raise the version of both",
        )
    })
}

/// What keeps a link from coming up between the two.
fn link(point: &LoadedConnectionPoint, gateway: &LoadedGateway) -> Option<Invalid> {
    let (instance, at) = (gateway.config.instance, shown(&gateway.instance_place));
    let mut addresses = point.config.gateways.iter();
    let Some(address) = addresses.find(|it| it.instance == instance) else {
        return Some(misfit(
            &point.places.gateways,
            format!("instance {instance} is in {at}, and is not dialled"),
            "raise `instances`, or add a `[[gateway]]` table for it: clients that come to it would \
             be answered 503",
        ));
    };
    let name = &address.server_name;
    match handshake(&point.config.link_tls, name, &gateway.config.link_tls) {
        Ok(()) => None,
        Err(Refused::Instance(why)) if is_of_name(&why) => Some(misfit(
            &point.places.gateways,
            format!("the link certificate of instance {instance}, in {at}, is not of `{name}`"),
            "write the name that it carries as `server_name`, or have it issued for that one",
        )),
        Err(Refused::Instance(why)) => Some(misfit(
            &point.places.site_ca,
            format!("the link certificate of instance {instance}, in {at}, is refused: {why}"),
            "name the authority that has signed it in `site_ca`, or have that of the site issue \
             another: `relay pki issue`",
        )),
        Err(Refused::Point(why)) => Some(misfit(
            &gateway.site_ca_place,
            format!(
                "the certificate of connection point `{}`, in {}, is refused: {why}",
                point.config.name,
                shown(&point.places.name)
            ),
            "name the authority that has signed it in `site_ca`, or have that of the site issue \
             another: `relay pki issue`",
        )),
    }
}

fn shown(place: &Place) -> impl Display {
    place.path().display()
}

/// Whose certificate was refused by the other.
enum Refused {
    Instance(rustls::Error),
    Point(rustls::Error),
}

fn is_of_name(why: &rustls::Error) -> bool {
    use CertificateError as C;
    matches!(
        why,
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. })
    )
}

/// Shakes hands in memory.
fn handshake(
    point: &Arc<ClientConfig>,
    name: &str,
    instance: &Arc<ServerConfig>,
) -> Result<(), Refused> {
    let refused = |why: &'static str| Refused::Instance(rustls::Error::General(why.to_owned()));
    let name = ServerName::try_from(name.to_owned()).map_err(|_| refused("it has no name"))?;
    let point = ClientConnection::new(Arc::clone(point), name).map_err(Refused::Instance)?;
    let instance = ServerConnection::new(Arc::clone(instance)).map_err(Refused::Point)?;
    let (mut point, mut instance) = (Connection::from(point), Connection::from(instance));
    while point.wants_write() || instance.wants_write() {
        pass(&mut point, &mut instance).map_err(Refused::Point)?;
        pass(&mut instance, &mut point).map_err(Refused::Instance)?;
    }
    Ok(())
}

/// Has one read all that the other has to say.
fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
    let broken = |why: std::io::Error| rustls::Error::General(why.to_string());
    let mut octets = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut octets).map_err(broken)?;
    }
    let mut rest = &octets[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).map_err(broken)?;
        to.process_new_packets()?;
    }
    Ok(())
}
