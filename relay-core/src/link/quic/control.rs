//! The control stream: hello, the two words of a drain, and what is asked and told of streams that
//! were reset.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, BytesMut};
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::mux::{Hello, LinkError, PREFACE_LEN, Preface, Side};

/// The sender takes no new streams, and asks how many the peer has opened.
const DRAIN: [u8; 4] = [0x10, 0, 0, 0];

/// The sender opens no more streams; eight octets say how many it has opened.
const LAST: [u8; 4] = [0x11, 0, 0, 8];

/// Asks to be told when the acceptor has let go of an exchange of the sender's; eight octets say of
/// which, counted from 1.
const ASK: [u8; 4] = [0x12, 0, 0, 8];

/// The sender has let go of the receiver's exchange of this number.
const RELEASED: [u8; 4] = [0x13, 0, 0, 8];

/// Octets that may wait to be said. Each stream is asked about once: of 16,384 there are 192 KiB of
/// questions or answers.
const OUTPUT_MAX: usize = 256 << 10;

/// Octets read at once.
const PORTION: usize = 512;

/// What the peer says on its control stream.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Word {
    /// Its hello; the first word.
    Hello(Box<Hello>),
    /// It takes no new streams.
    Drain,
    /// It opens no more streams than this.
    Last(u64),
    /// It asks to be told when this exchange of its own has been let go of.
    Ask(u64),
    /// It has let go of this exchange of the listener's.
    Released(u64),
}

/// Takes what the peer says apart, whatever the portions in which it comes.
#[derive(Debug)]
pub(super) struct Listener {
    side: Side,
    input: BytesMut,
    preface: Option<Preface>,
    heard_hello: bool,
}

impl Listener {
    pub(super) fn new(side: Side) -> Self {
        Self { side, input: BytesMut::new(), preface: None, heard_hello: false }
    }

    /// The next word, once it is there whole.
    pub(super) fn next(&mut self) -> Result<Option<Word>, LinkError> {
        if self.heard_hello {
            return self.next_behind_hello();
        }
        if self.preface.is_none()
            && let Some((raw, _)) = self.input.split_first_chunk::<PREFACE_LEN>()
        {
            self.preface = Some(Preface::decode(raw, self.side)?);
            self.input.advance(PREFACE_LEN);
        }
        let Some(preface) = self.preface else { return Ok(None) };
        let len = usize::try_from(preface.hello_len).unwrap_or(usize::MAX);
        if self.input.len() < len {
            return Ok(None);
        }
        let hello = Hello::decode(&self.input.split_to(len))?;
        self.heard_hello = true;
        Ok(Some(Word::Hello(Box::new(hello))))
    }

    fn next_behind_hello(&mut self) -> Result<Option<Word>, LinkError> {
        let Some((header, rest)) = self.input.split_first_chunk::<4>() else { return Ok(None) };
        match *header {
            DRAIN => {
                self.input.advance(DRAIN.len());
                Ok(Some(Word::Drain))
            }
            LAST | ASK | RELEASED => {
                let Some((number, _)) = rest.split_first_chunk::<8>() else { return Ok(None) };
                let number = u64::from_be_bytes(*number);
                let word = match *header {
                    LAST => Word::Last(number),
                    ASK => Word::Ask(number),
                    _ => Word::Released(number),
                };
                self.input.advance(header.len() + 8);
                Ok(Some(word))
            }
            _ => Err(LinkError::Control { what: "an unknown word" }),
        }
    }
}

/// Both halves of the control stream.
#[derive(Debug)]
pub(super) struct Control {
    send: SendStream,
    recv: RecvStream,
    output: BytesMut,
    listener: Listener,
}

impl Control {
    pub(super) fn new(side: Side, hello: &Hello, (send, recv): (SendStream, RecvStream)) -> Self {
        let output = hello.encode(side).as_slice().into();
        Self { send, recv, output, listener: Listener::new(side) }
    }

    pub(super) fn say_drain(&mut self) {
        self.output.extend_from_slice(&DRAIN);
    }

    pub(super) fn say_last(&mut self, opened: u64) {
        self.say(LAST, opened);
    }

    /// # Errors
    ///
    /// [`LinkError::Control`] if the peer does not listen.
    pub(super) fn ask(&mut self, exchange: u64) -> Result<(), LinkError> {
        if !has_room(self.output.len()) {
            return Err(LinkError::Control { what: "it hears no questions" });
        }
        self.say(ASK, exchange);
        Ok(())
    }

    /// # Errors
    ///
    /// [`LinkError::Control`] if the peer asks and does not listen.
    pub(super) fn say_released(&mut self, exchange: u64) -> Result<(), LinkError> {
        if !has_room(self.output.len()) {
            return Err(LinkError::Control { what: "more questions than it hears answers to" });
        }
        self.say(RELEASED, exchange);
        Ok(())
    }

    fn say(&mut self, word: [u8; 4], number: u64) {
        self.output.extend_from_slice(&word);
        self.output.extend_from_slice(&number.to_be_bytes());
    }

    /// Writes what is to be said. A failure is the connection's, which tells of it itself.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) {
        while !self.output.is_empty() {
            let Poll::Ready(Ok(written)) =
                AsyncWrite::poll_write(Pin::new(&mut self.send), cx, &self.output)
            else {
                return;
            };
            self.output.advance(written);
        }
    }

    /// The peer's next word.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the link must be closed.
    pub(super) fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<Result<Word, LinkError>> {
        loop {
            if let Some(word) = self.listener.next()? {
                return Poll::Ready(Ok(word));
            }
            let mut portion = [0; PORTION];
            let mut portion = ReadBuf::new(&mut portion);
            match AsyncRead::poll_read(Pin::new(&mut self.recv), cx, &mut portion) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !portion.filled().is_empty() => {
                    self.listener.input.extend_from_slice(portion.filled());
                }
                // Where the connection has ended, that is the reason, and comes before.
                Poll::Ready(_) => {
                    return Poll::Ready(Err(LinkError::Control { what: "it has ended" }));
                }
            }
        }
    }
}

/// Whether another question or answer may wait behind so many octets.
fn has_room(octets: usize) -> bool {
    octets < OUTPUT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::{Config, HelloError};

    // [QUIC-25] +-
    #[test]
    fn questions_and_answers_wait_up_to_256_kib() {
        assert_eq!(
            [OUTPUT_MAX - 1, OUTPUT_MAX, OUTPUT_MAX + 1].map(has_room),
            [true, false, false]
        );
    }

    /// What a dialer understands of `octets` in portions of `portion`.
    fn hear(octets: &[u8], portion: usize) -> Result<Vec<Word>, LinkError> {
        let mut listener = Listener::new(Side::Dialer);
        let mut words = Vec::new();
        for part in octets.chunks(portion) {
            listener.input.extend_from_slice(part);
            while let Some(word) = listener.next()? {
                words.push(word);
            }
        }
        Ok(words)
    }

    // [QUIC-05] + [QUIC-18] + [QUIC-24] +
    #[test]
    fn hello_and_each_word_behind_it_are_heard_in_whatever_portions_they_come() {
        let hello = Hello::of(&Config::default());
        let mut octets = hello.encode(Side::Listener);
        octets.extend([DRAIN, LAST].concat());
        octets.extend(77u64.to_be_bytes());
        for (word, number) in [(ASK, 5u64), (RELEASED, u64::MAX)] {
            octets.extend(word);
            octets.extend(number.to_be_bytes());
        }
        for portion in [1, 3, octets.len()] {
            let words = hear(&octets, portion).unwrap();
            let hello = Word::Hello(Box::new(hello.clone()));
            let [drain, last, ask] = [Word::Drain, Word::Last(77), Word::Ask(5)];
            assert_eq!(words, [hello, drain, last, ask, Word::Released(u64::MAX)]);
        }
    }

    // [QUIC-05] - [QUIC-07] -
    #[test]
    fn anything_else_is_refused() {
        let hello = Hello::of(&Config::default());
        let own_role = hear(&hello.encode(Side::Dialer), 9).unwrap_err();
        assert_eq!(own_role, LinkError::Hello(HelloError::Role { role: 0 }));
        let garbage = hear(b"GET / HTTP/1.1\r\n\r\n", 4).unwrap_err();
        assert_eq!(garbage, LinkError::Hello(HelloError::BadMagic));
        for word in [
            [0x10, 0, 0, 1],
            [0x11, 0, 0, 9],
            [0x12, 0, 0, 0],
            [0x13, 0, 1, 8],
            [0x14, 0, 0, 8],
            [0; 4],
        ] {
            let octets = [&hello.encode(Side::Listener)[..], &word].concat();
            assert!(matches!(hear(&octets, 5), Err(LinkError::Control { .. })), "{word:?}");
        }
    }
}
