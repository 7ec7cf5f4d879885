//! An allocator that counts what the calling thread asks for. Counts are a thread's own, so that neither the test harness nor another test
//! disturbs them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What one thread has allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Calls that gave memory, growing included.
    pub calls: usize,
    /// Bytes that those gave.
    pub bytes: usize,
    /// Bytes that are in use now: negative where a thread frees what others have allocated.
    pub live: isize,
    /// The most that were in use at a time.
    pub peak: isize,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { calls: 0, bytes: 0, live: 0, peak: 0 }) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn took(bytes: usize, freed: usize) {
    // Nothing is counted while a thread ends.
    let _ = COUNTS.try_with(|counts| {
        let now = counts.get();
        let live = now.live + bytes as isize - freed as isize;
        counts.set(Counts { calls: now.calls + 1, bytes: now.bytes + bytes, live, peak: now.peak.max(live) });
    });
}

fn gave_back(bytes: usize) {
    let _ = COUNTS.try_with(|counts| {
        let now = counts.get();
        counts.set(Counts { live: now.live - bytes as isize, ..now });
    });
}

// SAFETY: every call goes to the system's allocator as it came; counting needs no memory of its own. There is no way to see
// allocations but to be the allocator, which is an unsafe trait: hence `unsafe` in a test.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size(), 0);
        // SAFETY: as the caller vouches for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size(), 0);
        // SAFETY: as the caller vouches for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there for a moment.
        took(size, 0);
        gave_back(layout.size());
        // SAFETY: as the caller vouches for.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave_back(layout.size());
        // SAFETY: as the caller vouches for.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What the calling thread allocates while `f` runs; `live` and `peak` are beyond what was in use before.
pub fn counted<R>(f: impl FnOnce() -> R) -> (R, Counts) {
    let before = COUNTS.get();
    COUNTS.set(Counts { peak: before.live, ..before });
    let result = f();
    let after = COUNTS.get();
    COUNTS.set(Counts { peak: before.peak.max(after.peak), ..after });
    let counts = Counts {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
        live: after.live - before.live,
        peak: after.peak - before.live,
    };
    (result, counts)
}
