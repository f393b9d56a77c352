//! What goes through the handles of a link over QUIC, against a plan of plain vectors.
//!
//! The reference model of `mux_model.rs` drives two engines octet by octet, and over QUIC there is
//! none: its fourth carrier is this instead. Each case is a set of exchanges that run at once, each
//! of which writes and ends as it is planned to; whatever arrives must be the front of what was
//! written, whole if its writer finished, and end as the writer ended.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use relay_core::link::{End, Incoming, Link, RecvError, RecvStream, SendStream};
use relay_core::mux::{HeadKind, StreamCode};
use relay_tests::quic::{Pair, config};
use relay_tests::roles::{until, within};
use tokio::task::JoinSet;

/// The code of planned resets.
const CODE: StreamCode = StreamCode(0x4321);

/// How a writer ends its half.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Finish,
    Trailers,
    Reset,
    Drop,
}

/// One half: the chunks that are written, and the end.
#[derive(Clone, Debug)]
struct Half {
    chunks: Vec<usize>,
    ending: Ending,
}

impl Half {
    fn octets(&self, number: usize) -> Bytes {
        let len = self.chunks.iter().sum();
        (number..).map(|n| n.to_le_bytes()[0].wrapping_mul(31)).take(len).collect()
    }

    fn breaks(&self) -> bool {
        matches!(self.ending, Ending::Reset | Ending::Drop)
    }

    /// Writes as planned. What fails is seen by the reader.
    async fn write(&self, number: usize, mut send: SendStream) {
        let mut rest = self.octets(number);
        for len in &self.chunks {
            if send.write_chunk(rest.split_to(*len)).await.is_err() {
                return;
            }
        }
        let _ = match self.ending {
            Ending::Finish => send.finish(),
            Ending::Trailers => send.finish_with_trailers(trailers(number)),
            Ending::Reset => {
                send.reset(CODE);
                Ok(())
            }
            Ending::Drop => Ok(()),
        };
    }

    /// Reads to the end and judges it. `other` is the half that goes the other way: a reset of it
    /// cuts this one too.
    async fn read(&self, number: usize, recv: &mut RecvStream, other: &Self) {
        let expected = self.octets(number);
        let mut read = Vec::new();
        let end = loop {
            match recv.read_chunk().await {
                Ok(Some(chunk)) => read.extend_from_slice(&chunk),
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            }
        };
        assert!(expected.starts_with(&read), "{} octets that were never written", read.len());
        match end {
            Ok(()) => {
                assert!(!self.breaks(), "a half that was cut looks complete");
                assert_eq!(read.len(), expected.len(), "some are missing");
                let has_trailers = self.ending == Ending::Trailers;
                assert_eq!(recv.take_trailers(), has_trailers.then(|| trailers(number)));
            }
            Err(RecvError::Reset(code)) => {
                assert!(self.breaks() || other.breaks(), "nobody has reset it");
                let planned = [self, other].map(|half| match half.ending {
                    Ending::Reset => Some(CODE),
                    Ending::Drop => Some(StreamCode::DROPPED),
                    Ending::Finish | Ending::Trailers => None,
                });
                assert!(planned.contains(&Some(code)), "{code} was not planned");
            }
            Err(why) => panic!("{why}"),
        }
    }
}

fn trailers(number: usize) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

/// One exchange: which side opens it, and its two halves.
#[derive(Clone, Debug)]
struct Exchange {
    by_gateway: bool,
    asked: Half,
    answered: Half,
}

fn half() -> impl Strategy<Value = Half> {
    let len = prop_oneof![6 => 1usize..300, 3 => 300usize..20_000, 1 => 20_000usize..100_000];
    let ending = prop_oneof![
        6 => Just(Ending::Finish),
        3 => Just(Ending::Trailers),
        1 => Just(Ending::Reset),
        1 => Just(Ending::Drop),
    ];
    (vec(len, 0..8), ending).prop_map(|(chunks, ending)| Half { chunks, ending })
}

fn exchanges() -> impl Strategy<Value = Vec<Exchange>> {
    let exchange = (any::<bool>(), half(), half());
    let exchange =
        exchange.prop_map(|(by_gateway, asked, answered)| Exchange { by_gateway, asked, answered });
    vec(exchange, 1..16)
}

/// Opens an exchange; its number is its head.
async fn ask(link: Link, number: usize, plan: Exchange) {
    let head = number.to_be_bytes().to_vec();
    let (send, mut recv) = link.open(head.into(), End::More).await.unwrap();
    let read = async {
        match recv.head().await {
            Ok(head) => {
                assert_eq!(head.block, trailers(number));
                plan.answered.read(number, &mut recv, &plan.asked).await;
            }
            Err(RecvError::Reset(_)) => {
                assert!(plan.asked.breaks() || plan.answered.breaks(), "nobody has reset it");
            }
            Err(why) => panic!("{why}"),
        }
    };
    tokio::join!(plan.asked.write(number, send), read);
}

async fn answer(incoming: Incoming, plans: Vec<Exchange>) {
    let Incoming { head, mut send, mut recv, .. } = incoming;
    let number = usize::from_be_bytes(head[..].try_into().unwrap());
    let plan = &plans[number];
    let _ = send.send_head(trailers(number), HeadKind::Final);
    let read = plan.asked.read(number, &mut recv, &plan.answered);
    tokio::join!(plan.answered.write(number, send), read);
}

/// Answers what the other side opens until the link has ended.
async fn serve(link: Link, plans: Vec<Exchange>) {
    let mut answers = JoinSet::new();
    while let Ok(incoming) = link.accept().await {
        answers.spawn(answer(incoming, plans.clone()));
    }
    while let Some(answered) = answers.join_next().await {
        answered.unwrap();
    }
}

async fn carry_out(plans: Vec<Exchange>) {
    // Fewer places than exchanges: some wait for one.
    let pair = Pair::with(config(5), config(5)).await;
    let mut serving = JoinSet::new();
    serving.spawn(serve(pair.gateway.clone(), plans.clone()));
    serving.spawn(serve(pair.site.clone(), plans.clone()));
    let mut asking = JoinSet::new();
    for (number, plan) in plans.into_iter().enumerate() {
        let link = if plan.by_gateway { &pair.gateway } else { &pair.site };
        asking.spawn(ask(link.clone(), number, plan));
    }
    while let Some(asked) = asking.join_next().await {
        asked.unwrap();
    }
    for link in [&pair.gateway, &pair.site] {
        until(|| link.stats().mux.streams_open == 0).await;
        assert!(link.is_open(), "no exchange ends the link");
    }
    pair.end().await;
    while let Some(served) = serving.join_next().await {
        served.unwrap();
    }
}

#[test]
fn what_arrives_is_the_front_of_what_was_written_and_ends_as_it_did() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings =
        ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(settings).run(&exchanges(), |plans| {
        runtime.block_on(within(carry_out(plans)));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
