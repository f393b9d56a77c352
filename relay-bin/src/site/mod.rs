//! The site's own tokens: what is kept about them, what they are signed with, who may make them.
//!
//! The program alone makes and signs tokens; `relay_core::auth` judges them. Nothing here decides
//! what a client may do at a site role, and no token is kept anywhere once it was handed out.
//!
//! Read [`Store`] and [`SqliteStore`] first, then [`service`], which gives clients their tokens.
//! What is kept comes from administrators' commands and from registrations; the blocks of it go to
//! the instances with the settings document.

mod command;
mod files;
mod keys;
mod published;
pub(crate) mod service;
mod shown;
mod sqlite;
mod store;
mod token;

pub(crate) use command::{Command, EXAMPLES, run};
pub(crate) use keys::{KeyError, Keys, SigningCertificate};
pub(crate) use published::{Published, published};
pub(crate) use sqlite::SqliteStore;
pub(crate) use store::{BulkToken, Change, ChangeError, Client, Registration, Store, StoreError};
pub(crate) use token::{Holder, SignError, Token, Wanted, new_guid};
