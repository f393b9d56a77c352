//! Streams of requests: every shape once, what seeds compose, and llhttp's own cases.

use std::ops::Range;

use fastrand::Rng;
use relay_tests::llhttp;
use relay_tests::roles::{SERVICE, target};

use crate::shapes::{CHUNKED, CODINGS, FIELDS, Fate, HOSTS, LENGTHS, METHODS, TARGETS, VERSIONS};

/// Seeds that every test run takes.
const SEEDS: Range<u64> = 0..200;

/// Names other seeds: `a..b`.
pub(crate) const VARIABLE: &str = "RELAY_DIFFERENTIAL_SEEDS";

/// What a client sends on one connection.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) octets: Vec<u8>,
    /// Octets that are sent at once.
    pub(crate) piece: usize,
    /// What becomes of each request, in order; `None` if only the octets tell.
    pub(crate) fates: Option<Vec<Fate>>,
}

/// All cases of a run.
pub(crate) fn all() -> Vec<Case> {
    let seeds = match std::env::var(VARIABLE) {
        Ok(text) => range(&text).unwrap_or_else(|| panic!("{VARIABLE}={text} is not `a..b`")),
        Err(_) => SEEDS,
    };
    let mut all = catalogue();
    all.extend(seeds.clone().map(composed));
    all.extend(seeds.map(damaged));
    all.extend(vectors());
    all
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// A request before it is written.
#[derive(Clone)]
struct Draft {
    method: &'static str,
    target: &'static str,
    version: &'static str,
    host: &'static str,
    fields: Vec<String>,
    framing: String,
    body: Vec<u8>,
    fate: Fate,
}

impl Draft {
    fn plain() -> Self {
        Self {
            method: "GET",
            target: "PATH",
            version: " HTTP/1.1",
            host: "Host: relay.test\r\n",
            fields: Vec::new(),
            framing: String::new(),
            body: Vec::new(),
            fate: Fate::Passes,
        }
    }

    /// One that passes and has a body.
    fn with_body() -> Self {
        let framing = "Content-Length: 5\r\n".to_owned();
        Self { method: "POST", framing, body: b"hello".to_vec(), ..Self::plain() }
    }

    /// One behind which the client wants no more.
    fn last() -> Self {
        let fields = vec!["Connection: close\r\n".to_owned()];
        Self { fields, fate: Fate::PassesLast, ..Self::plain() }
    }

    fn with_fate(mut self, fate: Fate) -> Self {
        // What is worse for whoever comes behind counts.
        self.fate = self.fate.max(fate);
        self
    }

    fn write(&self, name: &str, place: usize, all: &mut Vec<u8>) {
        let path = target(&format!("/SMS_MP/{name}/{place}"));
        let target = self.target.replacen("PATH", &path, 1);
        let Self { method, version, host, framing, .. } = self;
        let fields = self.fields.concat();
        let mark = format!("X-Mark: {name}.{place}\r\n");
        let head = format!("{method} {target}{version}\r\n{host}{fields}{framing}{mark}\r\n");
        all.extend(head.bytes());
        all.extend(&self.body);
    }
}

/// A request that nobody is to see.
pub(crate) fn smuggled() -> String {
    format!("GET {} HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n", target("/SMS_MP/smuggled"))
}

fn case(name: &str, about: &str, drafts: &[Draft], piece: usize) -> Case {
    let mut octets = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        draft.write(name, place, &mut octets);
    }
    let fates = Some(drafts.iter().map(|draft| draft.fate).collect());
    Case { name: format!("{name} {about}"), octets, piece, fates }
}

/// Every shape once: behind a request with a body, and with two in the pipeline behind it.
fn catalogue() -> Vec<Case> {
    let mut cases = Vec::new();
    for (about, draft) in shaped() {
        let name = format!("c{}", cases.len());
        let before = if cases.len() % 2 == 0 { Draft::with_body() } else { Draft::plain() };
        let drafts = [before, draft, Draft::with_body(), Draft::last()];
        // In one piece, octet by octet, or in between.
        let piece = [usize::MAX, 37, 7, usize::MAX, 1][cases.len() % 5];
        cases.push(case(&name, &about, &drafts, piece));
    }
    cases
}

fn shaped() -> Vec<(String, Draft)> {
    let mut all = Vec::new();
    let mut add = |kind: &str,
                   shapes: &'static [(&'static str, Fate)],
                   draft: &dyn Fn(&'static str) -> Draft| {
        for (shape, fate) in shapes {
            all.push((format!("{kind} {shape:?}"), draft(shape).with_fate(*fate)));
        }
    };
    let plain = Draft::plain;
    add("target", TARGETS, &|target| Draft { target, ..plain() });
    add("method", METHODS, &|method| Draft { method, ..plain() });
    add("method with a body", METHODS, &|method| Draft { method, ..Draft::with_body() });
    add("version", VERSIONS, &|version| Draft { version, ..plain() });
    add("host", HOSTS, &|host| Draft { host, ..plain() });
    add("field", FIELDS, &|field| Draft { fields: vec![field.to_owned()], ..plain() });
    add("field with a body", FIELDS, &|field| Draft {
        fields: vec![field.to_owned()],
        ..Draft::with_body()
    });
    let smuggling = || format!("0\r\n\r\n{}", smuggled()).into_bytes();
    add("length", LENGTHS, &|framing| Draft { framing: framing.to_owned(), ..Draft::with_body() });
    add("length of GET", LENGTHS, &|framing| Draft {
        method: "GET",
        framing: framing.to_owned(),
        ..Draft::with_body()
    });
    add("coding", CODINGS, &|framing| Draft {
        framing: framing.to_owned(),
        body: b"0\r\n\r\n".to_vec(),
        ..Draft::with_body()
    });
    add("coding of GET", CODINGS, &|framing| {
        let body = b"5\r\nhello\r\n0\r\n\r\n".to_vec();
        Draft { method: "GET", framing: framing.to_owned(), body, ..Draft::with_body() }
    });
    add("chunks", CHUNKED, &|body| chunked("POST", body));
    add("chunks of GET", CHUNKED, &|body| chunked("GET", body));
    let is_broken = |shape: &&(&str, Fate)| shape.1 == Fate::Breaks;
    for (shape, fate) in LENGTHS.iter().chain(CODINGS).filter(is_broken) {
        let draft = Draft { framing: (*shape).to_owned(), body: smuggling(), ..Draft::with_body() };
        all.push((format!("smuggling by {shape:?}"), draft.with_fate(*fate)));
    }
    all.extend(further());
    all
}

fn chunked(method: &'static str, body: &str) -> Draft {
    let framing = "Transfer-Encoding: chunked\r\n".to_owned();
    let body = body.replace('S', &smuggled()).into_bytes();
    Draft { method, framing, body, ..Draft::plain() }
}

/// What takes more than one piece, or a long one.
fn further() -> Vec<(String, Draft)> {
    let field = |field: String| Draft { fields: vec![field], ..Draft::plain() };
    let old = Draft { version: " HTTP/1.0", fate: Fate::PassesLast, ..Draft::plain() };
    let with_octets = |body: Vec<u8>| {
        let framing = format!("Content-Length: {}\r\n", body.len());
        Draft { framing, body, ..Draft::with_body() }
    };
    let all = [
        ("an empty line before it", Draft { method: "\r\nGET", ..Draft::plain() }),
        ("HTTP/1.0 without a host", Draft { host: "", ..old.clone() }),
        (
            "HTTP/1.0 with chunks",
            Draft { version: " HTTP/1.0", ..chunked("POST", "5\r\nhello\r\n0\r\n\r\nS") }
                .with_fate(Fate::Breaks),
        ),
        (
            "HTTP/1.0 with an expectation",
            Draft { fields: vec!["Expect: 100-continue\r\n".to_owned()], ..old.clone() },
        ),
        (
            "two expectations",
            field("Expect: 100-continue\r\nExpect: 200-ok\r\n".to_owned()).with_fate(Fate::Breaks),
        ),
        (
            "an expectation, twice",
            field("Expect: 100-continue\r\nExpect: 100-continue\r\n".to_owned())
                .with_fate(Fate::Breaks),
        ),
        ("a body that is a request", with_octets(smuggled().into_bytes())),
        ("a body of all octets", with_octets((0..=255).cycle().take(5000).collect())),
        ("an empty body", with_octets(Vec::new())),
        ("a field that is long", field(format!("X-A: {}\r\n", "a".repeat(8000)))),
        (
            "a field that is too long",
            field(format!("X-A: {}\r\n", "a".repeat(8200))).with_fate(Fate::Outsized),
        ),
        ("fields, many", field("X-A: 1\r\n".repeat(60))),
        ("fields, too many", field("X-A: 1\r\n".repeat(64)).with_fate(Fate::Outsized)),
        (
            "a head that is too long",
            field(format!("X-A: {}\r\n", "a".repeat(8000)).repeat(5)).with_fate(Fate::Outsized),
        ),
        (
            "extensions that are too long",
            chunked("POST", &format!("5;a={}\r\nhello\r\n0\r\n\r\nS", "a".repeat(4200)))
                .with_fate(Fate::Outsized),
        ),
        (
            "trailers, too many",
            chunked("POST", &format!("5\r\nhello\r\n0\r\n{}\r\n", "x: 1\r\n".repeat(65)))
                .with_fate(Fate::Outsized),
        ),
        (
            "a body that does not come",
            Draft { framing: "Content-Length: 100000\r\n".to_owned(), ..Draft::with_body() }
                .with_fate(Fate::Stays),
        ),
    ];
    all.into_iter().map(|(about, draft)| (about.to_owned(), draft)).collect()
}

/// One of `shapes` that passes, or, if there is to be a flaw, one that does not.
fn pick<'a>(
    rng: &mut Rng,
    shapes: &'a [(&'static str, Fate)],
    has_flaw: bool,
) -> &'a (&'static str, Fate) {
    let fitting: Vec<_> =
        shapes.iter().filter(|shape| (shape.1 > Fate::PassesLast) == has_flaw).collect();
    fitting[rng.usize(..fitting.len())]
}

/// A request out of pieces that pass.
fn sound(rng: &mut Rng) -> Draft {
    let mut draft = Draft { method: pick(rng, METHODS, false).0, ..Draft::plain() };
    if rng.u8(..10) == 0 {
        // It ends the connection, unless a field says otherwise.
        draft = Draft { version: " HTTP/1.0", fate: Fate::PassesLast, ..draft };
    } else {
        for _ in 0..rng.usize(..4) {
            let (field, fate) = pick(rng, FIELDS, false);
            let is_expectation = |field: &str| field.starts_with(['E', 'e']);
            if is_expectation(field) && draft.fields.iter().any(|it| is_expectation(it)) {
                // Two of them are a flaw.
                continue;
            }
            draft.fields.push((*field).to_owned());
            draft = draft.with_fate(*fate);
        }
    }
    if rng.bool() {
        draft.target = pick(rng, TARGETS, false).0;
    } else {
        draft.host = pick(rng, HOSTS, false).0;
    }
    let is_old = draft.version != " HTTP/1.1";
    match rng.u8(..4) {
        0 => {}
        1 => {
            pick(rng, LENGTHS, false).0.clone_into(&mut draft.framing);
            draft.body = b"hello".to_vec();
        }
        2 if !is_old => {
            pick(rng, CODINGS, false).0.clone_into(&mut draft.framing);
            draft.body = some_chunks(rng);
        }
        _ => {
            draft.body = some_octets(rng);
            draft.framing = format!("Content-Length: {}\r\n", draft.body.len());
        }
    }
    draft
}

/// Octets that look like another request, or like anything.
fn some_octets(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..3) {
        0 => smuggled().into_bytes(),
        1 => format!("0\r\n\r\n{}", smuggled()).into_bytes(),
        _ => (0..rng.usize(..300)).map(|_| rng.u8(..)).collect(),
    }
}

fn some_chunks(rng: &mut Rng) -> Vec<u8> {
    if rng.bool() {
        return pick(rng, CHUNKED, false).0.as_bytes().to_vec();
    }
    let (body, octets) = (some_octets(rng), rng.usize(1..50));
    let mut all = Vec::new();
    for chunk in body.chunks(octets) {
        all.extend(format!("{:x}{}\r\n", chunk.len(), ["", ";a=\"b;c\""][rng.usize(..2)]).bytes());
        all.extend([chunk, b"\r\n"].concat());
    }
    all.extend(b"0\r\n\r\n");
    all
}

/// As [`sound`], with one piece that does not pass.
fn flawed(rng: &mut Rng) -> Draft {
    let draft =
        Draft { fields: Vec::new(), version: " HTTP/1.1", fate: Fate::Passes, ..sound(rng) };
    let draft = Draft { target: "PATH", host: "Host: relay.test\r\n", ..draft };
    let fields = |(shape, fate): &(&'static str, Fate), draft: Draft| {
        let before = vec!["X-A: 1\r\n".to_owned(), (*shape).to_owned()];
        Draft { fields: before, ..draft }.with_fate(*fate)
    };
    match rng.u8(..8) {
        0 => {
            let (target, fate) = *pick(rng, TARGETS, true);
            Draft { target, ..draft }.with_fate(fate)
        }
        1 => {
            let (method, fate) = *pick(rng, METHODS, true);
            Draft { method, ..draft }.with_fate(fate)
        }
        2 => {
            let (version, fate) = *pick(rng, VERSIONS, true);
            Draft { version, ..draft }.with_fate(fate)
        }
        3 => {
            let (host, fate) = *pick(rng, HOSTS, true);
            Draft { host, ..draft }.with_fate(fate)
        }
        4 => fields(pick(rng, FIELDS, true), draft),
        5 => {
            let (framing, fate) = *pick(rng, LENGTHS, true);
            let body = some_octets(rng);
            Draft { framing: framing.to_owned(), body, ..draft }.with_fate(fate)
        }
        6 => {
            let (framing, fate) = *pick(rng, CODINGS, true);
            let body = some_chunks(rng);
            Draft { framing: framing.to_owned(), body, ..draft }.with_fate(fate)
        }
        _ => {
            let (body, fate) = *pick(rng, CHUNKED, true);
            chunked(draft.method, body).with_fate(fate)
        }
    }
}

/// Up to four requests, half of the time with a flawed one among them.
fn composed(seed: u64) -> Case {
    let mut rng = Rng::with_seed(seed);
    let mut drafts: Vec<_> = (0..rng.usize(1..4)).map(|_| sound(&mut rng)).collect();
    if rng.bool() {
        let place = rng.usize(..=drafts.len());
        drafts.insert(place, flawed(&mut rng));
    }
    drafts.push(Draft::last());
    let piece = some_piece(&mut rng);
    case(&format!("s{seed}"), "", &drafts, piece)
}

fn some_piece(rng: &mut Rng) -> usize {
    if rng.bool() { usize::MAX } else { rng.usize(1..100) }
}

/// Sound requests of which an octet or two are changed, added or lost.
fn damaged(seed: u64) -> Case {
    const OCTETS: &[u8] = b"\r\n\t \0:,;+-_x09aA\x7f\x80\"/#.%";
    let mut rng = Rng::with_seed(!seed);
    let mut drafts: Vec<_> = (0..rng.usize(1..3)).map(|_| sound(&mut rng)).collect();
    drafts.push(Draft::last());
    let piece = some_piece(&mut rng);
    let mut case = case(&format!("d{seed}"), "", &drafts, piece);
    for _ in 0..rng.usize(1..3) {
        let (place, octet) = (rng.usize(..case.octets.len()), OCTETS[rng.usize(..OCTETS.len())]);
        match rng.u8(..3) {
            0 => case.octets[place] = octet,
            1 => case.octets.insert(place, octet),
            _ => drop(case.octets.remove(place)),
        }
    }
    Case { fates: None, ..case }
}

/// llhttp's requests, for a path that is published and by methods that are taken there.
fn vectors() -> Vec<Case> {
    let Some([(_, requests), _]) = llhttp::cases() else { return Vec::new() };
    let mut all = Vec::new();
    for (place, vector) in requests.iter().enumerate() {
        let name = format!("v{place}");
        let octets = published(&llhttp::with_host(&vector.octets), &name);
        // What is behind its last octet, if that ends a request.
        let mut last = Vec::new();
        Draft::last().write(&name, 1, &mut last);
        let octets = [octets, last].concat();
        let piece = [usize::MAX, 1][place % 2];
        all.push(Case { name: format!("{name} {}", vector.name), octets, piece, fates: None });
    }
    all
}

/// With another target, and perhaps another method, in the first line.
fn published(octets: &[u8], name: &str) -> Vec<u8> {
    let end = octets.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
    let (line, rest) = octets.split_at(end.unwrap_or(octets.len()));
    let mut parts = line.splitn(3, |octet| *octet == b' ');
    let (Some(method), Some(_), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return octets.to_vec();
    };
    let method: &[u8] = match method {
        b"PUT" => b"POST",
        other => other,
    };
    let target = target(&format!("/SMS_MP/{name}/0"));
    let mark = format!("\r\nX-Mark: {name}.0").into_bytes();
    [method, b" ", target.as_bytes(), b" ", version, &mark, rest].concat()
}
