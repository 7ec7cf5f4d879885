//! Sixteen floats and whole numbers as arrays, for registers that have no better: plain loops, which a compiler turns into what the target has.

/// What [`Vector`](super::Vector) wants of `[f32; 16]` and `[i32; 16]`, within its implementation.
///
/// SAFETY of all blocks: pointers are good for what is read and written, as the trait asks of callers.
macro_rules! plain_floats {
    () => {
        #[inline(always)]
        unsafe fn floats(at: *const f32) -> [f32; 16] {
            unsafe { at.cast::<[f32; 16]>().read_unaligned() }
        }

        #[inline(always)]
        unsafe fn widened(at: *const u16) -> [f32; 16] {
            unsafe { at.cast::<[u16; 16]>().read_unaligned().map(widened_by_scaling) }
        }

        #[inline(always)]
        unsafe fn shares(codes: *const u8) -> [f32; 16] {
            unsafe { codes.cast::<[u8; 16]>().read_unaligned().map(|code| share_of_code(u32::from(code))) }
        }

        #[inline(always)]
        unsafe fn signed(at: *const i8) -> [f32; 16] {
            unsafe { at.cast::<[i8; 16]>().read_unaligned().map(f32::from) }
        }

        #[inline(always)]
        unsafe fn numbers(codes: *const u8) -> [f32; 16] {
            unsafe { codes.cast::<[u8; 16]>().read_unaligned().map(f32::from) }
        }

        #[inline(always)]
        unsafe fn levels(codes: *const u8, table: &LevelTable) -> [f32; 16] {
            unsafe { codes.cast::<[u8; 16]>().read_unaligned().map(|code| table.floats[usize::from(code & 15)]) }
        }

        #[inline(always)]
        unsafe fn put(x: [f32; 16], at: *mut f32) {
            unsafe { at.cast::<[f32; 16]>().write_unaligned(x) }
        }

        #[inline(always)]
        unsafe fn every(x: f32) -> [f32; 16] {
            [x; 16]
        }

        #[inline(always)]
        unsafe fn times(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| a[i] * b[i])
        }

        #[inline(always)]
        unsafe fn plus(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| a[i] + b[i])
        }

        #[inline(always)]
        unsafe fn minus(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| a[i] - b[i])
        }

        #[inline(always)]
        unsafe fn butterfly<const STEP: usize>(x: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| if i & STEP == 0 { x[i ^ STEP] + x[i] } else { x[i ^ STEP] - x[i] })
        }

        #[inline(always)]
        unsafe fn larger(x: [f32; 16], most: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| if x[i] > most[i] { x[i] } else { most[i] })
        }

        #[inline(always)]
        unsafe fn smaller(x: [f32; 16], least: [f32; 16]) -> [f32; 16] {
            std::array::from_fn(|i| if x[i] < least[i] { x[i] } else { least[i] })
        }

        #[inline(always)]
        unsafe fn known(x: [f32; 16]) -> [f32; 16] {
            x.map(|x| if x.is_nan() { 0.0 } else { x })
        }

        #[inline(always)]
        unsafe fn rounded(x: [f32; 16]) -> [f32; 16] {
            x.map(near_f16)
        }

        #[inline(always)]
        unsafe fn outside(x: [f32; 16], low: [f32; 16], high: [f32; 16]) -> u32 {
            (0..16).fold(0, |bits, i| bits | u32::from((x[i] < low[i]) | (x[i] > high[i])) << i)
        }

        #[inline(always)]
        unsafe fn magnitude(x: [f32; 16]) -> [f32; 16] {
            x.map(f32::abs)
        }

        #[inline(always)]
        unsafe fn total(x: [f32; 16]) -> f32 {
            sum_of_lanes(x)
        }

        #[inline(always)]
        unsafe fn most(x: [f32; 16]) -> f32 {
            x.into_iter().fold(x[0], |most, x| if x > most { x } else { most })
        }

        #[inline(always)]
        unsafe fn least(x: [f32; 16]) -> f32 {
            x.into_iter().fold(x[0], |least, x| if x < least { x } else { least })
        }

        #[inline(always)]
        unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
            for row in 0..16 {
                for lane in 0..16 {
                    unsafe { to.add(lane * apart + row).write(from.add(row * stride + lane).read()) };
                }
            }
        }

        #[inline(always)]
        unsafe fn whole(x: [f32; 16]) -> [i32; 16] {
            x.map(|x| (x + ROUNDING).to_bits().wrapping_sub(ROUNDING.to_bits()) as i32)
        }

        #[inline(always)]
        unsafe fn added(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
            std::array::from_fn(|i| a[i].wrapping_add(b[i]))
        }

        #[inline(always)]
        unsafe fn whole_total(numbers: [i32; 16]) -> i32 {
            numbers.iter().fold(0, |sum, &x| sum.wrapping_add(x))
        }

        #[inline(always)]
        unsafe fn put_whole(x: [i32; 16], at: *mut i32) {
            unsafe { at.cast::<[i32; 16]>().write_unaligned(x) }
        }

        #[inline(always)]
        unsafe fn whole_at(at: *const i32) -> [i32; 16] {
            unsafe { at.cast::<[i32; 16]>().read_unaligned() }
        }

        #[inline(always)]
        unsafe fn prefetch(_at: *const u8) {}
    };
}

pub(super) use plain_floats;
