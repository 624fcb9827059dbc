//! Claims: frames that are being filled, and who may fill them.

#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use std::thread;

use common::{no_wait, pair, region, write, FRAME_BYTES, REPLY};
use simpler_ipc::{Error, Kind, Mailbox, MailboxClient, Patience, Request};

#[test]
fn claims_are_filled_at_a_time_and_received_in_order() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let mut first = client.claim().unwrap().unwrap();
    let mut second = client.claim().unwrap().unwrap();
    let third = client.claim().unwrap().unwrap();
    second.copy_from(b"second").unwrap();
    assert_eq!(client.submit(second, Kind::Task, 6).unwrap(), 1);
    assert!(matches!(server.recv(&mut no_wait()), Err(Error::WaitTimeout { .. })), "the first is not there yet");
    first.copy_from(b"first").unwrap();
    assert_eq!(client.submit(first, Kind::Control, 5).unwrap(), 0);
    client.give_up(third).unwrap();
    client.send(Kind::Task, b"fourth").unwrap();
    let mut received = Vec::new();
    while let Ok(Request { payload, .. }) = server.recv(&mut no_wait()) {
        received.push(String::from_utf8(payload.to_vec()).unwrap());
    }
    assert_eq!(received, ["first", "second", "fourth"]);
    for _ in 0..3 {
        server.reply(0, &[]).unwrap();
    }
    let tickets: Vec<_> = std::iter::from_fn(|| client.poll().unwrap()).map(|reply| reply.ticket).collect();
    assert_eq!(tickets, [0, 1, 3], "what was given up comes to nobody");
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_claim_is_for_the_client_that_gave_it() {
    let (region, shallow) = (region(), region());
    let (mut client, mut server) = pair(&region);
    let mailbox = Mailbox::new(&shallow, 0, 1, 8).unwrap();
    let (mut other, mut served) = (mailbox.client(None).unwrap(), mailbox.server(None).unwrap());
    for _ in 0..3 {
        client.send(Kind::Task, b"?").unwrap();
    }
    // Its frame, number 3, is one that the other lane does not have.
    let mut claim = || {
        let mut claim = client.claim().unwrap().unwrap();
        assert_eq!(claim.frame(), 3);
        claim.copy_from(b"for its own").unwrap();
        claim
    };
    assert!(matches!(other.submit(claim(), Kind::Task, 4), Err(Error::Misused(_))));
    for _ in 0..4 {
        match server.try_recv().unwrap() {
            Some(request) => assert!(request.ticket < 3),
            None => break,
        }
        server.reply(0, &[]).unwrap();
    }
    while client.poll().unwrap().is_some() {}
    assert_eq!(client.in_flight(), 0, "the claim's place is given back");
    assert!(served.try_recv().unwrap().is_none());

    // SAFETY: a slice is valid for its length.
    let raw = |other: &mut MailboxClient, claim| unsafe { other.submit_raw(claim, Kind::Task, [1u8; 8].as_ptr(), 8) };
    let claim = client.claim().unwrap().unwrap();
    assert!(matches!(raw(&mut other, claim), Err(Error::Misused(_))));
    let claim = client.claim().unwrap().unwrap();
    assert!(matches!(other.give_up(claim), Err(Error::Misused(_))));
    assert!(served.try_recv().unwrap().is_none());
    assert_eq!(other.send(Kind::Task, b"!").unwrap(), Some(0), "its own lane is as it was");
    assert_eq!(served.try_recv().unwrap().unwrap().payload.to_vec(), b"!");
}

#[test]
fn a_dropped_claim_gives_its_frame_back() {
    fn fill(client: &mut MailboxClient, bytes: &[u8]) -> simpler_ipc::Result<u64> {
        let mut claim = client.claim()?.unwrap();
        claim.copy_from(bytes)?; // the claim is dropped here if they do not fit
        client.submit(claim, Kind::Task, bytes.len())
    }
    let region = region();
    let (mut client, mut server) = pair(&region);
    for round in 0..3 * 4u64 {
        assert!(matches!(fill(&mut client, &[0; FRAME_BYTES + 1]), Err(Error::FrameTooLarge { .. })));
        assert_eq!(fill(&mut client, b"fits").unwrap(), 2 * round + 1);
        assert_eq!(server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"fits");
        server.reply(0, b"!").unwrap();
        assert_eq!(client.poll().unwrap().unwrap().ticket, 2 * round + 1, "what was given up comes to nobody");
        assert_eq!((client.in_flight(), client.free()), (0, 4));
    }
}

#[test]
fn a_claim_dropped_by_another_thread_wakes_a_server_that_waits_for_it() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let claim = client.claim().unwrap().unwrap();
    client.send(Kind::Task, b"behind it").unwrap();
    let serving = thread::spawn(move || {
        let ticket = server.recv(&mut Patience::forever()).unwrap().ticket;
        server.reply(0, &[]).unwrap();
        ticket
    });
    thread::spawn(move || drop(claim)).join().unwrap();
    client.wait(&mut Patience::forever()).unwrap();
    assert_eq!(serving.join().unwrap(), 1);
    assert_eq!(client.poll().unwrap().unwrap().ticket, 1);
    assert_eq!((client.in_flight(), client.poll().unwrap()), (0, None));
}

#[test]
fn a_claim_that_outlives_its_client_keeps_its_frame_from_a_successor_until_it_is_dropped() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let mut claim = client.claim().unwrap().unwrap();
    client.send(Kind::Task, b"behind it").unwrap();
    drop(client);
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    claim.copy_from(b"still its own").unwrap();
    assert!(matches!(mailbox.client(None), Err(Error::Misused(_))), "two would write to one frame");
    drop(claim);
    let mut client = mailbox.client(None).unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 1, "the successor has given the place up");
    server.reply(0, &[]).unwrap();
    assert_eq!(client.poll().unwrap().unwrap().ticket, 1);
    assert_eq!(client.send(Kind::Task, b"mine").unwrap(), Some(2));
}

#[test]
fn a_reply_to_a_claim_that_was_not_submitted_is_corruption_and_frees_no_frame() {
    let region = region();
    let (mut client, _server) = pair(&region);
    let claim = client.claim().unwrap().unwrap();
    // As a wrong peer may: generation 0, kind task, status ok.
    write(&region, REPLY, &(1u64 << 3 | 1).to_ne_bytes());
    for _ in 0..2 {
        assert!(matches!(client.poll(), Err(Error::Corrupted(_))));
        assert!(matches!(client.make_room(), Err(Error::Corrupted(_))));
    }
    let others = std::iter::from_fn(|| client.claim().ok().flatten()).collect::<Vec<_>>();
    assert!(others.iter().all(|other| other.frame() != claim.frame()), "two claims of one frame");
}
