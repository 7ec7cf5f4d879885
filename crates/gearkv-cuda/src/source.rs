//! A tensor's image taken apart, plane by plane: what `crates/gearkv-format/FORMAT.md` says about sections, and nothing of how the core
//! holds them in memory. The core has checked every length.

use gearkv::{Backbone, GearConfig, Role, SegmentImage, TensorImage, f16};

/// Which values share a scale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Grouping {
    /// So many tokens of one channel.
    Channel { tokens: usize },
    /// So many channels of one token and head.
    Token { channels: usize },
    /// All of a token, whatever the head.
    AllHeads,
}

impl Grouping {
    pub fn of(config: &GearConfig, role: Role, segment_tokens: usize) -> Self {
        let group = config.group_size as usize;
        match (config.backbone, role) {
            (Backbone::Kivi, Role::Key) => Self::Channel { tokens: group },
            (Backbone::Kcvt, Role::Key) => Self::Channel { tokens: segment_tokens },
            (Backbone::Kcvt, Role::Value) => Self::AllHeads,
            _ => Self::Token { channels: group },
        }
    }
}

/// How wide a plane's codes are.
pub(crate) enum Widths {
    Even(u8),
    /// Of each channel.
    Channels(Vec<u8>),
    /// Of each token.
    Tokens(Vec<u8>),
}

/// Scales and zeros as they are kept; zeros are empty where the backbone has none.
pub(crate) enum Scales {
    Small { super_scale: f32, scales: Vec<u8>, zeros: Vec<u8> },
    Half { scales: Vec<u16>, zeros: Vec<u16> },
}

/// A scale of 8 bits, before the super-scale.
pub(crate) fn small_scale(code: u8) -> f32 {
    f32::from(16 + code % 16) * f32::from_bits((127 - 20 + u32::from(code / 16)) << 23)
}

impl Scales {
    /// The `i`-th scale.
    pub fn scale(&self, i: usize) -> f32 {
        match self {
            Self::Small { super_scale, scales, .. } => super_scale * small_scale(scales[i]),
            Self::Half { scales, .. } => f16::from_bits(scales[i]).to_f32(),
        }
    }

    /// The largest.
    pub fn largest(&self) -> f32 {
        match self {
            Self::Small { super_scale, scales, .. } => {
                scales.iter().max().map_or(0.0, |&code| super_scale * small_scale(code))
            }
            Self::Half { scales, .. } => scales.iter().fold(0.0, |most, &x| f16::from_bits(x).to_f32().max(most)),
        }
    }
}

/// The first factor.
pub(crate) enum FactorA {
    /// `[rank, tokens]`, float16.
    Half(Vec<u16>),
    /// `[rank, tokens]` and a scale for each `group` of a row's tokens, `[rank, groups]`.
    Small { codes: Vec<i8>, scales: Vec<f32>, group: usize },
}

/// An outlier: what codes and low-rank leave of it, in float16.
pub(crate) struct Outlier {
    pub token: usize,
    pub channel: usize,
    pub value: u16,
}

/// One plane (a KV head of a batch item) of one segment.
pub(crate) struct Plane {
    pub grouping: Grouping,
    /// `[tokens, dim]`, one byte each.
    pub codes: Vec<u8>,
    pub widths: Widths,
    /// A channel's place among the scales of its group of tokens, with [`Grouping::Channel`].
    pub places: Vec<usize>,
    pub scales: Scales,
    /// None where the backbone is not `rotated`.
    pub means: Vec<f32>,
    pub rank: usize,
    pub a: FactorA,
    /// `[rank, dim]`
    pub b: Vec<f32>,
    pub outliers: Vec<Outlier>,
}

/// A tensor's image with what follows from its configuration.
pub(crate) struct Source<'a> {
    pub image: TensorImage<'a>,
}

fn halves(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect()
}

fn wide(half: u16) -> f32 {
    f16::from_bits(half).to_f32()
}

fn row_bytes(codes: usize, bits: u8) -> usize {
    (codes * usize::from(bits)).div_ceil(8)
}

/// Codes of a row, the first in the lowest bits.
fn unpack(row: &[u8], bits: u8, out: impl Iterator<Item = usize>, codes: &mut [u8]) {
    let bits = usize::from(bits);
    for (i, at) in out.enumerate() {
        let bit = i * bits;
        let low = u16::from(row[bit / 8]);
        let high = row.get(bit / 8 + 1).map_or(0, |&byte| u16::from(byte));
        codes[at] = ((low | high << 8) >> (bit % 8)) as u8 & ((1u16 << bits) - 1) as u8;
    }
}

impl<'a> Source<'a> {
    pub fn new(image: TensorImage<'a>) -> Self {
        Self { image }
    }

    pub fn config(&self) -> &GearConfig {
        &self.image.config
    }

    pub fn dim(&self) -> usize {
        self.image.shape.head_dim
    }

    pub fn planes(&self) -> usize {
        self.image.shape.batch * self.image.shape.heads
    }

    /// Tokens among the sinks and in segments.
    pub fn settled(&self) -> usize {
        self.image.shape.tokens - self.image.buffer_tokens
    }

    pub fn rotated(&self) -> bool {
        self.config().backbone == Backbone::Rotated
    }

    /// A float16 token that is not compressed: one row of a plane. `buffer` or sinks.
    pub fn raw_row(&self, buffer: bool, token: usize, plane: usize) -> Vec<u16> {
        let bytes = if buffer { &self.image.buffer } else { &self.image.sinks };
        let start = (token * self.planes() + plane) * self.dim() * 2;
        halves(&bytes[start..start + self.dim() * 2])
    }

    /// Where each plane's codes start in a segment's.
    pub fn code_starts(&self, segment: usize) -> Vec<usize> {
        let segment = &self.image.segments[segment];
        let (dim, tokens) = (self.dim(), segment.tokens);
        let sections = ScaleSections::of(self, segment, Grouping::of(self.config(), self.image.role, tokens));
        let mut starts = vec![0];
        for plane in 0..self.planes() {
            let bytes = match sections.widths(self, plane, tokens) {
                Widths::Even(bits) => tokens * row_bytes(dim, bits),
                Widths::Tokens(bits) => bits.iter().map(|&bits| row_bytes(dim, bits)).sum(),
                Widths::Channels(bits) => bands(&bits).map(|(bits, count)| tokens * row_bytes(count, bits)).sum(),
            };
            starts.push(starts[plane] + bytes);
        }
        starts
    }

    /// Widths that a plane of the next segment has: those of the last one where channels have their own, which come from it.
    pub fn last_widths(&self, plane: usize) -> Widths {
        match self.image.segments.last() {
            Some(segment) if self.config().mean_bits != 0.0 => {
                let grouping = Grouping::of(self.config(), self.image.role, segment.tokens);
                ScaleSections::of(self, segment, grouping).widths(self, plane, segment.tokens)
            }
            _ => Widths::Even(self.config().bits as u8),
        }
    }

    /// Scales of one plane of one segment.
    pub fn scales_of(&self, segment: usize, plane: usize) -> Scales {
        let segment = &self.image.segments[segment];
        let grouping = Grouping::of(self.config(), self.image.role, segment.tokens);
        ScaleSections::of(self, segment, grouping).scales(self, plane)
    }

    /// One plane of one segment, whose codes start at `start`.
    pub fn plane(&self, segment: usize, plane: usize, start: usize) -> Plane {
        let segment = &self.image.segments[segment];
        let (dim, tokens) = (self.dim(), segment.tokens);
        let config = self.config();
        let grouping = Grouping::of(config, self.image.role, tokens);
        let sections = ScaleSections::of(self, segment, grouping);
        let widths = sections.widths(self, plane, tokens);
        let order = match &widths {
            Widths::Channels(bits) => sorted(bits),
            _ => (0..dim).collect(),
        };
        let mut places = vec![0; dim];
        order.iter().enumerate().for_each(|(place, &channel)| places[channel] = place);
        let (a, b) = self.factors(segment, plane);
        Plane {
            grouping,
            codes: self.codes(segment, start, &widths, &order),
            widths,
            places,
            scales: sections.scales(self, plane),
            means: sections.means(plane, dim),
            rank: b.len() / dim,
            a,
            b,
            outliers: self.outliers(segment, plane),
        }
    }

    fn codes(&self, segment: &SegmentImage, start: usize, widths: &Widths, order: &[usize]) -> Vec<u8> {
        let (dim, tokens) = (self.dim(), segment.tokens);
        let mut codes = vec![0; tokens * dim];
        let mut at = start;
        match widths {
            Widths::Channels(bits) => {
                let mut first = 0;
                for (bits, count) in bands(bits) {
                    for t in 0..tokens {
                        let row = &segment.codes[at..at + row_bytes(count, bits)];
                        unpack(
                            row,
                            bits,
                            order[first..first + count].iter().map(|channel| t * dim + channel),
                            &mut codes,
                        );
                        at += row.len();
                    }
                    first += count;
                }
            }
            Widths::Even(_) | Widths::Tokens(_) => {
                for t in 0..tokens {
                    let bits = match widths {
                        Widths::Tokens(bits) => bits[t],
                        _ => self.config().bits as u8,
                    };
                    let row = &segment.codes[at..at + row_bytes(dim, bits)];
                    unpack(row, bits, t * dim..(t + 1) * dim, &mut codes);
                    at += row.len();
                }
            }
        }
        codes
    }

    /// Of each plane: the rank of its low-rank part.
    fn ranks(&self, segment: &SegmentImage) -> Vec<usize> {
        if self.ranks_differ(segment) {
            segment.factors[..self.planes()].iter().map(|&rank| usize::from(rank)).collect()
        } else {
            vec![segment.rank; self.planes()]
        }
    }

    fn ranks_differ(&self, segment: &SegmentImage) -> bool {
        self.config().rank_by_need && (1..=255).contains(&segment.rank)
    }

    /// A and B of one plane: `[rank, tokens]` and `[rank, dim]`.
    fn factors(&self, segment: &SegmentImage, plane: usize) -> (FactorA, Vec<f32>) {
        let (tokens, dim, bits) = (segment.tokens, self.dim(), self.config().factor_bits);
        let ranks = self.ranks(segment);
        let first: usize = ranks[..plane].iter().sum();
        let (rows, all) = (first..first + ranks[plane], ranks.iter().sum::<usize>());
        let section = &segment.factors[if self.ranks_differ(segment) { self.planes() } else { 0 }..];
        let part = |at: usize, row: usize| &section[at + rows.start * row..at + rows.end * row];
        let wides = |bytes: &[u8]| halves(bytes).into_iter().map(wide).collect::<Vec<f32>>();
        if bits == 16 {
            return (FactorA::Half(halves(part(0, 2 * tokens))), wides(part(2 * all * tokens, 2 * dim)));
        }
        let bytes = (tokens * bits as usize).div_ceil(8);
        let codes = part(0, bytes).chunks_exact(bytes.max(1)).flat_map(|row| {
            (0..tokens).map(move |t| match bits {
                4 => (row[t / 2] >> (t % 2 * 4) & 15) as i8 - 8,
                _ => row[t] as i8,
            })
        });
        let (group, groups) = if bits == 4 { (32, tokens.div_ceil(32)) } else { (tokens, 1) };
        let scales_at = all * (bytes + dim);
        let a = FactorA::Small { codes: codes.collect(), scales: wides(part(scales_at, 2 * groups)), group };
        let scales = wides(part(scales_at + 2 * all * groups, 2));
        let b = part(all * bytes, dim).chunks_exact(dim).zip(scales);
        (a, b.flat_map(|(row, scale)| row.iter().map(move |&code| f32::from(code as i8) * scale)).collect())
    }

    /// How many values a line has, of which the few largest and smallest are outliers: a channel's keys, a token's values in all heads.
    fn line_length(&self, tokens: usize) -> usize {
        match self.image.role {
            Role::Key => tokens,
            Role::Value => self.image.shape.heads * self.dim(),
        }
    }

    /// Outliers at either end of a line, in a segment of so many tokens.
    pub fn outliers_per_side(&self, tokens: usize) -> usize {
        (self.line_length(tokens) as f64 * self.config().sparsity / 2.0).round_ties_even() as usize
    }

    fn outliers(&self, segment: &SegmentImage, plane: usize) -> Vec<Outlier> {
        let (dim, heads) = (self.dim(), self.image.shape.heads);
        let line_length = self.line_length(segment.tokens);
        let lines = match self.image.role {
            Role::Key => plane * dim..(plane + 1) * dim,
            Role::Value => plane / heads * segment.tokens..(plane / heads + 1) * segment.tokens,
        };
        let per_line = 2 * self.outliers_per_side(segment.tokens);
        let width = if line_length <= 1 << 8 {
            1
        } else if line_length <= 1 << 16 {
            2
        } else {
            4
        };
        let index_at = |i: usize| {
            let mut le = [0; 4];
            le[..width].copy_from_slice(&segment.outlier_indices[i * width..(i + 1) * width]);
            u32::from_le_bytes(le) as usize
        };
        let mut found = Vec::new();
        for (own, line) in lines.enumerate() {
            for i in line * per_line..(line + 1) * per_line {
                let index = index_at(i);
                let (token, head, channel) = match self.image.role {
                    Role::Key => (index, plane % heads, own),
                    Role::Value => (own, index / dim, index % dim),
                };
                if head == plane % heads {
                    let two = &segment.outlier_values[2 * i..2 * i + 2];
                    found.push(Outlier { token, channel, value: u16::from_le_bytes([two[0], two[1]]) });
                }
            }
        }
        found
    }
}

/// Channels by their widths, the widest first, those of one width by their number.
pub(crate) fn sorted(bits: &[u8]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bits.len()).collect();
    order.sort_by_key(|&channel| std::cmp::Reverse(bits[channel]));
    order
}

/// Widths that occur, the widest first, and how many channels have each.
pub(crate) fn bands(bits: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    [8, 6, 4, 3, 2, 1]
        .map(|width| (width, bits.iter().filter(|&&bits| bits == width).count()))
        .into_iter()
        .filter(|band| band.1 > 0)
}

/// The parts of a segment's section `scales`.
struct ScaleSections<'a> {
    /// Scales and zeros of all planes, behind super-scales where there are any.
    scales: &'a [u8],
    means: &'a [u8],
    widths: &'a [u8],
    small: bool,
    /// Scales of a plane, or of an item where heads share them.
    per_set: usize,
    sets: usize,
    shared: bool,
    rotated: bool,
}

impl<'a> ScaleSections<'a> {
    fn of(source: &Source, segment: &'a SegmentImage, grouping: Grouping) -> Self {
        let (dim, planes, tokens) = (source.dim(), source.planes(), segment.tokens);
        let config = source.config();
        let (rotated, small) = (source.rotated(), config.scale_bits == 8);
        let width_bytes = match (config.mean_bits != 0.0, rotated) {
            (false, _) => 0,
            (true, false) => planes * dim,
            (true, true) => planes * tokens.div_ceil(4),
        };
        let mean_bytes = match (rotated, small) {
            (false, _) => 0,
            (true, false) => 2 * planes * dim,
            (true, true) => planes * (2 + dim),
        };
        let (rest, widths) = segment.scales.split_at(segment.scales.len() - width_bytes);
        let (scales, means) = rest.split_at(rest.len() - mean_bytes);
        let (per_set, shared) = match grouping {
            Grouping::Channel { tokens: group } => (tokens.div_ceil(group) * dim, false),
            Grouping::Token { channels } => (tokens * dim.div_ceil(channels), false),
            Grouping::AllHeads => (tokens, true),
        };
        let sets = if shared { source.image.shape.batch } else { planes };
        Self { scales, means, widths, small, per_set, sets, shared, rotated }
    }

    fn widths(&self, source: &Source, plane: usize, tokens: usize) -> Widths {
        let (dim, config) = (source.dim(), source.config());
        match (config.mean_bits != 0.0, self.rotated) {
            (false, _) => Widths::Even(config.bits as u8),
            (true, false) => Widths::Channels(self.widths[plane * dim..(plane + 1) * dim].to_vec()),
            (true, true) => {
                let set = if config.mean_bits < 3.0 { [1, 2, 3, 4] } else { [2, 3, 4, 8] };
                let packed = &self.widths[plane * tokens.div_ceil(4)..];
                Widths::Tokens((0..tokens).map(|t| set[usize::from(packed[t / 4] >> (t % 4 * 2) & 3)]).collect())
            }
        }
    }

    fn scales(&self, source: &Source, plane: usize) -> Scales {
        let set = if self.shared { plane / source.image.shape.heads } else { plane };
        let range = set * self.per_set..(set + 1) * self.per_set;
        let count = self.sets * self.per_set;
        if self.small {
            let super_scale = wide(halves(&self.scales[2 * set..2 * set + 2])[0]);
            let (scales, zeros) = self.scales[2 * self.sets..].split_at(count);
            let zeros = zeros.get(range.clone()).unwrap_or_default().to_vec();
            return Scales::Small { super_scale, scales: scales[range].to_vec(), zeros };
        }
        let (scales, zeros) = self.scales.split_at(2 * count);
        let bytes = 2 * range.start..2 * range.end;
        Scales::Half { scales: halves(&scales[bytes.clone()]), zeros: halves(zeros.get(bytes).unwrap_or_default()) }
    }

    fn means(&self, plane: usize, dim: usize) -> Vec<f32> {
        if !self.rotated {
            return Vec::new();
        }
        if !self.small {
            return halves(&self.means[2 * plane * dim..2 * (plane + 1) * dim]).into_iter().map(wide).collect();
        }
        let planes = self.means.len() / (2 + dim);
        let step = wide(halves(&self.means[2 * plane..2 * plane + 2])[0]);
        let multiples = &self.means[2 * planes + plane * dim..2 * planes + (plane + 1) * dim];
        multiples.iter().map(|&multiple| f32::from(multiple as i8) * step).collect()
    }
}
