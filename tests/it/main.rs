//! The whole gateway from the outside: over HTTP and WebSocket, with SQLite on disk, and as a process that is killed.
//!
//! [`support`] starts servers and speaks the protocol; [`checker`] judges histories of publishes and reads. The other
//! modules are the suites.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![allow(unreachable_pub, missing_docs, reason = "nothing outside uses a test")]

mod backup;
mod bad_input;
mod bench;
mod catalogue;
mod chat;
mod checker;
mod connector_api;
mod console;
mod crash;
mod daemon;
mod deliveries;
mod demo;
mod directory;
mod dixa;
mod documents;
mod double;
mod fanout;
mod fetched;
mod hubster;
mod identity;
mod installations;
mod life;
mod oncehub;
mod openapi;
mod operate;
mod ownership;
mod packaging;
mod programs;
mod proxies;
mod reload;
mod retention;
mod routing;
mod sign_in;
mod signalr;
mod sink;
mod sockets;
mod support;
mod surfaces;
mod trace;
mod ultracart;
mod ultracart_socket;
mod verifiers;
mod webhooks;
