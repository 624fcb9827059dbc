//! Every interleaving of the lock-free parts, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
//!
//! Loom reports a lost wake as a deadlock, and a payload read too early or written too late as a concurrent access.
//!
//! # What the models add to the code, and what they leave out
//!
//! - **`order_for_loom`**, a sequentially consistent fence in front of loads of `sleepers` and `generation`. Loom takes
//!   `SeqCst` accesses for acquire and release, and models `SeqCst` fences only. In the language's memory model the accesses
//!   are in the one order of all `SeqCst` operations themselves, which is what the fence spells out.
//! - **The futex** is a lock and a condition: comparing and queueing are one step, as the kernel promises; there is one queue
//!   for all words, so that a sleeper may be woken for another's sake, as it may be in life. A sleep has no limit there: what
//!   would be found out only by a limit is a deadlock in the model.
//! - **No spinning**: looking again and sleeping are the same to loom.
//! - **Death** is the end of a thread that was in the midst of something. That the successor comes after it (`join`) is what
//!   the kernel promises: a process is found dead only when it writes no more, and finding that out goes through the kernel's
//!   locks. A machine's store buffers die with nobody: what was stored before is seen.
//! - **Memory of one process** (a client's list of calls, its count of what it has sent) is behind a lock in the models as it
//!   is in the library, and is written anew here, as short as can be.

#![cfg(loom)]

mod bells;
mod hand_over;
mod heap_ring;
mod lane;
mod recovery;
mod waiting;

use loom::cell::UnsafeCell;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::sync::{fence, Ordering};
use simpler_ipc::spin::Spin;
use simpler_ipc::wait::{wait_for, Patience};
use simpler_ipc::Result;

/// Every interleaving with at most three preemptions (switches away from a thread that could have gone on): bugs of
/// this kind need one or two, and without a bound the waiting loops have millions of interleavings.
fn model(body: impl Fn() + Send + Sync + 'static) {
    model_with(3, body);
}

/// The same with fewer preemptions, where three threads or long loops make too many interleavings of three.
fn model_with(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(model.preemption_bound.unwrap_or(preemptions));
    model.check(body);
}

/// Waits as the mailbox, the doorbell and the heap ring do.
fn wait<T>(bell: &Bell, look: impl FnMut() -> Result<Option<T>>) -> T {
    wait_for(bell, &Spin::new(), &mut Patience::forever(), "the model", look, || Ok(())).unwrap()
}

/// As the mailbox does after handing a frame over.
fn wake(bell: &Bell) {
    fence(Ordering::SeqCst);
    bell.wake_sleepers();
}

fn read(payload: &UnsafeCell<u64>) -> u64 {
    // SAFETY: only called by the side whose turn it is; loom fails the test if that is not so.
    payload.with(|payload| unsafe { *payload })
}

fn write(payload: &UnsafeCell<u64>, value: u64) {
    // SAFETY: as in `read`.
    payload.with_mut(|payload| unsafe { *payload = value })
}
