//! `y = W x` for one or many tokens.

use gearkv::Result;
use half::f16;

use crate::gguf::{RawTensor, corrupt};

use super::blocks::{Block, Width, blocks};
use super::few;
#[cfg(any(test, target_feature = "simd128"))]
use super::integer;
use super::kernels::{self, PanelCodes, STRIP};
use super::order::{FASTEST, Order};
use super::{BLOCK, PANEL};

/// Up to this many tokens codes become floats in registers, several times over, which costs less than unpacking to memory.
const FEW: usize = 32;
/// Tokens whose sums of a strip fit the first-level cache.
const TOKENS: usize = 32;

/// A matrix of weights, `[rows, columns]`, in panels of 16 rows.
pub(crate) struct Matrix {
    rows: usize,
    columns: usize,
    width: Width,
    order: Order,
    codes: Vec<u8>,
    scales: Vec<f16>,
    floats: Vec<f32>,
    /// Kept scales and zeros are the real ones divided by this power of two, so that float16 has room for them.
    gain: f32,
}

/// Who does the work: the calling thread, or the pool that it runs in.
#[derive(Clone, Copy)]
pub(crate) struct Workers {
    pub parallel: bool,
}

/// Several tensors of the same number of columns, stacked: one product instead of several.
pub(crate) struct MatrixBuilder {
    columns: usize,
    tensors: Vec<RawTensor>,
}

impl MatrixBuilder {
    pub fn new(columns: usize) -> Self {
        Self { columns, tensors: Vec::new() }
    }

    pub fn stack(mut self, tensor: RawTensor) -> Self {
        self.tensors.push(tensor);
        self
    }

    pub fn build(self) -> Result<Matrix> {
        self.ordered(FASTEST)
    }

    /// With codes in this order.
    pub(super) fn ordered(self, order: Order) -> Result<Matrix> {
        let columns = self.columns;
        let rows = self.tensors.iter().map(|tensor| tensor.dims[1]).sum();
        let widths: Vec<Width> = self.tensors.iter().map(|tensor| Width::of(tensor.kind, columns)).collect();
        let width = if widths.contains(&Width::Float) {
            Width::Float
        } else if widths.contains(&Width::Eight) {
            Width::Eight
        } else {
            Width::Four
        };
        let mut matrix = Matrix::empty(rows, columns, width, order);
        let mut row = 0;
        if width == Width::Float {
            for tensor in self.tensors {
                for values in tensor.to_f32()?.chunks_exact(columns) {
                    matrix.set_floats(row, values);
                    row += 1;
                }
            }
            return Ok(matrix);
        }
        let stacked = self.tensors.iter().map(finite_blocks).collect::<Result<Vec<_>>>()?;
        let sizes = stacked.iter().flatten().map(|block| block.scale.abs().max(block.zero.abs()));
        let largest = sizes.fold(0.0, f32::max);
        // Up to 2^13: far from float16's largest value, and as far as can be from its smallest.
        matrix.gain =
            if largest > 0.0 { 2f32.powi(largest.log2().floor().clamp(-100.0, 100.0) as i32 - 13) } else { 1.0 };
        for line in stacked.iter().flat_map(|blocks| blocks.chunks_exact(columns / BLOCK)) {
            matrix.set_blocks(row, line);
            row += 1;
        }
        Ok(matrix)
    }
}

fn finite_blocks(tensor: &RawTensor) -> Result<Vec<Block>> {
    let blocks = blocks(tensor)?;
    if blocks.iter().all(|block| block.scale.is_finite() && block.zero.is_finite()) {
        return Ok(blocks);
    }
    Err(corrupt(format!("tensor {:?} holds a scale that is not a finite number", tensor.name)))
}

/// Fails where a tensor holds what is not a finite number.
#[cfg(feature = "tensors")]
pub(crate) fn check_finite(tensor: &RawTensor) -> Result<()> {
    if Width::of(tensor.kind, tensor.dims[0]) == Width::Float {
        tensor.to_f32().map(drop)
    } else {
        finite_blocks(tensor).map(drop)
    }
}

impl Matrix {
    fn empty(rows: usize, columns: usize, width: Width, order: Order) -> Self {
        let padded = rows.next_multiple_of(PANEL);
        let (codes, scales, floats) = match width {
            Width::Four => (padded * columns / 2, 2 * padded * columns / BLOCK, 0),
            Width::Eight => (padded * columns, 2 * padded * columns / BLOCK, 0),
            Width::Float => (0, 0, padded * columns),
        };
        Self {
            rows,
            columns,
            width,
            order,
            codes: vec![0; codes],
            scales: vec![f16::ZERO; scales],
            floats: vec![0.0; floats],
            gain: 1.0,
        }
    }

    fn set_floats(&mut self, row: usize, values: &[f32]) {
        let start = row / PANEL * PANEL * self.columns + row % PANEL;
        for (i, &x) in values.iter().enumerate() {
            self.floats[start + i * PANEL] = x;
        }
    }

    fn set_blocks(&mut self, row: usize, line: &[Block]) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        let (scale, zero) = self.order.scale_and_zero(lane);
        for (b, block) in line.iter().enumerate() {
            let b = panel * line.len() + b;
            self.scales[2 * PANEL * b + scale] = f16::from_f32(block.scale / self.gain);
            self.scales[2 * PANEL * b + zero] = f16::from_f32(block.zero / self.gain);
            let codes = &mut self.codes[b * self.width.block_bytes()..];
            for (i, &code) in block.codes.iter().enumerate() {
                let (byte, shift) = self.order.code(self.width, i, lane);
                codes[byte] |= code << shift;
            }
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes in memory.
    pub fn byte_length(&self) -> usize {
        self.codes.len() + size_of_val(self.scales.as_slice()) + size_of_val(self.floats.as_slice())
    }

    fn panel(&self, panel: usize) -> PanelCodes<'_> {
        let scales = 2 * PANEL * (self.columns / BLOCK);
        let part = |n: usize| panel * n..(panel + 1) * n;
        match self.width {
            Width::Four => PanelCodes::Four {
                codes: &self.codes[part(PANEL * self.columns / 2)],
                scales: &self.scales[part(scales)],
            },
            Width::Eight => {
                PanelCodes::Eight { codes: &self.codes[part(PANEL * self.columns)], scales: &self.scales[part(scales)] }
            }
            Width::Float => PanelCodes::Float { weights: &self.floats[part(PANEL * self.columns)] },
        }
    }

    /// A panel for [`kernels`]. Where [`integer`] multiplies all codes, the compiler is told that only floats are left.
    fn lanes(&self, panel: usize) -> PanelCodes<'_> {
        match self.order {
            #[cfg(any(test, not(target_feature = "simd128")))]
            Order::Columns => self.panel(panel),
            #[cfg(any(test, target_feature = "simd128"))]
            Order::Pairs => {
                let size = PANEL * self.columns;
                PanelCodes::Float { weights: &self.floats[panel * size..(panel + 1) * size] }
            }
        }
    }

    /// One row's weights: an embedding.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let (panel, lane) = (row / PANEL, row % PANEL);
        if let PanelCodes::Float { weights } = self.panel(panel) {
            for (i, x) in out.iter_mut().enumerate() {
                *x = weights[i * PANEL + lane];
            }
            return;
        }
        let blocks = self.columns / BLOCK;
        let (scale, zero) = self.order.scale_and_zero(lane);
        let mask = if self.width == Width::Four { 15 } else { 255 };
        for (b, out) in out.chunks_mut(BLOCK).enumerate() {
            let b = panel * blocks + b;
            let scales = &self.scales[b * 2 * PANEL..][..2 * PANEL];
            let codes = &self.codes[b * self.width.block_bytes()..];
            for (i, x) in out.iter_mut().enumerate() {
                let (byte, shift) = self.order.code(self.width, i, lane);
                let code = f32::from(codes[byte] >> shift & mask);
                *x = (code * scales[scale].to_f32() + scales[zero].to_f32()) * self.gain;
            }
        }
    }

    /// `y[t] = W x[t]`: `x` is `[tokens, columns]`, the result `[tokens, rows]`.
    pub fn multiply(&self, x: &[f32], workers: Workers) -> Vec<f32> {
        let tokens = x.len() / self.columns;
        let mut out = vec![0.0; tokens * self.rows];
        #[cfg(any(test, target_feature = "simd128"))]
        if self.order == Order::Pairs && self.width != Width::Float {
            self.multiply_integers(x, workers, &mut out);
            return out;
        }
        if tokens == 1 {
            let sums = block_sums(x);
            for_each_chunk(&mut out, PANEL, 4, workers, |panel, out| {
                let product = kernels::multiply_one(self.lanes(panel), x, &sums);
                for (out, lane) in out.iter_mut().zip(product) {
                    *out = lane * self.gain;
                }
            });
            return out;
        }
        if tokens <= FEW {
            let sums = block_sums(x);
            // `[panel][token][lane]`: each panel writes its own run.
            let mut products = vec![0.0; self.rows.div_ceil(PANEL) * tokens * PANEL];
            for_each_chunk(&mut products, tokens * PANEL, 1, workers, |panel, out| {
                few::multiply_few(self.lanes(panel), x, &sums, out.as_chunks_mut().0);
            });
            self.in_order(&products, PANEL, &mut out);
            return out;
        }
        // `[strip][token][lane]`: each strip writes its own run.
        let mut products = vec![0.0; self.rows.div_ceil(STRIP) * tokens * STRIP];
        for_each_chunk(&mut products, tokens * STRIP, 1, workers, |strip, out| self.strip(strip, x, out));
        self.in_order(&products, STRIP, &mut out);
        out
    }

    /// Products of `lanes` rows at a time, `[rows / lanes, tokens, lanes]`, as `[tokens, rows]`.
    fn in_order(&self, products: &[f32], lanes: usize, out: &mut [f32]) {
        let tokens = out.len() / self.rows;
        for (t, out) in out.chunks_exact_mut(self.rows).enumerate() {
            for (run, out) in out.chunks_mut(lanes).enumerate() {
                let products = &products[(run * tokens + t) * lanes..][..out.len()];
                for (out, product) in out.iter_mut().zip(products) {
                    *out = product * self.gain;
                }
            }
        }
    }

    #[cfg(any(test, target_feature = "simd128"))]
    fn multiply_integers(&self, x: &[f32], workers: Workers, out: &mut [f32]) {
        let tokens = x.len() / self.columns;
        let x = integer::Activations::quantize(x, self.columns);
        // `[panel][token][lane]`: each panel writes its own run.
        let mut products = vec![0.0; self.rows.div_ceil(PANEL) * tokens * PANEL];
        for_each_chunk(&mut products, tokens * PANEL, 1, workers, |panel, out| {
            integer::multiply_panel(self.panel(panel), &x, out.as_chunks_mut().0);
        });
        self.in_order(&products, PANEL, out);
    }

    /// Rows `strip · STRIP` on, for all tokens.
    fn strip(&self, strip: usize, x: &[f32], out: &mut [f32]) {
        let panels = self.rows.div_ceil(PANEL);
        let mut weights = vec![[0.0; STRIP]; self.columns];
        for (i, panel) in (strip * STRIP / PANEL..panels).take(STRIP / PANEL).enumerate() {
            kernels::unpack(self.lanes(panel), &mut weights, i * PANEL);
        }
        for (x, out) in x.chunks(TOKENS * self.columns).zip(out.as_chunks_mut().0.chunks_mut(TOKENS)) {
            kernels::multiply_many(&weights, x, out);
        }
    }
}

/// Sums over each 32 columns.
fn block_sums(x: &[f32]) -> Vec<f32> {
    x.chunks_exact(BLOCK).map(|block| block.iter().sum()).collect()
}

/// `f(i, chunk i)`; a thread takes at least `least` chunks at a time.
fn for_each_chunk(
    items: &mut [f32],
    size: usize,
    least: usize,
    workers: Workers,
    f: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    #[cfg(feature = "rayon")]
    if workers.parallel {
        use rayon::prelude::*;
        items.par_chunks_mut(size).with_min_len(least).enumerate().for_each(|(i, out)| f(i, out));
        return;
    }
    let _ = (least, workers.parallel);
    items.chunks_mut(size).enumerate().for_each(|(i, out)| f(i, out));
}
