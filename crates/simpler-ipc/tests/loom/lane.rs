//! A frame: used again, taken or cancelled.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Finished, Kind, Next, Posted, ReplyHeader, RequestHeader, Status, Taking};

use crate::{model, read, wait, wake, write};

/// One frame, its payloads, the two bells, and what the server is taking.
#[derive(Default)]
struct Lane {
    request: RequestHeader,
    asked: UnsafeCell<u64>,
    reply: ReplyHeader,
    answered: UnsafeCell<u64>,
    requests: Bell,
    replies: Bell,
    taking: Taking,
}

impl Lane {
    fn post(&self, generation: u64, nbytes: usize) {
        self.request.post(generation, Posted { kind: Kind::Task, nbytes });
        wake(&self.requests);
    }

    fn finish(&self, generation: u64, status: Status, code: i32) {
        self.reply.finish(&self.request, generation, status, code, 8);
        wake(&self.replies);
    }

    fn next_request(&self, generation: u64) -> Next {
        wait(&self.requests, || {
            let next = self.request.peek(generation, 8)?;
            Ok((next != Next::Nothing).then_some(next))
        })
    }

    fn next_reply(&self, generation: u64) -> Finished {
        wait(&self.replies, || self.reply.finished(generation, 8))
    }
}

#[test]
fn a_frame_is_reused_and_nobody_sleeps_through_a_request_or_a_reply() {
    model(|| {
        let lane = Arc::new(Lane::default());
        let server = {
            let lane = lane.clone();
            thread::spawn(move || {
                for generation in 0..2 {
                    let request = lane.next_request(generation);
                    assert_eq!(request, Next::Request(Posted { kind: Kind::Task, nbytes: generation as usize }));
                    assert!(lane.taking.take(generation, &lane.request, generation));
                    write(&lane.answered, read(&lane.asked) + 1);
                    lane.finish(generation, Status::Ok, 7);
                }
            })
        };
        for generation in 0..2 {
            assert!(lane.reply.is_before(generation));
            write(&lane.asked, 10 * generation);
            lane.post(generation, generation as usize);
            let reply = lane.next_reply(generation);
            assert_eq!((reply.status, reply.code, reply.nbytes), (Status::Ok, 7, 8));
            assert_eq!(read(&lane.answered), 10 * generation + 1);
        }
        server.join().unwrap();
    });
}

/// Takes the request that is there unless it is cancelled, and answers it either way: whether it took it.
fn take_or_skip(lane: &Lane) -> bool {
    let taken = match lane.next_request(0) {
        Next::Request(_) => lane.taking.take(0, &lane.request, 0),
        _ => false,
    };
    lane.finish(0, if taken { Status::Ok } else { Status::Cancelled }, 0);
    taken
}

/// Takes the request back and waits for its reply: whether it was promised that nobody takes it, and how it ended.
fn take_back(lane: &Lane) -> (bool, Status) {
    let cancelled = lane.taking.cancel(0, &lane.request, 0);
    if cancelled {
        wake(&lane.requests);
    }
    (cancelled, lane.next_reply(0).status)
}

fn check_taken_or_cancelled(taken: bool, (cancelled, status): (bool, Status)) {
    assert!(!(taken && cancelled), "promised to be cancelled, and taken");
    assert_eq!(status, if taken { Status::Ok } else { Status::Cancelled });
}

// Twice, because loom tries a read of one thread before a write of another only where the reader was started first.

#[test]
fn a_request_is_taken_or_cancelled_and_never_both() {
    model(|| {
        let lane = Arc::new(Lane::default());
        lane.post(0, 0);
        let server = {
            let lane = lane.clone();
            thread::spawn(move || take_or_skip(&lane))
        };
        let client = take_back(&lane);
        check_taken_or_cancelled(server.join().unwrap(), client);
    });
}

#[test]
fn a_request_is_cancelled_or_taken_and_never_both() {
    model(|| {
        let lane = Arc::new(Lane::default());
        lane.post(0, 0);
        let client = {
            let lane = lane.clone();
            thread::spawn(move || take_back(&lane))
        };
        let taken = take_or_skip(&lane);
        check_taken_or_cancelled(taken, client.join().unwrap());
    });
}
