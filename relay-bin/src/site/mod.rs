//! The site's own tokens: what is kept about them, what they are signed with, who may make them.
//!
//! The program alone makes and signs tokens; `relay_core::auth` judges them. Nothing here decides
//! what a client may do at a site role, and no token is kept anywhere once it was handed out.
//!
//! Read [`Store`] and `sqlite` first, then [`service`], which gives clients their tokens;
//! `postgres`, with the feature of that name, is the store in a database that several connection
//! points share. What is kept comes from administrators' commands and from registrations. A
//! [`Watch`] reads of it what goes to the instances with the settings document: blocks, and the
//! signing certificates of all connection points.

mod command;
mod files;
mod granting;
mod keys;
mod opening;
mod place;
#[cfg(feature = "postgres")]
mod postgres;
mod published;
pub(crate) mod service;
mod shown;
mod sqlite;
mod state;
mod store;
mod token;

pub(crate) use command::{Command, EXAMPLES, block, issue, run};
pub(crate) use granting::{WantedGrant, sign_grant};
pub(crate) use keys::{KeyError, Keys, SigningCertificate, signing_file};
pub(crate) use opening::signer;
pub(crate) use published::{Looked, Watch};
pub(crate) use state::{State, TokensState};
pub(crate) use store::{
    BulkToken, Change, ChangeError, Client, KnownSigner, Registration, Store, StoreError,
};
pub(crate) use token::{Holder, SignError, Token, Wanted, new_guid};
