//! What decides on a code's table: class and context.
//!
//! A channel's *class* says how large its values are beside the step, in half octaves. The *context* is where the channel's
//! previous value was: far below, below, near, above or far above its mean.

/// Classes with tables of their own; of larger ones the lowest bits of a code are written plainly.
pub(crate) const CLASSES: usize = 15;
/// Largest class there is.
pub(crate) const MOST_CLASS: u8 = 63;
/// The class whose variance is one half step squared.
const UNIT_CLASS: i32 = 6;

/// Where the previous value was.
pub(crate) const CONTEXTS: usize = 5;

/// The class of a channel with this variance in half steps squared: nearest in log₂.
pub(crate) fn class_of(variance: f32) -> u8 {
    // Not finite or zero: the exponent says what is needed.
    let exponent = ((variance * std::f32::consts::SQRT_2).to_bits() >> 23 & 0xff) as i32 - 127;
    (exponent + UNIT_CLASS).clamp(0, i32::from(MOST_CLASS)) as u8
}

/// The variance that a class stands for, in half steps squared.
pub(crate) fn variance_of(class: usize) -> f64 {
    libm::exp2(class as f64 - f64::from(UNIT_CLASS))
}

/// What a class means for a code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClassUse {
    /// First of the class's tables.
    pub table: usize,
    /// Lowest bits of a code that are written plainly.
    pub plain_bits: u32,
    /// Previous values farther than these from the mean change the context.
    pub near: i32,
    pub far: i32,
}

impl ClassUse {
    pub fn of(class: u8) -> Self {
        let class = usize::from(class.min(MOST_CLASS));
        let plain_bits = (class.saturating_sub(CLASSES - 1)).div_ceil(2);
        let deviation = libm::sqrt(variance_of(class));
        Self {
            table: (class - 2 * plain_bits) * 2 * CONTEXTS,
            plain_bits: plain_bits as u32,
            near: (0.3 * deviation) as i32,
            far: deviation as i32,
        }
    }

    /// Behind a value at `previous` half steps from the mean.
    #[inline(always)]
    pub fn context(&self, previous: i32) -> usize {
        let distance = previous.wrapping_abs();
        let steps = i32::from(distance > self.near) + i32::from(distance > self.far);
        (2 + if previous < 0 { -steps } else { steps }) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_half_octaves_of_deviation() {
        assert_eq!(class_of(1.0), UNIT_CLASS as u8);
        assert_eq!(class_of(2.0), UNIT_CLASS as u8 + 1);
        assert_eq!((class_of(1.4), class_of(1.42)), (UNIT_CLASS as u8, UNIT_CLASS as u8 + 1));
        assert_eq!((class_of(0.0), class_of(f32::INFINITY)), (0, MOST_CLASS));
        for class in 0..=MOST_CLASS {
            let used = ClassUse::of(class);
            assert!(used.table + 2 * CONTEXTS <= CLASSES * 2 * CONTEXTS);
        }
    }
}
