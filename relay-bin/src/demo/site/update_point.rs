//! The built-in software update point: one SOAP operation.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::{SiteBody, empty, full};

/// Where clients post. Source: [MS-WSUSSS], the client web service.
pub(crate) const PATH: &str = "/ClientWebService/client.asmx";

/// The namespace of the operation.
pub(crate) const NAMESPACE: &str =
    "http://www.microsoft.com/SoftwareDistribution/Server/ClientWebService";

/// Largest envelope, in octets: 1 MiB.
const ENVELOPE_BYTES_MAX: usize = 1024 * 1024;

/// Answers `GetConfig` with the protocol version that was asked about.
pub(super) async fn answer(method: &Method, path: &str, body: Incoming) -> Response<SiteBody> {
    if path != PATH {
        return empty(StatusCode::NOT_FOUND);
    }
    if method != Method::POST {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Ok(body) = Limited::new(body, ENVELOPE_BYTES_MAX).collect().await else {
        return empty(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    let Some(version) = std::str::from_utf8(&body).ok().and_then(protocol_version) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut answer = full(envelope(&format!(
        "<GetConfigResponse xmlns=\"{NAMESPACE}\"><GetConfigResult>\
         <ProtocolVersion>{version}</ProtocolVersion>\
         <IsRegistrationRequired>false</IsRegistrationRequired>\
         </GetConfigResult></GetConfigResponse>"
    )));
    let xml = HeaderValue::from_static("text/xml; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, xml);
    answer
}

/// A SOAP 1.1 envelope around `content`.
pub(crate) fn envelope(content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <soap:Body>{content}</soap:Body></soap:Envelope>"
    )
}

/// The text of `<protocolVersion>`, if it is digits and dots. It goes into the answer unescaped.
fn protocol_version(envelope: &str) -> Option<&str> {
    let (_, rest) = envelope.split_once("<protocolVersion>")?;
    let (version, _) = rest.split_once("</protocolVersion>")?;
    version.bytes().all(|b| b.is_ascii_digit() || b == b'.').then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_of_digits_and_dots_is_repeated() {
        let asked = |text: &str| envelope(&format!("<protocolVersion>{text}</protocolVersion>"));
        assert_eq!(protocol_version(&asked("1.8")), Some("1.8"));
        assert_eq!(protocol_version(&asked("<x/>")), None);
        assert_eq!(protocol_version("<protocolVersion>1.8"), None);
    }
}
