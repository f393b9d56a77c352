//! The site's own tokens: what is kept about them, what they are signed with, who may make them.
//!
//! The program alone makes and signs tokens; `relay_core::auth` judges them. Nothing here serves
//! requests or decides what a client may do, and no token is kept anywhere once it was handed out.
//!
//! Read [`Store`] and [`SqliteStore`] first. What is kept comes from administrators' commands and
//! from registrations; the blocks of it go to the instances with the settings document.
#![allow(dead_code, reason = "what the token service of the site asks is here before it")]

mod command;
mod files;
mod keys;
mod published;
mod shown;
mod sqlite;
mod store;
mod token;

pub(crate) use command::{Command, EXAMPLES, run};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use keys::{KeyError, Keys, Signer, SigningCertificate};
pub(crate) use published::{Published, published};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use sqlite::SqliteStore;
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use store::{BulkToken, Change, ChangeError, Client, Registration, Store, StoreError};
#[allow(unused_imports, reason = "the token service of the site stands on it")]
pub(crate) use token::{Holder, SignError, Token, Wanted, new_guid};
