use half::f16;

use super::*;
use crate::level::{Level, levels};
use crate::{LEVELS_1, LEVELS_2, LEVELS_3, LEVELS_4, row_bytes};

/// Codes of a unit.
const UNIT_CODES: usize = 4 * TILE;

struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn code(&mut self, bits: u32) -> u8 {
        (self.next() & ((1 << bits) - 1)) as u8
    }

    /// Between −1 and 1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Codes of a unit, four of each lane.
fn pack_unit(codes: &[u8; UNIT_CODES], bits: u32, unit: &mut [u8]) {
    let words = std::array::from_fn(|lane| u32::from_le_bytes(std::array::from_fn(|place| codes[4 * lane + place])));
    // SAFETY: every machine has it.
    unsafe { pack::pack_words::<crate::vector::Portable>(&words, bits, unit) };
}

fn unpack_unit(unit: &[u8], bits: u32, codes: &mut [u8; UNIT_CODES]) {
    let mut words = [0; TILE];
    // SAFETY: every machine has these registers, and the unit is one of so many bits.
    unsafe { pack::unpack_words::<crate::vector::Portable>(unit.as_ptr(), bits, &mut words) };
    codes.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())).for_each(|(code, byte)| *code = byte);
}

#[test]
fn units_give_back_what_was_packed() {
    let mut random = Random(1);
    for bits in [1, 2, 3, 4, 6, 8] {
        let codes: [u8; UNIT_CODES] = std::array::from_fn(|_| random.code(bits));
        let mut unit = vec![0xAA; unit_bytes(bits as usize)];
        pack_unit(&codes, bits, &mut unit);
        let mut again = [0xAA; UNIT_CODES];
        unpack_unit(&unit, bits, &mut again);
        assert_eq!(again, codes, "{bits} bits");
    }
}

/// Logits of a tile whose first channels are the widest, against sums in float64; the same bits on every level.
#[test]
fn logits_are_products_with_what_codes_stand_for() {
    let widths: [&[(u32, usize)]; 4] = [
        &[(4, 128)],
        &[(8, 8), (6, 16), (4, 40), (3, 24), (2, 24), (1, 16)],
        &[(6, 16), (4, 20), (3, 12), (2, 12), (1, 4)],
        &[(3, 8), (2, 8)],
    ];
    let mut random = Random(2);
    for bands in widths {
        let dim: usize = bands.iter().map(|band| band.1).sum();
        let bits: Vec<u32> = bands.iter().flat_map(|&(bits, n)| vec![bits; n]).collect();
        let codes: Vec<Vec<u8>> = (0..TILE).map(|_| bits.iter().map(|&bits| random.code(bits)).collect()).collect();
        let mut units = Vec::new();
        for quad in 0..dim / 4 {
            let own: [u8; UNIT_CODES] = std::array::from_fn(|i| codes[i / 4][4 * quad + i % 4]);
            let mut unit = vec![0; unit_bytes(bits[4 * quad] as usize)];
            pack_unit(&own, bits[4 * quad], &mut unit);
            units.extend(unit);
        }
        let runs: Vec<UnitRun> = bands.iter().map(|&(bits, n)| UnitRun::even(bits as u8, n / 4)).collect();
        let scales: Vec<f16> =
            bits.iter().map(|&bits| f16::from_f32((1.5 + random.float()) / (1 << bits) as f32)).collect();
        let zeros: Vec<f16> = (0..dim).map(|_| f16::from_f32(random.float())).collect();
        let tops: Vec<f32> = bits.iter().map(|&bits| 2f32.powi(bits as i32 - 8)).collect();
        for rows in 1..=6 {
            for tokens in [64, 37] {
                let q: Vec<f32> = (0..rows * dim).map(|_| random.float()).collect();
                // Of some rows, multipliers are rounded to bytes.
                let rough: Vec<bool> = (0..rows).map(|row| (row + tokens).is_multiple_of(3)).collect();
                let is_known = dim.is_multiple_of(TILE) && rows != 5 && rough.contains(&true);
                // Columns of rows that are longer; the same tile twice, with the same scales.
                let (all, stride) = (TILE + tokens, TILE + tokens + 5);
                let tiles = KeyTiles {
                    runs: &runs,
                    units: &units.repeat(2),
                    ahead: &[],
                    scales: KeyScales::Wide { scales: &scales, zeros: &zeros },
                    units_of_codes: &tops,
                    reach_far: rows != 5,
                    tokens: all,
                    column: 3,
                };
                let twice = KeyScales::Wide { scales: &scales.repeat(2), zeros: &zeros.repeat(2) };
                let mut first: Option<Vec<f32>> = None;
                for level in levels() {
                    let [wide, again] = [tiles, KeyTiles { scales: twice, ..tiles }].map(|tiles| {
                        let mut wide = vec![f32::NAN; rows * stride];
                        let room = &mut KeyRoom::default();
                        assert_eq!(key_logits(level, tiles, (&q, &rough), &mut wide, stride, room), is_known);
                        wide
                    });
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&wide), bits(&again));
                    assert!(
                        wide.chunks_exact(stride).all(|row| row[..3].iter().chain(&row[3 + all..]).all(|x| x.is_nan()))
                    );
                    let of = |column| -> Vec<f32> {
                        wide.chunks_exact(stride).flat_map(|row| &row[column..column + tokens]).copied().collect()
                    };
                    let logits = of(3);
                    assert_eq!(logits, of(3 + TILE));
                    for (i, &logit) in logits.iter().enumerate() {
                        let (row, t) = (i / tokens, i % tokens);
                        let term = |d: usize| {
                            let value = f64::from(codes[t][d]) * f64::from(scales[d]) + f64::from(zeros[d]);
                            f64::from(q[row * dim + d]) * value
                        };
                        let exact: f64 = (0..dim).map(term).sum();
                        let allowed = if rough[row] && is_known { 0.08 } else { 1e-3 };
                        assert!((f64::from(logit) - exact).abs() < allowed, "{logit} {exact} {level:?}");
                    }
                    let before = first.get_or_insert_with(|| logits.clone());
                    assert_eq!(before, &logits, "{level:?}");
                }
            }
        }
    }
}

#[test]
fn small_scales_are_what_they_stand_for() {
    let mut random = Random(3);
    let dim = 64;
    let codes: [u8; UNIT_CODES] = std::array::from_fn(|_| random.code(4));
    let mut unit = vec![0; unit_bytes(4)];
    pack_unit(&codes, 4, &mut unit);
    let units = unit.repeat(dim / 4);
    // Such as float16 holds exactly, too.
    let small: Vec<u8> = (0..dim).map(|_| 150 + random.code(6)).collect();
    let multiples: Vec<i8> = (0..dim).map(|_| random.code(3) as i8 - 4).collect();
    let step = vec![15.0 / 32.0; dim];
    let q: Vec<f32> = (0..dim).map(|_| random.float()).collect();
    let (mut scales, mut zeros) = (vec![0.0; dim], vec![0.0; dim]);
    crate::widen_scales(&small, 0.5, &mut scales);
    crate::widen_zeros(&multiples, 15.0 / 32.0, &scales, &mut zeros);
    let [wide_scales, wide_zeros] = [&scales, &zeros].map(|x| x.iter().copied().map(f16::from_f32).collect::<Vec<_>>());
    assert!(scales.iter().zip(&wide_scales).all(|(x, wide)| wide.to_f32() == *x));
    assert!(zeros.iter().zip(&wide_zeros).all(|(x, wide)| wide.to_f32() == *x));
    let (runs, tops) = ([UnitRun::even(4, dim / 4)], vec![1.0 / 16.0; dim]);
    let tile = |scales| KeyTiles {
        runs: &runs,
        units: &units,
        ahead: &[],
        scales,
        units_of_codes: &tops,
        reach_far: true,
        tokens: TILE,
        column: 0,
    };
    let small = KeyScales::Small { super_scale: 0.5, scales: &small, zeros: &multiples, steps: &step };
    let wide = KeyScales::Wide { scales: &wide_scales, zeros: &wide_zeros };
    for level in levels() {
        let [a, b] = [small, wide].map(|scales| {
            let mut logits = vec![0.0; TILE];
            key_logits(level, tile(scales), (&q, &[false]), &mut logits, TILE, &mut KeyRoom::default());
            logits
        });
        assert_eq!(a, b);
    }
}

fn level_of(levels: Levels, bits: u8, code: u8) -> f64 {
    if levels == Levels::Affine {
        return f64::from(code);
    }
    let at = usize::from(code);
    match bits {
        1 => f64::from(LEVELS_1[at]) / 128.0,
        2 => f64::from(LEVELS_2[at]) / 128.0,
        3 => f64::from(LEVELS_3[at]) / 128.0,
        4 => f64::from(LEVELS_4[at]) / 128.0,
        _ => (2.0 * f64::from(code) - 255.0) / 256.0,
    }
}

/// Outputs of tiles whose tokens differ in width in many ways, against sums in float64; the same bits on every level.
#[test]
fn outputs_are_weighted_sums_of_what_codes_stand_for() {
    let mut random = Random(4);
    for case in 0..40 {
        let set = if case % 2 == 0 { [1, 2, 3, 4] } else { [2, 3, 4, 8] };
        let kinds = 1 + case as u32 / 10;
        // Four tokens anywhere in the tile for each width that is drawn.
        let mut tokens: Vec<usize> = (0..TILE).collect();
        for i in 1..TILE {
            tokens.swap(i, random.next() as usize % (i + 1));
        }
        let mut packed = [0u8; TILE / 4];
        for four in tokens.chunks(4) {
            let kind = (random.next() % kinds) as u8;
            four.iter().for_each(|t| packed[t / 4] |= kind << (t % 4 * 2));
        }
        let width = |t: usize| set[usize::from(packed[t / 4] >> (t % 4 * 2) & 3)];
        let of_levels = if case % 5 == 4 { Levels::Affine } else { Levels::Turned };
        let dim = [64, 128, 192][case % 3];
        let codes: Vec<Vec<u8>> =
            (0..TILE).map(|t| (0..dim).map(|_| random.code(u32::from(width(t)))).collect()).collect();
        for level in levels() {
            let order = tile_order(level, set, &packed);
            let mut sorted = order.order.to_vec();
            assert!(sorted.is_sorted_by(|&a, &b| width(usize::from(a)) >= width(usize::from(b))));
            sorted.sort_unstable();
            assert_eq!(sorted, (0..64).collect::<Vec<u8>>());
            assert_eq!(order.runs().iter().map(|run| run.units).sum::<u16>(), 16);
        }
        let order = tile_order(Level::Portable, set, &packed);
        let mut units = Vec::new();
        for block in 0..dim / TILE {
            let mut quad = 0;
            for run in order.runs() {
                for _ in 0..run.units {
                    let own: [u8; UNIT_CODES] = std::array::from_fn(|i| {
                        codes[usize::from(order.order[4 * quad + i % 4])][block * TILE + i / 4]
                    });
                    quad += 1;
                    let mut unit = vec![0; unit_bytes(usize::from(run.bits))];
                    pack_unit(&own, u32::from(run.bits), &mut unit);
                    units.extend(unit);
                }
            }
        }
        let all: usize = (0..TILE).map(|t| row_bytes(dim, u32::from(width(t)))).sum();
        assert_eq!((units.len(), units.len()), (dim / TILE * order.bytes(), all));
        let groups = if dim == 128 { 2 } else { 1 };
        let scales: Vec<f32> = (0..groups * TILE).map(|_| 1.5 + random.float()).collect();
        let zeros: Vec<f32> =
            if of_levels == Levels::Affine { scales.iter().map(|_| random.float()).collect() } else { Vec::new() };
        for (rows, tokens) in [(1, 64), (2, 20), (3, 64), (4, 63), (7, 64)] {
            // Some rows' weights are rounded to bytes.
            let is_coarse = |row: usize| (row + case / 2).is_multiple_of(3);
            // The same tile twice, each with weights of its own, which lie in rows of both.
            let weights: Vec<f32> = (0..rows * (TILE + tokens)).map(|_| random.float().abs()).collect();
            let before: Vec<f32> = (0..rows * dim).map(|_| random.float()).collect();
            let mut first: Option<Vec<f32>> = None;
            for level in levels() {
                let order = tile_order(level, set, &packed);
                let twice = |x: &[f32]| x.chunks_exact(TILE).flat_map(|x| x.repeat(2)).collect::<Vec<f32>>();
                let tiles = ValueTiles {
                    orders: &[order.clone(), order],
                    levels: of_levels,
                    units: &units.repeat(2),
                    ahead: &[],
                    scales: &twice(&scales),
                    zeros: &twice(&zeros),
                    tokens: TILE + tokens,
                    column: 0,
                };
                let mut out = before.clone();
                let coarse: Vec<bool> = (0..rows).map(is_coarse).collect();
                add_values(level, tiles, (&weights, TILE + tokens), &coarse, &mut out, &mut ValueRoom::default());
                for (i, &got) in out.iter().enumerate() {
                    let (row, d) = (i / dim, i % dim);
                    let group = d / TILE * groups / (dim / TILE);
                    let term = |t: usize| {
                        let at = group * TILE + t;
                        let value = level_of(of_levels, width(t), codes[t][d]) * f64::from(scales[at])
                            + zeros.get(at).map_or(0.0, |&zero| f64::from(zero));
                        let own = &weights[row * (TILE + tokens)..];
                        let more = if t < tokens { own[TILE + t] } else { 0.0 };
                        (f64::from(own[t]) + f64::from(more)) * value
                    };
                    let exact = f64::from(before[i]) + (0..TILE).map(term).sum::<f64>();
                    let allowed = if of_levels == Levels::Affine && set[3] == 8 { 0.4 } else { 6e-3 };
                    let allowed = if is_coarse(row) && of_levels == Levels::Turned { 0.3 } else { allowed };
                    assert!((f64::from(got) - exact).abs() < allowed, "case {case}, {level:?}: {got} {exact}");
                }
                let same = first.get_or_insert_with(|| out.clone());
                assert_eq!(same, &out, "case {case}, {level:?}");
            }
        }
    }
}

#[test]
fn rows_become_units_of_their_levels() {
    let mut random = Random(5);
    let (dim, fours) = (128, 3);
    for bits in [1, 2, 3, 4, 8] {
        let codes: Vec<u8> = (0..4 * fours * dim).map(|_| random.code(bits)).collect();
        let mut levels = codes.clone();
        // Rows of a length that no register divides.
        levels.chunks_mut(77).for_each(|row| levels_of_codes(row, bits));
        for (&level, &code) in levels.iter().zip(&codes) {
            let wanted = 128.0 * level_of(Levels::Turned, bits as u8, code);
            assert_eq!(f64::from(level) - 128.0 + if bits == 8 { 0.5 } else { 0.0 }, wanted, "{bits} bits");
        }
        for on in crate::level::levels() {
            let mut units = vec![0; levels.len()];
            pack_tokens(on, &levels, dim, &TileOrder::unsorted(fours, 0), &mut units);
            for (i, &level) in levels.iter().enumerate() {
                let (t, d) = (i / dim, i % dim);
                assert_eq!(units[((d / TILE * fours + t / 4) * TILE + d % TILE) * 4 + t % 4], level);
            }
        }
    }
}

/// Codes of keys, `[64, dim]`, whose bands are these, and how they lie in units.
fn keys_of(bands: &[(u32, usize)], random: &mut Random) -> (usize, Vec<UnitRun>, Vec<u8>, Vec<u8>) {
    let dim: usize = bands.iter().map(|band| band.1).sum();
    let bits: Vec<u32> = bands.iter().flat_map(|&(bits, n)| vec![bits; n]).collect();
    let codes: Vec<u8> = (0..TILE).flat_map(|_| bits.clone()).map(|bits| random.code(bits)).collect();
    let mut units = Vec::new();
    for channel in (0..dim).step_by(4) {
        let own: [u8; UNIT_CODES] = std::array::from_fn(|i| codes[i / 4 * dim + channel + i % 4]);
        let mut unit = vec![0; unit_bytes(bits[channel] as usize)];
        pack_unit(&own, bits[channel], &mut unit);
        units.extend(unit);
    }
    (dim, bands.iter().map(|&(bits, n)| UnitRun::even(bits as u8, n / 4)).collect(), codes, units)
}

#[test]
fn keys_are_packed_and_unpacked_alike_on_every_level() {
    let mut random = Random(11);
    let all: [&[(u32, usize)]; 7] = [
        &[(4, 16)],
        &[(2, 64)],
        &[(6, 8), (4, 40), (3, 24), (2, 8)],
        &[(3, 96)],
        &[(8, 8), (6, 16), (4, 40), (3, 24), (2, 24), (1, 16)],
        &[(4, 40), (3, 168)],
        &[(6, 64), (4, 128), (1, 64)],
    ];
    for bands in all {
        let (dim, runs, codes, units) = keys_of(bands, &mut random);
        // 7 divides no dimension, so that each channel comes once.
        let order: Vec<u16> = (0..dim).map(|i| ((7 * i + 3) % dim) as u16).collect();
        for level in levels() {
            let mut tile = vec![0xAA; units.len()];
            pack_channels(level, &codes, dim, &runs, &mut tile);
            assert_eq!(tile, units, "{bands:?}, {level:?}");
            let mut again = vec![0xAA; codes.len()];
            unpack_channels(level, &tile, dim, &runs, None, &mut again);
            assert_eq!(again, codes, "{bands:?}, {level:?}");
            unpack_channels(level, &tile, dim, &runs, Some(&order), &mut again);
            for (row, ordered) in codes.chunks_exact(dim).zip(again.chunks_exact(dim)) {
                let found: Vec<u8> = order.iter().map(|&channel| ordered[usize::from(channel)]).collect();
                assert_eq!(found, row, "{bands:?}, {level:?}");
            }
        }
    }
}

#[test]
fn values_are_packed_and_unpacked_alike_on_every_level() {
    let mut random = Random(12);
    let packed: [u8; TILE / 4] = std::array::from_fn(|i| [0b01_01_01_01, 0, 0b11_11_11_11, 0b10_10_10_10][i * 7 % 4]);
    for dim in [64, 128, 256] {
        for mixed in [false, true] {
            let of = |level| if mixed { tile_order(level, [2, 3, 4, 8], &packed) } else { TileOrder::even(3) };
            let widths: Vec<u32> = of(Level::Portable).units().map(|(_, bits)| bits).collect();
            let mut codes = vec![0; TILE * dim];
            for (i, &token) in of(Level::Portable).order.iter().enumerate() {
                let row = &mut codes[usize::from(token) * dim..][..dim];
                row.fill_with(|| random.code(widths[i / 4]));
            }
            let mut units = Vec::new();
            for block in (0..dim).step_by(TILE) {
                for (unit, &bits) in widths.iter().enumerate() {
                    let order = of(Level::Portable).order;
                    let own: [u8; UNIT_CODES] =
                        std::array::from_fn(|i| codes[usize::from(order[4 * unit + i % 4]) * dim + block + i / 4]);
                    let mut bytes = vec![0; unit_bytes(bits as usize)];
                    pack_unit(&own, bits, &mut bytes);
                    units.extend(bytes);
                }
            }
            for level in levels() {
                let order = of(level);
                let mut tile = vec![0xAA; units.len()];
                pack_tokens(level, &codes, dim, &order, &mut tile);
                assert_eq!(tile, units, "{dim}, {mixed}, {level:?}");
                let mut again = vec![0xAA; codes.len()];
                unpack_tokens(level, &tile, dim, &order, &mut again);
                assert_eq!(again, codes, "{dim}, {mixed}, {level:?}");
            }
        }
    }
}
