//! Mailboxes: order, depth, doorbells, limits, and memory that a peer has spoilt.

#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use std::thread;

use common::{no_wait, pair, region, write, FRAME_BYTES, REPLY, REQUEST, STRIDE};
use simpler_ipc::{Doorbell, Error, HeapRing, Kind, Mailbox, Patience, Region, Reply, SharedClient, Status};

#[test]
fn a_reply_carries_ticket_kind_code_and_bytes() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    assert_eq!(client.send(Kind::Control, b"question").unwrap(), Some(0));
    let request = server.recv(&mut no_wait()).unwrap();
    assert_eq!((request.ticket, request.kind, request.payload.to_vec()), (0, Kind::Control, b"question".to_vec()));
    server.reply(-5, b"answer").unwrap();
    let reply = client.poll().unwrap().unwrap();
    assert_eq!(
        reply,
        Reply { ticket: 0, kind: Kind::Control, status: Status::Ok, code: -5, payload: b"answer".to_vec() }
    );
}

#[test]
fn a_lane_takes_as_many_requests_as_it_is_deep() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for ticket in 0..4 {
        assert_eq!(client.send(Kind::Task, &[ticket as u8]).unwrap(), Some(ticket));
    }
    assert_eq!(client.send(Kind::Task, b"one too many").unwrap(), None);
    assert_eq!((client.in_flight(), client.free()), (4, 0));
    for ticket in 0..4 {
        assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, ticket);
    }
    assert!(matches!(server.recv(&mut no_wait()), Err(Error::Misused(_))), "nothing can come before a reply");
    server.reply(0, &[]).unwrap();
    assert!(matches!(server.recv(&mut no_wait()), Err(Error::WaitTimeout { .. })));
    assert_eq!(client.poll().unwrap().unwrap().ticket, 0);
    assert_eq!(client.free(), 1);
}

#[test]
fn a_reply_may_be_made_of_the_request_in_place() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    client.send(Kind::Task, b"0123456789").unwrap();
    let request = server.recv(&mut no_wait()).unwrap();
    let payload = request.payload.as_ptr();
    // SAFETY: the request has that many bytes, and is not replied to before.
    unsafe { server.reply_raw(0, payload.add(3), 5) }.unwrap();
    assert_eq!(client.poll().unwrap().unwrap().payload, b"34567");
}

#[test]
fn a_call_keeps_the_replies_it_comes_across() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for _ in 0..4 {
        client.send(Kind::Task, b"task").unwrap();
    }
    let serving = thread::spawn(move || {
        for _ in 0..5 {
            let ticket = server.recv(&mut Patience::forever()).unwrap().ticket;
            server.reply(ticket as i32, &[]).unwrap();
        }
    });
    let reply = client.call(Kind::Control, b"now", &mut Patience::forever()).unwrap();
    assert_eq!((reply.ticket, reply.code, reply.kind), (4, 4, Kind::Control));
    assert_eq!(client.in_flight(), 4);
    client.wait(&mut no_wait()).unwrap();
    let kept: Vec<u64> = std::iter::from_fn(|| client.poll().unwrap()).map(|reply| reply.ticket).collect();
    assert_eq!(kept, [0, 1, 2, 3]);
    serving.join().unwrap();
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let large = [0; FRAME_BYTES + 1];
    assert!(matches!(
        client.send(Kind::Task, &large),
        Err(Error::FrameTooLarge { nbytes, frame_bytes: FRAME_BYTES }) if nbytes == large.len()
    ));
    let claim = client.claim().unwrap().unwrap();
    assert!(matches!(client.submit(claim, Kind::Task, FRAME_BYTES + 1), Err(Error::FrameTooLarge { .. })));
    let mut claim = client.claim().unwrap().unwrap();
    claim.copy_from(b"fits").unwrap();
    assert_eq!(client.submit(claim, Kind::Task, 4).unwrap(), 1);
    server.recv(&mut no_wait()).unwrap();
    assert!(matches!(server.reply(0, &large), Err(Error::FrameTooLarge { .. })));
    server.reply(1, b"too large").unwrap();
    assert_eq!(client.poll().unwrap().unwrap().code, 1);
}

#[test]
fn calls_out_of_turn_are_errors() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    assert!(matches!(client.wait(&mut no_wait()), Err(Error::Misused(_))));
    assert!(matches!(server.reply(0, &[]), Err(Error::Misused(_))));
    assert!(client.poll().unwrap().is_none());
}

#[test]
fn thousands_of_round_trips_between_threads_lose_no_wake() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let serving = thread::spawn(move || loop {
        let request = server.recv(&mut Patience::forever()).unwrap();
        let (kind, bytes) = (request.kind, request.payload.to_vec());
        server.reply(0, &bytes).unwrap();
        if kind == Kind::Shutdown {
            return;
        }
    });
    for number in 0..5000u32 {
        let reply = client.call(Kind::Task, &number.to_le_bytes(), &mut Patience::forever()).unwrap();
        assert_eq!(reply.payload, number.to_le_bytes());
    }
    client.call(Kind::Shutdown, &[], &mut Patience::forever()).unwrap();
    serving.join().unwrap();
}

#[test]
fn one_doorbell_serves_many_clients_even_from_another_region() {
    let bells = Region::anonymous(Doorbell::NBYTES, "bells").unwrap();
    let doorbell = Doorbell::new(&bells, 0).unwrap();
    let regions = [region(), region()];
    let mut lanes: Vec<_> = regions
        .iter()
        .map(|region| {
            let mailbox = Mailbox::new(region, 0, 4, FRAME_BYTES).unwrap();
            let server = mailbox.server(None).unwrap();
            (mailbox.client(Some(&doorbell)).unwrap(), server)
        })
        .collect();
    for (client, server) in &mut lanes {
        client.send(Kind::Task, b"?").unwrap();
        let seen = doorbell.value();
        server.recv(&mut no_wait()).unwrap();
        server.reply(0, b"!").unwrap();
        assert_ne!(doorbell.wait(seen, &mut no_wait()).unwrap(), seen);
        assert!(client.poll().unwrap().is_some());
    }
}

#[test]
fn a_doorbell_in_a_region_not_mapped_here_is_named() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    {
        let bells = Region::anonymous(Doorbell::NBYTES, "bells").unwrap();
        mailbox.server(Some(&Doorbell::new(&bells, 0).unwrap())).unwrap();
    }
    let mut client = mailbox.client(None).unwrap();
    let error = client.send(Kind::Task, b"?").unwrap_err();
    assert!(error.to_string().contains("not mapped in this process"), "{error}");
}

#[test]
fn a_client_and_a_server_made_anew_go_on_where_the_last_ones_stopped() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for _ in 0..3 {
        client.send(Kind::Task, b"?").unwrap();
    }
    server.recv(&mut no_wait()).unwrap();
    server.reply(0, b"first").unwrap();
    server.recv(&mut no_wait()).unwrap(); // received, never replied to
    drop((client, server));
    let (mut client, mut server) = pair(&region);
    assert_eq!(client.in_flight(), 3);
    assert_eq!(client.poll().unwrap().unwrap().payload, b"first");
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 1);
    assert_eq!(client.send(Kind::Task, b"?").unwrap(), Some(3));
}

#[test]
fn two_shapes_cannot_share_a_place() {
    let region = region();
    Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    let error = Mailbox::new(&region, 0, 2, FRAME_BYTES).unwrap_err();
    assert!(error.to_string().contains("4 frames of 100 bytes"), "{error}");
    let taken = self::region();
    write(&taken, 0, b"x");
    assert!(matches!(Mailbox::new(&taken, 0, 4, FRAME_BYTES), Err(Error::Invalid(_))));
}

#[test]
fn what_would_overlap_with_something_else_is_refused_in_every_mapping_of_the_memory() {
    let nbytes = Mailbox::required_bytes(4, FRAME_BYTES).unwrap();
    let region = Region::anonymous(4 * nbytes, "test").unwrap();
    let again = Region::from_fd(region.fd()).unwrap();
    let mailbox = Mailbox::new(&region, nbytes, 4, FRAME_BYTES).unwrap();
    for memory in [&region, &again] {
        for offset in [128, nbytes - 128, nbytes + 128, 2 * nbytes - 128] {
            let refused = Mailbox::new(memory, offset, 4, FRAME_BYTES).unwrap_err().to_string();
            assert!(refused.contains("overlap") && refused.contains(&format!("at offset {nbytes}")), "{refused}");
            assert!(matches!(HeapRing::new(memory, offset, 64, "ring", 64), Err(Error::Invalid(_))));
        }
        for offset in [nbytes, nbytes + 4, 2 * nbytes - 4] {
            assert!(matches!(Doorbell::new(memory, offset), Err(Error::Invalid(_))), "it rings by counting words up");
        }
        Mailbox::new(memory, nbytes, 4, FRAME_BYTES).unwrap();
        Mailbox::new(memory, 0, 4, FRAME_BYTES).unwrap();
        Mailbox::new(memory, 2 * nbytes, 4, FRAME_BYTES).unwrap();
    }
    // Not even where its shape does not stand there any more.
    for memory in [&region, &again] {
        assert!(matches!(memory.punch(2 * nbytes - 1, 2), Err(Error::Misused(_))), "it has a mailbox there");
    }
    region.punch(2 * nbytes, nbytes).unwrap();
    write(&region, 0, &vec![0; region.nbytes()]);
    assert!(matches!(Mailbox::new(&region, nbytes, 2, FRAME_BYTES), Err(Error::Invalid(_))));
    let client = mailbox.client(None).unwrap();
    drop(mailbox);
    assert!(matches!(Mailbox::new(&region, nbytes, 2, FRAME_BYTES), Err(Error::Invalid(_))), "its client has it");
    drop(client);
    Mailbox::new(&region, nbytes, 2, FRAME_BYTES).unwrap();
}

#[test]
fn a_call_for_a_reply_that_was_taken_gets_no_other_one() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for (payload, ticket) in [(b"first!", 0), (b"second", 1)] {
        assert_eq!(client.send(Kind::Task, payload).unwrap(), Some(ticket));
        server.recv(&mut no_wait()).unwrap();
        server.reply(0, payload).unwrap();
        if ticket == 0 {
            assert_eq!(client.poll().unwrap().unwrap().payload, payload);
        }
    }
    for ticket in [0, 2] {
        client.expect_reply(ticket);
        assert!(matches!(client.take_reply(ticket), Err(Error::Misused(_))));
    }
    assert_eq!(client.poll().unwrap().unwrap().payload, b"second");
}

#[test]
fn impossible_shapes_and_places_are_refused() {
    let region = region();
    for (depth, frame_bytes) in [(0, 1), (1, 0), (1 << 16, 1), (1, 1 << 32)] {
        assert!(matches!(Mailbox::required_bytes(depth, frame_bytes), Err(Error::Invalid(_))));
    }
    assert!(matches!(Mailbox::new(&region, 0, 5, FRAME_BYTES), Err(Error::Invalid(_))));
    assert!(matches!(Mailbox::new(&region, 128, 4, FRAME_BYTES), Err(Error::Invalid(_))));
    assert!(matches!(Mailbox::new(&region, 64, 1, FRAME_BYTES), Err(Error::Invalid(_))));
}

#[test]
fn a_spoilt_frame_is_an_error_on_both_sides() {
    let spoils: [(&str, usize, &[u8]); 4] =
        [("state", 0, &[1 << 3 | 7]), ("kind", 0, &[1]), ("generation", 4, &[1]), ("payload bytes", 8, &[0xff; 4])];
    for (what, offset, bytes) in spoils {
        let region = region();
        let (mut client, mut server) = pair(&region);
        client.send(Kind::Task, b"?").unwrap();
        write(&region, REQUEST + offset, bytes);
        assert!(matches!(server.recv(&mut no_wait()), Err(Error::Corrupted(_))), "{what} in a request");

        let region = self::region();
        let (mut client, mut server) = pair(&region);
        client.send(Kind::Task, b"?").unwrap();
        server.recv(&mut no_wait()).unwrap();
        server.reply(0, b"!").unwrap();
        write(&region, REPLY + offset, bytes);
        assert!(matches!(client.poll(), Err(Error::Corrupted(_))), "{what} in a reply");
    }
}

#[test]
fn a_frame_that_should_be_free_and_is_not_is_an_error() {
    let region = region();
    let (mut client, _server) = pair(&region);
    write(&region, REPLY, &[1 << 3 | 1]);
    assert!(matches!(client.claim(), Err(Error::Corrupted(_))));
}

#[test]
fn a_wrong_count_of_taken_replies_is_an_error_to_the_next_client() {
    const TAKEN: usize = 512;
    for wrong in [1, 2, 200] {
        let region = region();
        let (mut client, mut server) = pair(&region);
        for _ in 0..3 {
            client.send(Kind::Task, b"?").unwrap();
            server.recv(&mut no_wait()).unwrap();
            server.reply(0, b"!").unwrap();
        }
        client.poll().unwrap().unwrap();
        client.poll().unwrap().unwrap();
        let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
        drop(client);
        assert_eq!(mailbox.client(None).unwrap().in_flight(), 1);
        write(&region, TAKEN, &[wrong]);
        // Fewer than there were is believed, as far as the replies are still there: they come again.
        match mailbox.client(None) {
            Ok(client) => assert_eq!(client.in_flight(), 3 - wrong as usize),
            Err(error) => assert!(wrong == 200 && matches!(error, Error::Corrupted(_)), "{error}"),
        }
    }
}

#[test]
fn frames_of_different_rounds_are_an_error_to_whoever_comes_anew() {
    for frame in 0..4 {
        let region = region();
        let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
        write(&region, REQUEST + frame * STRIDE + 2, &[5]);
        assert!(matches!(mailbox.client(None), Err(Error::Corrupted(_))));
        assert!(matches!(mailbox.server(None), Err(Error::Corrupted(_))));
    }
}

#[test]
fn a_failed_reply_carries_as_much_of_the_message_as_fits() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let long = "ä".repeat(FRAME_BYTES); // two bytes each
    for message in ["no such thing", &long] {
        client.send(Kind::Task, b"?").unwrap();
        server.recv(&mut no_wait()).unwrap();
        server.fail(3, message).unwrap();
        let reply = client.poll().unwrap().unwrap();
        assert_eq!((reply.status, reply.code), (Status::Failed, 3));
        assert!(message.starts_with(std::str::from_utf8(&reply.payload).unwrap()));
        assert_eq!(reply.payload.len(), message.len().min(FRAME_BYTES));
    }
}

#[test]
fn a_request_taken_back_in_time_never_reaches_the_server() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for _ in 0..4 {
        client.send(Kind::Task, b"?").unwrap();
    }
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 0);
    assert!(!client.cancel(0).unwrap(), "the server has it");
    assert!(client.cancel(1).unwrap());
    assert!(client.cancel(3).unwrap());
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 2);
    assert!(matches!(server.recv(&mut no_wait()), Err(Error::WaitTimeout { .. } | Error::Misused(_))));
    assert!(client.poll().unwrap().is_none(), "replies come in order");
    assert_eq!(server.unreplied(), 2);
    server.reply(10, &[]).unwrap();
    server.reply(12, &[]).unwrap();
    let replies: Vec<_> = std::iter::from_fn(|| client.poll().unwrap()).map(|r| (r.ticket, r.status, r.code)).collect();
    let (ok, cancelled) = (Status::Ok, Status::Cancelled);
    assert_eq!(replies, [(0, ok, 10), (1, cancelled, 0), (2, ok, 12), (3, cancelled, 0)]);
    assert!(matches!(client.cancel(3), Err(Error::Misused(_))));
}

#[test]
fn a_server_made_anew_does_not_take_what_was_cancelled() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for _ in 0..3 {
        client.send(Kind::Task, b"?").unwrap();
    }
    server.recv(&mut no_wait()).unwrap();
    assert!(client.cancel(1).unwrap());
    drop(server);
    let mut server = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap().server(None).unwrap();
    assert!(!client.cancel(0).unwrap(), "the one before may have done it");
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 0);
    assert!(client.cancel(2).unwrap());
    assert!(server.try_recv().unwrap().is_none());
    server.reply(0, &[]).unwrap();
    let statuses: Vec<_> = std::iter::from_fn(|| client.poll().unwrap()).map(|reply| reply.status).collect();
    assert_eq!(statuses, [Status::Ok, Status::Cancelled, Status::Cancelled]);
}

#[test]
fn a_request_that_a_killed_server_was_replying_to_is_received_again() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    client.send(Kind::Task, b"whole").unwrap();
    server.recv(&mut no_wait()).unwrap();
    write(&region, REPLY + 8, &[0x55; 60]); // all of its reply but the word, as its last act
    drop(server);
    let mut server = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap().server(None).unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"whole");
    server.reply(0, b"done").unwrap();
    assert_eq!(client.poll().unwrap().unwrap().payload, b"done");
}

#[test]
fn several_requests_are_looked_at_before_the_first_is_replied_to() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    client.send_many(Kind::Task, [&b"zero"[..], b"one", b"two"]).unwrap();
    client.cancel(1).unwrap();
    while server.try_recv().unwrap().is_some() {}
    let (first, last) = (server.received(0).unwrap(), server.received(2).unwrap());
    assert_eq!((first.payload.to_vec(), last.payload.to_vec()), (b"zero".to_vec(), b"two".to_vec()));
    for ticket in [1, 3] {
        assert!(matches!(server.received(ticket), Err(Error::Misused(_))), "cancelled, or not there");
    }
    server.reply(0, &[]).unwrap();
    assert!(matches!(server.received(0), Err(Error::Misused(_))), "replied to");
}

#[test]
fn a_call_out_of_time_leaves_nothing_behind() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    for _ in 0..2 {
        let late = client.call(Kind::Task, b"?", &mut no_wait());
        assert!(matches!(late, Err(Error::WaitTimeout { .. })));
    }
    client.send(Kind::Task, b"!").unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"!", "those before it are cancelled");
    server.reply(0, &[]).unwrap();
    assert_eq!(client.poll().unwrap().unwrap().ticket, 2);
    assert_eq!((client.in_flight(), client.poll().unwrap()), (0, None));
}

#[test]
fn many_are_sent_until_the_lane_is_full() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let payloads = [&b"a"[..], b"b", b"c", b"d", b"e", b"f"];
    assert_eq!(client.send_many(Kind::Task, payloads).unwrap(), 4);
    for payload in &payloads[..4] {
        assert_eq!(server.recv(&mut no_wait()).unwrap().payload.to_vec(), *payload);
        server.reply(0, &[]).unwrap();
    }
    let large = [0; FRAME_BYTES + 1];
    while client.poll().unwrap().is_some() {}
    assert!(matches!(client.send_many(Kind::Task, [&b"a"[..], &large]), Err(Error::FrameTooLarge { .. })));
    assert_eq!(client.in_flight(), 1, "what came before the error is sent");
}

#[test]
fn threads_share_a_client_and_each_gets_its_own_replies() {
    let region = region();
    let (client, mut server) = pair(&region);
    let serving = thread::spawn(move || {
        server.serve(&mut Patience::forever(), |request| Ok::<_, Error>(request.payload.to_vec()))
    });
    let client = SharedClient::new(client);
    let callers: Vec<_> = (0..6u64)
        .map(|caller| {
            let client = client.clone();
            thread::spawn(move || {
                for number in 0..500u64 {
                    let payload = (caller * 1000 + number).to_le_bytes();
                    let reply = client.call(Kind::Task, &payload, &mut Patience::forever()).unwrap();
                    assert_eq!(reply.payload, payload);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    client.call(Kind::Shutdown, &[], &mut Patience::forever()).unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_handler_that_fails_or_replies_too_much_is_reported_to_the_client() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let serving = thread::spawn(move || {
        server.serve(&mut Patience::forever(), |request| match request.payload.nbytes() {
            0 => Err("nothing to do"),
            _ => Ok(vec![0; FRAME_BYTES + 1]),
        })
    });
    let reply = client.call(Kind::Task, &[], &mut Patience::forever()).unwrap();
    assert_eq!((reply.status, reply.payload.as_slice()), (Status::Failed, &b"nothing to do"[..]));
    let reply = client.call(Kind::Task, &[1], &mut Patience::forever()).unwrap();
    assert!(String::from_utf8(reply.payload).unwrap().contains("101 bytes does not fit into a frame of 100"));
    client.call(Kind::Shutdown, &[], &mut Patience::forever()).unwrap();
    serving.join().unwrap().unwrap();
}
