//! Networks that the broker opens: who holds their descriptors, which scripts run when, and what stops a start. The
//! guests do not run; that frames pass is shown elsewhere.

mod bridges;
mod interfaces;
mod scene;
mod scripts;
mod vhost;
