//! Numbers that are the same in every run.

use gearkv::KvShape;

/// A generator, and its state.
pub struct Numbers(pub u32);

impl Numbers {
    /// Between −1 and 1.
    #[expect(clippy::should_implement_trait, reason = "there is always another one")]
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Roughly normal, with channels of different strength, as keys have: `[heads, tokens, dim]`.
    pub fn tokens(&mut self, shape: KvShape) -> Vec<f32> {
        let dim = shape.head_dim;
        let strength = |d: usize| if d % 31 == 5 { 6.0 } else { 0.3 + d as f32 / dim as f32 };
        (0..shape.elements()).map(|i| (self.next() + self.next() + self.next()) * strength(i % dim)).collect()
    }
}
