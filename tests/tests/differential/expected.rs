//! What a site should see of a request that a client has sent, by rules of this test's own.

use relay_tests::reading::{Framing, Recorded, authority, trimmed};
use relay_tests::roles::ROLE;

/// Fields that go no further than one hop, or that nobody but the relay may set. `_` counts as `-`.
const KEPT_BACK: [&str; 7] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Beginnings of others.
const KEPT_BACK_PREFIXES: [&str; 4] = ["relay-", "x-forwarded", "x-http-method", "x-original-"];

/// Fields that are compared by what they mean.
const APART: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];

/// A request as a site should see it: its host and its length apart, with the values of each name
/// together in their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Expected {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
}

impl Expected {
    /// What should be seen of what was sent; `None` if it is for nobody in the site.
    pub(crate) fn of(sent: &Recorded) -> Option<Self> {
        let [_, target, _] = sent.line_parts();
        let target = match authority(target) {
            Some(authority) => {
                let before = target.windows(3).position(|octets| octets == b"://")? + 3;
                &target[before + authority.len()..]
            }
            None => target,
        };
        let target = str::from_utf8(target).ok()?;
        let root = format!("/CCM_Proxy_MutualAuth/{ROLE}");
        let (begin, target) = target.split_at_checked(root.len())?;
        if !begin.eq_ignore_ascii_case(&root) {
            return None;
        }
        let connection = sent.values("connection").join(&b","[..]).to_ascii_lowercase();
        let named: Vec<&[u8]> =
            connection.split(|octet| *octet == b',').map(<[u8]>::trim_ascii).collect();
        let is_kept = |name: &[u8]| {
            let name = name.to_ascii_lowercase();
            let folded = text(&name).replace('_', "-");
            let is_disguised = folded == "content-length" && name != b"content-length";
            let is_kept_back = KEPT_BACK.contains(&&*folded)
                || KEPT_BACK_PREFIXES.iter().any(|prefix| folded.starts_with(prefix));
            !is_disguised && !is_kept_back && !named.contains(&&name[..])
        };
        let mut kept = sent.clone();
        kept.fields.retain(|(name, _)| is_kept(name));
        let framing = sent.framing().unwrap_or(Framing::Bare);
        Some(Self { target: target.to_owned(), framing, ..Self::seen(&kept) })
    }

    /// What was seen.
    pub(crate) fn seen(request: &Recorded) -> Self {
        let [method, target, _] = request.line_parts();
        let mut fields = request.fields.clone();
        let is_apart = |name: &[u8]| APART.iter().any(|it| name.eq_ignore_ascii_case(it));
        fields.retain(|(name, _)| !is_apart(name));
        for (_, value) in &mut fields {
            *value = trimmed(value).to_vec();
        }
        fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        let framing = request.framing().unwrap_or(Framing::Bare);
        let body = request.body.clone();
        Self { method: text(method), target: text(target), fields, framing, body }
    }

    /// How many fields have this name, which is in lower case.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name.as_bytes())).count()
    }

    /// The target without its escapes.
    pub(crate) fn decoded(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let mut rest = self.target.as_bytes();
        while let [first, after @ ..] = rest {
            let digits = after.get(..2).filter(|_| *first == b'%');
            let escaped =
                digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
            octets.push(escaped.unwrap_or(*first));
            rest = if escaped.is_some() { &after[2..] } else { after };
        }
        octets
    }

    /// The value of `X-Mark`, by which a request is known; `-` if there is none.
    pub(crate) fn mark(&self) -> String {
        let mark = self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(b"x-mark"));
        mark.map_or_else(|| "-".to_owned(), |(_, value)| text(value))
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
