//! Mailboxes: order, depth, doorbells, limits, and memory that a peer has spoilt.

#![cfg(all(target_os = "linux", not(loom)))]

use std::thread;
use std::time::Duration;

use simpler_ipc::{Doorbell, Error, Kind, Mailbox, MailboxClient, MailboxServer, Patience, Region, Reply};

const FRAME_BYTES: usize = 100;
/// Where the first frame's header starts; its words are state, kind, ticket (8 bytes), payload bytes (8 bytes), code.
const FRAME: usize = 640;

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
    assert_eq!(reply, Reply { ticket: 0, kind: Kind::Control, code: -5, payload: b"answer".to_vec() });
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
    // SAFETY: the request's window is valid for its size.
    unsafe { server.reply_raw(0, request.payload.as_ptr().add(3), 5) }.unwrap();
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
            let request = server.recv(&mut Patience::forever()).unwrap();
            server.reply(request.ticket as i32, &[]).unwrap();
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
    let frame = client.reserve().unwrap().unwrap();
    assert!(matches!(client.post(Kind::Task, FRAME_BYTES + 1), Err(Error::FrameTooLarge { .. })));
    frame.copy_from(b"fits");
    assert_eq!(client.post(Kind::Task, 4).unwrap(), 0);
    server.recv(&mut no_wait()).unwrap();
    assert!(matches!(server.reply(0, &large), Err(Error::FrameTooLarge { .. })));
    server.reply(1, b"too large").unwrap();
    assert_eq!(client.poll().unwrap().unwrap().code, 1);
}

#[test]
fn calls_out_of_turn_are_errors() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    assert!(matches!(client.post(Kind::Task, 0), Err(Error::Misused(_))));
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
        let bytes = request.payload.to_vec();
        server.reply(0, &bytes).unwrap();
        if request.kind == Kind::Shutdown {
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
    let mut client = {
        let bells = Region::anonymous(Doorbell::NBYTES, "bells").unwrap();
        mailbox.server(Some(&Doorbell::new(&bells, 0).unwrap())).unwrap();
        mailbox.client(None).unwrap()
    };
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
    taken.window(0, 1).unwrap().copy_from(b"x");
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
    let spoils: [(&str, usize, &[u8]); 4] = [
        ("state", FRAME, &[9, 0, 0, 0]),
        ("kind", FRAME + 4, &[0, 0, 0, 0x80]),
        ("ticket", FRAME + 8, &[1]),
        ("payload bytes", FRAME + 16, &[0xff; 8]),
    ];
    for (what, offset, bytes) in spoils {
        let region = region();
        let (mut client, mut server) = pair(&region);
        client.send(Kind::Task, b"?").unwrap();
        region.window(offset, bytes.len()).unwrap().copy_from(bytes);
        assert!(matches!(server.recv(&mut no_wait()), Err(Error::Corrupted(_))), "{what} in a request");

        let region = self::region();
        let (mut client, mut server) = pair(&region);
        client.send(Kind::Task, b"?").unwrap();
        server.recv(&mut no_wait()).unwrap();
        server.reply(0, b"!").unwrap();
        region.window(offset, bytes.len()).unwrap().copy_from(bytes);
        assert!(matches!(client.wait(&mut no_wait()), Err(Error::Corrupted(_))), "{what} in a reply");
        assert!(matches!(client.poll(), Err(Error::Corrupted(_))), "{what} in a reply");
    }
}

#[test]
fn a_frame_that_should_be_free_and_is_not_is_an_error() {
    let region = region();
    let (mut client, _server) = pair(&region);
    region.window(FRAME, 1).unwrap().copy_from(&[1]);
    assert!(matches!(client.reserve(), Err(Error::Corrupted(_))));
}

#[test]
fn spoilt_progress_is_an_error() {
    for side in [384, 512] {
        let region = region();
        let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
        region.window(side, 1).unwrap().copy_from(&[5]); // five begun, none ended, in four frames
        let refused = match side {
            384 => mailbox.client(None).map(|_| ()),
            _ => mailbox.server(None).map(|_| ()),
        };
        assert!(matches!(refused, Err(Error::Corrupted(_))));
    }
}
