//! Client and server killed at random moments, again and again.
//!
//! A supervisor forks a parent, which forks a child: one is the client of a mailbox, the other its server, and blocks of
//! a heap ring travel between them. One or both are killed; the survivor is told, and goes on with a successor, which
//! the parent forks where it survives, and the supervisor where it does not (a child then outlives its parent, and
//! serves a stranger). What each promise comes to is checked by the players themselves, in `players`, against
//! what all of them write down in `ledger`.
//!
//! A program of its own, because a process that forks has to have one thread.
//!
//! ```text
//! SIMPLER_IPC_KILLS=10000    how many
//! SIMPLER_IPC_SEED=…         the choices of an earlier run again; its moments are the machine's
//! ```

#[cfg(all(target_os = "linux", not(loom)))]
mod ledger;
#[cfg(all(target_os = "linux", not(loom)))]
mod players;
#[cfg(all(target_os = "linux", not(loom)))]
mod supervisor;

#[cfg(all(target_os = "linux", not(loom)))]
fn main() {
    supervisor::main();
}

#[cfg(not(all(target_os = "linux", not(loom))))]
fn main() {}
