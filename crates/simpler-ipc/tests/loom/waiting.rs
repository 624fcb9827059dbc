//! Waits that more than one thing may end: a wait set that watches peers, and the thread of a notifier.
//!
//! `wait_for`, the bells and `Arming` are the library's. The peers' descriptors are left out: a watcher's thread learns of a
//! death (here: that a thread has ended), marks the peer and rings, in that order, as `Watcher::run` does. The eventfd is a
//! flag that is slept on.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::time::Duration;

use simpler_ipc::protocol::arming::Arming;
use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Kind, Posted, ReplyHeader, RequestHeader, Status};
use simpler_ipc::protocol::sync::{AtomicU32, Ordering};
use simpler_ipc::spin::Spin;
use simpler_ipc::wait::{wait_for, Interrupted, Patience};
use simpler_ipc::{Error, Result};

use crate::{model, model_with, wake};

/// A doorbell, the reply of a server that rings there, and whether that server is gone.
#[derive(Default)]
struct Watched {
    doorbell: Bell,
    request: RequestHeader,
    reply: ReplyHeader,
    gone: AtomicU32,
}

#[derive(Debug, PartialEq, Eq)]
enum Harvest {
    Reply,
    Death,
}

impl Watched {
    fn with_a_request() -> Self {
        let watched = Watched::default();
        watched.request.post(0, Posted { kind: Kind::Task, nbytes: 0 });
        watched
    }

    /// As a server whose client waits at a doorbell of its own.
    fn answer(&self) {
        self.reply.finish(&self.request, 0, Status::Ok, 0, 0);
        self.doorbell.ring();
    }

    /// As the watcher.
    fn tell_of_death(&self) {
        self.gone.store(1, Ordering::Release);
        self.doorbell.ring();
    }

    /// As `WaitSet::wait_or_death`: whether it was a death that ended the wait.
    fn wait_or_death(&self, seen: u32, reported: &mut bool) -> Result<bool> {
        let changed = || Ok((self.doorbell.value() != seen).then_some(()));
        let mut death = false;
        let waited = wait_for(&self.doorbell, &Spin::new(), &mut Patience::forever(), "the model", changed, || {
            death = self.gone.load(Ordering::Acquire) == 1 && !*reported;
            *reported |= death;
            if death {
                Err(Error::Interrupted)
            } else {
                Ok(())
            }
        });
        match (waited, death) {
            (Err(Error::Interrupted), true) => Ok(true),
            (Ok(()), true) => {
                *reported = false;
                Ok(false)
            }
            (waited, _) => waited.map(|()| false),
        }
    }

    /// As `WaitSet::harvest`.
    fn harvest(&self, taken: &mut bool, reported: &mut bool) -> Harvest {
        let mut sweep = || {
            let there = !*taken && self.reply.finished(0, 0).unwrap().is_some();
            *taken |= there;
            there
        };
        loop {
            let seen = self.doorbell.value();
            if sweep() {
                return Harvest::Reply;
            }
            if self.wait_or_death(seen, reported).unwrap() {
                if sweep() {
                    *reported = false;
                    return Harvest::Reply;
                }
                return Harvest::Death;
            }
        }
    }
}

#[test]
fn a_wait_set_gives_the_reply_of_a_peer_that_dies_and_then_tells_of_the_death_once() {
    model(|| {
        let watched = Arc::new(Watched::with_a_request());
        let watcher = {
            let watched = watched.clone();
            thread::spawn(move || {
                watched.answer();
                watched.tell_of_death();
            })
        };
        let (mut taken, mut reported) = (false, false);
        assert_eq!(watched.harvest(&mut taken, &mut reported), Harvest::Reply);
        assert_eq!(watched.harvest(&mut taken, &mut reported), Harvest::Death);
        watcher.join().unwrap();
        assert!(reported);
    });
}

#[test]
fn a_wait_set_sleeps_through_neither_a_reply_nor_the_death_of_another_peer() {
    model_with(2, || {
        let watched = Arc::new(Watched::with_a_request());
        let server = {
            let watched = watched.clone();
            thread::spawn(move || watched.answer())
        };
        let watcher = {
            let watched = watched.clone();
            thread::spawn(move || watched.tell_of_death())
        };
        let (mut taken, mut reported) = (false, false);
        let first = watched.harvest(&mut taken, &mut reported);
        let second = watched.harvest(&mut taken, &mut reported);
        assert!([first, second].contains(&Harvest::Reply) && taken && reported, "each comes once");
        server.join().unwrap();
        watcher.join().unwrap();
    });
}

/// What stands for an eventfd.
#[derive(Default)]
struct Event {
    readable: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    fn nudge(&self) {
        *self.readable.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn await_and_clear(&self) {
        let mut readable = self.readable.lock().unwrap();
        while !*readable {
            readable = self.changed.wait(readable).unwrap();
        }
        *readable = false;
    }
}

/// A notifier, the client's bell and its request.
struct Notifier {
    arming: Arming,
    event: Event,
    replies: Bell,
    request: RequestHeader,
    reply: ReplyHeader,
}

impl Notifier {
    fn new() -> Arc<Self> {
        let request = RequestHeader::default();
        request.post(0, Posted { kind: Kind::Task, nbytes: 0 });
        Arc::new(Notifier {
            arming: Arming::new(),
            event: Event::default(),
            replies: Bell::default(),
            request,
            reply: ReplyHeader::default(),
        })
    }

    /// As `Shared::run` does.
    fn run(&self) {
        while self.arming.asked() {
            let mut ended = || if self.arming.is_ended() { Err(Interrupted) } else { Ok(()) };
            let mut patience = Patience::forever().interrupted_by(&mut ended, Duration::from_secs(1));
            let look = || self.reply.finished(0, 0);
            match wait_for(&self.replies, &Spin::new(), &mut patience, "the model", look, || Ok(())) {
                Err(Error::Interrupted) => return,
                waited => drop(waited.unwrap()),
            }
            self.event.nudge();
        }
    }

    /// As its drop does.
    fn end(&self) {
        self.arming.end();
        self.replies.ring();
    }
}

#[test]
fn a_notifier_that_was_armed_tells_of_the_reply_and_ends_when_it_is_told_to() {
    model_with(2, || {
        let notifier = Notifier::new();
        let thread = {
            let notifier = notifier.clone();
            thread::spawn(move || notifier.run())
        };
        let server = {
            let notifier = notifier.clone();
            thread::spawn(move || {
                notifier.reply.finish(&notifier.request, 0, Status::Ok, 0, 0);
                wake(&notifier.replies);
            })
        };
        notifier.arming.arm();
        notifier.event.await_and_clear();
        assert!(!notifier.reply.is_before(0));
        notifier.end();
        thread.join().unwrap();
        server.join().unwrap();
    });
}

#[test]
fn a_notifier_that_waits_for_a_reply_that_never_comes_ends_when_it_is_told_to() {
    model(|| {
        let notifier = Notifier::new();
        let thread = {
            let notifier = notifier.clone();
            thread::spawn(move || notifier.run())
        };
        notifier.arming.arm();
        notifier.end();
        thread.join().unwrap();
    });
}
