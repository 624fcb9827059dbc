//! Values in their frames, between two threads.

// --8<-- [start:all]
use std::thread;

use simpler_ipc::{bytes_of, Kind, Mailbox, Patience, Plain, Region};

#[repr(C)]
#[derive(Clone, Copy)]
struct Order {
    number: u64,
    price: f64,
    lots: [u32; 2],
}

// SAFETY: repr(C), plain fields of 8, 8 and 2 × 4 bytes with no padding.
unsafe impl Plain for Order {}

fn main() -> Result<(), simpler_ipc::Error> {
    let region = Region::anonymous(Mailbox::required_bytes(4, 64)?, "values")?;
    let mailbox = Mailbox::new(&region, 0, 4, 64)?;
    let mut client = mailbox.client(None)?;
    let mut server = mailbox.server(None)?; // usually in another process

    let serving = thread::spawn(move || -> Result<(), simpler_ipc::Error> {
        let order: &Order = server.recv(&mut Patience::forever())?.payload.get()?; // where the client has written it
        let total = order.price * f64::from(order.lots[0] + order.lots[1]);
        server.reply(0, bytes_of(&total))
    });

    let place = client.request::<Order>()?.expect("a frame is free");
    client.post(place, Kind::Task, Order { number: 7, price: 2.5, lots: [3, 1] })?;
    client.wait(&mut Patience::forever())?;
    let total = client.poll_with(|reply| reply.payload.read::<f64>())?.expect("it is there")?;
    assert_eq!(total, 10.0);
    serving.join().expect("the server's thread ends")
}
// --8<-- [end:all]

#[cfg(target_os = "linux")]
#[test]
fn it_does_what_it_says() {
    main().unwrap();
}
