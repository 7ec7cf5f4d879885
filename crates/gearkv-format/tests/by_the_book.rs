//! A decoder that knows FORMAT.md and nothing of the core, so that the page is known to be complete and right.

mod common;

use common::{tensor, values};
use gearkv::{Backbone, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role, f16};
use gearkv_format::{Container, Entry, Section, SegmentEntry, TensorEntry, tensor_to_bytes};

/// Both sides add the same few terms, in another order.
const TOLERANCE: f32 = 1e-4;

struct Decoder<'a> {
    entry: &'a TensorEntry,
    payload: &'a [u8],
    out: Vec<f32>,
    first: usize,
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
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
        let (tokens, rank, bits, group) =
            (segment.tokens, segment.rank, config.bits as usize, config.group_size as usize);
        let codes = self.section(segment.sections.codes).to_vec();
        let scales = halves(self.section(segment.sections.scales));
        let (scales, zeros) = scales.split_at(scales.len() / 2);
        let factors = halves(self.section(segment.sections.factors));
        let (a, b) = factors.split_at(batch * heads * rank * tokens);
        let row_bytes = (dim * bits).div_ceil(8);
        for i in 0..batch {
            for h in 0..heads {
                let plane = i * heads + h;
                for t in 0..segment.visible {
                    let row = &codes[(plane * tokens + t) * row_bytes..][..row_bytes];
                    for d in 0..dim {
                        let code = (0..bits).fold(0, |code, bit| {
                            let at = d * bits + bit;
                            code | (u32::from(row[at / 8] >> (at % 8) & 1) << bit)
                        });
                        let scale = match (config.backbone, self.entry.role) {
                            (Backbone::Kivi, Role::Key) => (plane * tokens.div_ceil(group) + t / group) * dim + d,
                            (Backbone::Kcvt, Role::Key) => plane * dim + d,
                            (Backbone::Kcvt, Role::Value) => i * tokens + t,
                            _ => (plane * tokens + t) * dim.div_ceil(group) + d / group,
                        };
                        let low_rank: f32 =
                            (plane * rank..(plane + 1) * rank).map(|r| a[r * tokens + t] * b[r * dim + d]).sum();
                        let at = self.at(i, h, t, d);
                        self.out[at] = code as f32 * scales[scale] + zeros[scale] + low_rank;
                    }
                }
            }
        }
        self.outliers(segment);
        self.first += segment.visible;
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
            if t < segment.visible {
                let at = self.at(i, h, t, d);
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
    for backbone in [Backbone::Uniform, Backbone::Kcvt, Backbone::Kivi] {
        for role in [Role::Key, Role::Value] {
            for bits in [2, 3, 4, 8] {
                let options = GearOptions { backbone: Some(backbone), bits: Some(bits), ..Default::default() };
                let options = GearOptions { group_size: Some(8), buffer_tokens: Some(16), ..options };
                let config = GearOptions { sparsity: Some(0.06), sinks: Some(3), ..options }.resolve().unwrap();
                let mut tensor = tensor(KvShape::new(2, 3, 70, 21).unwrap(), role, config, 37);
                let what = format!("{backbone:?} {role:?} {bits} bits");
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

#[test]
fn long_lines_have_wider_indices() {
    let config = GearOptions { sparsity: Some(0.02), ..Default::default() }.resolve().unwrap();
    check(&tensor(KvShape::new(1, 1, 300, 8).unwrap(), Role::Key, config.clone(), 0), "300 tokens");
    check(&tensor(KvShape::new(1, 2, 4, 160).unwrap(), Role::Value, config, 9), "320 channels");
}
