//! One HTTP request and its answer on one stream.
