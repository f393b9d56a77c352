//! The two halves of a stream, each one state machine with one transition table.

use super::error::StreamCode;

/// The sending half of a stream, as its owner sees it.
///
/// ```text
///          Interim
///          +----+
///          |    v    Head               Finish              EndSent
///   ---> AwaitHead ------> Sending -------------> Finishing -------> Finished
///            |                |                      |
///            |  Reset/Stop    |  Reset/Stop          |  Reset/Stop
///            +----------------+------> Aborted <-----+
///                                      |     ^
///                                      +-----+  EndSent (stopped -> ended)
/// ```
///
/// The opener's half starts in `Sending`: its head travels with the opening. `Finish` in
/// `AwaitHead` is refused: an answer has a head. Every event not drawn is refused and leaves the
/// state as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SendHalf {
    /// No final head was queued yet.
    AwaitHead,
    /// Payload may be queued.
    Sending,
    /// The end is queued.
    Finishing,
    /// The end was handed to the pipe.
    Finished,
    /// Given up; the code says why.
    Aborted(Abort),
}

/// How a half was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Abort {
    /// The stream was reset, by either side.
    Reset(StreamCode),
    /// The peer asked for no more.
    Stopped(StreamCode),
    /// It did, and the end that it waits for was handed to the pipe.
    Ended(StreamCode),
}

/// What can happen to a sending half.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SendEvent {
    /// An interim head was queued.
    Interim,
    /// The head was queued.
    Head,
    /// The end was queued, with or after the last payload.
    Finish,
    /// The end was handed to the pipe.
    EndSent,
    /// Either side reset the stream.
    Reset(StreamCode),
    /// The peer wants no more.
    Stop(StreamCode),
}

/// An event that the half's state does not allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NotNow;

impl SendHalf {
    /// The state after `event`.
    pub(super) fn on(self, event: SendEvent) -> Result<Self, NotNow> {
        Ok(match (self, event) {
            (Self::AwaitHead, SendEvent::Interim) => Self::AwaitHead,
            (Self::AwaitHead, SendEvent::Head) => Self::Sending,
            (Self::Sending, SendEvent::Finish) => Self::Finishing,
            (Self::Finishing, SendEvent::EndSent) => Self::Finished,
            (Self::AwaitHead | Self::Sending | Self::Finishing, SendEvent::Reset(code)) => {
                Self::Aborted(Abort::Reset(code))
            }
            (Self::AwaitHead | Self::Sending | Self::Finishing, SendEvent::Stop(code)) => {
                Self::Aborted(Abort::Stopped(code))
            }
            (Self::Aborted(Abort::Stopped(code)), SendEvent::EndSent) => {
                Self::Aborted(Abort::Ended(code))
            }
            _ => return Err(NotNow),
        })
    }

    /// Whether the end was handed to the pipe.
    pub(super) fn has_said_end(self) -> bool {
        matches!(self, Self::Finished | Self::Aborted(Abort::Ended(_)))
    }

    /// Whether nothing more will be sent.
    pub(super) fn is_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Aborted(_))
    }
}

/// The receiving half of a stream, as its owner sees it.
///
/// ```text
///          Interim                Data
///          +----+                +----+
///          |    v     Head       |    v     End
///   ---> AwaitHead ----------> Receiving --------> Ended
///          |  |                  |  |                ^
///          |  | Stop             |  | Stop           |  End
///          |  +----> Stopping <--+--|----------------+-- (from Stopping)
///          |          | ^ Head/Interim/Data          |
///          |  Reset   | +-+                          |
///          +----------+-----> Reset <----------------+ (not from Ended)
///          |  Abandon |         ^ End/Reset
///          +----------+---> Abandoned <----+
///                               | ^ Head/Interim/Data
///                               +-+
/// ```
///
/// The acceptor's half starts in `Receiving`: the head came with the opening. In `Stopping` the
/// peer's frames are taken and thrown away until its end arrives; in `Abandoned`, until its end or
/// its RESET, the last word that says that the acceptor has let go. Every event not drawn is
/// refused and leaves the state as it was; from the peer it is a protocol error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RecvHalf {
    /// The final head has not arrived.
    AwaitHead,
    /// Payload may arrive.
    Receiving,
    /// We asked for no more; the peer's end has not arrived.
    Stopping,
    /// The end arrived.
    Ended,
    /// We have reset the stream that we opened; the acceptor's last word has not arrived.
    Abandoned,
    /// The stream was reset, by the peer or by us, its acceptor.
    Reset,
}

/// What can happen to a receiving half.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RecvEvent {
    /// An interim head arrived.
    Interim,
    /// The head arrived.
    Head,
    /// Payload arrived.
    Data,
    /// The end arrived, in the last DATA, in a head without body or as TRAILERS.
    End,
    /// We ask for no more.
    Stop,
    /// We, who opened the stream, have reset it.
    Abandon,
    /// The peer has reset the stream, or we have, its acceptor.
    Reset,
}

impl RecvHalf {
    /// The state after `event`.
    pub(super) fn on(self, event: RecvEvent) -> Result<Self, NotNow> {
        Ok(match (self, event) {
            (Self::AwaitHead, RecvEvent::Interim) => Self::AwaitHead,
            (Self::AwaitHead, RecvEvent::Head) | (Self::Receiving, RecvEvent::Data) => {
                Self::Receiving
            }
            (Self::Receiving | Self::Stopping, RecvEvent::End) => Self::Ended,
            (Self::AwaitHead | Self::Receiving, RecvEvent::Stop)
            | (Self::Stopping, RecvEvent::Interim | RecvEvent::Head | RecvEvent::Data) => {
                Self::Stopping
            }
            (Self::AwaitHead | Self::Receiving | Self::Stopping, RecvEvent::Abandon)
            | (Self::Abandoned, RecvEvent::Interim | RecvEvent::Head | RecvEvent::Data) => {
                Self::Abandoned
            }
            (Self::AwaitHead | Self::Receiving | Self::Stopping, RecvEvent::Reset)
            | (Self::Abandoned, RecvEvent::End | RecvEvent::Reset) => Self::Reset,
            _ => return Err(NotNow),
        })
    }

    /// Whether the peer will send nothing more on this half.
    pub(super) fn is_ended(self) -> bool {
        matches!(self, Self::Ended | Self::Reset)
    }

    /// Whether the stream was reset, by either side: what arrives is thrown away.
    pub(super) fn is_reset(self) -> bool {
        matches!(self, Self::Abandoned | Self::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: StreamCode = StreamCode(0x42);

    // [MUX-23] +-
    #[test]
    fn send_half_transitions_match_the_figure() {
        use SendEvent as E;
        use SendHalf as S;
        let states = [
            S::AwaitHead,
            S::Sending,
            S::Finishing,
            S::Finished,
            S::Aborted(Abort::Reset(CODE)),
            S::Aborted(Abort::Stopped(CODE)),
            S::Aborted(Abort::Ended(CODE)),
        ];
        let events = [E::Interim, E::Head, E::Finish, E::EndSent, E::Reset(CODE), E::Stop(CODE)];
        let (reset, stopped) = (S::Aborted(Abort::Reset(CODE)), S::Aborted(Abort::Stopped(CODE)));
        let ended = S::Aborted(Abort::Ended(CODE));
        let table: [[Option<S>; 6]; 7] = [
            [Some(S::AwaitHead), Some(S::Sending), None, None, Some(reset), Some(stopped)],
            [None, None, Some(S::Finishing), None, Some(reset), Some(stopped)],
            [None, None, None, Some(S::Finished), Some(reset), Some(stopped)],
            [None; 6],
            [None; 6],
            [None, None, None, Some(ended), None, None],
            [None; 6],
        ];
        for (state, row) in states.into_iter().zip(table) {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(state.on(event).ok(), expected, "{state:?} on {event:?}");
            }
        }
    }

    // [MUX-27] +-
    #[test]
    fn recv_half_transitions_match_the_figure() {
        use RecvEvent as E;
        use RecvHalf as R;
        let states = [R::AwaitHead, R::Receiving, R::Stopping, R::Ended, R::Abandoned, R::Reset];
        let events = [E::Interim, E::Head, E::Data, E::End, E::Stop, E::Abandon, E::Reset];
        let (awaits, receives) = (Some(R::AwaitHead), Some(R::Receiving));
        let (stops, ended) = (Some(R::Stopping), Some(R::Ended));
        let (abandoned, reset) = (Some(R::Abandoned), Some(R::Reset));
        let table: [[Option<R>; 7]; 6] = [
            [awaits, receives, None, None, stops, abandoned, reset],
            [None, None, receives, ended, stops, abandoned, reset],
            [stops, stops, stops, ended, None, abandoned, reset],
            [None; 7],
            [abandoned, abandoned, abandoned, reset, None, None, reset],
            [None; 7],
        ];
        for (state, row) in states.into_iter().zip(table) {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(state.on(event).ok(), expected, "{state:?} on {event:?}");
            }
        }
    }

    #[test]
    fn only_the_final_states_are_ended() {
        assert!(SendHalf::Finished.is_ended());
        assert!(SendHalf::Aborted(Abort::Reset(CODE)).is_ended());
        assert!(!SendHalf::Finishing.is_ended());
        assert!(RecvHalf::Ended.is_ended() && RecvHalf::Reset.is_ended());
        assert!(!RecvHalf::Stopping.is_ended() && !RecvHalf::Abandoned.is_ended());
        assert!(RecvHalf::Abandoned.is_reset() && !RecvHalf::Ended.is_reset());
    }
}
