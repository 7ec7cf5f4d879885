//! How far what a cache gives back of a prompt is from what went into it, layer by layer.

use gearkv::{Cancel, KvSlice, Result, Role};
use serde::Serialize;

use crate::queries::QueryLog;
use crate::session::Session;

/// At most so many of a prompt's last queries attend.
const QUERIES: usize = 16;

/// Relative errors of one layer: the root of the squared differences' sum over that of the squares, on a float16 cache.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerError {
    /// Of all keys of the prompt; `None` where tokens were dropped, since they have nothing to be compared with.
    pub key: Option<f64>,
    /// Of all values, likewise.
    pub value: Option<f64>,
    /// Of what attention gives to the prompt's last queries (a sixteenth of them, up to 16).
    pub attention: f64,
}

/// Squares of differences and of what they differ from.
#[derive(Clone, Copy, Default)]
struct Squares {
    difference: f64,
    exact: f64,
}

impl Squares {
    fn of(exact: &[f32], other: &[f32]) -> Self {
        let square = |x: f64| x * x;
        Self {
            difference: exact.iter().zip(other).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum(),
            exact: exact.iter().map(|&x| square(f64::from(x))).sum(),
        }
    }

    fn add(&mut self, other: Self) {
        self.difference += other.difference;
        self.exact += other.exact;
    }

    fn error(self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { (self.difference / self.exact).sqrt() }
    }
}

/// One layer, over windows.
#[derive(Clone, Copy, Default)]
pub(crate) struct LayerSums {
    key: Squares,
    value: Squares,
    attention: Squares,
    dropped: bool,
}

impl LayerSums {
    pub fn add(&mut self, other: &Self) {
        self.key.add(other.key);
        self.value.add(other.value);
        self.attention.add(other.attention);
        self.dropped |= other.dropped;
    }

    pub fn error(&self) -> LayerError {
        let of = |squares: Squares| (!self.dropped).then(|| squares.error());
        LayerError { key: of(self.key), value: of(self.value), attention: self.attention.error() }
    }
}

/// One layer of a prompt on its float16 cache beside the same on another cache. `queries` are the prompt's.
///
/// # Errors
/// `ABORTED`, and whatever attention finds wrong.
pub(crate) fn compare(
    exact: &Session,
    other: &Session,
    queries: &QueryLog,
    layer: usize,
    cancel: Cancel,
) -> Result<LayerSums> {
    let a = &exact.model.0.architecture;
    let (tokens, kept) = (exact.cache.layer_tokens(layer)?, other.cache.layer_tokens(layer)?);
    // Behind a query there are only tokens that were kept because they are new: half of what is kept, where any were dropped.
    let n = (tokens / 16).clamp(1, QUERIES).min(kept.div_ceil(2)).max(1);
    exact.model.on_threads(|| {
        let squares = |role| -> Result<Squares> {
            if kept != tokens {
                return Ok(Squares::default());
            }
            let [exact, other] = [exact, other].map(|session| session.cache.tensor(layer, role)?.decompress(cancel));
            Ok(Squares::of(&exact?, &other?))
        };
        let (key, value) = (squares(Role::Key)?, squares(Role::Value)?);
        let queries = queries.last(layer, a.heads, a.head_dim, n);
        let outputs = [exact, other].map(|session| -> Result<Vec<f32>> {
            let mut out = vec![0.0; queries.len()];
            let options = a.attend_options(layer);
            session.cache.attend(layer, KvSlice::F32(&queries), n, &options, &mut out, cancel)?;
            Ok(out)
        });
        let [exact, other] = outputs;
        Ok(LayerSums { key, value, attention: Squares::of(&exact?, &other?), dropped: kept != tokens })
    })
}
