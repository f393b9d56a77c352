//! The status page: what `/status.json` tells, for a browser on this machine.
//!
//! One document with its style and script in it; it asks for nothing but `/status.json` of the
//! listener that served it. Nothing is made here of what anybody told: the page itself is the same
//! for every role, and its script puts what it reads into the document as text alone. The policy
//! sent with it has the browser hold it to that: no script and no style but these, by their
//! digests, no request elsewhere, no text that becomes markup (`require-trusted-types-for`), in
//! nobody's frame.
//!
//! `head.html` and `body.html` are the document, `page.css` how it looks. Of the scripts,
//! `page.js` asks and speaks, `links.js`, `endpoints.js` and `sections.js` show, `facts.js` says
//! what is wrong and what has changed, `words.js` and `elements.js` serve the others.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

const HEAD: &str = include_str!("head.html");

const STYLE: &str = include_str!("page.css");

const BODY: &str = include_str!("body.html");

/// One module of JavaScript: its parts share their names.
const SCRIPT: &str = concat!(
    include_str!("elements.js"),
    include_str!("words.js"),
    include_str!("links.js"),
    include_str!("endpoints.js"),
    include_str!("sections.js"),
    include_str!("facts.js"),
    include_str!("page.js"),
);

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{HEAD}<style>{STYLE}</style>\n{BODY}<script type=\"module\">{SCRIPT}</script>\n</body>\n\
         </html>\n"
    )
});

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let (script, style) = (digest(SCRIPT), digest(STYLE));
    let policy = format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    HeaderValue::try_from(policy).expect("words and base64 are a header's text")
});

/// How a policy names the text of an element.
fn digest(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

/// Answers with the page.
pub(super) async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY.clone()),
        // For browsers that know no `frame-ancestors`.
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // An update of the program brings another page.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, DOCUMENT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_style_nor_script_ends_its_element_early() {
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("</") && !text.contains("<!--"));
        }
        assert_eq!(
            (DOCUMENT.matches("<script").count(), DOCUMENT.matches("<style").count()),
            (1, 1)
        );
    }

    #[test]
    fn no_part_names_another_place_or_makes_markup_of_text() {
        // The name of a kind of element, which nobody asks for.
        let document = DOCUMENT.replace("\"http://www.w3.org/2000/svg\"", "");
        for word in ["http:", "https:", "src=", "@import", "url(", " style=", " onclick="] {
            assert!(!document.contains(word), "{word}");
        }
        for word in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("] {
            assert!(!document.contains(word), "{word}");
        }
    }
}
