//! Peers: how they ended, and that their waiters notice.

#![cfg(all(target_os = "linux", not(loom)))]

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use simpler_ipc::{Doorbell, Error, Exit, Interrupted, Kind, Limit, Mailbox, Patience, Peer, Region, WaitSet};

/// A process that stays until its input is closed or it is killed.
fn patient() -> (Child, Peer) {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let peer = Peer::open(child.id() as i32).unwrap();
    (child, peer)
}

fn bell() -> Doorbell {
    Doorbell::new(&Region::anonymous(Doorbell::NBYTES, "test").unwrap(), 0).unwrap()
}

#[test]
fn a_child_that_is_killed_is_reported_with_its_signal() {
    let (_child, peer) = patient();
    assert_eq!(peer.died().unwrap(), None);
    peer.kill(9).unwrap();
    let exit = Exit { status: None, signal: Some(9) };
    assert_eq!(peer.wait(&mut Patience::forever()).unwrap(), exit);
    assert_eq!(peer.died().unwrap(), Some(exit), "and it is remembered after reaping");
    peer.kill(9).unwrap();
}

#[test]
fn a_child_that_exits_is_reported_with_its_status() {
    #[allow(clippy::zombie_processes)] // the peer reaps it
    let child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
    let peer = Peer::open(child.id() as i32).unwrap();
    assert_eq!(peer.wait(&mut Patience::forever()).unwrap(), Exit { status: Some(3), signal: None });
}

#[test]
fn a_child_that_someone_else_reaped_is_gone_all_the_same() {
    let (mut child, peer) = patient();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(peer.died().unwrap(), Some(Exit { status: None, signal: None }));
}

#[test]
fn a_process_that_is_not_there_cannot_be_opened() {
    let (mut child, peer) = patient();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(Peer::open(peer.pid()), Err(Error::PeerDied { .. })));
    assert!(matches!(Peer::open(0), Err(Error::Invalid(_))));
    assert!(matches!(peer.kill(12345), Err(Error::Invalid(_))));
}

#[test]
fn a_wait_for_a_live_peer_ends_with_its_limit() {
    let (mut child, peer) = patient();
    let waited = peer.wait(&mut Patience::limited(Duration::from_millis(1)));
    assert!(matches!(waited, Err(Error::WaitTimeout { .. })));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_wait_set_wakes_for_a_death_once() {
    let (_child, peer) = patient();
    let doorbell = bell();
    let set = WaitSet::new(doorbell.clone());
    set.watch(&peer).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| set.wait(doorbell.value(), &mut Patience::forever()));
        peer.kill(9).unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert!(peer.died().unwrap().is_some());
    // It may be told once more if the ring came before the look at the peers, but not for ever.
    let again = (0..3).map(|_| set.wait(doorbell.value(), &mut Patience::limited(Duration::ZERO)));
    assert!(matches!(again.last(), Some(Err(Error::WaitTimeout { .. }))));
}

#[test]
fn a_wait_set_tells_of_a_death_before_the_wait() {
    let (_child, peer) = patient();
    let doorbell = bell();
    let set = WaitSet::new(doorbell.clone());
    set.watch(&peer).unwrap();
    let before = doorbell.value();
    peer.kill(9).unwrap();
    doorbell.wait(before, &mut Patience::forever()).unwrap(); // rung by the watcher
    set.wait(doorbell.value(), &mut Patience::forever()).unwrap();
}

#[test]
fn peers_forgotten_do_not_ring() {
    let doorbell = bell();
    let set = WaitSet::new(doorbell.clone());
    let (_first, forgotten) = patient();
    let (_second, watched) = patient();
    set.watch(&forgotten).unwrap();
    set.watch(&watched).unwrap();
    set.forget(&forgotten);
    forgotten.kill(9).unwrap();
    forgotten.wait(&mut Patience::forever()).unwrap();
    watched.kill(9).unwrap();
    set.wait(0, &mut Patience::forever()).unwrap();
    assert_eq!(doorbell.value(), 1);
}

#[test]
fn a_reply_that_came_before_the_death_is_not_lost_to_it() {
    let region = Region::anonymous(Mailbox::required_bytes(2, 8).unwrap(), "test").unwrap();
    let mailbox = Mailbox::new(&region, 0, 2, 8).unwrap();
    let (mut client, mut server) = (mailbox.client(None).unwrap(), mailbox.server(None).unwrap());
    let (_child, peer) = patient();
    client.watch(&peer).unwrap();
    client.send(Kind::Task, b"first").unwrap();
    client.send(Kind::Task, b"second").unwrap();
    server.recv(&mut Patience::forever()).unwrap();
    server.reply(0, b"done").unwrap();
    peer.kill(9).unwrap();
    client.wait(&mut Patience::forever()).unwrap();
    assert_eq!(client.poll().unwrap().unwrap().payload, b"done");
    match client.wait(&mut Patience::forever()) {
        Err(Error::PeerDied { pid, exit }) => {
            assert_eq!((pid, exit), (peer.pid(), Exit { status: None, signal: Some(9) }));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_notices_that_its_client_is_gone() {
    let region = Region::anonymous(Mailbox::required_bytes(1, 8).unwrap(), "test").unwrap();
    let mut server = Mailbox::new(&region, 0, 1, 8).unwrap().server(None).unwrap();
    let (_child, peer) = patient();
    server.watch(&peer).unwrap();
    peer.kill(9).unwrap();
    assert!(matches!(server.recv(&mut Patience::forever()), Err(Error::PeerDied { .. })));
}

#[test]
fn an_interrupt_check_ends_a_wait() {
    let doorbell = bell();
    let mut asked = 0;
    let mut check = || {
        asked += 1;
        if asked == 3 {
            Err(Interrupted)
        } else {
            Ok(())
        }
    };
    let mut patience = Patience::new(Limit::new(None)).interrupted_by(&mut check, Duration::from_millis(1));
    assert!(matches!(doorbell.wait(0, &mut patience), Err(Error::Interrupted)));
    assert_eq!(asked, 3);
}
