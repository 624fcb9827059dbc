//! Payloads that are values, and those that are larger than a frame.

#![cfg(all(target_os = "linux", not(loom)))]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use simpler_ipc::{
    bytes_of, Block, Error, HeapRing, Kind, Mailbox, MailboxClient, MailboxServer, Patience, Plain, Region, Status,
};

const RING: usize = 64 * 1024;

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
struct Order {
    number: u64,
    price: f64,
    lots: [u32; 2],
}

// SAFETY: repr(C), plain fields with no padding.
unsafe impl Plain for Order {}

#[repr(C, align(32))]
#[derive(Debug, Clone, Copy)]
struct Wide([u64; 4]);

// SAFETY: repr(C), one plain field of the whole size.
unsafe impl Plain for Wide {}

const ORDER: Order = Order { number: 7, price: 2.5, lots: [1, 2] };

fn pair(depth: usize, frame_bytes: usize) -> (MailboxClient, MailboxServer) {
    let region = Region::anonymous(Mailbox::required_bytes(depth, frame_bytes).unwrap(), "test").unwrap();
    let mailbox = Mailbox::new(&region, 0, depth, frame_bytes).unwrap();
    (mailbox.client(None).unwrap(), mailbox.server(None).unwrap())
}

fn heap() -> Arc<HeapRing> {
    let region = Region::anonymous(HeapRing::required_bytes(RING, 1024).unwrap(), "heap").unwrap();
    Arc::new(HeapRing::new(&region, 0, RING, "heap", 1024).unwrap())
}

fn no_wait() -> Patience<'static> {
    Patience::limited(Duration::ZERO)
}

#[test]
fn a_value_is_written_in_its_frame_and_read_there() {
    for frame_bytes in [24, 100, 4096] {
        let (mut client, mut server) = pair(3, frame_bytes);
        for _ in 0..4 {
            let place = client.request::<Order>().unwrap().unwrap();
            let ticket = client.post(place, Kind::Task, ORDER).unwrap();
            let request = server.recv(&mut no_wait()).unwrap();
            assert_eq!((request.ticket, request.payload.get::<Order>().unwrap()), (ticket, &ORDER));
            let [one, two] = request.payload.read::<Order>().unwrap().lots;
            server.reply(0, bytes_of(&(one + two))).unwrap();
            assert_eq!(client.poll_with(|reply| reply.payload.read::<u32>().unwrap()).unwrap(), Some(3));
        }
    }
}

#[test]
fn a_value_may_be_written_field_by_field() {
    let (mut client, mut server) = pair(1, 64);
    let mut place = client.request::<Order>().unwrap().unwrap();
    let first = place.as_mut_ptr();
    // SAFETY: all three fields are written, in their place.
    unsafe {
        (&raw mut (*first).number).write(7);
        (&raw mut (*first).price).write(2.5);
        (&raw mut (*first).lots).write([1, 2]);
        client.post_written(place, Kind::Control).unwrap();
    }
    assert_eq!(server.recv(&mut no_wait()).unwrap().payload.get::<Order>().unwrap(), &ORDER);
}

#[test]
fn a_value_of_another_size_is_refused_with_both_sizes() {
    let (mut client, mut server) = pair(2, 16);
    let error = client.request::<Order>().unwrap_err().to_string();
    assert!(error.contains("16 bytes is no") && error.contains("Order, which has 24 bytes"), "{error}");
    client.send(Kind::Task, &[0; 9]).unwrap();
    let request = server.recv(&mut no_wait()).unwrap();
    for error in [request.payload.get::<u64>().map(drop), request.payload.read::<u64>().map(drop)] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("9 bytes is no u64, which has 8 bytes"), "{error}");
    }
    assert_eq!(request.payload.get::<[u8; 9]>().unwrap(), &[0; 9]);
    server.reply(0, &[]).unwrap();
    assert_eq!(client.poll().unwrap().unwrap().ticket, 1, "the frame claimed for nothing is given back");
}

#[test]
fn a_value_of_a_larger_alignment_than_a_frames_is_refused() {
    let (mut client, mut server) = pair(3, 64);
    assert!(client.request::<u128>().unwrap().is_some());
    let error = client.request::<Wide>().unwrap_err().to_string();
    assert!(error.contains("aligned to 32 bytes"), "{error}");
    client.send(Kind::Task, bytes_of(&Wide([1, 2, 3, 4]))).unwrap();
    let request = server.recv(&mut no_wait()).unwrap();
    assert!(matches!(request.payload.get::<Wide>(), Err(Error::Invalid(_))));
    assert_eq!(request.payload.read::<Wide>().unwrap().0, [1, 2, 3, 4]);
}

#[test]
fn payloads_larger_than_a_frame_go_through_a_block_that_is_released_after_the_reply() {
    let (mut client, mut server) = pair(2, Block::REFERENCE_NBYTES);
    let ring = heap();
    let served = ring.clone();
    let serving = thread::spawn(move || {
        server.serve(&mut Patience::forever(), |request| {
            let payload = served.received(request)?.to_vec();
            assert_eq!(served.live(), 1);
            Ok::<_, Error>(bytes_of(&payload.iter().map(|byte| u64::from(*byte)).sum::<u64>()).to_vec())
        })
    });
    for nbytes in [0, 1, 5000, RING, 3000, RING] {
        let reply = client.call_large(&ring, Kind::Task, &vec![3; nbytes], &mut Patience::forever()).unwrap();
        assert_eq!((reply.status, reply.payload.as_slice()), (Status::Ok, bytes_of(&(3 * nbytes as u64))));
        assert_eq!(ring.live(), 0);
    }
    let large = client.call_large(&ring, Kind::Task, &vec![0; RING + 1], &mut Patience::forever());
    assert!(matches!(large, Err(Error::HeapRingFull { .. })));
    client.call(Kind::Shutdown, &[], &mut Patience::forever()).unwrap();
    serving.join().unwrap().unwrap();
}

#[test]
fn a_block_outlives_a_call_that_gave_up_until_the_server_is_done_with_it() {
    let (mut client, mut server) = pair(2, 64);
    let ring = heap();
    client.send(Kind::Task, b"before it").unwrap();
    let taken = |server: &mut MailboxServer| server.try_recv().unwrap().map(|request| request.ticket);
    // Not taken yet: it never will be.
    let late = client.call_large(&ring, Kind::Task, &[5; 2000], &mut no_wait());
    assert!(matches!(late, Err(Error::WaitTimeout { .. })));
    assert_eq!((taken(&mut server), taken(&mut server)), (Some(0), None));
    server.reply(0, &[]).unwrap();
    client.poll().unwrap().unwrap();
    assert!(client.poll().unwrap().is_none());
    assert_eq!(ring.live(), 0);

    // Taken: the server has it until it replies.
    thread::scope(|scope| {
        let serving = scope.spawn(|| server.recv(&mut Patience::forever()).unwrap().ticket);
        let late = client.call_large(&ring, Kind::Task, &[5; 2000], &mut Patience::limited(Duration::from_millis(50)));
        assert!(matches!(late, Err(Error::WaitTimeout { .. })));
        serving.join().unwrap();
    });
    let ticket = 2;
    assert_eq!(ring.live(), 1);
    assert_eq!(ring.received(&server.received(ticket).unwrap()).unwrap().to_vec(), [5; 2000]);
    server.reply(0, &[]).unwrap();
    assert!(client.poll().unwrap().is_none(), "nobody waits for it");
    assert_eq!(ring.live(), 0);
}

#[test]
fn a_block_is_kept_for_a_request_in_flight_only() {
    let (mut client, mut server) = pair(4, 64);
    let region = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "test").unwrap();
    let ring = Arc::new(HeapRing::new(&region, 0, 4096, "test", 64).unwrap());
    let block = || Block::alloc(&ring, 4096, &mut no_wait()).unwrap();
    assert!(matches!(client.keep_until_reply(7, block()), Err(Error::Misused(_))));
    client.expect_reply(7);
    assert!(matches!(client.keep_until_reply(7, block()), Err(Error::Misused(_))));
    let ticket = client.send(Kind::Task, b"?").unwrap().unwrap();
    client.expect_reply(ticket);
    server.recv(&mut no_wait()).unwrap();
    server.reply(0, b"!").unwrap();
    client.make_room().unwrap();
    client.keep_until_reply(ticket, block()).unwrap();
    assert_eq!(ring.live(), 0, "the server has replied: it looks at nothing any more");
    assert_eq!(client.take_reply(ticket).unwrap().unwrap().payload, b"!");
}

fn patience() -> Patience<'static> {
    Patience::limited(Duration::from_secs(20))
}

/// A request that refers to a block, received and not replied to, for which nobody waits any more.
fn held(client: &mut MailboxClient, server: &mut MailboxServer, ring: &Arc<HeapRing>, nbytes: usize) {
    let block = Block::alloc(ring, nbytes, &mut no_wait()).unwrap();
    let ticket = client.send(Kind::Task, &block.reference()).unwrap().unwrap();
    client.keep_until_reply(ticket, block).unwrap();
    assert_eq!(server.recv(&mut no_wait()).unwrap().ticket, ticket);
}

/// Until an allocation waits that did not wait before.
fn await_waiting(ring: &HeapRing, before: u64) {
    while ring.stats().unwrap().waits == before {
        thread::yield_now();
    }
}

fn serve(server: &mut MailboxServer) {
    server.serve(&mut patience(), |_| Ok::<_, Error>(Vec::new())).unwrap();
}

#[test]
fn space_that_late_replies_give_back_is_found_by_a_call_that_waits_for_space() {
    for replied_before in [true, false] {
        let (mut client, mut server) = pair(8, 64);
        let ring = heap();
        for _ in 0..3 {
            held(&mut client, &mut server, &ring, RING / 4);
        }
        let full = client.call_large(&ring, Kind::Task, &[1; RING], &mut Patience::limited(Duration::from_millis(20)));
        assert!(matches!(full, Err(Error::HeapRingFull { .. })), "{full:?}");
        let waits = ring.stats().unwrap().waits;
        if replied_before {
            (0..3).for_each(|_| server.reply(0, &[]).unwrap());
        }
        thread::scope(|scope| {
            let ring = &ring;
            scope.spawn(move || {
                if !replied_before {
                    await_waiting(ring, waits);
                    (0..3).for_each(|_| server.reply(0, &[]).unwrap());
                }
                serve(&mut server);
            });
            client.call_large(ring, Kind::Task, &[1; RING], &mut patience()).unwrap();
            assert_eq!(ring.live(), 0);
            client.call(Kind::Shutdown, &[], &mut patience()).unwrap();
        });
    }
}

#[test]
fn space_that_others_give_back_is_found_by_a_call_whose_own_requests_hold_some() {
    let (mut client, mut server) = pair(8, 64);
    let ring = heap();
    let others = Block::alloc(&ring, RING - 1024, &mut no_wait()).unwrap();
    held(&mut client, &mut server, &ring, 1024);
    let waits = ring.stats().unwrap().waits;
    thread::scope(|scope| {
        let ring = &ring;
        scope.spawn(move || {
            await_waiting(ring, waits);
            drop(others);
            // What holds space of its own is not replied to before the call has its block.
            while ring.live() != 2 {
                thread::yield_now();
            }
            server.reply(0, &[]).unwrap();
            serve(&mut server);
        });
        client.call_large(ring, Kind::Task, &[1; RING / 2], &mut patience()).unwrap();
        client.call(Kind::Shutdown, &[], &mut patience()).unwrap();
    });
}

#[test]
fn a_reference_to_a_block_of_another_ring_is_refused() {
    let (mut client, mut server) = pair(1, 64);
    let (one, other) = (heap(), heap());
    let region = Region::anonymous(2 * HeapRing::required_bytes(RING, 1024).unwrap(), "heap").unwrap();
    let beside = |offset| Arc::new(HeapRing::new(&region, offset, RING, "heap", 1024).unwrap());
    let (first, second) = (beside(0), beside(HeapRing::required_bytes(RING, 1024).unwrap().next_multiple_of(128)));
    for (sent, received) in [(&one, &other), (&first, &second), (&second, &first)] {
        let _there = Block::alloc(received, 2000, &mut no_wait()).unwrap();
        let block = Block::alloc(sent, 2000, &mut no_wait()).unwrap();
        client.send(Kind::Task, &block.reference()).unwrap().unwrap();
        let request = server.recv(&mut no_wait()).unwrap();
        assert!(matches!(received.received(&request), Err(Error::Invalid(_))));
        assert_eq!(sent.received(&request).unwrap().nbytes(), 2000);
        server.reply(0, &[]).unwrap();
        client.poll().unwrap().unwrap();
    }
}

#[test]
fn a_reference_to_what_is_no_live_block_is_refused() {
    let (mut client, mut server) = pair(1, 64);
    let ring = heap();
    let block = Block::alloc(&ring, 2000, &mut no_wait()).unwrap();
    let word = |value: u64| value.to_ne_bytes().to_vec();
    let magic = block.reference()[..8].to_vec();
    let with = |offset: u64, nbytes: u64| [magic.clone(), word(offset), word(nbytes)].concat();
    let mut received = |reference: &[u8]| {
        client.send(Kind::Task, reference).unwrap();
        let outcome = ring.received(&server.recv(&mut no_wait()).unwrap()).map(|bytes| bytes.nbytes());
        server.reply(0, &[]).unwrap();
        client.poll().unwrap();
        outcome
    };
    assert_eq!(received(&block.reference()).unwrap(), 2000);
    assert_eq!(received(&with(0, 2048)).unwrap(), 2048, "what rounding up has made of it");
    for (offset, nbytes) in [
        (0, 2049),
        (0, u64::MAX),
        (1, 10),
        (1024, 10),
        (2048, 10),
        (RING as u64, 1),
        (RING as u64 - 1024, 1025),
        (u64::MAX, 1),
        (u64::MAX << 10, 1),
    ] {
        assert!(matches!(received(&with(offset, nbytes)), Err(Error::Corrupted(_))), "{offset}, {nbytes}");
    }
    let reference = block.reference();
    assert!(matches!(received(&reference[..23]), Err(Error::Invalid(_))));
    assert!(matches!(received(&[0; 24]), Err(Error::Invalid(_))));
    drop(block);
    assert!(matches!(received(&reference), Err(Error::Corrupted(_))), "released");
}
