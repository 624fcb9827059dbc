//! A client and a server in one process. Usually the server is in another; see `examples/ipc` of the repository.

// --8<-- [start:all]
use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use simpler_ipc::{Kind, Mailbox, Patience, Region, Request, Result};

fn main() -> Result<()> {
    let region = Region::anonymous(Mailbox::required_bytes(8, 1024)?, "example")?;
    let mailbox = Mailbox::new(&region, 0, 8, 1024)?;
    let mut client = mailbox.client(None)?;
    let mut server = mailbox.server(None)?;
    let serving = thread::spawn(move || {
        let shout = |request: &Request<'_>| Ok::<_, Infallible>(request.payload.to_vec().to_ascii_uppercase());
        server.serve(&mut Patience::forever(), shout)
    });

    let mut patience = Patience::limited(Duration::from_secs(5));
    let reply = client.call(Kind::Task, b"hello", &mut patience)?;
    assert_eq!(reply.payload, b"HELLO");
    client.call(Kind::Shutdown, b"", &mut patience)?;
    serving.join().expect("the server did not panic")
}
// --8<-- [end:all]

#[cfg(target_os = "linux")]
#[test]
fn it_does_what_it_says() {
    main().unwrap();
}
