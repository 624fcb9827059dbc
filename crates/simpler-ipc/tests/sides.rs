//! The sides of a mailbox: whose each is, what a successor does, and which doorbells are rung for a hostile one.

#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use common::{no_wait, pair, region, write, FRAME_BYTES, REPLY, REQUEST};
use simpler_ipc::{Error, HeapRing, Interrupted, Kind, Mailbox, MailboxClient, Patience, Region, SharedClient, Status};

/// Where the server's bell is.
const REQUESTS: usize = 128;
/// Where the client's is; and where it says at which doorbell it waits, and which process it is.
const REPLIES: usize = 256;
const OWNER: usize = REPLIES + 40;
const NAMESPACE: usize = REPLIES + 48;
fn word(region: &Region, offset: usize) -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: they are changed by atomics only, and so few are read at once.
    unsafe { region.window(offset, 8).unwrap().copy_to(&mut bytes) };
    u64::from_ne_bytes(bytes)
}

fn set_word(region: &Region, offset: usize, word: u64) {
    write(region, offset, &word.to_ne_bytes());
}

/// As a hostile peer may, of the side that `bell` is of: names a word of any memory as the doorbell it waits at.
fn wait_at(region: &Region, bell: usize, memory: &Region, offset: usize) {
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", memory.fd().as_raw_fd())).unwrap().ino();
    set_word(region, bell + 16, inode);
    set_word(region, bell + 24, offset as u64);
    let generation = word(region, bell + 8) as u32 + 2;
    write(region, bell + 8, &generation.to_ne_bytes());
}

#[test]
fn a_peer_has_nothing_rung_that_was_not_opened_as_a_doorbell() {
    let (region, sibling) = (region(), self::region());
    let (mut client, mut server) = pair(&region);
    let (mut other_client, mut other_server) = pair(&sibling);
    other_client.send(Kind::Task, b"untouched").unwrap();
    let bytes = |region: &Region| {
        // SAFETY: this is the one thread.
        unsafe { region.window(0, region.nbytes()).unwrap().to_vec() }
    };
    let before = bytes(&sibling);
    for memory in [&sibling, &region] {
        for offset in (0..REPLY + 64).step_by(4) {
            client.send(Kind::Task, b"?").unwrap();
            wait_at(&region, REPLIES, memory, offset);
            server.recv(&mut no_wait()).unwrap();
            let error = server.reply(0, b"!").unwrap_err();
            assert!(matches!(error, Error::Misused(_)) && error.to_string().contains("not opened"), "{error}");
            // The server is as it was, and goes on where the client waits at a doorbell again.
            wait_at(&region, REPLIES, &region, 0);
            set_word(&region, REPLIES + 16, 0);
            server.reply(0, b"!").unwrap();
            client.poll().unwrap().unwrap();
        }
    }
    assert!(bytes(&sibling) == before, "the lane beside it has changed");
    assert_eq!(other_server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"untouched");
}

#[test]
fn a_server_that_cannot_be_woken_does_not_hide_why_a_call_ended() {
    let arena = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "test").unwrap();
    let ring = Arc::new(HeapRing::new(&arena, 0, 4096, "test", 64).unwrap());
    type Asking<'a> = dyn FnMut(MailboxClient, &mut Patience<'_>) -> Error + 'a;
    let ways: [&mut Asking<'_>; 3] = [
        &mut |mut client, patience| client.call(Kind::Task, b"?", patience).unwrap_err(),
        &mut |mut client, patience| client.call_large(&ring, Kind::Task, b"?", patience).unwrap_err(),
        &mut |client, patience| SharedClient::new(client).call(Kind::Task, b"?", patience).unwrap_err(),
    ];
    for ask in ways {
        let region = region();
        let (client, _server) = pair(&region);
        let mut interrupt = || {
            wait_at(&region, REQUESTS, &region, 0);
            Err(Interrupted)
        };
        let patience = Patience::limited(Duration::from_secs(20));
        let error = ask(client, &mut patience.interrupted_by(&mut interrupt, Duration::from_millis(1)));
        assert!(matches!(error, Error::Interrupted), "{error}");
    }
}

#[test]
fn an_abandoned_call_is_over_though_the_server_cannot_be_woken() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let ticket = client.send(Kind::Task, b"?").unwrap().unwrap();
    client.expect_reply(ticket);
    wait_at(&region, REQUESTS, &region, 0);
    client.abandon(ticket).unwrap();
    wait_at(&region, REQUESTS, &region, 0);
    set_word(&region, REQUESTS + 16, 0);
    client.send(Kind::Task, b"next").unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().payload.to_vec(), b"next");
    server.reply(0, b"!").unwrap();
    assert_eq!(client.poll().unwrap().unwrap().payload, b"!");
    assert_eq!(client.in_flight(), 0);
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
fn a_side_has_one_object_whatever_the_lane_says_of_its_owner() {
    let region = region();
    let (client, server) = pair(&region);
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    for owner in [0, 1 << 22 | 1] {
        set_word(&region, OWNER, owner);
        set_word(&region, REQUESTS + 40, owner);
        assert!(matches!(mailbox.client(None), Err(Error::Misused(_))));
        assert!(matches!(mailbox.server(None), Err(Error::Misused(_))));
    }
    set_word(&region, OWNER, 0);
    set_word(&region, REQUESTS + 40, 0);
    drop((client, server));
    pair(&region);
}

#[test]
fn a_client_that_cannot_be_made_leaves_its_side_free() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    write(&region, REQUEST, &[7]);
    assert!(matches!(mailbox.client(None), Err(Error::Corrupted(_))));
    write(&region, REQUEST, &[0]);
    mailbox.client(None).unwrap();
}

#[test]
fn a_later_process_with_the_id_of_an_owner_is_not_taken_for_it() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    let client = mailbox.client(None).unwrap();
    let own = word(&region, OWNER);
    drop(client);
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
    assert!(message.contains("another pid or time namespace"), "{message}");
}

#[test]
fn what_this_process_has_by_another_copy_of_this_library_is_refused_and_what_it_had_before_exec_is_not() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    let client = mailbox.client(None).unwrap();
    let own = word(&region, OWNER);
    drop(client);
    set_word(&region, OWNER, own);
    let Err(Error::Misused(message)) = mailbox.client(None) else { panic!("it was allowed") };
    assert!(message.contains(&format!("process {} is the client", std::process::id())), "{message}");
    set_word(&region, OWNER, own ^ 1 << 48);
    mailbox.client(None).unwrap();
}

#[test]
fn an_owner_that_cannot_be_is_an_error() {
    let region = region();
    let mailbox = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap();
    set_word(&region, OWNER, 5 << 22);
    assert!(matches!(mailbox.client(None), Err(Error::Corrupted(_))));
}

/// As if the process that had it were dead: one with this one's id, and an earlier start. What is not its own a side does
/// not let go of.
fn killed<T>(side: T, region: &Region, waiting: usize) {
    let dead = word(region, waiting + 40) - (1 << 22);
    set_word(region, waiting + 40, dead);
    drop(side);
    assert_eq!(word(region, waiting + 40), dead);
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
fn a_client_made_anew_gives_up_the_places_that_a_killed_one_did_not_fill() {
    let region = region();
    let (mut client, mut server) = pair(&region);
    let claim = client.claim().unwrap().unwrap();
    client.send(Kind::Task, b"behind it").unwrap();
    killed((client, claim), &region, REPLIES);
    let mut client = Mailbox::new(&region, 0, 4, FRAME_BYTES).unwrap().client(None).unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, 1);
    server.reply(0, &[]).unwrap();
    assert_eq!(client.poll().unwrap().unwrap().ticket, 1);
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
