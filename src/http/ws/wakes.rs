//! What woke a socket's task. Each part of it has a waker of its own, so that a part that has nothing new is not looked at.

use futures::task::{ArcWake, AtomicWaker, waker};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Waker};

/// A part of a socket's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The session: something was announced, decided or read.
    Session,
    /// There is something to read.
    Read,
    /// The stream takes more.
    Write,
    /// A time has come, the credential or the gateway ends.
    Time,
}

impl Part {
    const ALL: [Self; 4] = [Self::Session, Self::Read, Self::Write, Self::Time];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The parts that are to be looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Woken(u8);

impl Woken {
    pub(super) fn contains(self, part: Part) -> bool {
        self.0 & part.bit() != 0
    }

    pub(super) fn add(&mut self, part: Part) {
        self.0 |= part.bit();
    }
}

#[derive(Debug)]
struct Shared {
    woken: AtomicU8,
    task: AtomicWaker,
}

#[derive(Debug)]
struct PartWaker {
    shared: Arc<Shared>,
    part: Part,
}

impl ArcWake for PartWaker {
    fn wake_by_ref(this: &Arc<Self>) {
        this.shared.woken.fetch_or(this.part.bit(), Ordering::AcqRel);
        this.shared.task.wake();
    }
}

/// The wakers of a task's parts.
#[derive(Debug)]
pub(super) struct Wakes {
    shared: Arc<Shared>,
    wakers: [Waker; 4],
}

impl Wakes {
    /// At first everything is to be looked at.
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared { woken: AtomicU8::new(u8::MAX), task: AtomicWaker::new() });
        let wakers = Part::ALL.map(|part| waker(Arc::new(PartWaker { shared: shared.clone(), part })));
        Self { shared, wakers }
    }

    /// The parts that woke since this was last asked. The task is woken again by the next.
    pub(super) fn woken(&self, context: &Context<'_>) -> Woken {
        self.shared.task.register(context.waker());
        Woken(self.shared.woken.swap(0, Ordering::AcqRel))
    }

    /// The context in which a part is polled.
    pub(super) fn context(&self, part: Part) -> Context<'_> {
        Context::from_waker(&self.wakers[part as usize])
    }

    pub(super) fn wake(&self, part: Part) {
        self.wakers[part as usize].wake_by_ref();
    }
}
