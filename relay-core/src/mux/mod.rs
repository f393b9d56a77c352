//! Many streams over one ordered byte pipe, with credit.
