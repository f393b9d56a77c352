//! What reaches the pipe: in how many writes, when, and what is kept of what came from it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::*;
use allocation_counter::measure;
use relay_core::link::End;
use relay_core::mux::HeadKind;
use tokio::io::{BufWriter, ReadBuf};

/// What each write carried.
type Writes = Arc<Mutex<Vec<Vec<u8>>>>;

/// One end of a pipe that never takes a part of a write, and remembers each.
struct Noted {
    pipe: DuplexStream,
    writes: Writes,
}

impl AsyncRead for Noted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.pipe).poll_write_vectored(cx, slices);
        let Poll::Ready(Ok(written)) = outcome else { return outcome };
        let octets: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        assert_eq!(written, octets.len(), "the pipe is wide enough");
        self.writes.lock().unwrap().push(octets);
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Several muxes: two writes per frame, header and payload, or one write for each DATA.
///
/// Our rule: one vectored write per batch. Sixteen streams make a head, a payload too long to be
/// copied, and an end ready before the driver has its turn; all of it leaves in one call.
#[tokio::test(start_paused = true)]
async fn frames_of_many_streams_leave_in_one_write() {
    let writes = Writes::default();
    let (near, far) = tokio::io::duplex(1 << 20);
    let noted = |pipe, writes: &Writes| Noted { pipe, writes: Arc::clone(writes) };
    let ends = (noted(near, &writes), noted(far, &Writes::default()));
    let linked = linked(ends, Config::default(), Config::default()).await;
    turns_until(|| linked.gateway.stats().round_trip.is_some()).await;
    writes.lock().unwrap().clear();

    let mut streams = Vec::new();
    for _ in 0..16 {
        let (mut send, recv) = linked.gateway.try_open(HEAD, End::More).unwrap().unwrap();
        send.write_now(Bytes::from(vec![7; 2000])).unwrap();
        send.finish().unwrap();
        streams.push((send, recv));
    }
    for _ in 0..16 {
        let mut incoming = at_once(linked.site.accept()).await.unwrap();
        assert_eq!(at_once(read_whole(&mut incoming.recv)).await, 2000);
    }
    let writes = writes.lock().unwrap();
    let carried = frames(&writes[0]);
    let octets: usize = carried.iter().map(|frame| frame.payload.len()).sum();
    assert_eq!(octets, 16 * (HEAD.len() + 2000), "in the first write");
    assert_eq!(carried.len(), 32, "a HEAD and a DATA each, with its END folded in");
}

/// Several muxes: stalls of 40 ms, where a small frame waits for what is not needed; and lost
/// flushes, so that it waits for ever.
///
/// Our rule, the flush guarantee: a frame made ready is on its way before the driver sleeps. The
/// pipe here keeps everything to itself until it is flushed, and a flush takes many steps.
#[tokio::test(start_paused = true)]
async fn exchanges_through_a_buffer_wait_for_no_timer() {
    let (near, far) = tokio::io::duplex(NARROW);
    let buffered = |pipe| BufWriter::with_capacity(1 << 20, pipe);
    let ends = (buffered(near), buffered(far));
    let linked = linked(ends, Config::default(), Config::default()).await;
    let begun = tokio::time::Instant::now();
    for octets in [1, 300, 1024, 20_000].repeat(25) {
        let (mut send, mut answer) = at_once(linked.gateway.open(HEAD, End::More)).await.unwrap();
        let mut incoming = at_once(linked.site.accept()).await.unwrap();
        // One small piece at a time, each awaited: nothing else makes the driver write.
        send.write_now(Bytes::from(vec![1; octets])).unwrap();
        let mut left = octets;
        while left > 0 {
            left -= at_once(incoming.recv.read_chunk()).await.unwrap().unwrap().len();
        }
        send.finish().unwrap();
        assert_eq!(at_once(incoming.recv.read_chunk()).await, Ok(None));
        incoming.send.send_head(HEAD, HeadKind::Final).unwrap();
        at_once(answer.head()).await.unwrap();
        write_whole(&mut incoming.send, octets).await;
        assert_eq!(at_once(read_whole(&mut answer)).await, octets);
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "no step waited for a timer");
}

/// Read buffers that are filled once over, at least.
const BUFFERS: usize = 64;

/// The head and the payload of a small stream out of each of many read buffers full of bulk.
async fn keep_a_little_of_every_buffer(linked: &Linked) -> Vec<Bytes> {
    let mut kept = Vec::new();
    let (mut busy, _answer) = linked.gateway.open(HEAD, End::More).await.unwrap();
    let mut reader = at_once(linked.site.accept()).await.unwrap();
    let bulk = Bytes::from(vec![7; 128 << 10]);
    for _ in 0..BUFFERS {
        let head = Bytes::from(vec![b'h'; 200]);
        let (mut small, _answer) = at_once(linked.gateway.open(head, End::More)).await.unwrap();
        busy.write_chunk(bulk.clone()).await.unwrap();
        small.write_chunk(Bytes::from(vec![b'p'; 1000])).await.unwrap();
        small.finish().unwrap();
        let mut incoming = at_once(linked.site.accept()).await.unwrap();
        let mut left = bulk.len();
        while left > 0 {
            left -= at_once(reader.recv.read_chunk()).await.unwrap().unwrap().len();
        }
        kept.push(incoming.head);
        while let Some(chunk) = at_once(incoming.recv.read_chunk()).await.unwrap() {
            kept.push(chunk);
        }
    }
    kept
}

/// Several muxes: a small slice of `Bytes` that a consumer keeps pins the big buffer it was read
/// into.
///
/// Our rule: small payloads are copied out. A head and a payload of each of many buffers are kept
/// here while the streams they came on are gone.
#[test]
fn kept_octets_do_not_keep_their_read_buffer() {
    let mut kept = Vec::new();
    let left = measure(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        kept = runtime.block_on(async {
            let wide = Config { stream_window: 256 << 10, ..few() };
            let linked = linked(tokio::io::duplex(1 << 20), wide.clone(), wide).await;
            keep_a_little_of_every_buffer(&linked).await
        });
    });
    let octets: usize = kept.iter().map(Bytes::len).sum();
    assert_eq!(octets, BUFFERS * 1200);
    let left = usize::try_from(left.bytes_current).unwrap();
    // The link has ended: nothing else is left but what the runtime keeps for its thread.
    assert!(left <= 2 * octets + (64 << 10), "{left} octets in use for {octets} that are kept");
}

fn few() -> Config {
    Config { accept_streams_max: 16, open_streams_max: 16, ..Config::default() }
}
