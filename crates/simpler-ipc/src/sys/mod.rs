//! Every call to the operating system, behind one set of functions.

#![cfg_attr(loom, allow(dead_code))] // loom has its own futex

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod linux_names;
#[cfg(target_os = "linux")]
mod linux_process;
#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(target_os = "linux")]
pub use linux_names::*;
#[cfg(target_os = "linux")]
pub use linux_process::*;

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub use unsupported::*;

/// What stands for namespaces that cannot be told. It is no namespace's inode.
pub const UNKNOWN_NAMESPACE: u64 = 1;
