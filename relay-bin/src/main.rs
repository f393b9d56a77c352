//! The program `relay`.
fn main() {}
