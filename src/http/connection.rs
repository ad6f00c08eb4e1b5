//! One accepted TCP connection: counted, bounded, and watched while it is read.

use crate::throttle;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many connections there are, in all and from each address.
#[derive(Debug)]
pub(super) struct Places {
    most: AtomicUsize,
    most_per_address: AtomicUsize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A connection's place; dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most: most.into(), most_per_address: most_per_address.into(), taken: Mutex::default() })
    }

    /// Holds for connections to come; those that are open stay.
    pub(super) fn set(&self, most: usize, most_per_address: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_per_address.store(most_per_address, Ordering::Relaxed);
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = throttle::caller(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.1.get(&address).copied().unwrap_or(0);
        if taken.0 >= self.most() || of_address >= self.most_per_address.load(Ordering::Relaxed) {
            metrics::counter!("tieline_connections_refused_total").increment(1);
            return None;
        }
        taken.0 += 1;
        taken.1.insert(address, of_address + 1);
        metrics::gauge!("tieline_connections").increment(1.0);
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 -= 1;
        if let Some(of_address) = taken.1.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.1.remove(&self.address);
            }
        }
        metrics::gauge!("tieline_connections").decrement(1.0);
    }
}

/// How many bytes were read from and written to a connection, so that a message which never ends is noticed, and a
/// peer that takes nothing is told from one that is slow.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<Moved>);

#[derive(Debug, Default)]
struct Moved {
    read: AtomicU64,
    written: AtomicU64,
}

impl Progress {
    pub(super) fn read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }
}

/// A stream that counts what is read from it.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    progress: Progress,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, progress: Progress) -> Self {
        Self { stream, progress }
    }

    fn count(&self, written: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.progress.0.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let more = buffer.filled().len() - before;
        if more > 0 {
            self.progress.0.read.fetch_add(more as u64, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&written);
        written
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(&written);
        written
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
