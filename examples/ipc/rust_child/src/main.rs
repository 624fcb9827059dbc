//! A child that smooths series which lie in shared memory: the Rust side of `parent.py`.
//!
//! It is started with the descriptor of a region, the id of its parent, and the shape of the mailbox at the region's
//! start. A request is three numbers: where a block lies in the region, how many values it holds, and the weight of each
//! value. The results go behind the values, so a request that is answered twice gives the same result twice.

use std::error::Error;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

// --8<-- [start:main]
use simpler_ipc::{exit_with, Mailbox, Patience, Peer, Region, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let parent_id: u32 = argument(2)?;
    let parent = Peer::open(parent_id.try_into()?)?;
    if std::os::unix::process::parent_id() != parent_id {
        return Err("the parent has ended already".into()); // and its id may be another process's by now
    }
    exit_with(&parent)?; // whatever this process is doing then

    // SAFETY: the parent passed the descriptor on, and nothing here closes it.
    let fd = unsafe { BorrowedFd::borrow_raw(argument(1)?) };
    let region = Region::from_fd(fd)?;
    let mailbox = Mailbox::new(&region, 0, argument(3)?, argument(4)?)?;

    // Until a request of kind Shutdown. What the handler fails with becomes a failed reply.
    let mut server = mailbox.server(None)?;
    server.serve(&mut Patience::forever(), |request| answer(&region, request))?;
    Ok(())
}

fn answer(region: &Region, request: &Request<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
    let [offset, count, weight] = numbers(request)?;
    let (offset, count) = (u64::from_le_bytes(offset), u64::from_le_bytes(count));
    let nbytes = usize::try_from(count)?.checked_mul(size_of::<f64>()).ok_or("no series is that long")?;
    let offset = usize::try_from(offset)?;
    // An error if the request is wrong: no window leaves the region.
    let values = region.window(offset, nbytes)?;
    let smoothed = region.window(offset + nbytes, nbytes)?;

    // In place. Other processes can write here at any time, so there are pointers, and no references.
    let (from, to) = (values.as_ptr().cast::<f64>(), smoothed.as_ptr().cast::<f64>());
    let weight = f64::from_le_bytes(weight);
    let mut average = 0.0;
    for i in 0..nbytes / size_of::<f64>() {
        // SAFETY: both windows hold that many values; they need not be aligned.
        unsafe {
            average += weight * (from.add(i).read_unaligned() - average);
            to.add(i).write_unaligned(average);
        }
    }
    Ok(average.to_le_bytes().to_vec())
}
// --8<-- [end:main]

fn numbers(request: &Request<'_>) -> Result<[[u8; 8]; 3], Box<dyn Error>> {
    if request.payload.nbytes() != 24 {
        return Err(format!("a request has 24 bytes, not {}", request.payload.nbytes()).into());
    }
    let mut numbers = [[0; 8]; 3];
    request.payload.copy_to(numbers.as_flattened_mut());
    Ok(numbers)
}

fn argument<T: FromStr<Err: Error + 'static>>(number: usize) -> Result<T, Box<dyn Error>> {
    let argument = std::env::args().nth(number).ok_or("usage: smoother FD PARENT DEPTH FRAME_BYTES")?;
    Ok(argument.parse()?)
}
