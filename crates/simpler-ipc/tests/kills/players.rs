//! The client and the server, each of which may be killed anywhere and be followed by a successor.

use std::collections::VecDeque;

use simpler_ipc::{Error, Exit, HeapRing, Kind, MailboxClient, MailboxServer, Patience, Peer, Reply, Request, Status};

use crate::ledger::{now_ns, Doing, Entry, Ledger, Random, Scene, CLIENT, FRAME_BYTES, ROLES, SERVER};

/// Why a player stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Its peer died.
    Told,
    /// The client said so, and all is answered.
    Finished,
}

const HEAD: usize = 24;

/// What a request or a reply of that serial looks like behind its head: its length and its bytes.
fn body(serial: u64, salt: u64) -> Vec<u8> {
    let mut random = Random::new(serial << 8 | salt);
    let nbytes = random.below((FRAME_BYTES - HEAD + 1) as u64) as usize;
    (0..nbytes).map(|_| random.next() as u8).collect()
}

fn kind_of(serial: u64) -> Kind {
    if serial % 3 == 0 {
        Kind::Control
    } else {
        Kind::Task
    }
}

fn word(bytes: &[u8], number: usize) -> u64 {
    u64::from_ne_bytes(bytes[number * 8..number * 8 + 8].try_into().unwrap())
}

/// The words that a block of a request begins and ends with.
fn block_ends(address: u64, nbytes: u64) -> [*mut u64; 2] {
    [address as *mut u64, (address + nbytes - 8) as *mut u64]
}

fn stamp_block(serial: u64, address: u64, nbytes: u64) {
    for end in block_ends(address, nbytes) {
        // SAFETY: a live block of the ring, aligned to 64, whose size is a multiple of 8.
        unsafe { end.write_volatile(serial) };
    }
}

fn check_block(serial: u64, address: u64, nbytes: u64) {
    for end in block_ends(address, nbytes) {
        // SAFETY: as in `stamp_block`; the arena is mapped whatever the block's state.
        let found = unsafe { end.read_volatile() };
        assert_eq!(found, serial, "the block at {address:#x} of request {serial} was given to another");
    }
}

/// Takes the word of a wait that ended: whether the peer died. `ours`: whether it is our child, so that its end is
/// ours to know.
pub fn told(scene: &Scene, role: usize, error: Error, peer: &Peer, ours: bool) -> End {
    let at = now_ns();
    let Error::PeerDied { pid, exit } = error else { panic!("the {} failed: {error}", ROLES[role]) };
    assert_eq!(pid, peer.pid());
    assert_eq!(exit, Exit { status: None, signal: ours.then_some(libc::SIGKILL) });
    let ledger = scene.ledger();
    ledger.doing[role].set(Doing::Mourning as u64);
    ledger.told[role].at.set(at);
    ledger.told[role].victim_doing.set(ledger.doing[1 - role].get());
    ledger.told[role].pid.set(pid as u64);
    scene.bell.ring();
    End::Told
}

/// Plays one role until the peer dies or all is done.
pub fn play(scene: &Scene, role: usize, peer: &Peer, ours: bool, random: &mut Random) -> End {
    scene.ledger().doing[role].set(Doing::Starting as u64);
    let end = match role {
        CLIENT => Client::resume(scene, peer, random).play(peer, ours, random),
        _ => Server::resume(scene, peer, random).play(peer, ours, random),
    };
    if end == End::Finished {
        scene.ledger().finished[role].set(1);
        scene.bell.ring();
    }
    end
}

struct Client<'a> {
    desk: Desk<'a>,
    client: MailboxClient,
}

/// All of a client but its side of the mailbox.
struct Desk<'a> {
    scene: &'a Scene,
    ledger: &'a Ledger,
    ring: HeapRing,
}

impl<'a> Client<'a> {
    /// A client made anew, that finds out what its predecessor was in the middle of.
    fn resume(scene: &'a Scene, peer: &Peer, random: &mut Random) -> Self {
        let ledger = scene.ledger();
        let doorbell = random.one_in(3).then_some(&scene.doorbells[CLIENT]);
        let client = scene.mailbox.client(doorbell).unwrap();
        client.watch(peer).unwrap();
        let desk = Desk { scene, ledger, ring: scene.ring() };

        let in_flight = client.in_flight() as u64;
        let (sent, sending) = (ledger.sent.get(), ledger.sending.get());
        let (taken, taking) = (ledger.taken.get(), ledger.taking.get());
        // Whether a call was posted, answered and taken, or never posted: in neither case is it in flight.
        let called = ledger.calling.get() != 0 && in_flight == 0;
        let answered = called && ledger.entry(sending).executed.get() > 0;
        let posted = match sending {
            _ if called => ledger.calling.get() - 1 + u64::from(answered),
            0 => sent,
            _ => taken + in_flight,
        };
        assert!(
            (sent..=sent + u64::from(sending != 0)).contains(&posted) && posted >= in_flight,
            "{in_flight} are in flight: {posted} were posted, but {sent} posts returned (in the middle of {sending})"
        );
        let now_taken = posted - in_flight;
        assert!(
            (taken..=taking.max(taken + u64::from(answered))).contains(&now_taken),
            "{in_flight} are in flight of {posted}: {now_taken} replies were taken, but {taken} to {taking} were"
        );
        let current = ledger.entry(ledger.serial.get());
        if answered {
            desk.give_back(ledger.entry(sending));
        }
        if posted > sent {
            ledger.entry(sending).ticket.set(posted);
        } else if current.ticket.get() == 0 && current.block.get() != 0 {
            // Its request will never be posted. Nothing was allocated since: the address is nobody else's.
            release_again(&desk.ring, current.block.get());
            current.block.set(0);
        }
        // In this order, so that a successor killed in between finds the same.
        ledger.sent.set(posted);
        ledger.taken.set(now_taken);
        ledger.taking.set(now_taken);
        ledger.calling.set(0);
        ledger.sending.set(0);
        ledger.lost.add(ledger.allocating.get());
        ledger.allocating.set(0);
        Client { desk, client }
    }

    fn play(mut self, peer: &Peer, ours: bool, random: &mut Random) -> End {
        let scene = self.desk.scene;
        loop {
            if self.desk.ledger.stop.get() != 0 {
                return match self.finish() {
                    Ok(()) => End::Finished,
                    Err(error) => told(scene, CLIENT, error, peer, ours),
                };
            }
            let step = match random.below(16) {
                0..=6 => self.send(random),
                7..=11 => self.take().map(|_| ()),
                12..=13 => self.await_reply(),
                14 if self.client.in_flight() == 0 => self.call(random),
                14 => self.cancel(random),
                _ => {
                    for _ in 0..random.below(2000) {
                        std::hint::spin_loop();
                    }
                    Ok(())
                }
            };
            if let Err(error) = step {
                return told(scene, CLIENT, error, peer, ours);
            }
        }
    }

    fn send(&mut self, random: &mut Random) -> Result<(), Error> {
        if self.client.free() == 0 {
            return self.await_reply();
        }
        let ledger = self.desk.ledger;
        let (serial, bytes) = self.desk.request(random)?;
        ledger.serial_of(ledger.sent.get()).set(serial);
        ledger.sending.set(serial);
        let ticket = ledger.during(CLIENT, Doing::Posting, || {
            if random.one_in(2) {
                return self.client.send(kind_of(serial), &bytes);
            }
            let mut claim = self.client.claim()?.expect("a frame is free");
            claim.copy_from(&bytes)?;
            self.client.submit(claim, kind_of(serial), bytes.len()).map(Some)
        })?;
        self.desk.posted(serial, ticket.expect("a frame is free"));
        ledger.sending.set(0);
        Ok(())
    }

    fn call(&mut self, random: &mut Random) -> Result<(), Error> {
        let ledger = self.desk.ledger;
        let (serial, bytes) = self.desk.request(random)?;
        ledger.serial_of(ledger.sent.get()).set(serial);
        // A call that ends with an error takes its request back.
        ledger.entry(serial).cancelling.set(1);
        ledger.sending.set(serial);
        ledger.calling.set(ledger.sent.get() + 1);
        let called = ledger
            .during(CLIENT, Doing::Calling, || self.client.call(kind_of(serial), &bytes, &mut Patience::forever()));
        // If it failed, the client made anew in this process finds out what became of it, as a successor does.
        let reply = called?;
        self.desk.posted(serial, reply.ticket);
        self.desk.check(&reply);
        ledger.taking.set(reply.ticket + 1);
        ledger.taken.set(reply.ticket + 1);
        ledger.calling.set(0);
        ledger.sending.set(0);
        Ok(())
    }

    fn cancel(&mut self, random: &mut Random) -> Result<(), Error> {
        let ledger = self.desk.ledger;
        let (taken, sent) = (ledger.taken.get(), ledger.sent.get());
        let ticket = taken + random.below(sent - taken);
        let entry = ledger.entry(ledger.serial_of(ticket).get());
        entry.cancelling.set(1);
        if ledger.during(CLIENT, Doing::Cancelling, || self.client.cancel(ticket))? {
            entry.cancelled.set(1);
        }
        Ok(())
    }

    /// Whether there was a reply.
    fn take(&mut self) -> Result<bool, Error> {
        let desk = &self.desk;
        let ledger = desk.ledger;
        let polled = ledger.during(CLIENT, Doing::Polling, || {
            self.client.poll_with(|view| {
                desk.check(&view.to_reply());
                ledger.taking.set(view.ticket + 1);
            })
        });
        let there = polled?.is_some();
        if there {
            ledger.taken.set(ledger.taking.get());
        }
        Ok(there)
    }

    fn await_reply(&mut self) -> Result<(), Error> {
        if self.client.in_flight() == 0 {
            return Ok(());
        }
        self.desk.ledger.during(CLIENT, Doing::AwaitingReply, || self.client.wait(&mut Patience::forever()))?;
        assert!(self.take()?, "a reply was there");
        Ok(())
    }

    /// Takes every reply there is to come, then sends the server home.
    fn finish(&mut self) -> Result<(), Error> {
        while self.client.in_flight() > 0 {
            self.await_reply()?;
        }
        self.client.call(Kind::Shutdown, &[], &mut Patience::forever()).map(|_| ())
    }
}

impl Desk<'_> {
    /// The next serial and its request, block included.
    fn request(&self, random: &mut Random) -> Result<(u64, Vec<u8>), Error> {
        let ledger = self.ledger;
        let serial = ledger.serial.get() + 1;
        let entry = ledger.entry(serial);
        assert_eq!(entry.block.get(), 0, "the block of request {} was never released", entry.serial.get());
        let Entry { ticket, executed, client_releases, server_releases, cancelling, cancelled, .. } = entry;
        for word in [ticket, executed, client_releases, server_releases, cancelling, cancelled] {
            word.set(0);
        }
        entry.serial.set(serial);
        ledger.serial.set(serial);
        if !random.one_in(8) {
            let nbytes = 8 * (2 + random.below(self.scene.ring_nbytes as u64 / 16));
            ledger.allocating.set(1);
            let block = ledger.during(CLIENT, Doing::Allocating, || self.ring.try_alloc(nbytes as usize))?;
            if let Some(address) = block {
                stamp_block(serial, address as u64, nbytes);
                entry.block_nbytes.set(nbytes);
                entry.block.set(address as u64);
            }
            ledger.allocating.set(0);
        }
        let mut bytes = serial.to_ne_bytes().to_vec();
        bytes.extend(entry.block.get().to_ne_bytes());
        bytes.extend(entry.block_nbytes.get().to_ne_bytes());
        bytes.extend(body(serial, 1));
        Ok((serial, bytes))
    }

    fn posted(&self, serial: u64, ticket: u64) {
        assert_eq!(ticket, self.ledger.sent.get(), "tickets count what was posted");
        self.ledger.entry(serial).ticket.set(ticket + 1);
        self.ledger.sent.set(ticket + 1);
    }

    /// A reply is the next one, and that of the request with its ticket; what it says is done is done.
    fn check(&self, reply: &Reply) {
        let Reply { ticket, kind, status, code, payload } = reply;
        assert_eq!(*ticket, self.ledger.taken.get(), "replies come in order, none twice, none left out");
        let serial = self.ledger.serial_of(*ticket).get();
        let entry = self.ledger.entry(serial);
        assert_eq!((entry.serial.get(), entry.ticket.get()), (serial, ticket + 1), "the reply is to that request");
        let executed = entry.executed.get() > 0;
        let by_predecessor = executed && entry.executed_by.get() < self.ledger.servers.get();
        match status {
            Status::Ok => {
                assert!(executed, "request {serial} was answered and never executed");
                assert_eq!(entry.cancelled.get(), 0, "request {serial} was answered, and is certain not to be taken");
                assert_eq!((*kind, *code), (kind_of(serial), serial as i32));
                assert_eq!(word(payload, 0), serial);
                assert_eq!(&payload[8..], body(serial, 2), "the reply to request {serial} is whole");
            }
            Status::Cancelled => {
                assert_eq!(entry.cancelling.get(), 1, "request {serial} was never taken back");
                assert!(!executed || by_predecessor, "request {serial} was executed, and is said to be cancelled");
            }
            Status::Failed => panic!("request {serial} failed, and no server said so"),
        }
        self.give_back(entry);
    }

    /// Releases a request's block, if the server has not, however far an earlier client or server had come with that.
    fn give_back(&self, entry: &Entry) {
        let (serial, block) = (entry.serial.get(), entry.block.get());
        if block == 0 {
            return;
        }
        if entry.server_releases.get() + entry.client_releases.get() > 0 {
            // Whoever began to release it died. If it was released, the block may be another request's by now.
            if !self.ledger.has_other_user(block, serial) {
                release_again(&self.ring, block);
            }
        } else {
            check_block(serial, block, entry.block_nbytes.get());
            entry.client_releases.set(1);
            self.ledger.during(CLIENT, Doing::Releasing, || self.ring.release(block as usize).unwrap());
        }
        entry.block.set(0);
    }
}

/// Releases what may have been released already, by one that was killed.
fn release_again(ring: &HeapRing, block: u64) {
    match ring.release(block as usize) {
        Ok(()) | Err(Error::UnknownBlock { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

struct Server<'a> {
    scene: &'a Scene,
    ledger: &'a Ledger,
    server: MailboxServer,
    ring: HeapRing,
    received: VecDeque<(u64, u64)>,
    next: Option<u64>,
}

impl<'a> Server<'a> {
    fn resume(scene: &'a Scene, peer: &Peer, random: &mut Random) -> Self {
        scene.ledger().servers.add(1);
        let doorbell = random.one_in(3).then_some(&scene.doorbells[SERVER]);
        let server = scene.mailbox.server(doorbell).unwrap();
        server.watch(peer).unwrap();
        Server { scene, ledger: scene.ledger(), server, ring: scene.ring(), received: VecDeque::new(), next: None }
    }

    fn play(mut self, peer: &Peer, ours: bool, random: &mut Random) -> End {
        loop {
            let room = self.received.len() < self.scene.mailbox.depth();
            let step = match random.below(8) {
                0..=3 if room && (self.received.is_empty() || random.one_in(8)) => self.receive(true),
                0..=4 if room => self.receive(false),
                5 => {
                    for _ in 0..random.below(1000) {
                        std::hint::spin_loop();
                    }
                    Ok(false)
                }
                _ => self.reply(),
            };
            match step {
                Ok(false) => {}
                Ok(true) => return End::Finished,
                // Whoever waits for requests has replied to some first, or the client never could go on.
                Err(error) => return told(self.scene, SERVER, error, peer, ours),
            }
        }
    }

    /// Whether all is done.
    fn receive(&mut self, waiting: bool) -> Result<bool, Error> {
        let ledger = self.ledger;
        let taken = |request: Request<'_>| (request.ticket, request.kind, request.payload.to_vec());
        let request = if waiting {
            // Requests received and not replied to would keep the client waiting, and this wait with it.
            while !self.received.is_empty() {
                self.reply()?;
            }
            let received =
                ledger.during(SERVER, Doing::AwaitingRequest, || self.server.recv(&mut Patience::forever()).map(taken));
            Some(received?)
        } else {
            match ledger.during(SERVER, Doing::Receiving, || Ok(self.server.try_recv()?.map(taken))) {
                // Requests taken back, behind one that is not replied to, fill the lane as well.
                Err(Error::Misused(_)) if !self.received.is_empty() => None,
                received => received?,
            }
        };
        let Some((ticket, kind, payload)) = request else { return Ok(false) };
        if kind == Kind::Shutdown {
            while !self.received.is_empty() {
                self.reply()?;
            }
            self.server.reply(0, &[])?;
            return Ok(true);
        }
        self.execute(ticket, kind, &payload);
        Ok(false)
    }

    fn execute(&mut self, ticket: u64, kind: Kind, payload: &[u8]) {
        let ledger = self.ledger;
        // A server made anew begins behind the last reply; the one that was being given may have been.
        let (least, most) = self.next.map_or((ledger.replied.get(), ledger.replying.get()), |next| (next, next));
        assert!(ticket >= least, "request {ticket} is received and was answered");
        for left_out in most..ticket {
            let cancelling = ledger.entry(ledger.serial_of(left_out).get()).cancelling.get();
            assert_eq!(cancelling, 1, "request {left_out} is left out before {ticket}");
        }
        self.next = Some(ticket + 1);
        let (serial, block, nbytes) = (word(payload, 0), word(payload, 1), word(payload, 2));
        let entry = ledger.entry(serial);
        assert_eq!(entry.serial.get(), serial);
        assert_eq!(kind, kind_of(serial));
        assert_eq!(&payload[HEAD..], body(serial, 1), "request {serial} is whole");
        let is_there = entry.block.get() != 0 && entry.server_releases.get() == 0;
        if is_there {
            assert_eq!(entry.block.get(), block);
            check_block(serial, block, nbytes);
        }
        // The record that the reply promises.
        assert_eq!(entry.cancelled.get(), 0, "request {serial} is taken, and is certain not to be");
        entry.executed_by.set(ledger.servers.get());
        entry.executed.add(1);
        if is_there && serial % 2 == 0 {
            entry.server_releases.set(1);
            ledger.during(SERVER, Doing::Releasing, || self.ring.release(block as usize).unwrap());
            entry.block.set(0);
            entry.server_releases.set(0);
        }
        self.received.push_back((ticket, serial));
    }

    fn reply(&mut self) -> Result<bool, Error> {
        let Some((ticket, serial)) = self.received.pop_front() else { return Ok(false) };
        let mut bytes = serial.to_ne_bytes().to_vec();
        bytes.extend(body(serial, 2));
        let ledger = self.ledger;
        ledger.replying.set(ticket + 1);
        ledger.during(SERVER, Doing::Replying, || self.server.reply(serial as i32, &bytes))?;
        ledger.replied.set(ticket + 1);
        Ok(false)
    }
}
