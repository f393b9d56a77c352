//! What looks wrong, and what to do next.

use super::veil::Veil;

/// Characters of a finding that are shown: all of it is in a member.
const CHARS_MAX: usize = 300;

/// One thing that looks wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) next: String,
}

impl Finding {
    pub(super) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

/// All that looks wrong, in the order in which it was found.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds one, unless it was found before.
    pub(super) fn add(&mut self, finding: Finding) {
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// The same as a terminal can show them, without secrets: others have said parts of them.
    pub(super) fn veiled(self, veil: &Veil) -> Self {
        let shown = |text: &str| {
            let text = veil.text(text);
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
        };
        let all = self.0.into_iter();
        Self(all.map(|it| Finding { what: shown(&it.what), next: it.next }).collect())
    }

    pub(super) fn all(&self) -> &[Finding] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_shown_in_one_line_of_limited_length_without_secrets() {
        let mut findings = Findings::default();
        let long = "x ".repeat(CHARS_MAX / 2);
        for what in ["a\x1b[31m\nhunter2", "a\x1b[31m\nhunter2", &long, &(long.clone() + "y")] {
            findings.add(Finding::new(what, "next"));
        }
        let shown = findings.veiled(&Veil::knowing(["hunter2".to_owned()]));
        let whats: Vec<&str> = shown.all().iter().map(|it| it.what.as_str()).collect();
        assert_eq!(whats, ["a [31m [veiled]", &long, &long]);
    }
}
