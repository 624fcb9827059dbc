//! One side of a measurement, in a process of its own: what `packages/simpler-ipc/benchmarks` starts and asks.
//!
//! ```text
//! processes serve FD DEPTH FRAME_BYTES PARENT    answers each request of the mailbox in that region with its own bytes
//! processes serve_raw FD DEPTH FRAME_BYTES PARENT    the same by pointers, all that is there before the client is woken
//! processes ask FD DEPTH FRAME_BYTES PARENT      measures what each line on its standard input says:
//!     trips COUNT NBYTES         nanoseconds of that many calls, one after the other
//!     trips_raw COUNT NBYTES     the same by pointers
//!     after_idle COUNT NBYTES GAP    nanoseconds of each call, with a sleep of GAP nanoseconds before it
//!     pipelined COUNT NBYTES     nanoseconds of that many requests, as many in flight as there are frames
//!     heap COUNT NBYTES LIVE     nanoseconds of that many alloc and release, LIVE blocks being alive
//! processes                      a quick look without all that: two threads instead of two processes
//! ```

use std::collections::VecDeque;
use std::io::{stdin, stdout, BufRead, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use simpler_ipc::{exit_with, HeapRing, Kind, Mailbox, MailboxClient, MailboxServer, Patience, Peer, Region, Status};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [role @ ("serve" | "serve_raw" | "ask"), fd, depth, frame_bytes, parent] => {
            exit_with(&Peer::open(parent.parse()?)?)?;
            let mailbox = mailbox(fd, depth, frame_bytes)?;
            match *role {
                "serve" => Ok(serve(mailbox.server(None)?)?),
                "serve_raw" => Ok(serve_raw(mailbox.server(None)?)?),
                _ => ask(mailbox.client(None)?),
            }
        }
        [] => look(),
        _ => Err(format!("what is {words:?}? See the text at the top of {}", file!()).into()),
    }
}

/// The mailbox at the start of the region that was inherited as that file descriptor.
fn mailbox(fd: &str, depth: &str, frame_bytes: &str) -> Outcome<Mailbox> {
    // SAFETY: whoever started this process left the descriptor open in it, and nothing here closes it.
    let region = Region::from_fd(unsafe { BorrowedFd::borrow_raw(fd.parse()?) })?;
    Ok(Mailbox::new(&region, 0, depth.parse()?, frame_bytes.parse()?)?)
}

/// As a user would write it, without `unsafe`: the request is copied out, the reply is made of the copy.
fn serve(mut server: MailboxServer) -> simpler_ipc::Result<()> {
    let mut copy = vec![0; server.frame_bytes()];
    loop {
        let request = server.recv(&mut Patience::forever())?;
        let (kind, bytes) = (request.kind, &mut copy[..request.payload.nbytes()]);
        request.payload.copy_to(bytes);
        server.reply(0, bytes)?;
        if kind == Kind::Shutdown {
            return Ok(());
        }
    }
}

/// All requests that are there are answered before a sleeping client is woken.
fn serve_raw(mut server: MailboxServer) -> simpler_ipc::Result<()> {
    loop {
        let mut next = Some(server.recv(&mut Patience::forever())?);
        while let Some(request) = next {
            let (kind, payload, nbytes) = (request.kind, request.payload.as_ptr(), request.payload.nbytes());
            // SAFETY: the request has that many bytes, and is not replied to before.
            unsafe { server.queue_reply_raw(Status::Ok, 0, payload, nbytes)? };
            if kind == Kind::Shutdown {
                return server.flush();
            }
            next = server.try_recv()?;
        }
        server.flush()?;
    }
}

fn ask(mut client: MailboxClient) -> Outcome<()> {
    for line in stdin().lock().lines() {
        let line = line?;
        let (what, numbers) = line.split_once(' ').ok_or("a line without numbers")?;
        let numbers = numbers.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let taken = match (what, numbers.as_slice()) {
            ("trips", &[count, nbytes]) => vec![trips(&mut client, count, nbytes)?],
            ("trips_raw", &[count, nbytes]) => vec![trips_raw(&mut client, count, nbytes)?],
            ("after_idle", &[count, nbytes, gap]) => {
                after_idle(&mut client, count, nbytes, Duration::from_nanos(gap as u64))?
            }
            ("pipelined", &[count, nbytes]) => vec![pipelined(&mut client, count, nbytes)?],
            ("heap", &[count, nbytes, live]) => vec![heap(count, nbytes, live)?],
            _ => return Err(format!("what is {line:?}?").into()),
        };
        let taken: Vec<String> = taken.iter().map(|taken| taken.as_nanos().to_string()).collect();
        println!("{}", taken.join(" "));
        stdout().flush()?;
    }
    Ok(())
}

fn trips(client: &mut MailboxClient, count: usize, nbytes: usize) -> simpler_ipc::Result<Duration> {
    let (payload, mut answer) = (vec![7; nbytes], vec![0; nbytes]);
    let start = Instant::now();
    for _ in 0..count {
        client.call_with(Kind::Task, &payload, &mut Patience::forever(), |reply| reply.payload.copy_to(&mut answer))?;
    }
    Ok(start.elapsed())
}

fn trips_raw(client: &mut MailboxClient, count: usize, nbytes: usize) -> simpler_ipc::Result<Duration> {
    let payload = vec![7u8; nbytes];
    let waiter = client.waiter();
    let mut sum = 0u64;
    let start = Instant::now();
    for _ in 0..count {
        // SAFETY: a vector is valid for its length.
        if let Some(ticket) = unsafe { client.send_raw(Kind::Task, payload.as_ptr(), nbytes)? } {
            if !waiter.glance(ticket) {
                waiter.wait_for(ticket, &mut Patience::forever())?;
            }
        }
        // SAFETY: the reply is looked at in its frame, of which it has that many bytes.
        client.poll_with(|reply| sum += unsafe { u64::from(*reply.payload.as_ptr().add(nbytes - 1)) })?;
    }
    assert_eq!(sum, 7 * count as u64);
    Ok(start.elapsed())
}

fn after_idle(
    client: &mut MailboxClient,
    count: usize,
    nbytes: usize,
    gap: Duration,
) -> simpler_ipc::Result<Vec<Duration>> {
    (0..count)
        .map(|_| {
            std::thread::sleep(gap);
            trips(client, 1, nbytes)
        })
        .collect()
}

fn pipelined(client: &mut MailboxClient, count: usize, nbytes: usize) -> simpler_ipc::Result<Duration> {
    let payload = vec![7; nbytes];
    let start = Instant::now();
    let (mut sent, mut taken) = (0, 0);
    while taken < count {
        sent += client.send_many(Kind::Task, std::iter::repeat_n(payload.as_slice(), count - sent))?;
        client.wait(&mut Patience::forever())?;
        while client.poll_with(|reply| reply.payload.nbytes())?.is_some() {
            taken += 1;
        }
    }
    Ok(start.elapsed())
}

fn heap(count: usize, nbytes: usize, live: usize) -> Outcome<Duration> {
    let space = (live + 2) * nbytes.next_multiple_of(HeapRing::ALIGNMENT);
    let region = Region::anonymous(HeapRing::required_bytes(space, HeapRing::ALIGNMENT)?, "bench")?;
    let ring = HeapRing::new(&region, 0, space, "bench", HeapRing::ALIGNMENT)?;
    let mut blocks = VecDeque::with_capacity(live + 1);
    let mut turn = || -> Outcome<()> {
        blocks.push_back(ring.try_alloc(nbytes)?.ok_or("the ring is full")?);
        if blocks.len() > live {
            ring.release(blocks.pop_front().ok_or("no block")?)?;
        }
        Ok(())
    };
    // First the blocks that stay, and each page once.
    for _ in 0..4 * (live + 2) {
        turn()?;
    }
    let start = Instant::now();
    for _ in 0..count {
        turn()?;
    }
    Ok(start.elapsed())
}

fn look() -> Outcome<()> {
    const COUNT: usize = 200_000;
    const DEPTH: usize = 32;
    const NBYTES: usize = 100;
    let region = Region::anonymous(Mailbox::required_bytes(DEPTH, NBYTES)?, "bench")?;
    let mailbox = Mailbox::new(&region, 0, DEPTH, NBYTES)?;
    let (mut client, server) = (mailbox.client(None)?, mailbox.server(None)?);
    let answering = std::thread::spawn(move || serve_raw(server));
    let each = |taken: Duration| taken.as_nanos() as f64 / COUNT as f64;
    println!("round trip of {NBYTES} bytes         {:7.1} ns", each(trips(&mut client, COUNT, NBYTES)?));
    println!("request of many in flight      {:7.1} ns", each(pipelined(&mut client, COUNT, NBYTES)?));
    println!("heap ring, alloc and release   {:7.1} ns", each(heap(COUNT, 4096, 0)?));
    println!("the same, 32 blocks live       {:7.1} ns", each(heap(COUNT, 4096, 32)?));
    client.call(Kind::Shutdown, &[], &mut Patience::forever())?;
    answering.join().map_err(|_| "the server's thread panicked")??;
    Ok(())
}
