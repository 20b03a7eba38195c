//! gRPC calls: whatever happens to a replica, a client gets a status that is true.

mod calling;
mod ending;
mod flow;
mod passing;
