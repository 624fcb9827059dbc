//! Successors: who gets the side of a dead owner, and where it stands in a lane whose other side goes on meanwhile.
//!
//! A side is killed after each of its steps in turn. The steps are the stores that others can see; what a process does
//! between two of them nobody can tell from what it did before.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Frame, Kind, Next, Posted, ReplyHeader, RequestHeader, Status, Taking};
use simpler_ipc::protocol::owner::{Identity, Namespace, Owner, Refusal};
use simpler_ipc::protocol::sync::{AtomicU64, Ordering};
use simpler_ipc::protocol::turn::{scan_as_client, scan_as_server, Turn};

use crate::{model, model_with, read, wait, wake, write};

const NAMESPACE: u64 = 7;

fn process(pid: i32) -> Identity {
    Identity::new(pid, 5, 0)
}

/// A side, and what only its owner touches: loom fails the test if two do.
#[derive(Default)]
struct Side {
    owner: Owner,
    state: UnsafeCell<u64>,
}

impl Side {
    fn claim(&self, own: Identity, dead: Identity) -> Result<Option<Identity>, Refusal> {
        let claimed = self.owner.claim(own, NAMESPACE, |found| Ok(found == dead)).unwrap();
        if claimed.is_ok() {
            // SAFETY: the owner's alone.
            self.state.with_mut(|state| unsafe { *state += 1 });
        }
        claimed
    }
}

#[test]
fn of_two_successors_of_a_dead_owner_one_gets_the_side_and_the_other_learns_its_name() {
    model(|| {
        let side = Arc::new(Side::default());
        side.claim(process(1), process(0)).unwrap();
        let other = {
            let side = side.clone();
            thread::spawn(move || side.claim(process(2), process(1)))
        };
        let outcomes = (side.claim(process(3), process(1)), other.join().unwrap());
        let (first, second) = (Err(Refusal::Taken(process(2))), Err(Refusal::Taken(process(3))));
        let follows = Ok(Some(process(1)));
        assert!(outcomes == (follows, second) || outcomes == (first, follows), "{outcomes:?}");
    });
}

#[test]
fn a_successor_sees_all_that_an_owner_did_before_it_let_go() {
    model(|| {
        let side = Arc::new(Side::default());
        side.claim(process(1), process(0)).unwrap();
        let successor = {
            let side = side.clone();
            thread::spawn(move || side.claim(process(2), process(0)))
        };
        // SAFETY: the owner's alone.
        side.state.with_mut(|state| unsafe { *state += 1 });
        side.owner.release(process(1));
        match successor.join().unwrap() {
            Ok(before) => assert_eq!(before, None),
            Err(refused) => assert_eq!(refused, Refusal::Taken(process(1))),
        }
        // Whoever was not the owner any more has let go of nothing.
        side.owner.release(process(1));
        side.claim(process(3), process(2)).unwrap();
    });
}

#[test]
fn processes_of_one_pid_namespace_are_admitted() {
    model(|| {
        let namespace = Arc::new(Namespace::default());
        let other = {
            let namespace = namespace.clone();
            thread::spawn(move || namespace.admits(1))
        };
        let own = namespace.admits(2);
        assert!(own ^ other.join().unwrap());
        assert_eq!((namespace.admits(1), namespace.admits(2)), (!own, own));
    });
}

const DEPTH: usize = 2;
const BYTES: usize = 8;
/// What the last request holds.
const LAST: u64 = 100;

#[derive(Default)]
struct Lane {
    requests: [RequestHeader; DEPTH],
    asked: [UnsafeCell<u64>; DEPTH],
    replies: [ReplyHeader; DEPTH],
    answered: [UnsafeCell<u64>; DEPTH],
    requests_bell: Bell,
    replies_bell: Bell,
    taking: Taking,
    taken: AtomicU64,
}

impl Lane {
    fn frame(&self, frame: usize) -> Frame<'_> {
        Frame { request: &self.requests[frame], reply: &self.replies[frame] }
    }

    fn post(&self, ticket: u64, value: u64) {
        let turn = Turn::at(ticket, DEPTH);
        let Frame { request, reply } = self.frame(turn.frame);
        assert!(reply.is_before(turn.generation));
        write(&self.asked[turn.frame], value);
        request.post(turn.generation, Posted { kind: Kind::Task, nbytes: BYTES });
    }

    fn await_reply(&self, ticket: u64) -> (Status, i32, u64) {
        let turn = Turn::at(ticket, DEPTH);
        let reply = wait(&self.replies_bell, || self.replies[turn.frame].finished(turn.generation, BYTES));
        (reply.status, reply.code, read(&self.answered[turn.frame]))
    }

    fn await_request(&self, ticket: u64) -> Turn {
        let turn = Turn::at(ticket, DEPTH);
        wait(&self.requests_bell, || {
            let next = self.requests[turn.frame].peek(turn.generation, BYTES)?;
            Ok((next != Next::Nothing).then_some(()))
        });
        turn
    }

    fn finish(&self, turn: Turn) {
        let Frame { request, reply } = self.frame(turn.frame);
        reply.finish(request, turn.generation, Status::Ok, 0, BYTES);
    }

    /// Answers requests from `ticket` on until the last: how many there were.
    fn serve(&self, mut ticket: u64) -> u64 {
        loop {
            let turn = self.await_request(ticket);
            assert!(self.taking.take(ticket, &self.requests[turn.frame], turn.generation));
            let value = read(&self.asked[turn.frame]);
            write(&self.answered[turn.frame], value + 1);
            self.finish(turn);
            wake(&self.replies_bell);
            ticket += 1;
            if value == LAST {
                return ticket;
            }
        }
    }
}

/// A client's life, killed after so many steps.
fn client_until(lane: &Lane, steps: usize) {
    let life: [&dyn Fn(); 7] = [
        &|| lane.post(0, 10),
        &|| wake(&lane.requests_bell),
        &|| lane.post(1, 11),
        &|| wake(&lane.requests_bell),
        &|| assert_eq!(lane.await_reply(0), (Status::Ok, 0, 11)),
        &|| lane.taken.store(1, Ordering::Release),
        // Its place in the lane is taken, the frame half filled.
        &|| write(&lane.asked[0], 7),
    ];
    life.iter().take(steps).for_each(|step| step());
}

#[test]
fn a_client_that_comes_anew_stands_where_a_killed_one_stood_while_the_server_goes_on() {
    for steps in 0..=7 {
        model_with(2, move || {
            let lane = Arc::new(Lane::default());
            let server = {
                let lane = lane.clone();
                thread::spawn(move || lane.serve(0))
            };
            client_until(&lane, steps);

            let taken = lane.taken.load(Ordering::Acquire);
            let frames = scan_as_client(DEPTH, |frame| lane.frame(frame).word(), taken).unwrap();
            let next = frames.iter().rfind(|found| found.is_posted()).map_or(taken, |found| found.turn.ticket + 1);
            let posted = [0, 1, 1, 2, 2, 2, 2, 2][steps];
            assert_eq!((frames[0].turn.ticket, next), (u64::from(steps > 5), posted), "killed after {steps} steps");
            // What was posted and not rung for.
            wake(&lane.requests_bell);
            for ticket in taken..next {
                assert_eq!(lane.await_reply(ticket), (Status::Ok, 0, 11 + ticket));
                lane.taken.store(ticket + 1, Ordering::Release);
            }
            lane.post(next, LAST);
            wake(&lane.requests_bell);
            assert_eq!(lane.await_reply(next), (Status::Ok, 0, LAST + 1));
            assert_eq!(server.join().unwrap(), next + 1, "each request is received once");
        });
    }
}

/// A server's life, killed after so many steps.
fn server_until(lane: &Lane, steps: usize) {
    let turn = Turn::at(0, DEPTH);
    let life: [&dyn Fn(); 5] = [
        &|| assert_eq!(lane.await_request(0), turn),
        &|| assert!(lane.taking.take(0, &lane.requests[0], turn.generation)),
        // Half a reply.
        &|| write(&lane.answered[0], 7),
        &|| {
            write(&lane.answered[0], 11);
            lane.finish(turn);
        },
        &|| wake(&lane.replies_bell),
    ];
    life.iter().take(steps).for_each(|step| step());
}

#[test]
fn a_request_whose_server_was_killed_is_answered_once_by_it_or_by_its_successor() {
    for steps in 0..=5 {
        model_with(2, move || {
            let lane = Arc::new(Lane::default());
            let client = {
                let lane = lane.clone();
                thread::spawn(move || {
                    lane.post(0, 10);
                    wake(&lane.requests_bell);
                    let reply = lane.await_reply(0);
                    lane.post(1, LAST);
                    wake(&lane.requests_bell);
                    assert_eq!(lane.await_reply(1), (Status::Ok, 0, LAST + 1));
                    reply
                })
            };
            server_until(&lane, steps);

            let next = scan_as_server(DEPTH, |frame| lane.frame(frame).word()).unwrap();
            assert_eq!(next.ticket, u64::from(steps > 3), "what has no reply is received again");
            // What was answered and not rung for.
            wake(&lane.replies_bell);
            assert_eq!(lane.serve(next.ticket), 2);
            assert_eq!(client.join().unwrap(), (Status::Ok, 0, 11), "the reply is whole");
        });
    }
}
