//! `--allow create=DIR`: new files beneath DIR, and nothing else: what somebody else has there stays as it is, no link
//! leads out, and there is a bound on everything.

mod bounds;
mod place;
mod scene;
