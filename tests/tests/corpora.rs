//! Every file that the fuzzers have kept, through the same function that the fuzzers call.
//!
//! `cargo +nightly fuzz run <target>` finds new ones; a file that once made a target panic stays
//! here as a regression test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

use relay_core::exchange::reference::head_block;
use relay_core::mux::reference;
use relay_core::{auth, content, http1, policy, settings};
use relay_tests::seeds;

/// Memory that a run of `mux_hostile_peer` may take whatever the peer sends: two settings of tens
/// of KiB. Windows of 16 MiB or frames of 64 KiB, which a peer may claim, would exceed it.
const HOSTILE_BYTES_MAX: u64 = 256 << 10;

/// And for each octet that the peer sends: the shortest frame has eight.
const HOSTILE_BYTES_PER_OCTET: u64 = 16;

/// Memory that a document of settings may take, besides 16 octets for each of its own.
const SETTINGS_BYTES_MAX: u64 = 16 << 10;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// The files of one corpus, in the order of their names.
fn corpus(target: &str) -> Vec<PathBuf> {
    let dir = folder(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Calls `target` with each file of its corpus. A failure names the file.
fn replay(name: &str, target: fn(&[u8])) {
    let files = corpus(name);
    assert!((10..200).contains(&files.len()), "{} files in corpus {name}", files.len());
    for file in files {
        let octets = std::fs::read(&file).unwrap();
        let outcome = std::panic::catch_unwind(|| target(&octets));
        assert!(outcome.is_ok(), "replay with: cargo +nightly fuzz run {name} {}", file.display());
    }
}

#[test]
fn the_corpus_of_frame_decode_passes() {
    replay("frame_decode", reference::frame_decode);
}

#[test]
fn the_corpus_of_mux_ops_passes() {
    replay("mux_ops", reference::mux_ops);
}

#[test]
fn the_corpus_of_mux_hostile_peer_passes() {
    replay("mux_hostile_peer", |octets| {
        let cost = allocation_counter::measure(|| reference::mux_hostile_peer(octets));
        // Of this the engine and its queues are some; the rest is what judges them, which keeps a
        // copy of every frame.
        let bound = HOSTILE_BYTES_MAX + HOSTILE_BYTES_PER_OCTET * octets.len() as u64;
        assert!(cost.bytes_max <= bound, "{} octets of memory, {bound} at most", cost.bytes_max);
    });
}

#[test]
fn the_corpus_of_head_block_passes() {
    replay("head_block", head_block);
}

#[test]
fn the_corpus_of_hello_passes() {
    replay("hello", reference::hello);
}

#[test]
fn the_corpus_of_request_head_passes() {
    replay("request_head", http1::reference::request_head);
}

#[test]
fn the_corpus_of_chunked_passes() {
    replay("chunked", http1::reference::chunked);
}

#[test]
fn the_corpus_of_answer_head_passes() {
    replay("answer_head", http1::reference::answer_head);
}

#[test]
fn the_corpus_of_path_passes() {
    replay("path", policy::reference::path);
}

#[test]
fn the_corpus_of_header_policy_passes() {
    replay("header_policy", policy::reference::header_policy);
}

#[test]
fn the_corpus_of_settings_passes() {
    replay("settings", |octets| {
        let cost = allocation_counter::measure(|| settings::reference::settings(octets));
        let bound = SETTINGS_BYTES_MAX + 16 * octets.len() as u64;
        assert!(cost.bytes_max <= bound, "{} octets of memory, {bound} at most", cost.bytes_max);
    });
}

#[test]
fn the_corpus_of_jwt_passes() {
    replay("jwt", auth::reference::jwt);
}

#[test]
fn the_corpus_of_jwks_passes() {
    replay("jwks", auth::reference::jwks);
}

#[test]
fn the_corpus_of_metadata_passes() {
    replay("metadata", auth::reference::metadata);
}

#[test]
fn the_corpus_of_crl_passes() {
    replay("crl", auth::reference::crl);
}

#[test]
fn the_corpus_of_client_certificate_passes() {
    replay("client_certificate", auth::reference::client_certificate);
}

#[test]
fn the_corpus_of_content_grant_passes() {
    replay("content_grant", content::reference::content_grant);
}

/// With `RELAY_WRITE_SEEDS=1` the files are written first.
#[test]
fn the_written_seeds_are_in_the_corpora() {
    for seed in seeds::all() {
        let file = folder(seed.target).join(seed.name);
        if std::env::var_os("RELAY_WRITE_SEEDS").is_some() {
            std::fs::write(&file, &seed.octets).unwrap();
        }
        let kept = std::fs::read(&file).unwrap_or_default();
        let how = "RELAY_WRITE_SEEDS=1 cargo test -p relay-tests --test corpora the_written_seeds";
        assert!(kept == seed.octets, "{} is not what {how} makes", file.display());
    }
}

#[test]
fn no_corpus_exceeds_a_mebibyte() {
    let targets = std::fs::read_dir(folder("")).unwrap().map(|it| it.unwrap().file_name());
    for target in targets.map(|name| name.into_string().unwrap()) {
        let sizes = corpus(&target).iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
        assert!(sizes < 1 << 20, "{target} has {sizes} octets");
    }
}
