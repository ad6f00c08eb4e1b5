//! A server that does as little as one can and still deliver: what is left of a delivery if nothing is looked at, nothing is
//! checked and nothing is known of anybody. What others cost is compared with it.
//!
//! One thread and one loop. What came is read and taken apart in place; a message is framed once, for all subscribers of its
//! channel; at the end of a turn each subscriber gets all that is pending for its channel in one write. With `--durable` what
//! was published in a turn is appended to a file and synced before any of it is acked or delivered. It speaks the protocol of
//! [`tieline_bench::adapters::Plain`].

use anyhow::{Context, bail};
use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A WebSocket server that bounds what a delivery costs.
#[derive(Debug, Parser)]
struct Words {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// PEM files with the certificate and its key: with TLS
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    tls: Option<Vec<PathBuf>>,
    /// The file that what is published is appended to, synced before it is acked
    #[arg(long, value_name = "FILE")]
    durable: Option<PathBuf>,
}

/// The listener's token; connections count from 0.
const LISTENER: Token = Token(usize::MAX);

/// Events of one turn.
const EVENTS: usize = 4096;

/// What is read at once.
const READ: usize = 256 * 1024;

fn main() -> anyhow::Result<()> {
    let words = Words::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let tls = words.tls.as_deref().map(|files| -> anyhow::Result<_> {
        let [cert, key] = files else { bail!("--tls takes a certificate and a key") };
        let chain = CertificateDer::pem_file_iter(cert).with_context(|| cert.display().to_string())?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
        Ok(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?))
    });
    let open = |path: &PathBuf| File::options().create(true).append(true).open(path).with_context(|| path.display().to_string());
    let file = words.durable.as_ref().map(open).transpose()?;
    let listener = TcpListener::bind(words.listen).with_context(|| words.listen.to_string())?;
    Server {
        poll: Poll::new()?,
        listener,
        tls: tls.transpose()?,
        file,
        log: Vec::new(),
        connections: Vec::new(),
        free: Vec::new(),
        channels: HashMap::new(),
        published: Vec::new(),
        answered: Vec::new(),
    }
    .serve()
}

/// What a socket's bytes go through.
enum Stream {
    Plain(TcpStream),
    Tls { socket: TcpStream, tls: Box<ServerConnection> },
}

/// How far a read got.
enum Got {
    Bytes(usize),
    Nothing,
    End,
}

impl Stream {
    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) | Self::Tls { socket, .. } => socket,
        }
    }

    /// Reads what has come, as far as there is room.
    fn read(&mut self, into: &mut [u8]) -> Got {
        let read = match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls { socket, tls } => decrypt(socket, tls, into),
        };
        match read {
            Ok(0) => Got::End,
            Ok(count) => Got::Bytes(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
            Err(_) => Got::End,
        }
    }

    /// Writes as much as is taken; how much, or nothing if the connection is lost.
    fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let written = match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls { socket, tls } => encrypt(socket, tls, bytes),
        };
        match written {
            Ok(count) => Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }
}

/// Reads through a session: what is in the records that it has, else in those that come.
fn decrypt(socket: &mut TcpStream, tls: &mut ServerConnection, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match tls.reader().read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
        if tls.read_tls(socket)? == 0 {
            return Ok(0);
        }
        tls.process_new_packets().map_err(std::io::Error::other)?;
    }
}

/// Writes through a session, which keeps what the socket does not take; how much it took.
fn encrypt(socket: &mut TcpStream, tls: &mut ServerConnection, bytes: &[u8]) -> std::io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        taken += tls.writer().write(&bytes[taken..])?;
        flush(socket, tls)?;
        if tls.wants_write() {
            break;
        }
    }
    Ok(taken)
}

/// Puts records on the socket until it takes no more.
fn flush(socket: &mut TcpStream, tls: &mut ServerConnection) -> std::io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            written => drop(written?),
        }
    }
    Ok(())
}

struct Connection {
    stream: Stream,
    is_open: bool,
    channel: Option<u32>,
    /// Of a frame that is not complete.
    input: Vec<u8>,
    /// Answers of this turn.
    answers: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

#[derive(Default)]
struct Channel {
    subscribers: Vec<usize>,
    /// Frames of this turn.
    pending: Vec<u8>,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    file: Option<File>,
    /// Bodies of this turn, for the file.
    log: Vec<u8>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    channels: HashMap<u32, Channel>,
    /// Channels with something pending.
    published: Vec<u32>,
    /// Connections with answers.
    answered: Vec<usize>,
}

impl Server {
    fn serve(mut self) -> anyhow::Result<()> {
        self.poll.registry().register(&mut self.listener, LISTENER, Interest::READABLE)?;
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(place) => {
                        if event.is_writable() {
                            self.resume(place);
                        }
                        if event.is_readable() {
                            self.read(place, &mut buffer, event.is_read_closed());
                        }
                    }
                }
            }
            if let Some(file) = &mut self.file
                && !self.log.is_empty()
            {
                file.write_all(&self.log)?;
                file.sync_data()?;
                self.log.clear();
            }
            self.deliver();
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let mut socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            };
            // The peer is gone if this fails, and reading will say so.
            let _ = socket.set_nodelay(true);
            let place = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poll.registry().register(&mut socket, Token(place), Interest::READABLE | Interest::WRITABLE)?;
            let stream = match &self.tls {
                None => Stream::Plain(socket),
                Some(config) => Stream::Tls { socket, tls: Box::new(ServerConnection::new(config.clone())?) },
            };
            let (input, answers, unsent) = (Vec::new(), Vec::new(), Vec::new());
            self.connections[place] = Some(Connection { stream, is_open: false, channel: None, input, answers, unsent });
        }
    }

    /// Sends what the socket did not take before.
    fn resume(&mut self, place: usize) {
        let Some(connection) = &mut self.connections[place] else { return };
        if let Stream::Tls { socket, tls } = &mut connection.stream {
            let _ = flush(socket, tls);
        }
        if connection.unsent.is_empty() {
            return;
        }
        match connection.stream.write(&connection.unsent) {
            Some(count) => drop(connection.unsent.drain(..count)),
            None => self.close(place),
        }
    }

    /// Reads and handles what has come. A socket that gave less than there was room for is empty; only one that is closed is
    /// read to its end, for no other event will say so.
    fn read(&mut self, place: usize, buffer: &mut [u8], is_closed: bool) {
        loop {
            let Some(connection) = &mut self.connections[place] else { return };
            let before = connection.input.len();
            buffer[..before].copy_from_slice(&connection.input);
            let is_tls = matches!(connection.stream, Stream::Tls { .. });
            match connection.stream.read(&mut buffer[before..]) {
                Got::Bytes(count) => {
                    connection.input.clear();
                    let end = before + count;
                    let Some(rest) = self.take(place, &mut buffer[..end]) else { return self.close(place) };
                    if let Some(connection) = &mut self.connections[place] {
                        connection.input.extend_from_slice(&buffer[end - rest..end]);
                    }
                    if !is_tls && !is_closed && end < buffer.len() {
                        return;
                    }
                }
                Got::Nothing => {
                    if let Stream::Tls { socket, tls } = &mut connection.stream {
                        // The handshake's answers.
                        let _ = flush(socket, tls);
                    }
                    return;
                }
                Got::End => return self.close(place),
            }
        }
    }

    /// Handles what is complete; how much is not, or nothing if this is no client of ours.
    fn take(&mut self, place: usize, bytes: &mut [u8]) -> Option<usize> {
        let mut at = 0;
        let connection = self.connections[place].as_mut()?;
        if !connection.is_open {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Some(bytes.len()) };
            at = end + 4;
            connection.answers.extend_from_slice(upgrade(&bytes[..at])?.as_bytes());
            connection.is_open = true;
            self.answered.push(place);
        }
        loop {
            let mut cursor = Cursor::new(&bytes[at..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).ok()? else { return Some(bytes.len() - at) };
            let start = at + usize::try_from(cursor.position()).ok()?;
            let end = start + usize::try_from(length).ok()?;
            if end > bytes.len() {
                return Some(bytes.len() - at);
            }
            unmask(&mut bytes[start..end], header.mask?);
            match header.opcode {
                OpCode::Data(Data::Text) => self.message(place, &bytes[start..end])?,
                OpCode::Control(Control::Ping | Control::Pong) => {}
                _ => return None,
            }
            at = end;
        }
    }

    fn message(&mut self, place: usize, text: &[u8]) -> Option<()> {
        let digits = text.get(1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let channel = std::str::from_utf8(&text[1..=digits]).ok()?.parse().ok()?;
        let connection = self.connections[place].as_mut()?;
        let was_silent = connection.answers.is_empty();
        match text[0] {
            b'S' => {
                connection.channel = Some(channel);
                frame(&mut connection.answers, b"ready");
                self.channels.entry(channel).or_default().subscribers.push(place);
            }
            b'P' => {
                let body = text.get(digits + 2..)?;
                let known = self.channels.entry(channel).or_default();
                if known.pending.is_empty() {
                    self.published.push(channel);
                }
                frame(&mut known.pending, body);
                if self.file.is_some() {
                    self.log.extend_from_slice(body);
                }
                frame(&mut connection.answers, b"ack");
            }
            _ => return None,
        }
        if was_silent {
            self.answered.push(place);
        }
        Some(())
    }

    /// Sends what this turn brought.
    fn deliver(&mut self) {
        let mut lost = Vec::new();
        let mut published = std::mem::take(&mut self.published);
        for number in published.drain(..) {
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            for place in &channel.subscribers {
                if let Some(connection) = &mut self.connections[*place]
                    && !send(connection, &channel.pending)
                {
                    lost.push(*place);
                }
            }
            channel.pending.clear();
        }
        self.published = published;
        let mut answered = std::mem::take(&mut self.answered);
        for place in answered.drain(..) {
            let Some(connection) = &mut self.connections[place] else { continue };
            let mut answers = std::mem::take(&mut connection.answers);
            if !send(connection, &answers) {
                lost.push(place);
            }
            answers.clear();
            connection.answers = answers;
        }
        self.answered = answered;
        lost.into_iter().for_each(|place| self.close(place));
    }

    fn close(&mut self, place: usize) {
        let Some(mut connection) = self.connections[place].take() else { return };
        // The descriptor is closed with the connection, whatever this says.
        let _ = self.poll.registry().deregister(connection.stream.socket());
        if let Some(channel) = connection.channel.and_then(|number| self.channels.get_mut(&number)) {
            channel.subscribers.retain(|subscriber| *subscriber != place);
        }
        self.free.push(place);
    }
}

/// Sends, behind what was not sent before; whether the connection still is.
fn send(connection: &mut Connection, bytes: &[u8]) -> bool {
    let taken = if connection.unsent.is_empty() { connection.stream.write(bytes) } else { Some(0) };
    if let Some(taken) = taken {
        connection.unsent.extend_from_slice(&bytes[taken..]);
    }
    taken.is_some()
}

fn frame(into: &mut Vec<u8>, payload: &[u8]) {
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    // A vector takes whatever is written.
    let _ = header.format(payload.len() as u64, into);
    into.extend_from_slice(payload);
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// The answer to an upgrade; nothing if it is none.
fn upgrade(request: &[u8]) -> Option<String> {
    let lines = std::str::from_utf8(request).ok()?.lines();
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let (_, key) = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))?;
    let accept = derive_accept_key(key.trim().as_bytes());
    Some(format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"))
}
