//! H2O, heavy hitters (arXiv 2306.14048): each KV head keeps the tokens that got most attention so far, and the newest ones; the
//! others are dropped for good. Half of what is kept is heavy, half is new.
//!
//! Attention is added up over all queries so far, those of the prompt among them, and over the query heads that share a KV head. What is
//! kept is a share of all tokens so far, so it grows with the text as a compressed cache does. Tokens behind the prompt are dropped a
//! buffer at a time, not one by one.

use gearkv::{ErrorCode, GearError, Result};

use crate::method::{Keeper, Kept, LayerTokens, Method};

const KEPT_BITS: f64 = 16.0;

/// H2O with a share of all tokens kept.
#[derive(Debug, Clone)]
pub struct H2o {
    /// What its row is called.
    pub name: String,
    /// Share of all tokens that is kept.
    pub share: f64,
}

impl H2o {
    /// By its name, `h2o-` and the share: `h2o-0.5`.
    ///
    /// # Errors
    /// `INVALID_OPTION` when the share is none.
    pub(crate) fn named(name: &str, share: &str) -> Result<Self> {
        match share.parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self { name: name.to_owned(), share }),
            _ => Err(GearError::new(
                ErrorCode::InvalidOption,
                format!("{name:?} is not a preset; H2O is named by the share of tokens that it keeps, as h2o-0.5"),
            )),
        }
    }
}

impl Method for H2o {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self) -> Box<dyn Keeper> {
        Box::new(Hitters { share: self.share, layers: Vec::new() })
    }
}

struct Hitters {
    share: f64,
    layers: Vec<Layer>,
}

#[derive(Clone, Default)]
struct Layer {
    /// Tokens so far, those that were dropped among them.
    seen: usize,
    /// Attention that each kept token got, `[kv_heads][kept]`.
    attention: Vec<Vec<f32>>,
}

impl Keeper for Hitters {
    fn keep(&mut self, tokens: LayerTokens) -> Result<Kept> {
        if self.layers.len() <= tokens.layer {
            self.layers.resize(tokens.layer + 1, Layer::default());
        }
        let layer = &mut self.layers[tokens.layer];
        layer.attention.resize(tokens.kv_heads, Vec::new());
        layer.seen += tokens.new;
        let all = tokens.held + tokens.new;
        let keep = ((layer.seen as f64 * self.share) as usize).min(all);
        let recent = keep / 2;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (head, attention) in layer.attention.iter_mut().enumerate() {
            attention.resize(all, 0.0);
            attend(&tokens, head, attention);
            let mut order: Vec<usize> = (0..all - recent).collect();
            order.sort_by(|&a, &b| attention[b].total_cmp(&attention[a]));
            order.truncate(keep - recent);
            order.extend(all - recent..all);
            order.sort_unstable();
            *attention = order.iter().map(|&token| attention[token]).collect();
            for (from, to) in [(&tokens.keys, &mut keys), (&tokens.values, &mut values)] {
                let row = |&token: &usize| &from[(head * all + token) * tokens.head_dim..][..tokens.head_dim];
                to.extend(order.iter().flat_map(row));
            }
        }
        let more = (keep - tokens.held.min(keep)) * tokens.kv_heads * tokens.head_dim;
        Ok(Kept { keys, values, bits: 2.0 * more as f64 * KEPT_BITS })
    }
}

/// Adds what the new tokens' queries give each token of one KV head.
fn attend(tokens: &LayerTokens, head: usize, attention: &mut [f32]) {
    let (dim, all, new) = (tokens.head_dim, tokens.held + tokens.new, tokens.new);
    // `[head_dim, tokens]`: logits are added up channel by channel, many tokens at once.
    let mut channels = vec![0.0; dim * all];
    for (token, key) in tokens.keys[head * all * dim..(head + 1) * all * dim].chunks_exact(dim).enumerate() {
        for (channel, x) in key.iter().enumerate() {
            channels[channel * all + token] = *x;
        }
    }
    let shared = tokens.heads / tokens.kv_heads;
    let mut logits = vec![0.0f32; all];
    for query_head in head * shared..(head + 1) * shared {
        let queries = &tokens.queries[query_head * new * dim..(query_head + 1) * new * dim];
        for (at, query) in queries.chunks_exact(dim).enumerate() {
            let visible = tokens.held + at + 1;
            let logits = &mut logits[..visible];
            logits.fill(0.0);
            for (q, keys) in query.iter().zip(channels.chunks_exact(all)) {
                let q = q * tokens.scale;
                logits.iter_mut().zip(keys).for_each(|(logit, k)| *logit += q * k);
            }
            let most = logits.iter().fold(f32::NEG_INFINITY, |most, x| most.max(*x));
            logits.iter_mut().for_each(|x| *x = (*x - most).exp());
            let inverse = 1.0 / logits.iter().sum::<f32>();
            attention.iter_mut().zip(&*logits).for_each(|(sum, x)| *sum += x * inverse);
        }
    }
}
