//! Independent pieces of work, on as many threads as the configuration says. The result never depends on the number.

#[cfg(feature = "rayon")]
use std::sync::LazyLock;

/// `f(0), …, f(n − 1)`. `threads`: 0 for as many as the machine has, 1 for the calling thread.
pub(crate) fn map<R: Send>(n: usize, threads: u32, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "rayon")]
    if n > 1 && threads != 1 {
        use rayon::prelude::*;
        return pool::install(threads, || (0..n).into_par_iter().map(&f).collect());
    }
    let _ = threads;
    (0..n).map(f).collect()
}

/// How many threads that is.
pub(crate) fn threads(threads: u32) -> usize {
    match threads {
        #[cfg(feature = "rayon")]
        0 => pool::present().unwrap_or_else(default_threads),
        _ if cfg!(feature = "rayon") => threads as usize,
        _ => 1,
    }
}

/// The threads that `threads: 0` stands for: one for each physical core that the process may use. Two threads of one core share its vector units and
/// its caches, which these loops fill alone.
#[cfg(feature = "rayon")]
pub fn default_threads() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| num_cpus::get_physical().min(num_cpus::get()).max(1));
    *CORES
}

/// The threads that `threads: 0` stands for: the calling one, where there are no others.
#[cfg(not(feature = "rayon"))]
pub fn default_threads() -> usize {
    1
}

/// `f(i, &mut items[i])` for each item.
pub(crate) fn map_mut<T: Send, R: Send>(
    items: &mut [T],
    threads: u32,
    f: impl Fn(usize, &mut T) -> R + Sync + Send,
) -> Vec<R> {
    #[cfg(feature = "rayon")]
    if items.len() > 1 && threads != 1 {
        use rayon::prelude::*;
        return pool::install(threads, || items.par_iter_mut().enumerate().map(|(i, item)| f(i, item)).collect());
    }
    let _ = threads;
    items.iter_mut().enumerate().map(|(i, item)| f(i, item)).collect()
}

/// As [`map_mut`], over consecutive pieces of `items` of `size` elements.
pub(crate) fn for_each_chunk<T: Send>(
    items: &mut [T],
    size: usize,
    threads: u32,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if size == 0 {
        return;
    }
    #[cfg(feature = "rayon")]
    if items.len() > size && threads != 1 {
        use rayon::prelude::*;
        pool::install(threads, || items.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk)));
        return;
    }
    let _ = threads;
    items.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
}

#[cfg(feature = "rayon")]
mod pool {
    use std::collections::HashMap;
    use std::sync::{Arc, LazyLock, Mutex, PoisonError};

    use rayon::{ThreadPool, ThreadPoolBuilder};

    /// Pools of a size that somebody asked for; few, since sizes are few.
    static POOLS: LazyLock<Mutex<HashMap<u32, Arc<ThreadPool>>>> = LazyLock::new(Mutex::default);

    /// Threads of the pool that the calling thread belongs to.
    pub(super) fn present() -> Option<usize> {
        rayon::current_thread_index().map(|_| rayon::current_num_threads())
    }

    pub(super) fn install<R: Send>(threads: u32, f: impl FnOnce() -> R + Send) -> R {
        // Who calls from a pool of their own and does not ask for a number has chosen that pool.
        if threads == 0 && present().is_some() {
            return f();
        }
        let threads = super::threads(threads) as u32;
        let pool = {
            let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
            match pools.get(&threads) {
                Some(pool) => Some(Arc::clone(pool)),
                // Where the machine refuses the threads, the shared pool does the work instead.
                None => ThreadPoolBuilder::new().num_threads(threads as usize).build().ok().map(|pool| {
                    let pool = Arc::new(pool);
                    pools.insert(threads, Arc::clone(&pool));
                    pool
                }),
            }
        };
        match pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }
}
