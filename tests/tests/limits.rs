//! Each limit that concerns clients at limit - 1, limit and limit + 1, over real sockets and TLS.
//!
//! The table names every limit of the design, the setting it has, and what is answered at its three
//! points. A limit that one request can reach is asked for here, row by row; the others have a test
//! of their own, here or elsewhere, which its row names.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

#[path = "limits/flood.rs"]
mod flood;
#[path = "limits/http1.rs"]
mod http1;
#[path = "limits/http2.rs"]
mod http2;
#[path = "limits/listener.rs"]
mod listener;
#[path = "limits/memory.rs"]
mod memory;
#[path = "limits/queue.rs"]
mod queue;
#[path = "limits/time.rs"]
mod time;

use std::path::Path;
use std::time::Duration;

use relay_core::gateway::GatewayLimits;
use relay_core::link::OPENERS_WAITING_MAX;

/// What is answered at limit - 1, limit and limit + 1.
type Points = [&'static str; 3];

/// A limit.
struct Limit {
    /// What it limits.
    of: &'static str,
    /// Where its value is set.
    setting: &'static str,
    /// The value that is tested: the default, unless the setting takes a smaller one.
    value: usize,
    points: Points,
    proof: Proof,
}

enum Proof {
    /// Makes the request over HTTP/1.1 that reaches a number.
    Asked(fn(usize) -> String),
    /// A test below `tests/` or `relay-core/`, by its file and name.
    Test(&'static str, &'static str),
}
use Proof::{Asked, Test};

const HERE_HTTP2: &str = "tests/tests/limits/http2.rs";
const HERE_TIME: &str = "tests/tests/limits/time.rs";
const HERE_LISTENER: &str = "tests/tests/limits/listener.rs";
const HERE_MEMORY: &str = "tests/tests/limits/memory.rs";
const GUARDED: &str = "relay-core/src/gateway/guarded/tests.rs";
const HTTP2: &str = "relay-core/src/gateway/http2/tests.rs";
const HANDSHAKE: &str = "tests/tests/roles_handshake.rs";
const ROLES: &str = "tests/tests/roles.rs";
const LINKS: &str = "tests/tests/roles_link.rs";

/// What the body of a request may have at the endpoint of these tests.
const BODY: usize = 1000;

const fn limit(
    of: &'static str,
    setting: &'static str,
    value: usize,
    points: Points,
    proof: Proof,
) -> Limit {
    Limit { of, setting, value, points, proof }
}

const LIMITS: [Limit; 46] = [
    // Listener.
    limit(
        "connections",
        "client_connections_max",
        3,
        ["served", "served", "waits"],
        Test(HERE_LISTENER, "a_connection_beyond_the_limit_waits_until_one_ends"),
    ),
    limit(
        "connections of an address",
        "connections_per_address_max",
        100,
        ["served", "served", "closed"],
        Test(
            "tests/tests/system_addresses.rs",
            "the_101st_connection_of_an_address_is_closed_and_the_100th_is_served",
        ),
    ),
    limit(
        "handshakes of clients",
        "client_handshakes_max",
        2,
        ["served", "served", "waits"],
        Test(HERE_LISTENER, "a_handshake_beyond_the_limit_waits_until_one_ends"),
    ),
    limit(
        "handshakes of an address",
        "connections_per_address_max",
        16,
        ["served", "served", "waits"],
        Test(HERE_LISTENER, "of_one_address_a_handshake_beyond_its_share_waits_and_no_others_does"),
    ),
    limit(
        "handshakes of links of an address",
        "link_handshakes_max",
        32,
        ["served", "served", "waits"],
        Test(
            HERE_LISTENER,
            "of_one_address_a_links_handshake_beyond_its_share_waits_and_no_others_does",
        ),
    ),
    limit(
        "links of an address that wait for a handshake",
        "link_handshakes_max",
        32,
        ["waits", "waits", "closed"],
        Test(HERE_LISTENER, "so_many_links_of_one_address_wait_and_one_more_is_let_go_of"),
    ),
    limit(
        "handshakes of links",
        "link_handshakes_max",
        1,
        ["served", "served", "closed"],
        Test(LINKS, "handshakes_beyond_their_limit_are_refused_at_once"),
    ),
    limit(
        "seconds for a ClientHello",
        "GatewayLimits::client_hello",
        3,
        ["served", "served", "closed"],
        Test(
            HANDSHAKE,
            "a_client_has_three_seconds_for_its_hello_and_ten_for_all_of_its_handshake",
        ),
    ),
    limit(
        "seconds for a handshake",
        "tls_handshake_seconds",
        10,
        ["served", "served", "closed"],
        Test(
            HANDSHAKE,
            "a_client_has_three_seconds_for_its_hello_and_ten_for_all_of_its_handshake",
        ),
    ),
    // Memory.
    limit(
        "percent of the memory, for requests",
        "gateway/pressure.rs",
        85,
        ["200", "200", "503 CMGService_Out_Of_Memory"],
        Test(
            HERE_MEMORY,
            "above_85_percent_new_requests_are_503_and_what_is_in_flight_goes_on_until_80",
        ),
    ),
    limit(
        "percent of the memory, for connections",
        "gateway/pressure.rs",
        92,
        ["served", "served", "waits"],
        Test(HERE_MEMORY, "above_92_percent_no_client_is_accepted_and_links_are_until_87"),
    ),
    // HTTP/1.1.
    limit(
        "request line",
        "http1::Limits::first_line",
        8 << 10,
        ["200", "200", "414 CMGService_Target_Too_Long"],
        Asked(http1::first_line),
    ),
    limit(
        "one header",
        "http1::Limits::field",
        8 << 10,
        ["200", "200", "431 CMGService_Field_Too_Large"],
        Asked(http1::field),
    ),
    limit(
        "a header's name",
        "http1::Limits::field",
        8 << 10,
        ["200", "200", "431 CMGService_Field_Too_Large"],
        Asked(http1::field_name),
    ),
    limit(
        "head",
        "http1::Limits::head",
        32 << 10,
        ["200", "200", "431 CMGService_Head_Too_Large"],
        Asked(http1::head),
    ),
    limit(
        "head as it is relayed",
        "exchange::HeadLimits",
        16_376,
        ["200", "200", "431 CMGService_Head_Too_Large"],
        Test("tests/tests/limits/http1.rs", "a_head_as_it_is_relayed_has_16376_octets_and_no_more"),
    ),
    limit(
        "headers",
        "http1::Limits::fields",
        64,
        ["200", "200", "431 CMGService_Too_Many_Fields"],
        Asked(http1::fields),
    ),
    limit(
        "seconds for a head",
        "request_head_seconds",
        10,
        ["200", "200", "408 CMGService_Too_Slow"],
        Test(GUARDED, "a_head_has_its_time_from_its_first_octet_and_is_then_answered_408"),
    ),
    limit(
        "seconds without a request",
        "idle_seconds",
        60,
        ["served", "served", "closed"],
        Test(HERE_TIME, "a_connection_may_be_idle_until_60_s_and_is_closed_then"),
    ),
    limit(
        "digits of Content-Length",
        "policy::declared_body_length",
        19,
        [
            "413 CMGService_Body_Too_Large",
            "413 CMGService_Body_Too_Large",
            "400 CMGService_Bad_Content_Length",
        ],
        Asked(http1::length_digits),
    ),
    limit(
        "digits of a chunk's size",
        "http1",
        16,
        ["200", "200", "400 CMGService_Bad_Chunk"],
        Asked(http1::chunk_digits),
    ),
    limit(
        "extensions of chunks",
        "http1::Limits::extensions",
        4 << 10,
        ["200", "200", "400 CMGService_Chunk_Extensions_Too_Long"],
        Asked(http1::extensions),
    ),
    limit(
        "trailers",
        "http1::Limits::fields",
        64,
        ["200", "200", "431 CMGService_Too_Many_Fields"],
        Asked(http1::trailers),
    ),
    limit(
        "one trailer",
        "http1::Limits::field",
        8 << 10,
        ["200", "200", "431 CMGService_Field_Too_Large"],
        Asked(http1::trailer),
    ),
    limit(
        "octets of trailers",
        "http1::Limits::head",
        32 << 10,
        ["200", "200", "431 CMGService_Head_Too_Large"],
        Asked(http1::trailer_octets),
    ),
    // HTTP/2.
    limit(
        "streams of a connection",
        "gateway::http2",
        100,
        ["200", "200", "REFUSED_STREAM"],
        Test(
            HERE_HTTP2,
            "the_101st_stream_of_a_connection_is_refused_and_has_a_place_when_one_ends",
        ),
    ),
    limit(
        "header list",
        "gateway::http2",
        32 << 10,
        ["200", "200", "431 CMGService_Head_Too_Large"],
        Test(HERE_HTTP2, "a_header_list_has_32_kib_and_no_more"),
    ),
    limit(
        "headers over HTTP/2",
        "gateway::http2_stream",
        64,
        ["200", "200", "431 CMGService_Too_Many_Fields"],
        Test(HERE_HTTP2, "a_head_over_http2_has_64_fields_and_no_more"),
    ),
    limit(
        "window of a stream",
        "gateway::http2",
        64 << 10,
        ["open", "open", "FLOW_CONTROL_ERROR"],
        Test(HERE_HTTP2, "a_stream_has_a_window_of_64_kib_and_a_connection_one_of_100_such"),
    ),
    limit(
        "window of a connection",
        "gateway::http2",
        100 * (64 << 10),
        ["open", "open", "FLOW_CONTROL_ERROR"],
        Test(HERE_HTTP2, "a_stream_has_a_window_of_64_kib_and_a_connection_one_of_100_such"),
    ),
    limit(
        "resets before an answer",
        "gateway::http2_rates",
        50,
        ["open", "open", "ENHANCE_YOUR_CALM"],
        Test(HTTP2, "the_51st_request_that_is_reset_before_its_answer_ends_the_connection"),
    ),
    limit(
        "resets in a second",
        "gateway::http2_rates",
        100,
        ["open", "open", "ENHANCE_YOUR_CALM"],
        Test(HERE_TIME, "a_connection_may_reset_100_requests_in_a_second_and_not_101"),
    ),
    limit(
        "PING in a second",
        "gateway::http2_rates",
        30,
        ["open", "open", "ENHANCE_YOUR_CALM"],
        Test(HTTP2, "a_client_that_pings_or_sets_too_often_is_told_to_calm_down"),
    ),
    limit(
        "SETTINGS in a second",
        "gateway::http2_rates",
        20,
        ["open", "open", "ENHANCE_YOUR_CALM"],
        Test(HTTP2, "a_client_that_pings_or_sets_too_often_is_told_to_calm_down"),
    ),
    limit(
        "seconds without a stream",
        "idle_seconds",
        60,
        ["open", "open", "NO_ERROR"],
        Test(
            HERE_TIME,
            "a_connection_of_http2_may_be_without_a_stream_until_60_s_and_is_ended_well_then",
        ),
    ),
    // Bodies.
    limit(
        "body, declared",
        "request_body_bytes_max",
        BODY,
        ["200", "200", "413 CMGService_Body_Too_Large"],
        Asked(http1::declared_body),
    ),
    limit(
        "body, in chunks",
        "request_body_bytes_max",
        BODY,
        ["200", "200", "413 CMGService_Body_Too_Large"],
        Asked(http1::chunked_body),
    ),
    limit(
        "body over HTTP/2",
        "request_body_bytes_max",
        BODY,
        ["200", "200", "413"],
        Test(ROLES, "a_body_beyond_its_limit_is_413_declared_or_not"),
    ),
    limit(
        "octets of a body in a second",
        "body_octets_per_second_min",
        240,
        ["408", "200", "200"],
        Test(HERE_TIME, "a_body_of_240_octets_a_second_is_taken_for_ever_and_one_of_239_is_not"),
    ),
    limit(
        "seconds without any of a body",
        "body_stall_seconds",
        30,
        ["200", "200", "408"],
        Test(HERE_TIME, "a_body_may_stand_still_until_30_s_and_is_408_then"),
    ),
    limit(
        "KiB of an answer taken in 30 s",
        "gateway::patient",
        16,
        ["cut", "open", "open"],
        Test(
            HERE_TIME,
            "of_an_answer_16_kib_must_be_taken_in_30_s_and_one_octet_less_is_not_enough",
        ),
    ),
    limit(
        "seconds without any of an answer taken",
        "answer_stall_seconds",
        30,
        ["open", "open", "cut"],
        Test(HERE_TIME, "an_answer_may_be_left_lying_until_30_s_and_is_cut_then"),
    ),
    // Deadlines and queues.
    limit(
        "seconds to an answer",
        "answer_head_seconds",
        65,
        ["200", "200", "504"],
        Test(HERE_TIME, "an_answer_may_come_until_65_s_after_its_request_and_is_504_then"),
    ),
    limit(
        "seconds for a stream of a link",
        "link_credit_seconds",
        5,
        ["200", "200", "503"],
        Test(HERE_TIME, "a_request_waits_for_a_stream_until_5_s_and_is_503_then"),
    ),
    limit(
        "milliseconds for one in a line that stands",
        "overload_wait_milliseconds",
        50,
        ["200", "503", "503"],
        Test(
            "tests/tests/roles_overload.rs",
            "under_overload_a_stream_that_is_free_before_the_bound_is_taken_and_none_after_it",
        ),
    ),
    limit(
        "requests that wait for a stream",
        "link::OPENERS_WAITING_MAX",
        4096,
        ["waits", "waits", "503 CMGService_Overloaded"],
        Test(
            "tests/tests/limits/queue.rs",
            "with_every_place_of_the_queue_taken_a_request_is_answered_503_before_any_that_waits",
        ),
    ),
];

/// What the table has of one limit.
fn points_of(of: &str) -> Points {
    LIMITS.iter().find(|row| row.of == of).unwrap().points
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for row in &LIMITS {
        assert!(!row.setting.is_empty(), "{}", row.of);
        let Test(file, name) = row.proof else { continue };
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(&format!("fn {name}(")), "{}: no `{name}` in {file}", row.of);
    }
}

/// The values of the design where a test has a smaller one.
const DESIGN: [(&str, usize); 4] = [
    ("connections", 20_000),
    ("handshakes of clients", 512),
    ("handshakes of links", 512),
    ("links of an address that wait for a handshake", 512),
];

/// What a setting of [`GatewayLimits`], or a limit that other rooms tell, has by default, in the
/// unit of its row.
fn default_of(row: &Limit) -> Option<usize> {
    let (gateway, http1) = (GatewayLimits::default(), relay_core::http1::Limits::default());
    let seconds = |time: Duration| {
        assert_eq!(time.subsec_nanos(), 0, "{}", row.of);
        usize::try_from(time.as_secs()).unwrap()
    };
    Some(match row.setting {
        "client_connections_max" => gateway.client_connections_max,
        "connections_per_address_max" if row.of == "handshakes of an address" => {
            gateway.connections_per_address_max / 6
        }
        "connections_per_address_max" => gateway.connections_per_address_max,
        "client_handshakes_max" => gateway.client_handshakes_max,
        "link_handshakes_max" if row.of == "handshakes of links of an address" => {
            gateway.link_handshakes_max / 16
        }
        "link_handshakes_max" => gateway.link_handshakes_max,
        "GatewayLimits::client_hello" => seconds(gateway.client_hello),
        "tls_handshake_seconds" => seconds(gateway.tls_handshake),
        "request_head_seconds" => seconds(gateway.request_head),
        "idle_seconds" => seconds(gateway.idle),
        "answer_head_seconds" => seconds(gateway.answer_head),
        "body_stall_seconds" => seconds(gateway.body_stall),
        "body_octets_per_second_min" => gateway.body_rate_min as usize,
        "body_grace_seconds" => seconds(gateway.body_grace),
        "answer_stall_seconds" => seconds(gateway.answer_stall),
        "link_credit_seconds" => seconds(gateway.link_credit),
        "http1::Limits::first_line" => http1.first_line,
        "http1::Limits::field" => http1.field,
        "http1::Limits::head" => http1.head,
        "http1::Limits::fields" => http1.fields,
        "http1::Limits::extensions" => http1.extensions,
        "link::OPENERS_WAITING_MAX" => OPENERS_WAITING_MAX,
        _ => return None,
    })
}

#[test]
fn each_value_of_the_table_is_the_one_that_is_in_force_by_default() {
    let mut compared = 0;
    for row in &LIMITS {
        let Some(default) = default_of(row) else {
            let is_told = row.setting.ends_with("_max") || row.setting.ends_with("_seconds");
            let is_endpoints = row.setting == "request_body_bytes_max";
            assert!(!is_told || is_endpoints, "{}: compared with nothing", row.of);
            continue;
        };
        let design = DESIGN.iter().find(|(of, _)| *of == row.of).map_or(row.value, |it| it.1);
        assert_eq!(default, design, "{}", row.of);
        compared += 1;
    }
    assert!(compared > LIMITS.len() / 2, "{compared}");
}
