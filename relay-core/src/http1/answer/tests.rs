use super::*;

/// Follows answers to requests, of which each is HEAD or not. Returns how many octets of heads and
/// of bodies passed.
fn follow(octets: &[u8], asked: &[bool], piece: usize) -> Result<(usize, usize), Fault> {
    let mut guard = AnswerGuard::new(Limits::default());
    for is_head in asked {
        guard.note_asked(*is_head);
    }
    let (mut heads, mut bodies) = (0, 0);
    let mut kept: Vec<u8> = Vec::new();
    for piece in octets.chunks(piece) {
        kept.extend_from_slice(piece);
        while !kept.is_empty() {
            let taken = if guard.awaits_head() {
                let Some(head) = guard.head(&kept)? else { break };
                heads += head;
                head
            } else {
                let taken = guard.body(&kept)?;
                bodies += taken;
                taken
            };
            kept.drain(..taken);
        }
    }
    Ok((heads, bodies))
}

#[test]
fn each_answer_ends_where_its_request_and_its_head_say() {
    let asked = [false, true, false, false, false];
    let answers = [
        ("HTTP/1.1 100 Continue\r\n\r\n", ""),
        ("HTTP/1.1 103 \r\nLink: x\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hello"),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ("HTTP/1.1 207 M\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\nX: y\r\n\r\n"),
        ("HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nto the end"),
    ];
    let octets = answers.map(|(head, body)| [head, body].concat()).concat();
    let sum = |of: fn(&(&str, &str)) -> usize| answers.iter().map(of).sum::<usize>();
    let expected = (sum(|it| it.0.len()), sum(|it| it.1.len()));
    for piece in [octets.len(), 1, 7] {
        assert_eq!(follow(octets.as_bytes(), &asked, piece), Ok(expected));
    }
}

#[test]
fn an_answer_that_two_parsers_could_read_differently_is_refused() {
    for (octets, expected) in [
        ("HTTP/1.1 200 OK\nX: y\r\n\r\n", Fault::BareLf),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", Fault::Folded),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Fault::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", Fault::Length),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Fault::LengthAndCoding,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Fault::Coding),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::CodingInHttp10),
        ("HTTP/2 200 OK\r\n\r\n", Fault::Version),
        ("220 mail.example ESMTP\r\n\r\n", Fault::Version),
        ("HTTP/1.1  200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 20 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 2000\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 099\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1\r\n\r\n", Fault::StatusLine),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Fault::StatusLine),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Fault::Switch),
    ] {
        for piece in [octets.len(), 1] {
            let outcome = follow(octets.as_bytes(), &[false], piece);
            assert_eq!(outcome, Err(expected), "{octets:?}");
        }
    }
}

#[test]
fn interim_answers_are_limited_for_each_request() {
    let interim = |count| "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count);
    let last = "HTTP/1.1 204 No Content\r\n\r\n";
    let twice = format!("{}{last}{}{last}", interim(16), interim(16));
    assert!(follow(twice.as_bytes(), &[false, false], 64).is_ok());
    let too_many = follow(interim(17).as_bytes(), &[false], 64);
    assert_eq!(too_many, Err(Fault::TooManyInterim(16)));
}
