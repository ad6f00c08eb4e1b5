//! The native wire of Tieline: what a frame looks like, and nothing about what it does.
//!
//! The native dialect is compatible with the LivePerson Connector API and its messaging sockets: envelopes of
//! `kind`, `id` and `type`, the same message types in two spellings, responses that carry the request's id as a
//! string. This crate holds the vocabulary that every other part of Tieline shares:
//!
//! - [`envelope`]: requests read from text, responses and notifications written to it;
//! - [`json`]: the one scan that every text passes before it is believed;
//! - [`kind`]: the catalogue of message types, both spellings, and their responses' names;
//! - [`body`]: the bodies of requests; [`event`]: what `ms.PublishEvent` carries; [`text`]: the sentences that clients compare;
//! - [`notify`]: the bodies of notifications; [`webhook`]: the types of events that are posted;
//! - [`ids`]: identifiers as types of their own;
//! - [`code`]: error codes and close codes, and what a client should do about each.
//!
//! It does no I/O and depends on serde alone, so a client can use it as well as the gateway does.

pub mod body;
pub mod code;
pub mod envelope;
pub mod event;
pub mod ids;
pub mod json;
pub mod kind;
pub mod notify;
pub mod text;
pub mod webhook;
