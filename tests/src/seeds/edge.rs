//! Inputs of the targets that judge what clients, servers and connection points send as text.

use super::Seed;

/// Limits of the defaults and pieces of two octets.
const ROOMY: u8 = 0;

/// Small limits and pieces of four octets.
const TIGHT: u8 = 5;

pub(super) fn all() -> Vec<Seed> {
    [requests(), chunked(), answers(), paths(), headers(), documents()]
        .into_iter()
        .flatten()
        .collect()
}

fn seed(target: &'static str, first: &[u8], seeds: &[(&'static str, &str)]) -> Vec<Seed> {
    let seed = |(name, text): &(&'static str, &str)| {
        let octets = [first, text.as_bytes()].concat();
        Seed { target, name, octets }
    };
    seeds.iter().map(seed).collect()
}

fn requests() -> Vec<Seed> {
    let mut seeds = seed(
        "request_head",
        &[ROOMY],
        &[
            ("written-get", "GET /a?b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"),
            ("written-two-in-one-piece", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n"),
            (
                "written-length-then-another",
                "CCM_POST / HTTP/1.1\r\nHost:a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n",
            ),
            ("written-empty-line-first", "\r\nGET / HTTP/1.1\r\nhost:\t a \t\r\nx:\r\n\r\n"),
            ("written-bare-line-feed", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
            ("written-bare-line-feed-in-value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n"),
            ("written-bare-carriage-return", "GET / HTTP/1.1\r\nHost: a\rx\r\n\r\n"),
            ("written-folded", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
            ("written-space-before-colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            (
                "written-length-and-coding",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\
                 Transfer-Encoding: chunked\r\n\r\n",
            ),
            (
                "written-two-lengths",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            ),
            (
                "written-two-expectations",
                "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nexpect: 100-continue\r\n\r\n",
            ),
            ("written-absolute", "GET http://a:1/b HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            ("written-absolute-elsewhere", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
            (
                "written-values-above-ascii",
                "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\u{ff0f}\r\n\r\n",
            ),
        ],
    );
    let tight = [
        ("written-fields-too-many", "GET / HTTP/1.1\r\nHost: a\r\na:1\r\nb:2\r\nc:3\r\n\r\n"),
        ("written-line-too-long", "GET /0123456789abcdef HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    seeds.extend(seed("request_head", &[TIGHT], &tight));
    seeds
}

fn chunked() -> Vec<Seed> {
    let mut seeds = seed(
        "chunked",
        &[ROOMY],
        &[
            ("written-two-chunks", "3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n"),
            ("written-size-of-two-digits", "10\r\n01234567\r\n0\r\n\r\nx\r\n0\r\n\r\n"),
            ("written-trailers", "0\r\nA: b\r\nC:\r\n\r\nGET / HTTP/1.1\r\n"),
            ("written-extensions", "1;a;b=c;d=\"e\\\"f\"\r\nx\r\n0;last\r\n\r\n"),
            ("written-line-in-a-chunk", "4\r\n\r\n0\r\r\n0\r\n\r\n"),
            ("written-size-too-long", "00000000000000001\r\na\r\n0\r\n\r\n"),
            ("written-size-of-64-bits", "ffffffffffffffff\r\nabc"),
            ("written-size-without-digits", "\r\na\r\n0\r\n\r\n"),
            ("written-space-behind-size", "1 \r\na\r\n0\r\n\r\n"),
            ("written-bare-line-feed-in-extension", "1;a\nb\r\na\r\n0\r\n\r\n"),
            ("written-chunk-too-long-by-one", "1\r\nab\r\n0\r\n\r\n"),
            ("written-folded-trailer", "0\r\nA: b\r\n c\r\n\r\n"),
            ("written-cut", "5\r\nab"),
        ],
    );
    let tight = [
        ("written-extensions-too-long", "1;abcdefghij\r\na\r\n0\r\n\r\n"),
        ("written-trailers-too-many", "0\r\na:\r\nb:\r\nc:\r\nd:\r\n\r\n"),
    ];
    seeds.extend(seed("chunked", &[TIGHT], &tight));
    seeds
}

fn answers() -> Vec<Seed> {
    let mut seeds = seed(
        "answer_head",
        &[ROOMY, 0],
        &[
            (
                "written-length",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 204 \r\n\r\n",
            ),
            (
                "written-chunked",
                "HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            ),
            ("written-to-the-end", "HTTP/1.0 200 OK\r\n\r\nall of it\r\n\r\n"),
            (
                "written-interim",
                "HTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 304 N\r\nETag: a\r\n\r\n",
            ),
            ("written-switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n"),
            ("written-no-space-behind-status", "HTTP/1.1 200OK\r\n\r\n"),
            ("written-status-too-low", "HTTP/1.1 099 \r\n\r\n"),
            ("written-reason-above-ascii", "HTTP/1.1 404 \u{e9}\r\nContent-Length: 0\r\n\r\n"),
            (
                "written-204-with-length",
                "HTTP/1.1 204 N\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 \r\n",
            ),
            ("written-length-of-two", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na"),
        ],
    );
    let to_head =
        [("written-to-head", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 \r\n")];
    seeds.extend(seed("answer_head", &[ROOMY, 1], &to_head));
    let interim = "HTTP/1.1 100 \r\n\r\n".repeat(3);
    seeds.extend(seed("answer_head", &[TIGHT, 0], &[("written-interim-too-many", &interim)]));
    seeds
}

fn paths() -> Vec<Seed> {
    let mut seeds = seed(
        "path",
        &[0],
        &[
            ("written-whole", "/CCM_Proxy_MutualAuth/1/SMS_MP/.sms_aut?MPLIST"),
            ("written-root-escaped", "/CCM%5fProxy_MutualAuth/1/%53MS_MP"),
            ("written-role-id-with-sign", "/CCM_Proxy_MutualAuth/+1/SMS_MP"),
            ("written-asterisk", "*"),
            ("written-not-published", "/CCM_Proxy_MutualAuth/1/other"),
        ],
    );
    let below = [
        ("written-plain", ".sms_pol?a/../b"),
        ("written-dots", "../x"),
        ("written-dots-escaped", "%2e%2e/x"),
        ("written-dots-escaped-twice", "%252e%252e/x"),
        ("written-backslash", "..%5cx"),
        ("written-parameter", "..;/x"),
        ("written-slashes", "a//b"),
        ("written-space-at-end", "a%20/b"),
        ("written-alternate", "x_alt%41uth/y"),
        // Decoded it is another name.
        ("written-alternate-only-as-it-stands", "%4altauth"),
        ("written-guid", "%7B1F2E%7d/a%20b.zip"),
    ];
    seeds.extend(seed("path", &[4], &below));
    seeds.extend(seed("path", &[0b1110], &[("written-verb-elsewhere", "a")]));
    seeds
}

fn headers() -> Vec<Seed> {
    seed(
        "header_policy",
        &[],
        &[
            ("written-named", "CCMClientID:a\nClientToken:b\nRange:bytes=0-1\nclienttoken:c"),
            (
                "written-hop-by-hop",
                "Connection:x-a, close\nx-a:1\nTE:trailers\nkeep-alive:1\nhost:a",
            ),
            ("written-removes-end-to-end", "Connection:ccmclientid\nccmclientid:a"),
            ("written-removes-length", "connection:Content-Length\ncontent-length:1"),
            ("written-no-list", "connection:a b\na:1"),
            ("written-underscores", "X_Forwarded_For:a\nContent_Length:1\nREMOTE_USER:a\nproxy:b"),
            (
                "written-forged",
                "x-forwarded-for:1\nrelay-reason:a\nx-arr-clientcert:b\nforwarded:c",
            ),
            (
                "written-other-path",
                "x-original-url:/a\nx-http-method-override:PUT\nx-rewrite-url:/b",
            ),
            ("written-answer", "alt-svc:h3\nBITS-Host-Id:a\nbits_host_id:b\nX-Relay-A:1\netag:a"),
            ("written-trailers", "authorization:a\ncontent-type:b\nx-checksum:c\nhost:d"),
            ("written-connection-twice", "connection:a\nconnection:,,b,\na:1\nb:2\nc:3"),
        ],
    )
}

/// A document with these endpoints.
fn document(endpoints: &str) -> String {
    format!(r#"{{"format":1,"site":"default","version":"7","endpoints":[{endpoints}]}}"#)
}

/// Somebody's GUID.
const GUID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// A document that says whose clients count.
fn of_clients(methods: &str) -> String {
    let clients = format!(
        r#""clients":{{"methods":["entra","certificate","site-token"],"strict":true,{methods}}}"#
    );
    document("").replace("\"endpoints\":[]", &format!("\"endpoints\":[],{clients}"))
}

fn documents() -> Vec<Seed> {
    let one = r#"{"name":"mp","kind":"management-point","role_id":"1","access":"anonymous"}"#;
    let full = concat!(
        r#"{"name":"s\u00e9\"","kind":"software-update-point","role_id":"18446744073709551615","#,
        r#""paths":["SMS_MP","/a/b/"],"request_body_bytes_max":"007","access":"anonymous"}"#,
    );
    let listed = one.replace("\"access", "\"request_headers\":[\"x-a\",\"x-b\"],\"access");
    let hop = listed.replace("x-b", "connection");
    let unknown = one.replace("access", "excess");
    let cut = document(one).split_off(20);
    let mut site = document("");
    let too_long = "s".repeat(65);
    site = site.replace("default", &too_long);
    let timed = |role_id| {
        let deadline =
            format!(r#"{{"role_id":"{role_id}","backend_answer_milliseconds":"90000"}}"#);
        document(one).replace("]}", &format!(r#"],"deadlines":[{deadline}]}}"#))
    };
    let certificates = concat!(
        r#""certificates":{"roots":["MAA="],"#,
        r#""revocation":{"lists":[{"der":"MAA="},{"url":"http://a/"}]}}"#,
    );
    let issuers = r#""issuers":["v1","v2","government"],"audiences":["a"]"#;
    let keys = r#""keys":{"authority":"https://a/"}"#;
    let tenants = &format!(r#""tenants":[{{"id":"{GUID}","enabled":true,{issuers},{keys}}}]"#);
    let signed = r#""revision":"7","signers":["MAA="]"#;
    let site_tokens = format!(r#""tokens":{{"tenant":"{GUID}",{signed},"blocked":["{GUID}"]}}"#);
    let again = format!(r#""blocked":["{GUID}","#);
    let texts = [
        ("written-deadline", timed(1)),
        ("written-deadline-of-nobody", timed(2)),
        ("written-empty", document("")),
        ("written-one", document(one)),
        ("written-two", document(&[one, full].join(","))),
        ("written-listed-headers", document(&listed)),
        ("written-listed-header-of-a-hop", document(&hop)),
        ("written-same-twice", document(&[one, one].join(","))),
        ("written-unknown-in-endpoint", document(&unknown)),
        ("written-unknown-at-top", document("").replace("\"site\"", "\"more\":[{}],\"site\"")),
        ("written-critical", document("").replace("\"site\"", "\"critical\":[\"more\"],\"site\"")),
        ("written-format-2", document(one).replace(":1,", ":2,")),
        ("written-number-with-sign", document(one).replace("\"1\"", "\"+1\"")),
        ("written-path-with-dots", document(&full.replace("SMS_MP", ".."))),
        ("written-tail", cut),
        ("written-site-too-long", site),
        ("written-control-in-name", document(&one.replace("mp", "m\\u0007"))),
        ("written-nothing-behind", document(one) + "x"),
        ("written-clients", of_clients(&site_tokens)),
        (
            "written-clients-of-each-method",
            of_clients(&[certificates, tenants, &site_tokens].join(",")),
        ),
        ("written-clients-without-base64", of_clients(&certificates.replace("MAA=", "MAA"))),
        ("written-blocked-twice", of_clients(&site_tokens.replace("\"blocked\":[", &again))),
    ];
    let texts = texts.each_ref().map(|(name, text)| (*name, text.as_str()));
    seed("settings", &[], &texts)
}
