//! The record of a named region, whatever its file holds.

#![no_main]

#[allow(dead_code)] // each target has one of them
#[path = "../../simpler-ipc/tests/any_bytes/exercise.rs"]
mod exercise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| exercise::record(bytes));
