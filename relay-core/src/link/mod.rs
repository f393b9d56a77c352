//! One live connection with its mux: the driver that moves octets, and the handles that use it.
//!
//! This room joins the sans-I/O [`mux`](crate::mux) to a real byte pipe. It does not dial, accept,
//! reconnect or know what a stream carries. Read [`Link`] first, then [`Driver`].
//!
//! # How it works
//!
//! One task, the [`Driver`], owns the pipe and the engine. A handle never touches either: it puts
//! what it wants to send into its stream's own cell and marks that cell as dirty; the driver sweeps
//! the dirty cells, fills batches from the engine, and puts what arrived into the cells. A cell's
//! lock is held for a few instructions and never across I/O or an `.await`. Each side wakes the
//! other once per burst, not once per frame.
//!
//! Reading never waits for writing or for a consumer: the engine grants only what it has reserved.
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use relay_core::link::{self, End};
//! use relay_core::mux::{Config, HeadKind, Side};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let (near, far) = tokio::io::duplex(64 * 1024);
//! let (gateway, gateway_driver) = link::new(near, Side::Listener, Config::default())?;
//! let (site, site_driver) = link::new(far, Side::Dialer, Config::default())?;
//! let drivers = [tokio::spawn(gateway_driver), tokio::spawn(site_driver)];
//!
//! let (mut request, mut answer) = gateway.open(Bytes::from_static(b"GET"), End::More).await?;
//! request.write_chunk(Bytes::from_static(b"hello")).await?;
//! request.finish()?;
//!
//! let mut incoming = site.accept().await?;
//! assert_eq!(incoming.recv.read_chunk().await?.as_deref(), Some(&b"hello"[..]));
//! incoming.send.send_head(Bytes::from_static(b"200"), HeadKind::FinalAndEnd)?;
//!
//! assert_eq!(answer.head().await?.block, Bytes::from_static(b"200"));
//! drop((request, answer, incoming));
//! gateway.close();
//! for driver in drivers {
//!     driver.await?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod agenda;
mod cell;
mod driver;
mod handle;
mod lingering;
#[cfg(feature = "quic")]
mod quic;
mod recv;
mod refusal;
mod send;
mod shared;
mod sync;

pub use driver::Driver;
pub use handle::{
    DrainReport, End, Incoming, Link, LinkStats, OPENERS_WAITING_MAX, OpenFailed, new,
};
#[cfg(feature = "quic")]
pub use quic::{QuicDriver, new_quic};
pub use recv::{Head, RecvError, RecvStream};
pub use refusal::turn_away;
pub use send::SendStream;

#[cfg(test)]
#[cfg(relay_loom)]
mod models;
#[cfg(test)]
mod tests;
