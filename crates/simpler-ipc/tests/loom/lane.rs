//! A frame: used again, taken or cancelled.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Finished, FrameHeader, Kind, Next, Posted, Status, Taking};

use crate::{model, wait, wake};

/// One frame, its payload, the two bells, and what the server is taking.
#[derive(Default)]
struct Lane {
    frame: FrameHeader,
    payload: UnsafeCell<u64>,
    requests: Bell,
    replies: Bell,
    taking: Taking,
}

impl Lane {
    fn read(&self) -> u64 {
        // SAFETY: only called by the side that owns the frame; loom fails the test if that is not so.
        self.payload.with(|payload| unsafe { *payload })
    }

    fn write(&self, value: u64) {
        // SAFETY: as in `read`.
        self.payload.with_mut(|payload| unsafe { *payload = value })
    }

    fn post(&self, generation: u64, nbytes: usize) {
        self.frame.post(generation, Posted { kind: Kind::Task, nbytes });
        wake(&self.requests);
    }

    fn finish(&self, generation: u64, status: Status, code: i32) {
        self.frame.finish(generation, status, code, 8);
        wake(&self.replies);
    }

    fn next_request(&self, generation: u64) -> Next {
        wait(&self.requests, || {
            let next = self.frame.peek(generation, 8)?;
            Ok((next != Next::Nothing).then_some(next))
        })
    }

    fn reply(&self, generation: u64) -> Finished {
        wait(&self.replies, || self.frame.finished(generation, 8))
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
                    assert!(lane.taking.take(generation, &lane.frame, generation));
                    let value = lane.read();
                    lane.taking.overwrite(generation);
                    lane.write(value + 1);
                    lane.finish(generation, Status::Ok, 7);
                }
            })
        };
        for generation in 0..2 {
            assert!(lane.frame.is_idle(generation));
            lane.write(10 * generation);
            lane.post(generation, generation as usize);
            let reply = lane.reply(generation);
            assert_eq!((reply.status, reply.code, reply.nbytes), (Status::Ok, 7, 8));
            assert_eq!(lane.read(), 10 * generation + 1);
        }
        server.join().unwrap();
    });
}

/// Takes the request that is there unless it is cancelled, and answers it either way: whether it took it.
fn take_or_skip(lane: &Lane) -> bool {
    let taken = match lane.next_request(0) {
        Next::Request(_) => lane.taking.take(0, &lane.frame, 0),
        _ => false,
    };
    lane.finish(0, if taken { Status::Ok } else { Status::Cancelled }, 0);
    taken
}

/// Takes the request back and waits for its reply: whether it was promised that nobody takes it, and how it ended.
fn take_back(lane: &Lane) -> (bool, Status) {
    let cancelled = lane.taking.cancel(0, &lane.frame, 0);
    if cancelled {
        wake(&lane.requests);
    }
    (cancelled, lane.reply(0).status)
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
