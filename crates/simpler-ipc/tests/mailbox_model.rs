//! A mailbox against a model: a list of requests and how far each has come.

#![cfg(all(target_os = "linux", not(loom)))]

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use simpler_ipc::{Error, Kind, Mailbox, Patience, Region, Status};

const FRAME_BYTES: usize = 48;

#[derive(Debug, Clone)]
enum Step {
    Send(Kind, Vec<u8>),
    GiveUp,
    Cancel(u64),
    Recv,
    Reply(i32, Vec<u8>),
    Poll,
    MakeRoom,
    NewClient,
    NewServer,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..FRAME_BYTES + 4)
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Task), Just(Kind::Control), Just(Kind::Shutdown)];
    prop_oneof![
        6 => (kind, bytes()).prop_map(|(kind, bytes)| Step::Send(kind, bytes)),
        1 => Just(Step::GiveUp),
        2 => (0u64..6).prop_map(Step::Cancel),
        6 => Just(Step::Recv),
        6 => (any::<i32>(), bytes()).prop_map(|(code, bytes)| Step::Reply(code, bytes)),
        6 => Just(Step::Poll),
        1 => Just(Step::MakeRoom),
        1 => Just(Step::NewClient),
        1 => Just(Step::NewServer),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Progress {
    Posted,
    Received,
    Cancelled,
    Finished(Status, i32, Vec<u8>),
}

#[derive(Debug, Clone)]
struct Sent {
    ticket: u64,
    kind: Kind,
    payload: Vec<u8>,
    progress: Progress,
    given_up: bool,
}

/// Requests whose reply is not taken, oldest first.
#[derive(Debug, Default)]
struct Model {
    requests: Vec<Sent>,
    kept: Vec<(u64, Kind, Status, i32, Vec<u8>)>,
    /// Where the server is: what stands before has been received or skipped.
    next: u64,
    /// What stands before may have been received, by this server or one before it.
    announced: u64,
}

impl Model {
    fn unreplied(&self) -> usize {
        self.requests.iter().filter(|sent| sent.progress == Progress::Received).count()
    }

    /// The server finishes in order; what is cancelled and skipped is finished with what stands before it.
    fn settle(&mut self) {
        for sent in &mut self.requests {
            match sent.progress {
                Progress::Cancelled if sent.ticket < self.next => {
                    sent.progress = Progress::Finished(Status::Cancelled, 0, Vec::new());
                }
                Progress::Finished(..) => {}
                _ => break,
            }
        }
    }

    /// The server goes on to the next request: which one.
    fn recv(&mut self) -> Option<Sent> {
        loop {
            let next = self.next;
            let sent = self.requests.iter_mut().find(|sent| sent.ticket == next)?;
            self.next += 1;
            let received = sent.progress == Progress::Posted;
            if received {
                sent.progress = Progress::Received;
                self.announced = self.announced.max(next + 1);
                return Some(sent.clone());
            }
            self.settle();
        }
    }

    /// What leaves its frame next, if it is finished.
    fn take(&mut self) -> Option<Sent> {
        let first = self.requests.first()?;
        matches!(first.progress, Progress::Finished(..)).then(|| self.requests.remove(0))
    }

    fn poll(&mut self) -> Option<(u64, Kind, Status, i32, Vec<u8>)> {
        if !self.kept.is_empty() {
            return Some(self.kept.remove(0));
        }
        loop {
            let Sent { ticket, kind, progress, given_up, .. } = self.take()?;
            if let (Progress::Finished(status, code, payload), false) = (progress, given_up) {
                return Some((ticket, kind, status, code, payload));
            }
        }
    }

    /// A client without room frees what nobody waits for.
    fn free(&mut self, depth: usize) -> usize {
        if self.requests.len() == depth {
            while self.requests.first().is_some_and(|sent| sent.given_up) && self.take().is_some() {}
        }
        depth - self.requests.len()
    }
}

proptest! {
    #[test]
    fn every_request_gets_its_reply_in_order(depth in 1usize..6, steps in vec(step(), 1..300)) {
        let region = Region::anonymous(Mailbox::required_bytes(depth, FRAME_BYTES).unwrap(), "test").unwrap();
        let mailbox = Mailbox::new(&region, 0, depth, FRAME_BYTES).unwrap();
        let mut client = mailbox.client(None).unwrap();
        let mut server = mailbox.server(None).unwrap();
        let mut model = Model::default();
        let mut next_ticket = 0;

        for step in steps {
            match step {
                Step::Send(kind, payload) => match client.send(kind, &payload) {
                    Err(Error::FrameTooLarge { nbytes, .. }) => prop_assert!(nbytes > FRAME_BYTES),
                    sent => {
                        prop_assert!(payload.len() <= FRAME_BYTES);
                        let free = model.free(depth);
                        prop_assert_eq!(sent.unwrap(), (free > 0).then_some(next_ticket));
                        if free > 0 {
                            let progress = Progress::Posted;
                            model.requests.push(Sent { ticket: next_ticket, kind, payload, progress, given_up: false });
                            next_ticket += 1;
                        }
                    }
                },
                Step::GiveUp => {
                    let claim = client.claim().unwrap();
                    prop_assert_eq!(claim.is_some(), model.free(depth) > 0);
                    if let Some(claim) = claim {
                        client.give_up(claim).unwrap();
                        let (kind, payload, progress) = (Kind::Task, Vec::new(), Progress::Cancelled);
                        model.requests.push(Sent { ticket: next_ticket, kind, payload, progress, given_up: true });
                        next_ticket += 1;
                    }
                }
                Step::Cancel(back) => {
                    let ticket = next_ticket.wrapping_sub(back);
                    let expected = match model.requests.iter_mut().find(|sent| sent.ticket == ticket) {
                        None => None,
                        Some(sent) => {
                            let posted = sent.progress == Progress::Posted && ticket >= model.announced;
                            if posted {
                                sent.progress = Progress::Cancelled;
                            }
                            Some(posted)
                        }
                    };
                    match client.cancel(ticket) {
                        Ok(cancelled) => prop_assert_eq!(Some(cancelled), expected),
                        Err(Error::Misused(_)) => prop_assert_eq!(None, expected),
                        Err(other) => return Err(TestCaseError::fail(other.to_string())),
                    }
                }
                Step::Recv => match server.recv(&mut Patience::limited(Duration::ZERO)) {
                    Ok(request) => {
                        let expected = model.recv().unwrap();
                        prop_assert_eq!((request.ticket, request.kind), (expected.ticket, expected.kind));
                        prop_assert_eq!(request.payload.to_vec(), expected.payload);
                    }
                    Err(Error::WaitTimeout { .. }) => prop_assert!(model.recv().is_none()),
                    Err(Error::Misused(_)) => {
                        prop_assert!(model.recv().is_none());
                        prop_assert!(model.unreplied() > 0);
                    }
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                },
                Step::Reply(code, payload) => match server.reply(code, &payload) {
                    Ok(()) => {
                        let oldest = model.requests.iter_mut().find(|sent| sent.progress == Progress::Received).unwrap();
                        oldest.progress = Progress::Finished(Status::Ok, code, payload);
                        model.settle();
                    }
                    Err(Error::Misused(_)) => prop_assert_eq!(model.unreplied(), 0),
                    Err(Error::FrameTooLarge { .. }) => prop_assert!(payload.len() > FRAME_BYTES),
                    Err(other) => return Err(TestCaseError::fail(other.to_string())),
                },
                Step::Poll => {
                    let reply = client.poll().unwrap().map(|r| (r.ticket, r.kind, r.status, r.code, r.payload));
                    prop_assert_eq!(reply, model.poll());
                }
                Step::MakeRoom => {
                    client.make_room().unwrap();
                    if let Some(Sent { ticket, kind, progress, given_up, .. }) = model.take() {
                        if let (Progress::Finished(status, code, payload), false) = (progress, given_up) {
                            model.kept.push((ticket, kind, status, code, payload));
                        }
                    }
                }
                // What a client kept goes with it; what it gave up comes to its successor.
                Step::NewClient => {
                    drop(client);
                    client = mailbox.client(None).unwrap();
                    model.kept.clear();
                    model.requests.iter_mut().for_each(|sent| sent.given_up = false);
                }
                // What a server received and did not reply to is received again.
                Step::NewServer => {
                    drop(server);
                    server = mailbox.server(None).unwrap();
                    let unfinished = model.requests.iter_mut().find(|s| !matches!(s.progress, Progress::Finished(..)));
                    model.next = unfinished.map_or(next_ticket, |sent| sent.ticket);
                    for sent in &mut model.requests {
                        if sent.progress == Progress::Received {
                            sent.progress = Progress::Posted;
                        }
                    }
                }
            }
            prop_assert_eq!(client.in_flight(), model.requests.len() + model.kept.len());
            prop_assert_eq!(server.unreplied(), model.unreplied());
        }
    }
}
