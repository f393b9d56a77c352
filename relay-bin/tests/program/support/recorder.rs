//! A store of S3's kind with one package, which answers whoever asks: an origin in front of it
//! keeps what it was shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use relay_core::content::{ContentFile, Manifest};
use sha2::{Digest as _, Sha256};

use super::origin::{Asked, Said};

/// The package `PS100012`, as the bucket `relay-files` has it.
#[derive(Clone)]
pub(crate) struct Package {
    manifest: Bytes,
    /// By their hashes.
    files: Arc<BTreeMap<String, Bytes>>,
}

impl Package {
    pub(crate) fn of(files: &[(&str, &[u8])]) -> Self {
        let listed = files.iter().map(|(name, octets)| ContentFile {
            name: name.parse().unwrap(),
            octets: octets.len() as u64,
            sha256: Sha256::digest(octets).into(),
        });
        let manifest = Manifest::new("PS100012".parse().unwrap(), listed.collect()).unwrap();
        let kept = files.iter().map(|(_, octets)| {
            (format!("{:x}", Sha256::digest(octets)), Bytes::copy_from_slice(octets))
        });
        Self { manifest: manifest.to_json().into(), files: Arc::new(kept.collect()) }
    }

    /// What it answers: of a file the rest, if that is asked for.
    pub(crate) fn answer(&self, asked: &Asked) -> Response<Said> {
        let path = asked.line.split([' ', '?']).nth(1).unwrap();
        let name = path.rsplit('/').next().unwrap();
        let octets = match path {
            "/relay-files/PS100012/manifest.json" => &self.manifest,
            "/relay-files" => return whole(200, "", "<ListBucketResult></ListBucketResult>"),
            _ => match self.files.get(name) {
                Some(octets) => octets,
                None => return whole(404, "", "<Error><Code>NoSuchKey</Code></Error>"),
            },
        };
        let from = asked.header("range").strip_prefix("bytes=").and_then(|it| it.split('-').next());
        let Some(from) = from.and_then(|it| it.parse::<usize>().ok()) else {
            return whole(200, name, octets.clone());
        };
        let mut answer = whole(206, name, octets.slice(from..));
        let range = format!("bytes {from}-{}/{}", octets.len() - 1, octets.len());
        answer.headers_mut().insert("content-range", range.parse().unwrap());
        answer
    }
}

fn whole(status: u16, tag: &str, octets: impl Into<Bytes>) -> Response<Said> {
    let octets = octets.into();
    Response::builder()
        .status(status)
        .header("etag", format!("\"{tag}\""))
        .header("content-length", octets.len())
        .body(Said::whole(octets))
        .unwrap()
}

/// What such a store is in `[content]`, with the key in `store.key` beside it.
pub(crate) fn table(scheme: &str, at: SocketAddr) -> String {
    format!(
        "[content.s3]\nbucket = \"relay-files\"\nregion = \"us-east-1\"\naccess_key_id = \"id\"\n\
         secret_key_file = \"store.key\"\nendpoint = \"{scheme}://{at}\"\n"
    )
}
