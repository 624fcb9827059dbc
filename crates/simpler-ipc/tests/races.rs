//! What crosses from one thread to another through a mailbox and a heap ring, for ThreadSanitizer to look at.
//!
//! A program of its own with nothing in it but threads and shared memory: a standard library that is not instrumented (to
//! have one that is takes its sources) hides from ThreadSanitizer how its mutexes and channels, and so the test harness,
//! order things.

#[cfg(all(target_os = "linux", not(loom)))]
fn main() {
    use std::collections::HashMap;
    use std::ptr;
    use std::thread;
    use std::time::Duration;

    use simpler_ipc::{HeapRing, Kind, Mailbox, MailboxClient, Patience, Region, Status};

    const ROUNDS: u64 = 20_000;
    // What takes longer never comes.
    let patience = || Patience::limited(Duration::from_secs(60));
    const BLOCK: usize = 256;

    let lane = Region::anonymous(Mailbox::required_bytes(8, 64).unwrap(), "lane").unwrap();
    let heap = Region::anonymous(HeapRing::required_bytes(8 * BLOCK, 64).unwrap(), "heap").unwrap();
    let mailbox = Mailbox::new(&lane, 0, 8, 64).unwrap();
    let ring = HeapRing::new(&heap, 0, 8 * BLOCK, "races", 64).unwrap();
    let releasing = HeapRing::new(&heap, 0, 8 * BLOCK, "races", 64).unwrap();
    let (mut client, mut server) = (mailbox.client(None).unwrap(), mailbox.server(None).unwrap());

    let serving = thread::spawn(move || loop {
        let request = server.recv(&mut Patience::limited(Duration::from_secs(60))).unwrap();
        let bytes = request.payload.to_vec();
        if request.kind == Kind::Shutdown {
            return server.reply(0, &bytes).unwrap();
        }
        let address = usize::from_ne_bytes(bytes[..8].try_into().unwrap());
        // SAFETY: a live block of that size, filled before the request was posted. Plain accesses: the mailbox and the
        // ring are what orders them.
        let filled = unsafe { ptr::read(address as *const [u8; BLOCK]) };
        assert!(filled.iter().all(|byte| *byte == bytes[8]));
        releasing.release(address).unwrap();
        server.reply(i32::from(bytes[8]), &bytes).unwrap();
    });

    let mut answered = 0;
    // Blocks of requests for which nobody has promised that the server never takes them.
    let mut sent = HashMap::new();
    let mut take_replies = |client: &mut MailboxClient, sent: &mut HashMap<u64, usize>| {
        while let Some(reply) = client.poll().unwrap() {
            answered += 1;
            let address = sent.remove(&reply.ticket);
            match (reply.status, address) {
                (Status::Ok, _) => assert_eq!(reply.code, i32::from(reply.payload[8])),
                // It could not be told whether the cancelling was in time. It was.
                (Status::Cancelled, Some(address)) => ring.release(address).unwrap(),
                (status, _) => assert_eq!(status, Status::Cancelled),
            }
        }
        answered
    };
    for round in 0..ROUNDS {
        let address = loop {
            match ring.try_alloc(BLOCK).unwrap() {
                Some(address) => break address,
                // A block that is in the way may be waiting for its reply to be taken.
                None if client.in_flight() > 0 => {
                    client.wait(&mut patience()).unwrap();
                    take_replies(&mut client, &mut sent);
                }
                None => break ring.alloc(BLOCK, &mut patience()).unwrap(),
            }
        };
        // SAFETY: a fresh block of that size.
        unsafe { ptr::write(address as *mut [u8; BLOCK], [round as u8; BLOCK]) };
        let mut request = address.to_ne_bytes().to_vec();
        request.push(round as u8);
        let ticket = loop {
            let posted = match round % 3 {
                // In its frame, which another thread may fill or let go of.
                0 => client.claim().unwrap().map(|mut claim| {
                    if round % 60 == 0 {
                        let filling = thread::spawn(move || claim.copy_from(b"never sent").unwrap());
                        filling.join().unwrap(); // it was dropped there
                        claim = client.claim().unwrap()?;
                    }
                    claim.copy_from(&request).unwrap();
                    Some(client.submit(claim, Kind::Task, request.len()).unwrap())
                }),
                _ => client.send(Kind::Task, &request).unwrap().map(Some),
            };
            if let Some(Some(ticket)) = posted {
                break ticket;
            }
            client.wait(&mut patience()).unwrap();
            take_replies(&mut client, &mut sent);
        };
        if round % 7 == 0 && client.cancel(ticket).unwrap() {
            ring.release(address).unwrap();
        } else {
            sent.insert(ticket, address);
        }
    }
    let last = client.call(Kind::Shutdown, b"", &mut patience()).unwrap();
    assert!(last.ticket > ROUNDS, "what was dropped had tickets, too");
    assert_eq!(take_replies(&mut client, &mut sent), ROUNDS);
    serving.join().unwrap();
    assert_eq!(ring.live(), 0);
    against_the_protocol();
}

/// A block that is sent, written to, released and allocated again, while the server reads it: there is no saying what it
/// reads, but all of it is safe code, and so no data race.
#[cfg(all(target_os = "linux", not(loom)))]
fn against_the_protocol() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;
    use std::thread;

    use simpler_ipc::{Block, HeapRing, Kind, Mailbox, Patience, Region};

    const BLOCK: usize = 200;
    const ROUNDS: u8 = 200;
    let lane = Region::anonymous(Mailbox::required_bytes(1, 64).unwrap(), "lane").unwrap();
    let heap = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "heap").unwrap();
    let mailbox = Mailbox::new(&lane, 0, 1, 64).unwrap();
    let (mut client, mut server) = (mailbox.client(None).unwrap(), mailbox.server(None).unwrap());
    let ring = Arc::new(HeapRing::poisoning(&heap, 0, 4096, "races", 64).unwrap());
    let mut block = Block::alloc(&ring, BLOCK, &mut Patience::forever()).unwrap();
    client.send(Kind::Task, &block.reference()).unwrap();
    // Not on the stack: that is used again, and the end of a thread is one of those things that are hidden.
    static DONE: AtomicBool = AtomicBool::new(false);
    let done = &DONE;
    thread::scope(|scope| {
        scope.spawn(|| {
            let request = server.try_recv().unwrap().unwrap();
            for _ in 0..ROUNDS {
                let payload = ring.received(&request).unwrap();
                assert_eq!(payload.to_vec().len(), BLOCK);
                assert_eq!(payload.read::<[u8; BLOCK]>().unwrap().len(), BLOCK);
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            block.copy_from(&[1; BLOCK]);
        }
    });
    let address = block.as_mut_ptr() as usize;
    done.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                ring.release(address).unwrap();
                // It may have been written to meanwhile, which a ring that poisons says once.
                let again = ring.try_alloc(BLOCK).or_else(|_| ring.try_alloc(BLOCK));
                if !matches!(again, Ok(Some(again)) if again == address) {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            block.copy_from(&[2; BLOCK]);
        }
    });
}

#[cfg(not(all(target_os = "linux", not(loom))))]
fn main() {}
