//! Many streams over one ordered byte pipe, with credit.
//!
//! This room is the protocol of a link and nothing else: no socket, no clock, no task, no log. It
//! does not know what a stream carries; [`exchange`](crate::exchange) does. `PROTOCOL.md` beside
//! this file is the normative text.
//!
//! Read [`Mux`] first: octets in by [`Mux::handle_input`], octets out by [`Mux::poll_transmit`]
//! into a [`Batch`], what happened by [`Mux::poll_event`]. Then read [`Config`], which says what
//! bounds a link.
//!
//! # The rule behind the rest
//!
//! A receiver reserves memory for a stream before it grants credit, and the sum of its grants never
//! exceeds its memory. So the reader of a link never waits for a consumer, one slow consumer never
//! stalls another stream, and no connection-level window is needed on the wire.
//!
//! # Examples
//!
//! Two engines, joined by hand:
//!
//! ```
//! use std::time::Instant;
//! use bytes::{Bytes, BytesMut};
//! use relay_core::mux::{Batch, Config, Event, Mux, Side};
//!
//! let now = Instant::now();
//! let config = Config { open_streams_max: 8, ..Config::default() };
//! let mut gateway = Mux::new(Side::Listener, config, now)?;
//! let mut site = Mux::new(Side::Dialer, Config::default(), now)?;
//!
//! fn carry(from: &mut Mux, to: &mut Mux, now: Instant) -> Result<(), Box<dyn std::error::Error>> {
//!     let (mut batch, mut pipe) = (Batch::new(), BytesMut::new());
//!     from.poll_transmit(now, &mut batch);
//!     let mut slices = [std::io::IoSlice::new(&[]); 64];
//!     let used = batch.io_slices(&mut slices);
//!     slices[..used].iter().for_each(|slice| pipe.extend_from_slice(slice));
//!     to.handle_input(now, &mut pipe)?;
//!     Ok(())
//! }
//!
//! carry(&mut gateway, &mut site, now)?;
//! carry(&mut site, &mut gateway, now)?;
//! let id = gateway.open(Bytes::from_static(b"head"), false)?;
//! gateway.write(id, &mut Bytes::from_static(b"payload"))?;
//! gateway.finish(id)?;
//! carry(&mut gateway, &mut site, now)?;
//!
//! let mut events = std::iter::from_fn(|| site.poll_event());
//! assert!(events.any(|event| matches!(event, Event::Opened { .. })));
//! assert!(events.any(|event| matches!(event, Event::Data { end: true, .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod budget;
mod config;
mod decode;
mod engine;
mod error;
mod event;
mod frame;
mod half;
mod hello;
mod memory;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod reference;
mod schedule;
mod stall;
mod stream;
mod table;
mod window;

pub use batch::{BATCH_OCTETS, BATCH_SLICES, Batch, COPY_IN_MAX};
pub use config::{Config, ConfigError};
pub use decode::{COPY_OUT_MAX, DataHeader, Decoder, Item};
pub use engine::{HeadKind, Mux, Stats};
pub use error::{FrameError, HelloError, LinkError, OpenError, SendError, StreamCode};
pub use event::Event;
pub use frame::{Flags, FrameLimits, GOAWAY_TEXT_MAX, HEADER_LEN, Header, Kind, Side, StreamId};
pub use hello::{
    HELLO_MAX, HELLO_SITE_MAX, HELLO_TEXT_MAX, Hello, MAGIC, PREFACE_LEN, Preface, VERSIONS,
};
#[cfg(any(feature = "quic", all(test, feature = "net")))]
pub(crate) use memory::Floors;
pub use memory::MemoryBudget;
#[cfg(feature = "quic")]
pub(crate) use stall::Stalls;
pub use table::{IdHasher, IdMap};
pub use window::WINDOW_MAX;
