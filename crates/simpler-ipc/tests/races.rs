//! What crosses from one thread to another through a mailbox and a heap ring, for ThreadSanitizer to look at.
//!
//! A program of its own with nothing in it but threads and shared memory: a standard library that is not instrumented (to
//! have one that is takes its sources) hides from ThreadSanitizer how its mutexes and channels, and so the test harness,
//! order things.

#[cfg(all(target_os = "linux", not(loom)))]
fn main() {
    use std::ptr;
    use std::thread;

    use simpler_ipc::{HeapRing, Kind, Mailbox, Patience, Region, Status};

    const ROUNDS: u64 = 20_000;
    const BLOCK: usize = 256;

    let lane = Region::anonymous(Mailbox::required_bytes(8, 64).unwrap(), "lane").unwrap();
    let heap = Region::anonymous(HeapRing::required_bytes(8 * BLOCK, 64).unwrap(), "heap").unwrap();
    let mailbox = Mailbox::new(&lane, 0, 8, 64).unwrap();
    let ring = HeapRing::new(&heap, 0, 8 * BLOCK, "races", 64).unwrap();
    let releasing = HeapRing::new(&heap, 0, 8 * BLOCK, "races", 64).unwrap();
    let (mut client, mut server) = (mailbox.client(None).unwrap(), mailbox.server(None).unwrap());

    let serving = thread::spawn(move || loop {
        let request = server.recv(&mut Patience::forever()).unwrap();
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
    for round in 0..ROUNDS {
        let address = ring.alloc(BLOCK, &mut Patience::forever()).unwrap();
        // SAFETY: a fresh block of that size.
        unsafe { ptr::write(address as *mut [u8; BLOCK], [round as u8; BLOCK]) };
        let mut request = address.to_ne_bytes().to_vec();
        request.push(round as u8);
        let ticket = loop {
            if let Some(ticket) = client.send(Kind::Task, &request).unwrap() {
                break ticket;
            }
            client.wait(&mut Patience::forever()).unwrap();
            while let Some(reply) = client.poll().unwrap() {
                if reply.status == Status::Ok {
                    assert_eq!(reply.code, i32::from(reply.payload[8]));
                }
                answered += 1;
            }
        };
        if round % 7 == 0 && client.cancel(ticket).unwrap() {
            ring.release(address).unwrap();
        }
    }
    let last = client.call(Kind::Shutdown, b"", &mut Patience::forever()).unwrap();
    assert_eq!(last.ticket, ROUNDS);
    while client.poll().unwrap().is_some() {
        answered += 1;
    }
    assert_eq!(answered, ROUNDS);
    serving.join().unwrap();
    assert_eq!(ring.live(), 0);
}

#[cfg(not(all(target_os = "linux", not(loom))))]
fn main() {}
