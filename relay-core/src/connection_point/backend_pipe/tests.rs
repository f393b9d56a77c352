use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: mp\r\n\r\n";

const LONG: Duration = Duration::from_secs(62);

fn pair() -> (BackendPipe<DuplexStream>, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    (BackendPipe::new(near, LONG), far)
}

/// Asks by `request`, is answered `answer` in pieces, and reads what passes to the end.
async fn read_answer(request: &[u8], answer: &[u8], piece: usize) -> (Vec<u8>, io::Result<()>) {
    let (mut pipe, mut far) = pair();
    pipe.write_all(request).await.unwrap();
    pipe.flush().await.unwrap();
    let answer = answer.to_vec();
    let site = async {
        for piece in answer.chunks(piece) {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(far);
    };
    let mut passed = Vec::new();
    let reading = async {
        let mut buffer = [0; 7];
        loop {
            match pipe.read(&mut buffer).await? {
                0 => return Ok(()),
                count => passed.extend_from_slice(&buffer[..count]),
            }
        }
    };
    let ((), outcome) = tokio::join!(site, reading);
    (passed, outcome)
}

fn why(error: &io::Error) -> Option<Misread> {
    Misread::of(error)
}

#[tokio::test]
async fn answers_with_one_reading_pass_octet_for_octet_however_they_come() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..],
        b"HTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n\
          3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nX: \xff\t1\r\n\r\nto the end\n\0",
    ] {
        for piece in 1..=answer.len() {
            let (passed, outcome) = read_answer(GET, answer, piece).await;
            outcome.unwrap();
            assert_eq!(passed, answer, "{piece}");
        }
    }
}

#[tokio::test]
async fn an_answer_with_two_readings_never_passes() {
    for (answer, fault) in [
        (&b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"[..], Fault::BareLf),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n", Fault::Folded),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", Fault::Length),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Fault::LengthAndCoding,
        ),
        (b"HTTP/1.1 101 Switching\r\n\r\n", Fault::Switch),
        (b"SSH-2.0-x\r\n\r\n", Fault::Version),
    ] {
        for piece in [1, 5, answer.len()] {
            let (passed, outcome) = read_answer(GET, answer, piece).await;
            assert_eq!(why(&outcome.unwrap_err()), Some(Misread::Answer(fault)));
            assert_eq!(passed, b"");
        }
    }
}

#[tokio::test]
async fn a_body_whose_end_nobody_can_tell_is_an_error_and_no_end() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n";
    for piece in [1, 8, answer.len()] {
        let (_, outcome) = read_answer(GET, answer, piece).await;
        assert_eq!(why(&outcome.unwrap_err()), Some(Misread::Answer(Fault::ChunkEnd)));
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_and_more_is_an_answer_that_nobody_asked() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    let (passed, outcome) = read_answer(b"HEAD /x HTTP/1.1\r\nHost: mp\r\n\r\n", answer, 99).await;
    assert_eq!(passed, answer[..answer.len() - 3]);
    assert_eq!(why(&outcome.unwrap_err()), Some(Misread::Unasked));
}

#[tokio::test]
async fn the_first_octet_before_anybody_asks_ends_the_connection() {
    let (mut pipe, mut far) = pair();
    far.write_all(b"H").await.unwrap();
    let error = pipe.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(why(&error), Some(Misread::Unasked));
}

#[tokio::test]
async fn a_second_answer_to_one_request_never_passes() {
    let one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    let two = [&one[..], one].concat();
    for piece in [1, one.len() + 1, two.len()] {
        let (passed, outcome) = read_answer(GET, &two, piece).await;
        assert_eq!(passed, one, "{piece}");
        assert_eq!(why(&outcome.unwrap_err()), Some(Misread::Unasked));
    }
}

#[tokio::test]
async fn a_request_without_one_reading_is_not_written() {
    for (request, fault) in [
        (&b"GET /a b HTTP/1.1\r\nHost: mp\r\n\r\n"[..], Fault::Version),
        (b"GET /\xff HTTP/1.1\r\nHost: mp\r\n\r\n", Fault::Target),
        (b"GET /x HTTP/1.1\r\nHost: mp\r\nExpect: more\r\n\r\n", Fault::Expectation),
    ] {
        let (mut pipe, mut far) = pair();
        let error = pipe.write_all(request).await.unwrap_err();
        assert_eq!(why(&error), Some(Misread::Request(fault)));
        drop(pipe);
        assert_eq!(far.read(&mut [0; 64]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn the_list_of_names_is_obeyed_and_goes_no_further_wherever_it_stands() {
    let fields = ["X-A: 1\r\n", "dav:\t 2\r\n", "Relay-Names: X-a,host\r\n"];
    for turn in 0..3 {
        let (mut pipe, mut far) = pair();
        let all = [fields[turn], fields[(turn + 1) % 3], fields[(turn + 2) % 3]].concat();
        let request = format!("GET / HTTP/1.1\r\nHost: mp\r\n{all}\r\n");
        pipe.write_all(request.as_bytes()).await.unwrap();
        pipe.shutdown().await.unwrap();
        let mut written = String::new();
        far.read_to_string(&mut written).await.unwrap();
        let expected = request.replace("X-A", "X-a").replace("Host", "host").replace("dav", "DAV");
        assert_eq!(written, expected.replace(fields[2], ""));
    }
}

/// Takes as many octets at once as it is told, and keeps how many came in each write.
#[derive(Clone, Debug)]
struct Narrow {
    width: usize,
    octets: Arc<Mutex<Vec<u8>>>,
    writes: Arc<Mutex<Vec<usize>>>,
}

impl Narrow {
    fn new(width: usize) -> Self {
        Self { width, octets: Arc::default(), writes: Arc::default() }
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = all.len().min(self.width);
        self.octets.lock().unwrap().extend_from_slice(&all[..taken]);
        self.writes.lock().unwrap().push(taken);
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn write_slices(pipe: &mut BackendPipe<Narrow>, slices: &[&[u8]]) {
    let mut left: Vec<&[u8]> = slices.to_vec();
    while let Some(first) = left.first() {
        if first.is_empty() {
            left.remove(0);
            continue;
        }
        let io_slices: Vec<_> = left.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut count = pipe.write_vectored(&io_slices).await.unwrap();
        assert_ne!(count, 0);
        for slice in &mut left {
            let taken = count.min(slice.len());
            *slice = &slice[taken..];
            count -= taken;
        }
    }
    pipe.flush().await.unwrap();
}

#[tokio::test]
async fn a_head_and_the_beginning_of_its_body_are_one_write() {
    let narrow = Narrow::new(usize::MAX);
    let mut pipe = BackendPipe::new(narrow.clone(), LONG);
    let head = b"POST /x HTTP/1.1\r\nHost: mp\r\nContent-Length: 6\r\n\r\n";
    write_slices(&mut pipe, &[head, b"abc", b"def"]).await;
    write_slices(&mut pipe, &[GET]).await;
    assert_eq!(*narrow.writes.lock().unwrap(), [head.len() + 6, GET.len()]);
}

proptest! {
    #[test]
    fn requests_are_written_octet_for_octet_however_little_the_pipe_takes(
        width in 1..200_usize,
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
        chunked in any::<bool>(),
        cut in 1..300_usize,
    ) {
        let mut all = Vec::new();
        for body in &bodies {
            let octets = body.len();
            let (head, body) = if chunked {
                let head = "Transfer-Encoding: chunked".to_owned();
                let size = format!("{octets:x}\r\n").into_bytes();
                let chunk = [&size[..], body, b"\r\n"].concat();
                let chunk = if octets == 0 { &[] } else { &chunk[..] };
                (head, [chunk, b"0\r\n\r\n"].concat())
            } else {
                (format!("Content-Length: {octets}"), body.clone())
            };
            let head = format!("POST /x HTTP/1.1\r\nHost: mp\r\n{head}\r\n\r\n").into_bytes();
            all.push((head, body));
        }
        let narrow = Narrow::new(width);
        let mut pipe = BackendPipe::new(narrow.clone(), LONG);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut expected = Vec::new();
        for (head, body) in &all {
            expected.extend([&head[..], body].concat());
            let pieces = body.chunks(cut);
            let slices: Vec<&[u8]> = std::iter::once(&head[..]).chain(pieces).collect();
            runtime.block_on(write_slices(&mut pipe, &slices));
        }
        prop_assert_eq!(&*narrow.octets.lock().unwrap(), &expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_role_that_takes_nothing_is_given_up_in_time() {
    let (near, _far) = tokio::io::duplex(16);
    let mut pipe = BackendPipe::new(near, LONG);
    let before = tokio::time::Instant::now();
    let head = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    let written = async {
        pipe.write_all(head).await?;
        pipe.flush().await
    };
    assert_eq!(written.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(before.elapsed(), LONG);
}
