//! Threads that share one client, each waiting for its own reply: one takes another's out of its frame, and uses the frame
//! again, while that one is on its way to look.
//!
//! `Progress::look_for`, the frames and the bells are the library's. The client's list of what it has in flight is written
//! anew, behind a lock as it is behind that of a `SharedClient`.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Mutex};
use loom::thread;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Kind, Next, Posted, ReplyHeader, RequestHeader, Status};
use simpler_ipc::protocol::progress::Progress;

use crate::{model_with, read, wait, wake, write};

const BYTES: usize = 8;

/// A lane of one frame, and the client of the threads.
struct Shared {
    request: RequestHeader,
    asked: UnsafeCell<u64>,
    reply: ReplyHeader,
    answered: UnsafeCell<u64>,
    requests: Bell,
    replies: Bell,
    progress: Progress,
    client: Mutex<Client>,
}

#[derive(Default)]
struct Client {
    next: u64,
    oldest: u64,
    /// Replies taken out of the frame for whom they are for.
    kept: Vec<(u64, u64)>,
}

impl Shared {
    fn new() -> Self {
        Shared {
            request: RequestHeader::default(),
            asked: UnsafeCell::new(0),
            reply: ReplyHeader::default(),
            answered: UnsafeCell::new(0),
            requests: Bell::default(),
            replies: Bell::default(),
            progress: Progress::at(0, 0),
            client: Mutex::new(Client::default()),
        }
    }

    fn wait_for(&self, wanted: u64) {
        wait(&self.replies, || self.progress.look_for(wanted, BYTES, |ticket| (&self.reply, ticket)));
    }

    fn send(&self, value: u64) -> Option<u64> {
        let mut client = self.client.lock().unwrap();
        if client.next > client.oldest {
            return None;
        }
        let ticket = client.next;
        assert!(self.reply.is_before(ticket));
        client.next += 1;
        self.progress.set_begun(client.next);
        write(&self.asked, value);
        self.request.post(ticket, Posted { kind: Kind::Task, nbytes: BYTES });
        wake(&self.requests);
        Some(ticket)
    }

    /// Takes the oldest reply out of its frame, if it is there.
    fn make_room(&self) {
        let mut client = self.client.lock().unwrap();
        let oldest = client.oldest;
        if client.next > oldest && self.reply.finished(oldest, BYTES).unwrap().is_some() {
            client.kept.push((oldest, read(&self.answered)));
            client.oldest += 1;
            self.progress.set_ended(client.oldest);
        }
    }

    fn take(&self, ticket: u64) -> Option<u64> {
        let mut client = self.client.lock().unwrap();
        let kept = client.kept.iter().position(|(kept, _)| *kept == ticket)?;
        Some(client.kept.swap_remove(kept).1)
    }

    /// As `SharedClient::call`.
    fn call(&self, value: u64) -> u64 {
        let ticket = loop {
            if let Some(ticket) = self.send(value) {
                break ticket;
            }
            // As `ReplyWaiter::wait_for_room`.
            match self.progress.begun().checked_sub(1) {
                Some(blocking) => self.wait_for(blocking),
                None => continue,
            }
            self.make_room();
        };
        loop {
            self.wait_for(ticket);
            self.make_room();
            if let Some(value) = self.take(ticket) {
                return value;
            }
        }
    }

    fn serve(&self, requests: u64) {
        for generation in 0..requests {
            wait(&self.requests, || {
                let next = self.request.peek(generation, BYTES)?;
                Ok((next != Next::Nothing).then_some(()))
            });
            write(&self.answered, read(&self.asked) + 1);
            self.reply.finish(&self.request, generation, Status::Ok, 0, BYTES);
            wake(&self.replies);
        }
    }
}

/// With at most two preemptions: three threads, of which two go around loops of their own.
#[test]
fn threads_of_one_client_hand_replies_and_frames_over_and_each_gets_its_own() {
    model_with(2, || {
        let shared = Arc::new(Shared::new());
        let server = {
            let shared = shared.clone();
            thread::spawn(move || shared.serve(2))
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || shared.call(10))
        };
        assert_eq!(shared.call(20), 21);
        assert_eq!(other.join().unwrap(), 11);
        server.join().unwrap();
        assert_eq!(shared.client.lock().unwrap().oldest, 2);
    });
}

#[test]
fn a_thread_that_waits_learns_that_another_took_its_reply_and_used_the_frame_again() {
    model_with(2, || {
        let shared = Arc::new(Shared::new());
        assert_eq!(shared.send(10), Some(0));
        let server = {
            let shared = shared.clone();
            thread::spawn(move || shared.serve(1))
        };
        let waiter = {
            let shared = shared.clone();
            thread::spawn(move || shared.wait_for(0))
        };
        shared.wait_for(0);
        shared.make_room();
        assert_eq!(shared.take(0), Some(11));
        // Never answered: what the frame says now is not what the waiter waits for.
        assert_eq!(shared.send(20), Some(1));
        waiter.join().unwrap();
        server.join().unwrap();
    });
}
