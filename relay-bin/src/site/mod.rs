//! The site's own tokens: what is kept about them, what they are signed with, who may make them.
//!
//! The program alone makes and signs tokens; `relay_core::auth` judges them. Nothing here serves
//! requests or decides what a client may do, and no token is kept anywhere once it was handed out.
//!
//! Read [`Store`] and [`SqliteStore`] first; `postgres`, with the feature of that name, is the same
//! in a database that several connection points share. What is kept comes from administrators'
//! commands and from registrations. A [`Watch`] reads of it what goes to the instances with the
//! settings document: blocks, and the signing certificates of all connection points.
#![allow(dead_code, reason = "what the token service of the site asks is here before it")]

mod command;
mod files;
mod keys;
mod opening;
mod place;
#[cfg(feature = "postgres")]
mod postgres;
mod published;
mod shown;
mod sqlite;
mod state;
mod store;
mod token;

pub(crate) use command::{Command, EXAMPLES, run};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use keys::{KeyError, Keys, Signer, SigningCertificate};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use opening::signer;
pub(crate) use published::{Published, Watch};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use sqlite::SqliteStore;
pub(crate) use state::{State, TokensState};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use store::{
    BulkToken, Change, ChangeError, Client, KnownSigner, Registration, Store, StoreError,
};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use token::{Holder, SignError, Token, Wanted, new_guid};
