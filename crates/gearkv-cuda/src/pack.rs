//! Codes in the order in which the tensor core wants them: the inverse of `kernels/unpack.cuh`.

/// Bytes of a unit: 16 codes for each of 32 lanes.
pub(crate) fn unit_bytes(bits: u8) -> usize {
    64 * usize::from(bits)
}

/// Where a code stands in a unit.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub lane: usize,
    /// Which of a lane's eight pairs.
    pub field: usize,
    /// Which of the pair.
    pub half: usize,
}

impl Place {
    /// Of a unit of keys: 64 tokens by 8 channels.
    pub fn of_key(token: usize, channel: usize) -> Self {
        Self { lane: token % 8 * 4 + channel % 8 / 2, field: token / 16 * 2 + token / 8 % 2, half: channel % 2 }
    }

    /// Of a unit of values: 8 tokens by 64 channels.
    pub fn of_value(token: usize, channel: usize) -> Self {
        Self { lane: channel % 8 * 4 + token % 8 / 2, field: channel % 64 / 16 * 2 + channel / 8 % 2, half: token % 2 }
    }
}

/// Sets bits from `bit` on, counted from byte `at`; they do not cross a byte.
fn put(unit: &mut [u8], at: usize, bit: usize, value: u8) {
    unit[at + bit / 8] |= value << (bit % 8);
}

/// Writes a code of values to a unit of zeros: 2, 3, 4 or 8 bits.
pub(crate) fn put_code(unit: &mut [u8], bits: u8, place: Place, code: u8) {
    let Place { lane, field: k, half } = place;
    let two = |unit: &mut [u8], code| put(unit, lane * 4, 2 * k + 16 * half, code);
    match bits {
        2 => two(unit, code),
        3 => {
            two(unit, code & 3);
            put(unit, 128 + lane * 2, k + 8 * half, code >> 2);
        }
        4 => put(unit, lane * 8 + k / 4 * 4, 4 * (k % 4) + 16 * half, code),
        _ => put(unit, lane * 16 + k / 2 * 4, 8 * (k % 2) + 16 * half, code),
    }
}

/// Writes a code of keys to a unit of zeros. An odd field is four bits above the even one before it, so that both come out of one shift.
pub(crate) fn put_key_code(unit: &mut [u8], bits: u8, place: Place, code: u8) {
    let Place { lane, field: k, half } = place;
    let (row, odd) = (k / 2, k % 2);
    let one = |unit: &mut [u8], at: usize, code| put(unit, at + lane * 2, row + 4 * odd + 8 * half, code);
    let two =
        |unit: &mut [u8], at: usize, code| put(unit, at + lane * 4, [0, 2, 8, 10][row] + 4 * odd + 16 * half, code);
    let four = |unit: &mut [u8], code| put(unit, lane * 8 + row / 2 * 4, row % 2 * 8 + 4 * odd + 16 * half, code);
    match bits {
        1 => one(unit, 0, code),
        2 => two(unit, 0, code),
        3 => {
            two(unit, 0, code & 3);
            one(unit, 128, code >> 2);
        }
        4 => four(unit, code),
        6 => {
            four(unit, code & 15);
            two(unit, 256, code >> 4);
        }
        _ => put(unit, lane * 16 + row * 4, 8 * odd + 16 * half, code),
    }
}

/// As [`put_code`], of a code that stands for a level: as its sign and the number of its magnitude.
pub(crate) fn put_level(unit: &mut [u8], bits: u8, place: Place, code: u8) {
    let Place { lane, field: k, half } = place;
    let middle = 1u8 << (bits - 1);
    let (sign, number) = if code < middle { (1, middle - 1 - code) } else { (0, code - middle) };
    // Four bytes that are picked at once become the lower halves of two pairs.
    let nibble = k % 2 + k % 4 / 2 * 4 + half * 2;
    match bits {
        1 => put(unit, lane * 2, k + 8 * half, sign),
        2 => {
            put(unit, lane * 4, k + 16 * half, number);
            put(unit, lane * 4, 8 + k + 16 * half, sign);
        }
        3 => {
            put(unit, lane * 4, 4 * nibble + k / 4 * 2, number);
            put(unit, 128 + lane * 2, k + 8 * half, sign);
        }
        // Evenly spaced levels are odd numbers.
        8 => put_code(unit, bits, place, sign << 7 | number),
        _ => {
            put(unit, lane * 8 + k / 4 * 4, 4 * nibble, number);
            put(unit, lane * 8 + k / 4 * 4, 3 + 4 * (k % 4) + 16 * half, sign);
        }
    }
}

/// The level of a code in 128ths of its scale; with 8 bits, in 256ths.
pub(crate) fn level(bits: u8, code: u8) -> i32 {
    const MAGNITUDES: [&[i32]; 4] = [&[127], &[38, 127], &[14, 45, 79, 127], &[6, 18, 31, 44, 58, 75, 96, 127]];
    if bits == 8 {
        return 2 * i32::from(code) - 255;
    }
    let (middle, magnitudes) = (1 << (bits - 1), MAGNITUDES[usize::from(bits) - 1]);
    if code < middle { -magnitudes[usize::from(middle - 1 - code)] } else { magnitudes[usize::from(code - middle)] }
}

/// Half-words of a token in a raw record of keys.
pub(crate) fn raw_key_width(dim: usize) -> usize {
    dim.next_multiple_of(16)
}

/// Half-words of a token in a raw record of values.
pub(crate) fn raw_value_width(dim: usize) -> usize {
    dim.next_multiple_of(32)
}

/// Where a key stands in a raw record, in half-words.
pub(crate) fn raw_key_index(token: usize, channel: usize, dim: usize) -> usize {
    let unit = channel / 8;
    let lane = token % 8 * 4 + channel % 8 / 2;
    let word = ((token / 16 * (raw_key_width(dim) / 16) + unit / 2) * 32 + lane) * 4 + unit % 2 * 2 + token / 8 % 2;
    word * 2 + channel % 2
}

/// Where a value stands in a raw record, in half-words.
pub(crate) fn raw_value_index(token: usize, channel: usize, dim: usize) -> usize {
    let tile = channel / 16;
    let lane = channel % 8 * 4 + token % 8 / 2;
    let word = ((token / 8 * (raw_value_width(dim) / 32) + tile / 2) * 32 + lane) * 4 + tile % 2 * 2 + channel / 8 % 2;
    word * 2 + token % 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_bits_of_its_own() {
        type Put = fn(&mut [u8], u8, Place, u8);
        for (put, widths) in
            [(put_code as Put, &[2u8, 3, 4, 8][..]), (put_key_code, &[1, 2, 3, 4, 6, 8]), (put_level, &[1, 2, 3, 4, 8])]
        {
            for &bits in widths {
                for of in [Place::of_key as fn(usize, usize) -> Place, Place::of_value] {
                    let keys = of(63, 0).field == 7;
                    let (tokens, channels) = if keys { (64, 8) } else { (8, 64) };
                    let mut taken = vec![0u8; unit_bytes(bits)];
                    for i in 0..tokens * channels {
                        let mut ones = 0;
                        let mut unit = vec![0u8; unit_bytes(bits)];
                        // Together, these two codes set every bit that a code can set.
                        for code in [0, ((1u16 << bits) - 1) as u8] {
                            put(&mut unit, bits, of(i / channels, i % channels), code);
                        }
                        for (byte, taken) in unit.iter().zip(&mut taken) {
                            assert_eq!(byte & *taken, 0, "{bits} bits");
                            *taken |= byte;
                            ones += byte.count_ones();
                        }
                        assert_eq!(ones, u32::from(bits));
                    }
                    assert!(taken.iter().all(|&byte| byte == 255));
                }
            }
        }
    }

    #[test]
    fn raw_tokens_have_places_of_their_own_and_fill_whole_tiles_first() {
        for dim in [64, 80, 128] {
            let mut keys = vec![false; 64 * raw_key_width(dim)];
            let mut values = vec![false; 64 * raw_value_width(dim)];
            for t in 0..64 {
                for c in 0..dim {
                    let (key, value) = (raw_key_index(t, c, dim), raw_value_index(t, c, dim));
                    assert!(!std::mem::replace(&mut keys[key], true) && !std::mem::replace(&mut values[value], true));
                    assert!(key < (t / 16 + 1) * 16 * raw_key_width(dim));
                    assert!(value < (t / 8 + 1) * 8 * raw_value_width(dim));
                }
            }
        }
    }
}
