//! The lines of a head, or of trailers: where each ends, and that nobody could end it elsewhere.

use std::ops::Range;

use super::{Fault, Limits};

/// Finds lines in octets that come piece by piece. Every octet is looked at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// Octets looked at, from the first line's beginning.
    seen: usize,
    /// Where the line that is being looked at begins.
    begin: usize,
    /// Whether the last octet was CR.
    after_cr: bool,
    /// The lines that are whole, without their ends; the empty one is not among them.
    whole: Vec<Range<usize>>,
}

impl Lines {
    /// Looks at what is new in `octets`, which begin with the first line, up to the empty line.
    /// Returns how many octets there are with it, once it is there.
    ///
    /// # Errors
    ///
    /// A line that does not end with CR LF, a control character, or one of `limits`.
    pub(super) fn scan(&mut self, octets: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        let new = octets.get(self.seen..).unwrap_or_default();
        for &octet in new {
            self.seen += 1;
            match (self.after_cr, octet) {
                (true, b'\n') => {
                    self.after_cr = false;
                    let line = self.begin..self.seen - 2;
                    self.begin = self.seen;
                    if self.seen > limits.head {
                        return Err(Fault::HeadTooLong(limits.head));
                    }
                    if line.is_empty() {
                        return Ok(Some(self.seen));
                    }
                    self.whole.push(line);
                    if self.whole.len() > limits.fields + 1 {
                        return Err(Fault::TooManyFields(limits.fields));
                    }
                    continue;
                }
                (true, _) => return Err(Fault::BareCr),
                (false, b'\n') => return Err(Fault::BareLf),
                (false, b'\r') => self.after_cr = true,
                (false, b'\t' | b' '..=b'~' | 0x80..) => {}
                (false, control) => return Err(Fault::Control(control)),
            }
            self.check_length(limits)?;
        }
        Ok(None)
    }

    /// Judges a line that is not whole yet, so that nobody has to keep more of it.
    fn check_length(&self, limits: &Limits) -> Result<(), Fault> {
        let end = if self.after_cr { self.seen - 1 } else { self.seen };
        let is_first = self.whole.is_empty();
        let limit = if is_first { limits.first_line } else { limits.field };
        if end - self.begin > limit {
            let too_long =
                if is_first { Fault::FirstLineTooLong(limit) } else { Fault::FieldTooLong(limit) };
            return Err(too_long);
        }
        if self.seen > limits.head { Err(Fault::HeadTooLong(limits.head)) } else { Ok(()) }
    }

    /// Whether nothing has been looked at.
    pub(super) fn is_new(&self) -> bool {
        self.seen == 0
    }

    /// The lines that are whole.
    pub(super) fn lines(&self) -> &[Range<usize>] {
        &self.whole
    }

    /// Begins anew, at the next head.
    pub(super) fn clear(&mut self) {
        let mut whole = std::mem::take(&mut self.whole);
        whole.clear();
        *self = Self { whole, ..Self::default() };
    }
}
