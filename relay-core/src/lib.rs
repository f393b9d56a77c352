//! A multiplexed channel, and the gateway and connection point built on it.
//!
//! A client on the internet speaks HTTPS to a gateway instance. A connection point inside the site
//! has dialled out to that instance, so the site needs no inbound port; each request travels over
//! that link as one stream of the [`mux`].
//!
//! The rooms and the rule of who may import whom are in `ARCHITECTURE.md` beside this crate's
//! manifest. Read [`mux`] first if you came for the protocol, `gateway` if you came for the relay.
//!
//! # Features
//!
//! `net` (default) adds everything that touches a socket, a task or a clock. Without it [`mux`],
//! [`exchange`], [`policy`] and [`balance`] build alone, with no runtime in their dependency tree.
//! `settings` adds the room of that name, and `auth` the judges of tokens and the room `content`;
//! they need none either.

pub mod auth;
pub mod balance;
#[cfg(feature = "auth")]
pub mod content;
pub mod exchange;
pub mod http1;
pub mod mux;
pub mod policy;
#[cfg(feature = "settings")]
pub mod settings;

#[cfg(feature = "net")]
pub mod body;
#[cfg(feature = "net")]
pub mod config;
#[cfg(feature = "net")]
pub mod connection_point;
#[cfg(feature = "net")]
pub mod fetched;
#[cfg(feature = "net")]
pub mod gateway;
#[cfg(feature = "net")]
pub mod link;
#[cfg(feature = "net")]
pub mod transport;
