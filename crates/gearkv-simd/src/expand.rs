//! What rows of codes of one byte each stand for: `D̂`, and `D̂ + L` where a low-rank part is given.
//!
//! A row goes through registers once, from its codes to what is written: levels, scale and zero, or scale, rotation and mean, and the low-rank part.
//! Whatever the instruction set, a value is made by the same operations in the same order.
//!
//! SAFETY of all blocks: `expand_rows` has checked lengths, and nothing else calls what is below it.

#![expect(clippy::needless_range_loop, reason = "pieces of a row are unrolled, so that they stay in registers")]

use super::LANES;
use super::codebook::{FINE_UNIT, FINE_WIDEST, LEVELS_1, LEVELS_2, LEVELS_3, LEVELS_4, UNIT};
use super::level::{Level, level};
use super::linear::add_low_rank;
use super::rotate::{rotate_rows, turn};
use super::vector::{LevelTable, Vector, kernel};

/// What codes stand for.
#[derive(Clone, Copy)]
pub enum Meaning<'a> {
    /// `code · scale + zero`, each channel with its own: `[dim]`.
    Channels {
        /// Of each channel.
        scale: &'a [f32],
        /// Of each channel.
        zero: &'a [f32],
    },
    /// The same, neighboring channels of a row having one of each: `[rows, ⌈dim / channels⌉]`.
    Groups {
        /// How many.
        channels: usize,
        /// Of each row and group.
        scale: &'a [f32],
        /// Of each row and group.
        zero: &'a [f32],
    },
    /// Levels of a Lloyd-Max quantizer times scale.
    Turned {
        /// How many neighbors share a scale.
        channels: usize,
        /// Of each row and group, as for [`Meaning::Groups`].
        scale: &'a [f32],
        /// Of each row's codes.
        bits: &'a [u8],
        /// With the mean of each channel, rows are turned back by `rotate_rows`, and it is added.
        mean: Option<&'a [f32]>,
    },
}

/// A low-rank part: `Σ_v weights[v][row] · vectors[v]` is added to a row.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// `[rank, stride]`
    pub weights: &'a [f32],
    /// At least as many as there are rows.
    pub stride: usize,
    /// `[rank, dim]`
    pub vectors: &'a [f32],
}

impl LowRank<'_> {
    /// Of rank 0.
    pub const NONE: Self = Self { weights: &[], stride: 0, vectors: &[] };

    /// Of the rows from this one on.
    pub fn from(self, row: usize) -> Self {
        Self { weights: self.weights.get(row..).unwrap_or_default(), ..self }
    }
}

/// `out` (`[rows, dim]`) becomes what as many codes stand for.
pub fn expand_rows(codes: &[u8], dim: usize, meaning: Meaning, low_rank: LowRank, out: &mut [f32]) {
    expand_at(level(), codes, dim, meaning, low_rank, out);
}

fn expand_at(level: Level, codes: &[u8], dim: usize, meaning: Meaning, low_rank: LowRank, out: &mut [f32]) {
    let rows = out.len() / dim.max(1);
    assert!(dim > 0 && out.len() == rows * dim && codes.len() == out.len());
    let groups_fit = |channels: usize, x: &[f32]| channels > 0 && x.len() == rows * dim.div_ceil(channels);
    assert!(match meaning {
        Meaning::Channels { scale, zero } => scale.len() == dim && zero.len() == dim,
        Meaning::Groups { channels, scale, zero } => groups_fit(channels, scale) && groups_fit(channels, zero),
        Meaning::Turned { channels, scale, bits, mean } => {
            groups_fit(channels, scale) && bits.len() == rows && mean.is_none_or(|mean| mean.len() == dim)
        }
    });
    let rank = low_rank.vectors.len() / dim;
    assert!(low_rank.vectors.len() == rank * dim);
    assert!(rank == 0 || rows == 0 || low_rank.weights.len() >= (rank - 1) * low_rank.stride + rows);
    let task = Task { codes, dim, low_rank, rank };
    expand(level, task, meaning, out);
}

#[derive(Clone, Copy)]
struct Task<'a> {
    codes: &'a [u8],
    dim: usize,
    low_rank: LowRank<'a>,
    rank: usize,
}

/// Sixteen channels at a time are taken as many times.
const PIECES: usize = 4;

kernel!(fn expand(task: Task, meaning: Meaning, out: &mut [f32]) = generic);

#[inline(always)]
unsafe fn generic<V: Vector>(task: Task, meaning: Meaning, out: &mut [f32]) {
    let dim = task.dim;
    // SAFETY: as the caller vouches for; a row's codes and room are those of `dim` channels.
    unsafe {
        match meaning {
            Meaning::Channels { scale, zero } => {
                for (t, (codes, out)) in task.rows(out) {
                    let (scale, zero) = (scale.as_ptr(), zero.as_ptr());
                    let of = |d| (V::floats(scale.add(d)), V::floats(zero.add(d)));
                    task.affine::<V>(codes, t, 0..dim, of, out);
                    for d in task.rest() {
                        out[d] = task.more(t, d, f32::from(codes[d]) * *scale.add(d) + *zero.add(d));
                    }
                }
            }
            Meaning::Groups { channels, scale, zero } => {
                let groups = dim.div_ceil(channels);
                let rows = task.rows(out).zip(scale.chunks_exact(groups).zip(zero.chunks_exact(groups)));
                for ((t, (codes, out)), (scale, zero)) in rows {
                    if fill_registers(groups, channels) {
                        for (g, (&scale, &zero)) in scale.iter().zip(zero).enumerate() {
                            let (scale, zero) = (V::every(scale), V::every(zero));
                            task.affine::<V>(codes, t, task.group(g, channels), |_| (scale, zero), out);
                        }
                    }
                    for d in task.rest_of(groups, channels) {
                        let (scale, zero) = (scale[d / channels], zero[d / channels]);
                        out[d] = task.more(t, d, f32::from(codes[d]) * scale + zero);
                    }
                }
            }
            Meaning::Turned { channels, scale, bits, mean: Some(mean) } => match dim {
                64 => turned_back::<V, 4>(task, (channels, scale, bits), mean, out),
                128 => turned_back::<V, 8>(task, (channels, scale, bits), mean, out),
                256 => turned_back::<V, 16>(task, (channels, scale, bits), mean, out),
                _ => {
                    turned::<V>(Task { rank: 0, ..task }, (channels, scale, bits), out);
                    rotate_rows(out, dim);
                    for row in out.chunks_exact_mut(dim) {
                        row.iter_mut().zip(mean).for_each(|(x, mean)| *x += mean);
                    }
                    if task.rank > 0 {
                        add_low_rank(out, dim, task.low_rank.weights, task.low_rank.stride, task.low_rank.vectors);
                    }
                }
            },
            Meaning::Turned { channels, scale, bits, mean: None } => turned::<V>(task, (channels, scale, bits), out),
        }
    }
}

/// Whether a register's channels are always of one group.
#[inline(always)]
fn fill_registers(groups: usize, channels: usize) -> bool {
    groups == 1 || channels.is_multiple_of(LANES)
}

impl<'a> Task<'a> {
    /// Rows with their codes.
    #[inline(always)]
    fn rows<'o>(self, out: &'o mut [f32]) -> impl Iterator<Item = (usize, (&'a [u8], &'o mut [f32]))> {
        self.codes.chunks_exact(self.dim).zip(out.chunks_exact_mut(self.dim)).enumerate()
    }

    /// Channels that fill no register.
    #[inline(always)]
    fn rest(self) -> std::ops::Range<usize> {
        self.dim - self.dim % LANES..self.dim
    }

    /// The same; all of them where a register would have channels of several groups.
    #[inline(always)]
    fn rest_of(self, groups: usize, channels: usize) -> std::ops::Range<usize> {
        if fill_registers(groups, channels) { self.rest() } else { 0..self.dim }
    }

    /// The channels of a group.
    #[inline(always)]
    fn group(self, g: usize, channels: usize) -> std::ops::Range<usize> {
        g * channels..self.dim.min((g + 1) * channels)
    }

    /// `code · scale + zero` of whole registers of these channels, and the low-rank part.
    #[inline(always)]
    unsafe fn affine<V: Vector>(
        self,
        codes: &[u8],
        t: usize,
        channels: std::ops::Range<usize>,
        of: impl Fn(usize) -> (V::Floats, V::Floats),
        out: &mut [f32],
    ) {
        unsafe {
            self.pieces::<V>(t, channels, out, |d| {
                let (scale, zero) = of(d);
                V::plus(V::times(V::numbers(codes.as_ptr().add(d)), scale), zero)
            });
        }
    }

    /// `value` of whole registers of these channels, and the low-rank part.
    #[inline(always)]
    unsafe fn pieces<V: Vector>(
        self,
        t: usize,
        channels: std::ops::Range<usize>,
        out: &mut [f32],
        value: impl Fn(usize) -> V::Floats,
    ) {
        unsafe {
            let (out, whole) = (out.as_mut_ptr(), self.rest().start.min(channels.end));
            let mut d = channels.start;
            while d + PIECES * LANES <= whole {
                let x = std::array::from_fn(|i| value(d + LANES * i));
                put::<V, PIECES>(self.with_low_rank::<V, PIECES>(x, t, d), out.add(d));
                d += PIECES * LANES;
            }
            while d < whole {
                put::<V, 1>(self.with_low_rank::<V, 1>([value(d)], t, d), out.add(d));
                d += LANES;
            }
        }
    }

    /// The low-rank part of row `t`, from channel `d` on.
    #[inline(always)]
    unsafe fn with_low_rank<V: Vector, const N: usize>(
        self,
        mut x: [V::Floats; N],
        t: usize,
        d: usize,
    ) -> [V::Floats; N] {
        unsafe {
            let LowRank { weights, stride, vectors } = self.low_rank;
            for v in 0..self.rank {
                let weight = V::every(*weights.as_ptr().add(v * stride + t));
                let vector = vectors.as_ptr().add(v * self.dim + d);
                for i in 0..N {
                    x[i] = V::plus(x[i], V::times(weight, V::floats(vector.add(LANES * i))));
                }
            }
            x
        }
    }

    /// The same of one value.
    #[inline(always)]
    fn more(self, t: usize, d: usize, mut x: f32) -> f32 {
        let LowRank { weights, stride, vectors } = self.low_rank;
        for v in 0..self.rank {
            x += weights[v * stride + t] * vectors[v * self.dim + d];
        }
        x
    }
}

#[inline(always)]
unsafe fn put<V: Vector, const N: usize>(x: [V::Floats; N], out: *mut f32) {
    for (i, x) in x.into_iter().enumerate() {
        unsafe { V::put(x, out.add(LANES * i)) };
    }
}

static TABLES: [LevelTable; 4] =
    [LevelTable::new(&LEVELS_1), LevelTable::new(&LEVELS_2), LevelTable::new(&LEVELS_3), LevelTable::new(&LEVELS_4)];

/// The levels of rows of so many bits, and what a step of them is worth; `None` where they are evenly spaced.
#[inline(always)]
fn table_of(bits: u8) -> (Option<&'static LevelTable>, f32) {
    match bits {
        8 => (None, FINE_UNIT),
        bits => (Some(&TABLES[usize::from(bits.clamp(1, 4)) - 1]), UNIT),
    }
}

/// Sixteen levels.
#[inline(always)]
unsafe fn levels<V: Vector>(codes: *const u8, table: Option<&LevelTable>) -> V::Floats {
    unsafe {
        match table {
            Some(table) => V::levels(codes, table),
            None => V::minus(V::times(V::numbers(codes), V::every(2.0)), V::every(FINE_WIDEST)),
        }
    }
}

/// Neighbors that share a scale, scales, and bits of each row.
type Turned<'a> = (usize, &'a [f32], &'a [u8]);

#[inline(always)]
unsafe fn turned<V: Vector>(task: Task, (channels, scale, bits): Turned, out: &mut [f32]) {
    let groups = task.dim.div_ceil(channels);
    for ((t, (codes, out)), (scale, &bits)) in task.rows(out).zip(scale.chunks_exact(groups).zip(bits)) {
        let (table, unit) = table_of(bits);
        if fill_registers(groups, channels) {
            for (g, &scale) in scale.iter().enumerate() {
                unsafe {
                    let scale = V::every(scale * unit);
                    let value = |d| V::times(levels::<V>(codes.as_ptr().add(d), table), scale);
                    task.pieces::<V>(t, task.group(g, channels), out, value);
                }
            }
        }
        for d in task.rest_of(groups, channels) {
            let code = codes[d];
            let level = match table {
                Some(table) => table.floats[usize::from(code & 15)],
                None => 2.0 * f32::from(code) - FINE_WIDEST,
            };
            out[d] = task.more(t, d, level * (scale[d / channels] * unit));
        }
    }
}

/// Rows of `16 · N` channels, turned back in registers.
#[inline(always)]
unsafe fn turned_back<V: Vector, const N: usize>(
    task: Task,
    (channels, scale, bits): Turned,
    mean: &[f32],
    out: &mut [f32],
) {
    let dim = LANES * N;
    let groups = dim.div_ceil(channels);
    let whole = fill_registers(groups, channels);
    for ((t, (codes, out)), (scale, &bits)) in task.rows(out).zip(scale.chunks_exact(groups).zip(bits)) {
        let (table, unit) = table_of(bits);
        unsafe {
            let mut x: [V::Floats; N] = std::array::from_fn(|i| {
                let levels = levels::<V>(codes.as_ptr().add(LANES * i), table);
                let scale = if whole {
                    V::every(scale[LANES * i / channels] * unit)
                } else {
                    let each: [f32; LANES] = std::array::from_fn(|lane| scale[(LANES * i + lane) / channels] * unit);
                    V::floats(each.as_ptr())
                };
                V::times(levels, scale)
            });
            turn::<V, N>(&mut x);
            for i in 0..N {
                x[i] = V::plus(x[i], V::floats(mean.as_ptr().add(LANES * i)));
            }
            put::<V, N>(task.with_low_rank::<V, N>(x, t, 0), out.as_mut_ptr());
        }
    }
}

#[cfg(test)]
mod tests;
