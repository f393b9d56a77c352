//! The place of a request in a distributed trace.
//!
//! Source: W3C Trace Context, Recommendation of 23 November 2021, sections 3.2 and 4. A trace is
//! continued where a client has begun one, and never begun here: the message id does that service.

use std::fmt;

use http::{HeaderMap, HeaderValue};

/// The field by which a hop names itself to the next.
const TRACEPARENT: &str = "traceparent";

/// The target at which a role tells, at level trace, of each request of a trace that has ended: for
/// whoever collects spans. Its fields are the ids as the log has them (`trace_id`, `span_id`,
/// `parent_id`), `span_name`, `took_us`, `is_sampled`, `has_failed`, and attributes by the names
/// that OpenTelemetry has for them, or that begin with `relay.`; never a secret.
pub const SPANS: &str = "relay::spans";

/// One hop's place in a trace: which trace, which hop, and what the hops before it have decided.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    is_sampled: bool,
}

impl TraceContext {
    /// Reads the place of the hop that sent `headers`; `None` unless it is told once and by the
    /// rules. What breaks them is not ours to mend: it travels on as it is.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, second) = (values.next()?.to_str().ok()?, values.next());
        Self::read(value).filter(|_| second.is_none())
    }

    /// Section 3.2.2: version, trace id, parent id, flags. Versions to come may have more behind a
    /// further dash.
    fn read(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let [version, trace, span, flags] = [(); 4].map(|()| parts.next().unwrap_or_default());
        let version = number(version, 2).filter(|version| *version != 0xff)?;
        let ends = version != 0 || parts.next().is_none();
        let trace = number(trace, 32).filter(|trace| *trace != 0 && ends)?;
        let span = number(span, 16).filter(|span| *span != 0)?;
        let flags = number(flags, 2)?;
        Some(Self { trace, span: span.try_into().ok()?, is_sampled: flags & 1 != 0 })
    }

    /// The place of the next hop, which calls itself `span`: any number but 0, by chance.
    #[must_use]
    pub fn continued(self, span: u64) -> Self {
        Self { span, ..self }
    }

    /// Tells the next hop whose request `headers` are.
    ///
    /// Written as version 00, which is what a hop does that knows no later one (section 4.3), and
    /// of the flags with that alone which this version knows (section 3.2.2.5).
    pub fn tell(self, headers: &mut HeaderMap) {
        let flags = u8::from(self.is_sampled);
        let text = format!("00-{}-{}-{flags:02x}", self.trace_id(), self.span_id());
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// Whether the client keeps this trace, as far as it has decided.
    pub fn is_sampled(self) -> bool {
        self.is_sampled
    }

    /// The trace, as it is written: 32 hexadecimal digits.
    pub fn trace_id(self) -> impl fmt::Display {
        Hex { number: self.trace, digits: 32 }
    }

    /// The hop, as it is written: 16 hexadecimal digits.
    pub fn span_id(self) -> impl fmt::Display {
        Hex { number: self.span.into(), digits: 16 }
    }
}

/// A number in as many hexadecimal digits as it is written with.
struct Hex {
    number: u128,
    digits: usize,
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0digits$x}", self.number, digits = self.digits)
    }
}

/// The number that exactly so many hexadecimal digits write, in lower case.
fn number(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f');
    let fits = text.len() == digits && text.bytes().all(is_digit);
    u128::from_str_radix(text, 16).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().map(|value| value.parse().unwrap());
        values.map(|value| (http::HeaderName::from_static(TRACEPARENT), value)).collect()
    }

    #[test]
    fn a_trace_that_is_told_once_and_by_the_rules_is_continued() {
        for (before, behind, flags) in [
            ("00-", "-01", "01"),
            ("cc-", "-01-x", "01"),
            ("00-", "-00", "00"),
            ("00-", "-ff", "01"),
            ("cc-", "-fe", "00"),
        ] {
            let value = format!("{before}{TRACE}-{SPAN}{behind}");
            let context = TraceContext::of(&headers(&[&value])).unwrap();
            assert_eq!(context.trace_id().to_string(), TRACE, "{value}");
            assert_eq!(context.span_id().to_string(), SPAN, "{value}");
            assert_eq!(context.is_sampled(), flags == "01", "{value}");
            let mut next = headers(&[&value]);
            context.continued(0xab).tell(&mut next);
            let expected = format!("00-{TRACE}-00000000000000ab-{flags}");
            assert_eq!(next, headers(&[&expected]), "one, in the place of the last");
            assert_eq!(TraceContext::of(&headers(&[&value, &value])), None, "twice");
        }
    }

    #[test]
    fn a_trace_that_breaks_the_rules_is_none() {
        let zeros = "0".repeat(32);
        for value in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}-1"),
        ] {
            assert_eq!(TraceContext::of(&headers(&[&value])), None, "{value}");
        }
        assert_eq!(TraceContext::of(&HeaderMap::new()), None);
    }
}
