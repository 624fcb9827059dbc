//! Whatever bytes shared memory holds: errors, never a panic, a hang or an address outside.

#![cfg(all(target_os = "linux", not(loom)))]

mod exercise;

use proptest::collection::vec;
use proptest::prelude::*;
use simpler_ipc::named::Record;

/// Memory of a few states that make sense and of any bytes, in words as the protocols are.
fn memory() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => Just(0u64),
        4 => 0u64..64,
        1 => any::<u64>(),
        1 => (0u64..8).prop_map(|small| u64::MAX - small),
        1 => (0u64..8, 0u32..64).prop_map(|(small, shift)| (1u64 << shift).wrapping_add(small)),
    ];
    vec(word, 0..200).prop_map(|words| words.into_iter().flat_map(u64::to_ne_bytes).collect())
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    (any::<[u8; 2]>(), any::<u8>(), vec(any::<u8>(), 0..200), memory())
        .prop_map(|(shape, keep, calls, memory)| [&shape[..], &[calls.len() as u8, keep], &calls, &memory].concat())
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(500)))]

    #[test]
    fn a_mailbox_of_any_bytes(input in input()) {
        exercise::mailbox(&input);
    }

    #[test]
    fn a_record_of_any_bytes(input in vec(any::<u8>(), 0..300)) {
        exercise::record(&input);
    }

    #[test]
    fn a_record_with_some_bytes_changed(
        (nbytes, identity, start_time) in any::<(u64, u64, u64)>(),
        (pid, fd) in any::<(i32, i32)>(),
        name in "[A-Za-z0-9._-]{1,200}",
        changes in vec((0usize..272, any::<u8>()), 0..4),
    ) {
        let record = Record { name, nbytes, identity, pid, fd, start_time, namespace: start_time };
        let mut bytes = record.encode();
        exercise::record(&bytes);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        exercise::record(&bytes);
    }

    #[test]
    fn a_heap_ring_of_any_bytes(input in input()) {
        exercise::heap_ring(&input);
    }
}
