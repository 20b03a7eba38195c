//! What an edge asks an agent for: paths and fields.

/// GET: the stream of messages.
pub const FOLLOW: &str = "/follow";
/// POST: that a list be made at once.
pub const LOOK: &str = "/look";

/// The field with the number of the protocol.
pub const PROTOCOL_NUMBER: &str = "hiveway-protocol";
/// The field with the host name of the edge's container, by which its task is found.
pub const HOSTNAME: &str = "hiveway-hostname";
/// The field with the version of the edition that the edge has, if it has one.
pub const HAVE: &str = "hiveway-have";
