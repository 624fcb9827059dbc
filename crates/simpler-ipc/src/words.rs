//! Bytes of heap rings, copied word by word.
//!
//! Where a block lies is a number that any thread may have: nothing keeps one from writing to a block that another one reads,
//! but that both know better. So these copies are made of relaxed atomic accesses of whole words: whoever does it all the same
//! gets some of either's bytes, and no data race.
//!
//! Blocks start and end at multiples of 64, so that the last word of a payload is the block's, whatever the payload's size.

use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// # Safety
/// `word` is in a block, and aligned.
unsafe fn atomic<'a>(word: *mut u8) -> &'a AtomicU64 {
    // SAFETY: the caller's promise; all that is done to blocks through references is atomic.
    unsafe { AtomicU64::from_ptr(word.cast()) }
}

/// Copies the first bytes of a block.
///
/// # Safety
/// `block` is the address of one that has `nbytes`; `to` is valid for writes of as many, outside of all blocks.
pub(crate) unsafe fn copy_out(block: *mut u8, to: *mut u8, nbytes: usize) {
    for at in (0..nbytes).step_by(WORD) {
        // SAFETY: blocks have whole words, and of `to` no more is written than there is.
        unsafe {
            let word = atomic(block.add(at)).load(Ordering::Relaxed).to_ne_bytes();
            std::ptr::copy_nonoverlapping(word.as_ptr(), to.add(at), WORD.min(nbytes - at));
        }
    }
}

/// Copies bytes to the start of a block.
///
/// # Safety
/// `block` is the address of one that has `nbytes`; `from` is valid for reads of as many, outside of all blocks.
pub(crate) unsafe fn copy_in(from: *const u8, block: *mut u8, nbytes: usize) {
    for at in (0..nbytes).step_by(WORD) {
        // SAFETY: blocks have whole words, and of `from` no more is read than there is.
        unsafe {
            let word = atomic(block.add(at));
            let mut bytes = [0; WORD];
            if nbytes - at < WORD {
                bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            }
            std::ptr::copy_nonoverlapping(from.add(at), bytes.as_mut_ptr(), WORD.min(nbytes - at));
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    }
}

/// Writes a word all over a block.
///
/// # Safety
/// `block` is the address of one of `nbytes`, a multiple of eight.
pub(crate) unsafe fn fill(block: *mut u8, word: u64, nbytes: usize) {
    for at in (0..nbytes).step_by(WORD) {
        // SAFETY: the caller's promise.
        unsafe { atomic(block.add(at)) }.store(word, Ordering::Relaxed);
    }
}

/// A word of a block.
///
/// # Safety
/// `word` is in a block, and aligned.
pub(crate) unsafe fn load(word: *mut u8) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { atomic(word) }.load(Ordering::Relaxed)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn as_many_bytes_are_copied_as_are_asked_for() {
        for nbytes in [0, 1, 7, 8, 9, 63, 64] {
            let from: Vec<u8> = (1..=nbytes as u8).collect();
            let mut block = [u64::MAX; 8];
            let first = block.as_mut_ptr().cast();
            let mut to = vec![0; nbytes];
            // SAFETY: all of them are that long at least, and aligned.
            unsafe {
                copy_in(from.as_ptr(), first, nbytes);
                copy_out(first, to.as_mut_ptr(), nbytes);
            }
            assert_eq!(to, from);
            let bytes: Vec<u8> = block.iter().flat_map(|word| word.to_ne_bytes()).collect();
            assert!(bytes[..nbytes] == from && bytes[nbytes..].iter().all(|byte| *byte == 0xff));
        }
    }
}
