//! The messages of an agent to its followers: one JSON object a line.
//!
//! Both sides pass over fields and kinds that they do not know, so a field that is added later must
//! have a default. What cannot be understood at all takes another [`PROTOCOL`](super::PROTOCOL).

use std::borrow::Cow;
use std::net::Ipv4Addr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Changes, Services, Version};
use crate::inventory::Network;

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Message {
    /// First of all, before any list.
    Hello(Hello),
    /// What depends on the follower alone.
    You(You),
    /// A whole edition.
    Whole(Whole),
    /// What has changed.
    Change(Change),
    /// What stands now, and how old it is; also a sign of life.
    Beat(Beat),
}

/// Who speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's version of Hiveway.
    #[serde(default)]
    pub hiveway: String,
}

/// What depends on the follower alone; found by its host name among the tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct You {
    /// Networks of its task; none if no task has its host name.
    #[serde(default)]
    pub networks: Option<Vec<Network>>,
    /// Addresses of the agent on its node; empty if there is none, or it is not known.
    #[serde(default)]
    pub near: Vec<Ipv4Addr>,
}

/// What an agent knows at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Of the edition that stands; none before the first list.
    #[serde(default)]
    pub version: Option<Version>,
    /// Swarm's id; empty if it is not known.
    #[serde(default)]
    pub cluster: String,
    /// Highest Raft index that was seen in it.
    #[serde(default)]
    pub raft: u64,
    /// How long ago the last list that succeeded was asked for, in milliseconds.
    #[serde(default)]
    pub age_ms: u64,
    /// Why there is no newer list; none if the last one succeeded.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A whole edition. The beat after it names its version; it is nothing before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// All its services.
    pub services: Services,
}

/// From one edition to the next, which the beat after it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The edition that it starts from.
    pub from: Version,
    /// What is different.
    pub changes: Changes,
}

/// What stands now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// In the agent's words.
    #[serde(default)]
    pub standing: Standing,
}

/// A line that is no message.
#[derive(Debug, thiserror::Error)]
#[error("not a message: {0}")]
pub struct NoMessage(#[from] serde_json::Error);

/// What must be understood before anything else is.
#[derive(Deserialize)]
struct Kind<'m> {
    #[serde(borrow)]
    kind: Cow<'m, str>,
}

impl Message {
    /// The line without its end; it has no other.
    ///
    /// # Errors
    /// If it cannot be written as JSON, which none of ours can cause.
    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// The message of a line; none for kinds that a newer agent may have.
    ///
    /// # Errors
    /// If it is no message at all.
    pub fn read(line: &[u8]) -> Result<Option<Self>, NoMessage> {
        fn of<T: DeserializeOwned>(
            line: &[u8],
            message: fn(T) -> Message,
        ) -> Result<Option<Message>, NoMessage> {
            Ok(Some(message(serde_json::from_slice(line)?)))
        }
        let Kind { kind } = serde_json::from_slice(line)?;
        match &*kind {
            "hello" => of(line, Self::Hello),
            "you" => of(line, Self::You),
            "whole" => of(line, Self::Whole),
            "change" => of(line, Self::Change),
            "beat" => of(line, Self::Beat),
            _ => Ok(None),
        }
    }
}
