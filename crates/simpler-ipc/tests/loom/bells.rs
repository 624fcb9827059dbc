//! Bells: nobody sleeps through a ring, wherever it waits.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Kind, Next, Posted, ReplyHeader, RequestHeader, Status};
use simpler_ipc::protocol::lane::{Elsewhere, Waiting};
use simpler_ipc::protocol::sync::{fence, AtomicU32, Ordering};
use simpler_ipc::spin::Spin;
use simpler_ipc::wait::{wait_for, Patience};
use simpler_ipc::Error;

use crate::{model, wait};

#[test]
fn a_bell_wakes_every_sleeper() {
    model(|| {
        let bell = Arc::new(Bell::default());
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let bell = bell.clone();
                thread::spawn(move || wait(&bell, || Ok((bell.value() != 0).then_some(()))))
            })
            .collect();
        bell.ring();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

#[test]
fn a_waiter_sees_what_was_written_before_a_ring() {
    model(|| {
        let shared = Arc::new((Bell::default(), UnsafeCell::new(0)));
        let ringer = {
            let shared = shared.clone();
            thread::spawn(move || {
                // SAFETY: the other thread reads after the ring only; loom fails the test if that is not so.
                shared.1.with_mut(|value| unsafe { *value = 1 });
                shared.0.ring();
            })
        };
        wait(&shared.0, || Ok((shared.0.value() != 0).then_some(())));
        // SAFETY: the write came before the ring.
        assert_eq!(shared.1.with(|value| unsafe { *value }), 1);
        ringer.join().unwrap();
    });
}

#[test]
fn a_server_that_moves_to_another_bell_is_woken_there() {
    model(|| {
        let shared = Arc::new((Waiting::default(), RequestHeader::default(), Bell::default()));
        let server = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (waiting, request, elsewhere) = &*shared;
                waiting.sleep_at(Elsewhere { region: 1, offset: 0 });
                wait(elsewhere, || Ok((request.peek(0, 8)? != Next::Nothing).then_some(())));
            })
        };
        let (waiting, request, elsewhere) = &*shared;
        request.post(0, Posted { kind: Kind::Task, nbytes: 0 });
        fence(Ordering::SeqCst);
        match waiting.place() {
            Some((_, Elsewhere { region: 0, .. })) => waiting.own.wake_sleepers(),
            Some(_) => elsewhere.ring(),
            // The server is about to move, and looks afterwards.
            None => {}
        }
        server.join().unwrap();
    });
}

#[test]
fn a_reply_given_before_death_is_taken_instead_of_the_death() {
    model(|| {
        let shared = Arc::new(((RequestHeader::default(), ReplyHeader::default()), Bell::default(), AtomicU32::new(0)));
        shared.0 .0.post(0, Posted { kind: Kind::Task, nbytes: 0 });
        let server = {
            let shared = shared.clone();
            thread::spawn(move || {
                let ((request, reply), replies, gone) = &*shared;
                reply.finish(request, 0, Status::Ok, 0, 0);
                gone.store(1, Ordering::Release);
                replies.ring();
            })
        };
        let ((_, reply), replies, gone) = &*shared;
        let dead = || match gone.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(Error::Misused("the server is gone".to_owned())),
        };
        let look = || reply.finished(0, 8);
        wait_for(replies, &Spin::new(), &mut Patience::forever(), "the model", look, dead).unwrap();
        server.join().unwrap();
    });
}
