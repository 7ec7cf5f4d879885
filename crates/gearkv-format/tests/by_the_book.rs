//! A decoder that knows FORMAT.md and nothing of the core, so that the page is known to be complete and right.

mod common;

use common::{tensor, values};
use gearkv::{
    Backbone, CacheShape, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role, f16,
};
use gearkv_format::{Container, Entry, Section, SegmentEntry, TensorEntry, tensor_to_bytes};

/// Both sides add the same few terms, in another order.
const TOLERANCE: f32 = 1e-4;

const LEVELS_2: [f32; 4] = [-127.0, -38.0, 38.0, 127.0];
const LEVELS_3: [f32; 8] = [-127.0, -79.0, -45.0, -14.0, 14.0, 45.0, 79.0, 127.0];
const LEVELS_4: [f32; 16] =
    [-127.0, -96.0, -75.0, -58.0, -44.0, -31.0, -18.0, -6.0, 6.0, 18.0, 31.0, 44.0, 58.0, 75.0, 96.0, 127.0];

struct Decoder<'a> {
    entry: &'a TensorEntry,
    payload: &'a [u8],
    out: Vec<f32>,
    first: usize,
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}

/// A row times the Hadamard matrices of the powers of two that it is cut into.
fn turned(row: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    let mut rest = row;
    while !rest.is_empty() {
        let n = 1usize << rest.len().ilog2();
        let (block, after) = rest.split_at(n);
        out.extend((0..n).map(|k| {
            let signed = |(j, x): (usize, &f32)| if (j & k).count_ones() % 2 == 0 { *x } else { -x };
            block.iter().enumerate().map(signed).sum::<f32>() / (n as f32).sqrt()
        }));
        rest = after;
    }
    out
}

/// Where a code is: a byte of the section, a bit from there on, how many bits, and its channel's place among the scales.
struct Place {
    byte: usize,
    bit: usize,
    bits: usize,
    sorted: usize,
}

enum Places {
    Even {
        tokens: usize,
        row_bytes: usize,
        bits: usize,
    },
    /// Of every row of every head: its first byte, and its width.
    Rows {
        tokens: usize,
        rows: Vec<(usize, usize)>,
    },
    /// Of every channel of every head: where its band starts, the band's bytes a token, its bit there, its width and place.
    Channels {
        dim: usize,
        channels: Vec<(usize, usize, usize, usize, usize)>,
    },
}

impl Places {
    fn find(&self, plane: usize, t: usize, d: usize) -> Place {
        match self {
            Self::Even { tokens, row_bytes, bits } => {
                Place { byte: (plane * tokens + t) * row_bytes, bit: d * bits, bits: *bits, sorted: d }
            }
            Self::Rows { tokens, rows } => {
                let (byte, bits) = rows[plane * tokens + t];
                Place { byte, bit: d * bits, bits, sorted: d }
            }
            Self::Channels { dim, channels } => {
                let (start, row_bytes, bit, bits, sorted) = channels[plane * dim + d];
                Place { byte: start + t * row_bytes, bit, bits, sorted }
            }
        }
    }
}

impl Decoder<'_> {
    fn section(&self, section: Section) -> &[u8] {
        &self.payload[section.0 as usize..(section.0 + section.1) as usize]
    }

    fn at(&self, i: usize, h: usize, t: usize, d: usize) -> usize {
        let shape = self.entry.shape;
        ((i * shape.heads + h) * shape.tokens + self.first + t) * shape.head_dim + d
    }

    fn raw(&mut self, section: Section, tokens: usize) {
        let values = halves(self.section(section));
        let KvShape { batch, heads, head_dim, .. } = self.entry.shape;
        for (n, value) in values.into_iter().enumerate() {
            let (t, i, h, d) =
                (n / (batch * heads * head_dim), n / (heads * head_dim) % batch, n / head_dim % heads, n % head_dim);
            let at = self.at(i, h, t, d);
            self.out[at] = value;
        }
        self.first += tokens;
    }

    fn segment(&mut self, segment: &SegmentEntry) {
        let KvShape { batch, heads, head_dim: dim, .. } = self.entry.shape;
        let config = &self.entry.config;
        let (tokens, group) = (segment.tokens, config.group_size as usize);
        let places = self.places(segment);
        let codes = self.section(segment.sections.codes).to_vec();
        let (scales, zeros, means) = self.scales(segment);
        let (ranks, a, b) = self.factors(segment);
        for i in 0..batch {
            for h in 0..heads {
                let plane = i * heads + h;
                let before: usize = ranks[..plane].iter().sum();
                let rows = before..before + ranks[plane];
                for t in segment.hidden..segment.hidden + segment.visible {
                    let mut backbone = vec![0.0; dim];
                    for (d, value) in backbone.iter_mut().enumerate() {
                        let Place { byte, bit, bits, sorted } = places.find(plane, t, d);
                        let code = (0..bits).fold(0, |code, i| {
                            let at = bit + i;
                            code | (u32::from(codes[byte + at / 8] >> (at % 8) & 1) << i)
                        });
                        let scale = match (config.backbone, self.entry.role) {
                            (Backbone::Kivi, Role::Key) => (plane * tokens.div_ceil(group) + t / group) * dim + sorted,
                            (Backbone::Kcvt, Role::Key) => plane * dim + sorted,
                            (Backbone::Kcvt, Role::Value) => i * tokens + t,
                            _ => (plane * tokens + t) * dim.div_ceil(group) + d / group,
                        };
                        *value = match (config.backbone, bits) {
                            (Backbone::Rotated, 1) => [-127.0, 127.0][code as usize] / 128.0 * scales[scale],
                            (Backbone::Rotated, 2) => LEVELS_2[code as usize] / 128.0 * scales[scale],
                            (Backbone::Rotated, 3) => LEVELS_3[code as usize] / 128.0 * scales[scale],
                            (Backbone::Rotated, 8) => (2.0 * code as f32 - 255.0) / 256.0 * scales[scale],
                            (Backbone::Rotated, _) => LEVELS_4[code as usize] / 128.0 * scales[scale],
                            // A small zero counts in shares of its own code's range.
                            _ if config.mean_bits != 0.0 && config.scale_bits == 8 => {
                                let levels = ((1u32 << bits) - 1) as f32;
                                code as f32 * scales[scale] + zeros[scale] * levels
                            }
                            _ => code as f32 * scales[scale] + zeros[scale],
                        };
                    }
                    if config.backbone == Backbone::Rotated {
                        backbone = turned(&backbone);
                        backbone.iter_mut().zip(&means[plane * dim..]).for_each(|(x, mean)| *x += mean);
                    }
                    for (d, backbone) in backbone.iter().enumerate() {
                        let low_rank: f32 = rows.clone().map(|r| a[r * tokens + t] * b[r * dim + d]).sum();
                        let at = self.at(i, h, t - segment.hidden, d);
                        self.out[at] = backbone + low_rank;
                    }
                }
            }
        }
        self.outliers(segment);
        self.first += segment.visible;
    }

    /// Bytes of the widths at the end of the scales.
    fn width_bytes(&self, segment: &SegmentEntry) -> usize {
        let (config, shape) = (&self.entry.config, self.entry.shape);
        match (config.mean_bits == 0.0, config.backbone) {
            (true, _) => 0,
            (false, Backbone::Rotated) => shape.batch * shape.heads * segment.tokens.div_ceil(4),
            (false, _) => shape.batch * shape.heads * shape.head_dim,
        }
    }

    fn places(&self, segment: &SegmentEntry) -> Places {
        let (config, dim, tokens) = (&self.entry.config, self.entry.shape.head_dim, segment.tokens);
        let bytes = self.section(segment.sections.scales);
        let widths = &bytes[bytes.len() - self.width_bytes(segment)..];
        if config.mean_bits == 0.0 {
            return Places::Even {
                tokens,
                row_bytes: (dim * config.bits as usize).div_ceil(8),
                bits: config.bits as usize,
            };
        }
        if config.backbone == Backbone::Rotated {
            let set = if config.mean_bits < 3.0 { [1, 2, 3, 4] } else { [2, 3, 4, 8] };
            let mut rows = Vec::new();
            let mut byte = 0;
            for plane in widths.chunks(tokens.div_ceil(4)) {
                for t in 0..tokens {
                    let bits = set[usize::from(plane[t / 4] >> (2 * (t % 4)) & 3)];
                    rows.push((byte, bits));
                    byte += (dim * bits).div_ceil(8);
                }
            }
            return Places::Rows { tokens, rows };
        }
        let mut channels = vec![(0, 0, 0, 0, 0); widths.len()];
        let mut start = 0;
        for (plane, widths) in widths.chunks(dim).enumerate() {
            let mut sorted = 0;
            for bits in [8, 6, 4, 3, 2, 1] {
                let band: Vec<usize> = (0..dim).filter(|&d| usize::from(widths[d]) == bits).collect();
                let row_bytes = (band.len() * bits).div_ceil(8);
                for (n, &d) in band.iter().enumerate() {
                    channels[plane * dim + d] = (start, row_bytes, n * bits, bits, sorted);
                    sorted += 1;
                }
                start += tokens * row_bytes;
            }
        }
        Places::Channels { dim, channels }
    }

    /// Every scale, zero and mean, in the order of the table.
    fn scales(&self, segment: &SegmentEntry) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let bytes = self.section(segment.sections.scales);
        let bytes = &bytes[..bytes.len() - self.width_bytes(segment)];
        let (config, shape) = (&self.entry.config, self.entry.shape);
        let planes = shape.batch * shape.heads;
        let rotated = config.backbone == Backbone::Rotated;
        if config.scale_bits == 16 {
            let all = halves(bytes);
            let (rest, means) = all.split_at(all.len() - if rotated { planes * shape.head_dim } else { 0 });
            let (scales, zeros) = rest.split_at(if rotated { rest.len() } else { rest.len() / 2 });
            return (scales.to_vec(), zeros.to_vec(), means.to_vec());
        }
        let (bytes, means) = bytes.split_at(bytes.len() - if rotated { planes * (2 + shape.head_dim) } else { 0 });
        let (steps, multiples) = means.split_at(if rotated { 2 * planes } else { 0 });
        let steps = halves(steps);
        let means =
            multiples.iter().enumerate().map(|(n, &m)| f32::from(m as i8) * steps[n / shape.head_dim]).collect();
        let shared = config.backbone == Backbone::Kcvt && self.entry.role == Role::Value;
        let sets = if shared { shape.batch } else { shape.batch * shape.heads };
        let supers = halves(&bytes[..2 * sets]);
        let rest = &bytes[2 * sets..];
        let (scales, zeros) = rest.split_at(if rotated { rest.len() } else { rest.len() / 2 });
        let per_set = scales.len() / sets;
        let scales: Vec<f32> = scales
            .iter()
            .enumerate()
            .map(|(n, &s)| supers[n / per_set] * f32::from(16 + s % 16) * 2f32.powi(i32::from(s / 16) - 20))
            .collect();
        let levels = if config.mean_bits == 0.0 { ((1u32 << config.bits) - 1) as f32 } else { 1.0 };
        let zeros = zeros.iter().zip(&scales).map(|(&z, scale)| f32::from(z as i8) * levels / 32.0 * scale).collect();
        (scales, zeros, means)
    }

    /// The rank of each head, A `[rows, T]` and B `[rows, D]`.
    fn factors(&self, segment: &SegmentEntry) -> (Vec<usize>, Vec<f32>, Vec<f32>) {
        let bytes = self.section(segment.sections.factors);
        let (shape, tokens) = (self.entry.shape, segment.tokens);
        let planes = shape.batch * shape.heads;
        let (ranks, bytes) = if self.entry.config.rank_by_need && segment.rank > 0 {
            let (ranks, bytes) = bytes.split_at(planes);
            (ranks.iter().map(|&rank| usize::from(rank)).collect(), bytes)
        } else {
            (vec![segment.rank; planes], bytes)
        };
        let rows = shape.batch * shape.heads * segment.rank;
        let bits = self.entry.config.factor_bits as usize;
        if bits == 16 {
            let all = halves(bytes);
            return (ranks, all[..rows * tokens].to_vec(), all[rows * tokens..].to_vec());
        }
        let (group, row_bytes) = if bits == 4 { (32, tokens.div_ceil(2)) } else { (tokens, tokens) };
        let (a_codes, rest) = bytes.split_at(rows * row_bytes);
        let (b_codes, scales) = rest.split_at(rows * shape.head_dim);
        let scales = halves(scales);
        let (a_scales, b_scales) = scales.split_at(rows * tokens.div_ceil(group));
        let a = (0..rows * tokens).map(|n| {
            let (row, t) = (n / tokens, n % tokens);
            let code = if bits == 4 {
                f32::from(a_codes[row * row_bytes + t / 2] >> (t % 2 * 4) & 15) - 8.0
            } else {
                f32::from(a_codes[n] as i8)
            };
            code * a_scales[row * tokens.div_ceil(group) + t / group]
        });
        let b = b_codes.iter().enumerate().map(|(n, &code)| f32::from(code as i8) * b_scales[n / shape.head_dim]);
        (ranks, a.collect(), b.collect())
    }

    fn outliers(&mut self, segment: &SegmentEntry) {
        let KvShape { batch, heads, head_dim: dim, .. } = self.entry.shape;
        let tokens = segment.tokens;
        let (lines, n) = match self.entry.role {
            Role::Key => (batch * heads * dim, tokens),
            Role::Value => (batch * tokens, heads * dim),
        };
        let k = 2 * (n as f64 * self.entry.config.sparsity / 2.0).round_ties_even() as usize;
        let width = if n <= 256 { 1 } else { 2 };
        let values = halves(self.section(segment.sections.outlier_values));
        let indices = self.section(segment.sections.outlier_indices).to_vec();
        assert_eq!((values.len(), indices.len()), (lines * k, lines * k * width));
        for (position, value) in values.into_iter().enumerate() {
            let line = position / k;
            let j = indices[position * width..][..width].iter().rev().fold(0, |j, &b| j << 8 | b as usize);
            let (i, h, t, d) = match self.entry.role {
                Role::Key => (line / dim / heads, line / dim % heads, j, line % dim),
                Role::Value => (line / tokens, j / dim, line % tokens, j % dim),
            };
            if (segment.hidden..segment.hidden + segment.visible).contains(&t) {
                let at = self.at(i, h, t - segment.hidden, d);
                self.out[at] += value;
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Vec<f32> {
    let container = Container::parse(bytes).unwrap();
    let [Entry::Tensor(entry)] = container.entries() else { panic!("not one tensor") };
    let payload = &bytes[bytes.len() - container.header().payload_length as usize..];
    let mut decoder = Decoder { entry, payload, out: vec![f32::NAN; entry.shape.elements()], first: 0 };
    decoder.raw(entry.sinks, entry.sink_tokens);
    for segment in &entry.segments {
        decoder.segment(segment);
    }
    decoder.raw(entry.buffer, entry.buffer_tokens);
    decoder.out
}

fn check(tensor: &GearTensor, what: &str) {
    let found = decode(&tensor_to_bytes(tensor).unwrap());
    let expected = tensor.decompress(NEVER).unwrap();
    assert_eq!(found.len(), expected.len());
    for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= TOLERANCE, "{what}: value {n} is {found}, expected {expected}");
    }
}

#[test]
fn every_combination_decodes_as_the_page_says() {
    for backbone in [Backbone::Uniform, Backbone::Kcvt, Backbone::Kivi, Backbone::Rotated] {
        for role in [Role::Key, Role::Value] {
            for bits in [2, 3, 4, 8] {
                for (scale_bits, factor_bits) in [(16, 16), (8, 8), (8, 4)] {
                    let options = GearOptions { backbone: Some(backbone), bits: Some(bits), ..Default::default() };
                    let options = GearOptions { group_size: Some(8), buffer_tokens: Some(16), ..options };
                    let options = GearOptions { sparsity: Some(0.06), sinks: Some(3), rank: Some(4), ..options };
                    let options =
                        GearOptions { scale_bits: Some(scale_bits), factor_bits: Some(factor_bits), ..options };
                    let config = GearOptions { decode_rank: Some(2), ..options }.resolve(role).unwrap();
                    let mut tensor = tensor(KvShape::new(2, 3, 70, 21).unwrap(), role, config, 37);
                    let what = format!("{backbone:?} {role:?} {bits} bits, scales {scale_bits}, factors {factor_bits}");
                    check(&tensor, &what);
                    // Ends inside a segment, then goes on.
                    tensor.truncate(61).unwrap();
                    let more = values(2 * 3 * 21 * 5, 8);
                    tensor.append(KvSlice::F32(&more), 5, NEVER).unwrap();
                    check(&tensor, &format!("{what}, truncated"));
                }
            }
        }
    }
}

#[test]
fn codes_of_different_widths_decode_as_the_page_says() {
    let key = [Backbone::Kivi, Backbone::Kcvt, Backbone::Rotated].map(|backbone| (backbone, Role::Key));
    for (backbone, role) in key.into_iter().chain([(Backbone::Rotated, Role::Value)]) {
        for mean_bits in [1.0, 2.3, 3.5, 8.0] {
            for scale_bits in [16, 8] {
                let options =
                    GearOptions { backbone: Some(backbone), mean_bits: Some(mean_bits), ..Default::default() };
                let options = GearOptions { group_size: Some(8), buffer_tokens: Some(16), ..options };
                let options = GearOptions { sparsity: Some(0.06), sinks: Some(3), rank: Some(2), ..options };
                let config = GearOptions { scale_bits: Some(scale_bits), ..options }.resolve(role).unwrap();
                let mut tensor = tensor(KvShape::new(2, 3, 70, 21).unwrap(), role, config, 37);
                let what = format!("{backbone:?} {role:?} {mean_bits} bits on the average, scales {scale_bits}");
                check(&tensor, &what);
                tensor.truncate(61).unwrap();
                check(&tensor, &format!("{what}, truncated"));
            }
        }
    }
}

#[test]
fn ranks_by_need_decode_as_the_page_says() {
    let shape = KvShape::new(2, 3, 70, 21).unwrap();
    for role in [Role::Key, Role::Value] {
        for factor_bits in [16, 8, 4] {
            for rank in [0, 2, 30] {
                let options = GearOptions { rank_by_need: Some(true), rank: Some(rank), ..Default::default() };
                let options = GearOptions { factor_bits: Some(factor_bits), decode_rank: Some(1), ..options };
                let options = GearOptions { sparsity: Some(0.06), sinks: Some(3), bits: Some(2), ..options };
                let config = GearOptions { buffer_tokens: Some(16), ..options }.resolve(role).unwrap();
                let even = GearConfig { rank_by_need: false, ..config.clone() };
                let of = |config| tensor(shape, role, config, 37);
                let what = format!("{role:?}, rank {rank} by need, factors {factor_bits}");
                check(&of(config.clone()), &what);
                let (size, even_size) = (of(config.clone()).byte_length(), of(even).byte_length());
                // One byte a head.
                let ranked = of(config).image().segments.iter().filter(|segment| segment.rank > 0).count();
                assert_eq!(size - even_size, 6 * ranked, "{what}");
                assert!(rank == 0 || ranked > 1, "{what}");
            }
        }
    }
}

/// Tensors that begin inside a segment, and have two parts of one.
#[test]
fn shifted_tensors_decode_as_the_page_says() {
    for backbone in ["uniform", "kcvt", "kivi", "rotated"] {
        for (keep, drop) in [(None, 9), (Some(20), 13), (None, 80)] {
            let json = format!(
                r#"{{"backbone":"{backbone}","groupSize":8,"bufferTokens":16,"sparsity":0.06,"sinks":3,"rank":4,"decodeRank":2,"bits":4}}"#
            );
            let config = |role| GearOptions::from_json(&json).unwrap().resolve(role).unwrap();
            let shape = CacheShape { layers: 1, batch: 2, kv_heads: 3, head_dim: 21 };
            let mut cache = GearCache::new(shape, config(Role::Key), config(Role::Value)).unwrap();
            for tokens in [70, 30] {
                let (k, v) = (values(2 * 3 * 21 * tokens, 3), values(2 * 3 * 21 * tokens, 4));
                cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), tokens, NEVER).unwrap();
            }
            cache.shift(keep, drop).unwrap();
            for role in [Role::Key, Role::Value] {
                let what = format!("{backbone} {role:?}, {drop} tokens behind {keep:?} dropped");
                check(cache.tensor(0, role).unwrap(), &what);
            }
        }
    }
}

#[test]
fn long_lines_have_wider_indices() {
    let config = GearOptions { sparsity: Some(0.02), bits: Some(4), ..Default::default() }.resolve(Role::Key).unwrap();
    check(&tensor(KvShape::new(1, 1, 300, 8).unwrap(), Role::Key, config.clone(), 0), "300 tokens");
    check(&tensor(KvShape::new(1, 2, 4, 160).unwrap(), Role::Value, config, 9), "320 channels");
}
