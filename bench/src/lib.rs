//! Load over WebSockets, measured from outside, in which each delivery is checked.
//!
//! | Module | What it is |
//! |---|---|
//! | [`mark`] | the body of a message, and how it is known again; the check of what a subscriber gets |
//! | [`adapter`] | what differs between servers: paths, subscribing, publishing, what is an ack |
//! | [`adapters`] | one for each kind of server |
//! | [`engine`] | thousands of connections, and what happens on them as one stream of events |
//! | [`workload`] | the four workloads: fan-out, many conversations, idle connections, durable acks |
//! | [`report`] | what they find, as it is printed and as JSON |
//! | [`histogram`], [`meter`] | latencies; the server's CPU time and memory |
//!
//! `tieline bench` runs it against a gateway, `load` against any server there is an adapter for. `limit` is a server that does
//! as little as one can; `compare` starts servers one after another, loads each, and prints them side by side.

pub mod adapter;
pub mod adapters;
pub mod engine;
pub mod histogram;
pub mod mark;
pub mod meter;
pub mod report;
pub mod workload;
