//! Where spans of requests are sent: `[telemetry]`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};
use rustls::ClientConfig;
use serde::Deserialize;

use super::backend_url::parse_backend_url;
use super::error::{ConfigError, Place};
use super::pem::{certificate_error, permission_bits, trust_anchors};
use super::source::Source;
use super::spanned::Spanned;
use super::store::is_loopback;
use super::warning::Warning;
use crate::transport::backend_client_config;

/// Longest file of headers, in octets.
const HEADERS_BYTES_MAX: usize = 8192;

/// Longest name of a service, in octets.
const SERVICE_BYTES_MAX: usize = 64;

/// The `[telemetry]` table as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[telemetry]` table")]
pub(super) struct RawTelemetry {
    /// Where the collector takes OTLP over HTTP: `http://host[:port]` or `https://host[:port]`.
    endpoint: Spanned<String>,
    /// The authority that signed the certificate of an `https://` collector, as PEM.
    ca: Option<Spanned<PathBuf>>,
    /// File of headers that each request to it shows besides, `name: value` in each line. Secret.
    headers_file: Option<Spanned<PathBuf>>,
    /// Which part of the traces that clients have sampled is sent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1), extend("default" = 1)))]
    sample_ratio: Option<Spanned<f64>>,
    /// What the role is called there; without it, by its role.
    service_name: Option<Spanned<String>>,
}

/// A collector of OpenTelemetry, and what it is sent.
#[derive(Clone)]
#[non_exhaustive]
pub struct TelemetryConfig {
    /// `http://host[:port]` or `https://host[:port]`.
    pub endpoint: Uri,
    /// By whom it is trusted; `None` over plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
    /// What each request to it shows besides. Secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which part of the traces that clients have sampled is sent: 0 to 1, 1 by default.
    pub sample_ratio: f64,
    /// What the role is called there; `None` for its customary name.
    pub service_name: Option<String>,
    written: Written,
    place: Place,
}

/// What the file says, by which two are compared.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    endpoint: String,
    ca: Option<PathBuf>,
    headers_file: Option<PathBuf>,
    sample_ratio: f64,
    service_name: Option<String>,
}

impl TelemetryConfig {
    /// Whether the file says the same of both; what is in the files that it names may differ.
    pub fn is_written_as(&self, other: &Self) -> bool {
        self.written == other.written
    }

    /// The message that this cannot be had here, at its address.
    pub fn refused(&self, problem: impl Into<String>, help: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.place, problem, help)
    }
}

/// Without what the headers hold.
impl fmt::Debug for TelemetryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryConfig").field("written", &self.written).finish_non_exhaustive()
    }
}

impl RawTelemetry {
    /// Judges the table, and reads what it names.
    pub(super) fn judge(&self, source: &Source) -> Result<TelemetryConfig, ConfigError> {
        let endpoint = source.keep(self.endpoint(source));
        let tls = endpoint.as_ref().map(|endpoint| source.keep(self.tls(source, endpoint)));
        let headers = source.keep(self.headers(source));
        let sample_ratio = source.keep(self.sample_ratio(source));
        let service_name = source.keep(self.service_name(source));
        let (
            Some(endpoint),
            Some(Some(tls)),
            Some(headers),
            Some(sample_ratio),
            Some(service_name),
        ) = (endpoint, tls, headers, sample_ratio, service_name)
        else {
            return Err(source.faults());
        };
        let file = |file: &Spanned<PathBuf>| source.resolve(file.get_ref());
        let written = Written {
            endpoint: self.endpoint.get_ref().clone(),
            ca: self.ca.as_ref().map(file),
            headers_file: self.headers_file.as_ref().map(file),
            sample_ratio,
            service_name: service_name.clone(),
        };
        let place = source.place(self.endpoint.span());
        Ok(TelemetryConfig { endpoint, tls, headers, sample_ratio, service_name, written, place })
    }

    /// What deserves attention about the file of headers.
    pub(super) fn warnings(&self, source: &Source) -> impl Iterator<Item = Warning> {
        let readable = self.headers_file.as_ref().and_then(|written| {
            let file = source.resolve(written.get_ref());
            let mode = permission_bits(&file)?;
            (mode & 0o007 != 0).then_some(Warning::HeadersReadableByOthers { file, mode })
        });
        readable.into_iter().chain(self.clear_headers(source))
    }

    /// The warning that headers go over a network in the clear, if they do.
    fn clear_headers(&self, source: &Source) -> Option<Warning> {
        let written = self.headers_file.as_ref()?;
        let url = parse_backend_url(self.endpoint.get_ref()).ok()?;
        let host = url.host()?.trim_matches(['[', ']']);
        let is_clear = url.scheme_str() == Some("http") && !is_loopback(host);
        is_clear.then(|| Warning::HeadersInTheClear {
            host: host.to_owned(),
            file: source.path().to_owned(),
            line: source.place(written.span()).line(),
        })
    }

    fn endpoint(&self, source: &Source) -> Result<Uri, ConfigError> {
        // The text is not repeated: it may hold a password where none should be.
        parse_backend_url(self.endpoint.get_ref()).map_err(|error| {
            source.invalid(
                self.endpoint.span(),
                format!("`endpoint` is no collector: {error}"),
                "write where it takes OTLP over HTTP, as in `endpoint = \"http://127.0.0.1:4318\"`",
            )
        })
    }

    fn tls(&self, source: &Source, url: &Uri) -> Result<Option<Arc<ClientConfig>>, ConfigError> {
        match (url.scheme_str() == Some("https"), &self.ca) {
            (false, None) => Ok(None),
            (true, Some(file)) => backend_client_config(&trust_anchors(source, file)?)
                .map(Some)
                .map_err(|error| certificate_error(source, file, &error)),
            (true, None) => Err(source.invalid(
                self.endpoint.span(),
                "it is not said who vouches for this collector",
                "add `ca = \"file.pem\"`, the authority that signed its certificate",
            )),
            (false, Some(file)) => Err(source.invalid(
                file.span(),
                "nobody vouches for a collector over plain HTTP",
                "remove `ca`, or make the endpoint begin with `https://`",
            )),
        }
    }

    fn headers(&self, source: &Source) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
        let Some(file) = &self.headers_file else { return Ok(Vec::new()) };
        let path = source.resolve(file.get_ref());
        let shown = path.display();
        let text = std::fs::read(&path).map_err(|error| {
            source.invalid(
                file.span(),
                format!("cannot read the headers from `{shown}`: {error}"),
                "check the path and its permissions; a relative path starts at the folder of this \
                 file",
            )
        })?;
        let text = std::str::from_utf8(&text).ok().filter(|text| text.len() <= HEADERS_BYTES_MAX);
        let lines = text.map(|text| text.lines().filter(|line| !line.trim().is_empty()));
        let read = lines.and_then(|lines| lines.map(header).collect());
        // No line of it is told: it holds secrets.
        read.ok_or_else(|| {
            source.invalid(
                file.span(),
                format!("`{shown}` does not hold headers"),
                format!(
                    "write one on each line, as in `authorization: Bearer ...`, \
                     {HEADERS_BYTES_MAX} octets in all at most; `content-type`, `content-length` \
                     and `host` are set already"
                ),
            )
        })
    }

    fn sample_ratio(&self, source: &Source) -> Result<f64, ConfigError> {
        let Some(written) = &self.sample_ratio else { return Ok(1.0) };
        let ratio = *written.get_ref();
        if (0.0..=1.0).contains(&ratio) {
            return Ok(ratio);
        }
        Err(source.invalid(
            written.span(),
            format!("`sample_ratio` is {ratio}, which is not 0 to 1"),
            "write which part of the traces is to be sent, as in `sample_ratio = 0.1`",
        ))
    }

    fn service_name(&self, source: &Source) -> Result<Option<String>, ConfigError> {
        let Some(written) = &self.service_name else { return Ok(None) };
        let name = written.get_ref();
        let is_plain = name.bytes().all(|octet| octet.is_ascii_graphic());
        if (1..=SERVICE_BYTES_MAX).contains(&name.len()) && is_plain {
            return Ok(Some(name.clone()));
        }
        Err(source.invalid(
            written.span(),
            "this is no name of a service",
            format!("write 1 to {SERVICE_BYTES_MAX} visible ASCII characters without a space"),
        ))
    }
}

/// A header as a line has it; `None` if it is none, or one that is not the file's to set.
fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let name: HeaderName = name.trim().parse().ok()?;
    let taken = ["content-type", "content-length", "host", "transfer-encoding", "connection"];
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    (!taken.contains(&name.as_str()) && !value.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    const PLAIN: &str = "endpoint = \"http://127.0.0.1:4318\"\n";

    fn at(site: &Site, table: &str) -> Result<Option<TelemetryConfig>, ConfigError> {
        let loaded = site.gateway_with(|text| format!("{text}\n[telemetry]\n{table}"));
        loaded.map(|loaded| loaded.telemetry)
    }

    fn with(table: &str) -> Result<Option<TelemetryConfig>, ConfigError> {
        at(&Site::new(), table)
    }

    #[test]
    fn either_role_may_have_a_collector_and_has_none_by_itself() {
        let site = Site::new();
        assert!(site.gateway_with(str::to_owned).unwrap().telemetry.is_none());
        assert!(site.connection_point_with(str::to_owned).unwrap().telemetry.is_none());
        let table = |text: &str| format!("{text}\n[telemetry]\n{PLAIN}");
        let of_point = site.connection_point_with(table).unwrap().telemetry.unwrap();
        let of_gateway = site.gateway_with(table).unwrap().telemetry.unwrap();
        assert!(of_point.is_written_as(&of_gateway));
        assert_eq!(of_gateway.sample_ratio.to_string(), "1");
        assert_eq!(of_gateway.service_name, None);
        assert!(of_gateway.tls.is_none() && of_gateway.headers.is_empty());
    }

    #[test]
    fn a_collector_over_https_has_somebody_who_vouches_for_it_and_one_over_http_nobody() {
        let ca = "ca = \"site-ca.pem\"\n";
        let https = "endpoint = \"https://collector.example:4318\"\n";
        assert!(with(&format!("{https}{ca}")).unwrap().unwrap().tls.is_some());
        let shown = message(with(https));
        assert!(shown.starts_with("it is not said who vouches for this collector\n"), "{shown}");
        let shown = message(with(&format!("{PLAIN}{ca}")));
        assert!(shown.starts_with("nobody vouches for a collector over plain HTTP\n"), "{shown}");
        let shown = message(with("endpoint = \"http://user:hidden@collector.example\"\n"));
        assert!(shown.starts_with("`endpoint` is no collector: it carries a user"), "{shown}");
    }

    #[test]
    fn headers_are_read_from_their_file_and_never_shown() {
        let site = Site::new();
        let lines = format!("{PLAIN}headers_file = \"headers\"\n");
        let read = |octets: &[u8]| {
            std::fs::write(site.path("headers"), octets).unwrap();
            at(&site, &lines)
        };
        let read_well =
            read(b"Authorization: Bearer hidden\n\nx-tenant:  7 \r\n").unwrap().unwrap();
        let pairs = read_well.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let expected: [(&str, &[u8]); 2] =
            [("authorization", b"Bearer hidden"), ("x-tenant", b"7")];
        assert_eq!(pairs.collect::<Vec<_>>(), expected);
        assert!(!format!("{read_well:?}{:?}", read_well.headers).contains("hidden"));
        let long = |len: usize| format!("a:{}", "b".repeat(len - 2)).into_bytes();
        assert!(read(&long(HEADERS_BYTES_MAX)).is_ok());
        let long = long(HEADERS_BYTES_MAX + 1);
        let others: [&[u8]; 6] =
            [b"hidden", b"a b: hidden", b"a:", b"Host: hidden", b"a: \xff", &long];
        for octets in others {
            let shown = message(read(octets));
            assert!(shown.contains("headers` does not hold headers\n"), "{shown}");
            assert!(!shown.contains("hidden"), "{shown}");
        }
        std::fs::remove_file(site.path("headers")).unwrap();
        assert!(message(at(&site, &lines)).starts_with("cannot read the headers from `"));
    }

    #[test]
    fn headers_that_go_to_another_machine_in_the_clear_are_warned_about() {
        let site = Site::new();
        site.write("headers", "a: b\n");
        let warned = |endpoint: &str, rest: &str| {
            let table = format!("\n[telemetry]\nendpoint = \"{endpoint}\"\n{rest}");
            let of_gateway = site.gateway_with(|text| text.to_owned() + &table).unwrap().warnings;
            let point = site.connection_point_with(|text| text.to_owned() + &table).unwrap();
            let is_it = |it: &&Warning| matches!(it, Warning::HeadersInTheClear { .. });
            let counts = [of_gateway, point.warnings].map(|all| all.iter().filter(is_it).count());
            assert_eq!(counts[0], counts[1], "both roles");
            counts[0]
        };
        let headers = "headers_file = \"headers\"\n";
        for endpoint in
            ["http://collector.example", "http://192.0.2.1:4318", "http://[2001:db8::1]"]
        {
            assert_eq!(warned(endpoint, headers), 1, "{endpoint}");
            assert_eq!(warned(endpoint, ""), 0, "{endpoint}");
        }
        for endpoint in ["http://127.0.0.1:4318", "http://localhost", "http://[::1]:4318"] {
            assert_eq!(warned(endpoint, headers), 0, "{endpoint}");
        }
        let secured = format!("{headers}ca = \"site-ca.pem\"\n");
        assert_eq!(warned("https://collector.example", &secured), 0);
    }

    #[test]
    fn a_ratio_is_a_part_and_a_service_has_a_short_name() {
        let ratio = |text: &str| with(&format!("{PLAIN}sample_ratio = {text}\n"));
        for (text, value) in [("0.0", "0"), ("0.25", "0.25"), ("1.0", "1")] {
            assert_eq!(ratio(text).unwrap().unwrap().sample_ratio.to_string(), value);
        }
        for text in ["-0.1", "1.1", "nan", "inf"] {
            let shown = message(ratio(text));
            assert!(shown.contains("which is not 0 to 1\n"), "{shown}");
        }
        let name = |text: &str| with(&format!("{PLAIN}service_name = \"{text}\"\n"));
        let longest = "n".repeat(SERVICE_BYTES_MAX);
        assert_eq!(name(&longest).unwrap().unwrap().service_name, Some(longest.clone()));
        for text in ["", "a b", &format!("{longest}n")] {
            assert!(message(name(text)).starts_with("this is no name of a service\n"), "{text}");
        }
    }
}
