//! A mailbox against a model: two queues.

#![cfg(all(target_os = "linux", not(loom)))]

use std::collections::VecDeque;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use simpler_ipc::{Error, Kind, Mailbox, Patience, Region};

const FRAME_BYTES: usize = 48;

#[derive(Debug, Clone)]
enum Step {
    Send(Kind, Vec<u8>),
    Recv,
    Reply(i32, Vec<u8>),
    Poll,
    Keep,
    NewClient,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..FRAME_BYTES + 4)
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Task), Just(Kind::Control), Just(Kind::Shutdown)];
    prop_oneof![
        4 => (kind, bytes()).prop_map(|(kind, bytes)| Step::Send(kind, bytes)),
        4 => Just(Step::Recv),
        4 => (any::<i32>(), bytes()).prop_map(|(code, bytes)| Step::Reply(code, bytes)),
        4 => Just(Step::Poll),
        1 => Just(Step::Keep),
        1 => Just(Step::NewClient),
    ]
}

proptest! {
    #[test]
    fn every_request_gets_its_reply_in_order(depth in 1usize..6, steps in vec(step(), 1..200)) {
        let region = Region::anonymous(Mailbox::required_bytes(depth, FRAME_BYTES).unwrap(), "test").unwrap();
        let mailbox = Mailbox::new(&region, 0, depth, FRAME_BYTES).unwrap();
        let mut client = mailbox.client(None).unwrap();
        let mut server = mailbox.server(None).unwrap();
        let mut next_ticket = 0;
        let mut posted: VecDeque<(u64, Kind, Vec<u8>)> = VecDeque::new();
        let mut received: VecDeque<(u64, Kind)> = VecDeque::new();
        let mut finished: VecDeque<(u64, Kind, i32, Vec<u8>)> = VecDeque::new();
        let mut kept = 0;

        for step in steps {
            let in_frames = posted.len() + received.len() + finished.len() - kept;
            match step {
                Step::Send(kind, bytes) => match client.send(kind, &bytes) {
                    Err(Error::FrameTooLarge { nbytes, .. }) => prop_assert!(nbytes > FRAME_BYTES),
                    sent => {
                        prop_assert!(bytes.len() <= FRAME_BYTES);
                        prop_assert_eq!(sent.unwrap(), (in_frames < depth).then_some(next_ticket));
                        if in_frames < depth {
                            posted.push_back((next_ticket, kind, bytes));
                            next_ticket += 1;
                        }
                    }
                },
                Step::Recv => match server.recv(&mut Patience::limited(Duration::ZERO)) {
                    Ok(request) => {
                        let expected = posted.pop_front().unwrap();
                        prop_assert_eq!((request.ticket, request.kind, request.payload.to_vec()), expected.clone());
                        received.push_back((expected.0, expected.1));
                    }
                    Err(Error::WaitTimeout { .. }) => prop_assert!(posted.is_empty()),
                    Err(Error::Misused(_)) => prop_assert_eq!(received.len(), depth),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                },
                Step::Reply(code, bytes) => match server.reply(code, &bytes) {
                    Ok(()) => {
                        let (ticket, kind) = received.pop_front().unwrap();
                        finished.push_back((ticket, kind, code, bytes));
                    }
                    Err(Error::Misused(_)) => prop_assert!(received.is_empty()),
                    Err(Error::FrameTooLarge { .. }) => prop_assert!(bytes.len() > FRAME_BYTES),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                },
                Step::Poll => {
                    let reply = client.poll().unwrap().map(|r| (r.ticket, r.kind, r.code, r.payload));
                    prop_assert_eq!(reply, finished.pop_front());
                    kept = kept.saturating_sub(1);
                }
                Step::Keep => {
                    client.keep().unwrap();
                    kept = (kept + 1).min(finished.len());
                }
                // What a client kept goes with it.
                Step::NewClient => {
                    client = mailbox.client(None).unwrap();
                    finished.drain(..kept);
                    kept = 0;
                }
            }
            prop_assert_eq!(client.in_flight(), posted.len() + received.len() + finished.len());
        }
    }
}
