//! Replicas that break, and what of it a client sees.

mod breaking_off;
mod connecting;
mod ejecting;
mod http2;
mod leaving;
mod repeating;
mod reports;
mod restraint;
