//! One live connection and its handles.
