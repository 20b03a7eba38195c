//! Hiveway: the front door of a Docker Swarm.
//!
//! The modules stand in the order in which they depend on each other: each names only modules above
//! it. The pure ones come first: values in, values out, no socket, no file, no clock of their own.

pub mod timestamp;
pub mod quantity;
pub mod suggest;
pub mod keys;
pub mod source;
pub mod document;
pub mod diagnostic;
pub mod inventory;
pub mod feed;
pub mod saved_inventory;
pub mod routing;
pub mod value;
pub mod spec;
pub mod labels;
pub mod services_file;
pub mod stack_file;
pub mod grpc;
pub mod http1;
pub mod health;
pub mod counters;
pub mod access_line;
pub mod retry;
pub mod progress;
pub mod affinity;
pub mod latency;
pub mod upstream;
pub mod balance;
pub mod membership;
pub mod snapshot;

// Edges: one outside thing each. They carry, they do not decide.

pub mod clock;
pub mod config;
pub mod telemetry;
pub mod check;
pub mod token;
pub mod handover;
pub mod docker;
pub mod dns;
pub mod identity;
pub mod provider;
pub mod tls;
pub mod turn;
pub mod deadline;
pub mod memory;
pub mod proxy;
pub mod probe;
pub mod discovery;
pub mod listener;
pub mod agent;
pub mod sockets;
pub mod supervisor;
pub mod metrics;
pub mod admin;
pub mod status;
pub mod edge;
pub mod demo;
pub mod app;
