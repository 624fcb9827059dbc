//! Mailboxes: order, depth, doorbells, limits, and memory that a peer has spoilt.

#![cfg(all(target_os = "linux", not(loom)))]

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use simpler_ipc::{
    Doorbell, Error, Kind, Mailbox, MailboxClient, MailboxServer, Patience, Region, Reply, Request, SharedClient,
    Status,
};

const FRAME_BYTES: usize = 100;
/// Where the first frame's request starts: generation, kind and state (8 bytes), payload bytes; then its payload.
const REQUEST: usize = 640;
/// And its reply: generation, kind and status (8 bytes), payload bytes, code; then its payload.
const REPLY: usize = REQUEST + 128;
/// From one frame to the next.
const STRIDE: usize = 256;

/// Writes to shared memory.
fn write(region: &Region, offset: usize, bytes: &[u8]) {
    // SAFETY: no other thread is at these bytes.
    unsafe { region.window(offset, bytes.len()).unwrap().copy_from(bytes) }
}

fn region() -> Region {
    Region::anonymous(Mailbox::required_bytes(4, FRAME_BYTES).unwrap(), "test").unwrap()
}

fn pair(region: &Region) -> (MailboxClient, MailboxServer) {
    let mailbox = Mailbox::new(region, 0, 4, FRAME_BYTES).unwrap();
    (mailbox.client(None).unwrap(), mailbox.server(None).unwrap())
}

fn no_wait() -> Patience<'static> {
    Patience::limited(Duration::ZERO)
}

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

/// Where the server's bell is.
const REQUESTS: usize = 128;
/// Where the client's is; and where it says at which doorbell it waits, and which process it is.
const REPLIES: usize = 256;
const OWNER: usize = REPLIES + 40;
const NAMESPACE: usize = REPLIES + 48;

fn word(region: &Region, offset: usize) -> u64 {
    let mut bytes = [0; 8];
    region.window(offset, 8).unwrap().copy_to(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn set_word(region: &Region, offset: usize, word: u64) {
    region.window(offset, 8).unwrap().copy_from(&word.to_ne_bytes());
}

/// As a hostile client may: names a word of any memory as the doorbell it waits at.
fn wait_at(region: &Region, memory: &Region, offset: usize) {
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", memory.fd().as_raw_fd())).unwrap().ino();
    set_word(region, REPLIES + 16, inode);
    set_word(region, REPLIES + 24, offset as u64);
    let generation = word(region, REPLIES + 8) as u32 + 2;
    region.window(REPLIES + 8, 4).unwrap().copy_from(&generation.to_ne_bytes());
}

#[test]
fn a_peer_has_nothing_rung_that_was_not_opened_as_a_doorbell() {
    let (region, sibling) = (region(), self::region());
    let (mut client, mut server) = pair(&region);
    let (mut other_client, mut other_server) = pair(&sibling);
    other_client.send(Kind::Task, b"untouched").unwrap();
    let before = sibling.window(0, sibling.nbytes()).unwrap().to_vec();
    for memory in [&sibling, &region] {
        for offset in (0..FRAME + 64).step_by(4) {
            client.send(Kind::Task, b"?").unwrap();
            wait_at(&region, memory, offset);
            server.recv(&mut no_wait()).unwrap();
            let error = server.reply(0, b"!").unwrap_err();
            assert!(matches!(error, Error::Misused(_)) && error.to_string().contains("not opened"), "{error}");
            // The server is as it was, and goes on where the client waits at a doorbell again.
            wait_at(&region, &region, 0);
            set_word(&region, REPLIES + 16, 0);
            server.reply(0, b"!").unwrap();
            client.poll().unwrap().unwrap();
        }
    }
    assert!(sibling.window(0, sibling.nbytes()).unwrap().to_vec() == before, "the lane beside it has changed");
    assert_eq!(other_server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"untouched");
}

#[test]
fn a_side_has_one_object_at_a_time() {
    let region = region();
    let (client, server) = pair(&region);
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    let again = Region::from_fd(region.fd()).unwrap();
    let mapped_again = Mailbox::new(&again, 0, 4, FRAME_BYTES).unwrap();
    for mailbox in [&mailbox, &mapped_again] {
        for refused in [mailbox.client(None).map(drop), mailbox.server(None).map(drop)] {
            let Err(Error::Misused(message)) = refused else { panic!("{refused:?}") };
            assert!(message.contains(&std::process::id().to_string()), "{message}");
        }
    }
    drop((client, server));
    let (mut client, mut server) = (mapped_again.client(None).unwrap(), mailbox.server(None).unwrap());
    client.send(Kind::Task, b"?").unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 0);
}

#[test]
fn a_client_that_cannot_be_made_leaves_its_side_free() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    region.window(FRAME, 1).unwrap().copy_from(&[7]);
    assert!(matches!(mailbox.client(None), Err(Error::Corrupted(_))));
    region.window(FRAME, 1).unwrap().copy_from(&[0]);
    mailbox.client(None).unwrap();
}

#[test]
fn a_later_process_with_the_id_of_an_owner_is_not_taken_for_it() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    std::mem::forget(mailbox.client(None).unwrap());
    let own = word(&region, OWNER);
    assert_eq!(own & ((1 << 22) - 1), u64::from(std::process::id()));
    // The owner was a process with this one's id that started before it; or with that of one that lives still.
    let parent = u64::from(std::os::unix::process::parent_id());
    for dead in [own - (1 << 22), ((own >> 22 << 22) - (1 << 22)) | parent] {
        set_word(&region, OWNER, dead);
        drop(mailbox.client(None).unwrap());
        assert_eq!(word(&region, OWNER), 0);
    }
}

#[test]
fn an_owner_of_another_pid_namespace_is_left_alone() {
    let region = region();
    let (client, _server) = pair(&region);
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    drop(client);
    set_word(&region, NAMESPACE, word(&region, NAMESPACE) + 1);
    let Err(Error::Misused(message)) = mailbox.client(None) else { panic!("it was allowed") };
    assert!(message.contains("pid namespace"), "{message}");
}

#[test]
fn an_owner_that_cannot_be_is_an_error() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    set_word(&region, OWNER, 5 << 22);
    assert!(matches!(mailbox.client(None), Err(Error::Corrupted(_))));
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

/// As if the process that had it were dead: one with this one's id, and an earlier start.
fn killed<T>(side: T, region: &Region, waiting: usize) {
    std::mem::forget(side);
    set_word(region, waiting + 40, word(region, waiting + 40) - (1 << 22));
}

/// How often that bell was rung for a sleeper.
fn count(region: &Region, waiting: usize) -> u32 {
    word(region, waiting) as u32
}

/// Until somebody sleeps at the bell of the lane there.
fn await_sleeper(region: &Region, waiting: usize) {
    while word(region, waiting) >> 32 == 0 {
        thread::yield_now();
    }
}

#[test]
fn a_successor_wakes_those_who_sleep_through_what_a_killed_one_had_no_time_to_ring_for() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    let receiving = thread::spawn(move || {
        let received = server.recv(&mut Patience::limited(Duration::from_secs(20))).map(|request| request.ticket);
        (received, server)
    });
    await_sleeper(&region, REQUESTS);
    // SAFETY: a slice is valid for its length.
    unsafe { client.queue_raw(Kind::Task, b"?".as_ptr(), 1) }.unwrap();
    killed(client, &region, REPLIES);
    let rung = count(&region, REQUESTS);
    let client = mailbox.client(None).unwrap();
    assert_ne!(count(&region, REQUESTS), rung);
    let (received, mut server) = receiving.join().unwrap();
    assert_eq!(received.unwrap(), 0);

    let waiting = thread::spawn(move || client.wait(&mut Patience::limited(Duration::from_secs(20))));
    await_sleeper(&region, REPLIES);
    // SAFETY: as above.
    unsafe { server.queue_reply_raw(Status::Ok, 0, b"!".as_ptr(), 1) }.unwrap();
    killed(server, &region, REQUESTS);
    let rung = count(&region, REPLIES);
    let _server = mailbox.server(None).unwrap();
    assert_ne!(count(&region, REPLIES), rung);
    waiting.join().unwrap().unwrap();
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
fn a_claim_that_outlives_its_client_leaves_its_place_to_the_successor() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let claim = client.claim().unwrap().unwrap();
    drop(client);
    let mut client = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap().client(None).unwrap();
    assert!(matches!(client.give_up(claim), Err(Error::Misused(_))));
    assert_eq!(client.send(Kind::Task, b"mine").unwrap(), Some(0));
    assert_eq!(server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"mine");
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
fn a_client_made_anew_fills_the_holes_of_the_one_before() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let _never_filled = client.claim().unwrap().unwrap();
    client.send(Kind::Task, b"behind it").unwrap();
    drop(client);
    let mut client = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap().client(None).unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 1);
    server.reply(0, &[]).unwrap();
    assert_eq!(client.poll().unwrap().unwrap().ticket, 1);
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
