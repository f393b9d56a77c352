//! What was asked and what came, for people.

use std::fmt::Write as _;

/// Rows that are printed when the table is dropped, whether the test passed or not.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 4]>);

const HEADINGS: [&str; 4] = ["through", "asked", "came", "verdict"];

impl Table {
    /// Adds a row.
    pub(crate) fn row(&mut self, through: &str, asked: &str, came: &str, verdict: &str) {
        self.0.push([through, asked, came, verdict].map(str::to_owned));
    }

    fn text(&self) -> String {
        let headings = HEADINGS.map(str::to_owned);
        let rows = || std::iter::once(&headings).chain(&self.0);
        let width = |column: usize| rows().map(|row| row[column].len()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        let mut text = String::new();
        for [through, asked, came, verdict] in rows() {
            let [w0, w1, w2] = widths;
            writeln!(text, "{through:w0$}  {asked:w1$}  {came:w2$}  {verdict}")
                .expect("writing to a String does not fail");
        }
        text
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        println!("\n{}", self.text());
    }
}
