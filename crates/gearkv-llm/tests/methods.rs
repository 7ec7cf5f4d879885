//! Methods that are no presets, in an evaluation.

mod common;

use std::sync::{Arc, Mutex};

use common::tiny;
use gearkv::{ErrorCode, GearOptions, GearTensor, KvSlice, NEVER, Result, Role};
use gearkv_llm::{Candidate, EvalRow, Keeper, Kept, LayerTokens, Method, Model, Windows, eval_windows};

/// What a closure does.
struct Closure<F>(usize, F);

impl<F: Fn(LayerTokens) -> Result<Kept> + Clone + Send + Sync + 'static> Method for Closure<F> {
    fn name(&self) -> &str {
        "closure"
    }

    fn buffer_tokens(&self) -> usize {
        self.0
    }

    fn begin(&self) -> Box<dyn Keeper> {
        struct Working<F>(F);
        impl<F: Fn(LayerTokens) -> Result<Kept> + Send> Keeper for Working<F> {
            fn keep(&mut self, tokens: LayerTokens) -> Result<Kept> {
                (self.0)(tokens)
            }
        }
        Box::new(Working(self.1.clone()))
    }
}

fn windows() -> Windows {
    Windows { prompt_tokens: 100, continuation_tokens: 90, names: Vec::new(), token_ids: vec![tiny::text(191)] }
}

fn row(model: &Model, candidate: Candidate) -> Result<EvalRow> {
    eval_windows(model, &windows(), &[candidate], NEVER, &mut |_, _| {}).map(|found| found.rows[0].clone())
}

fn evaluated<F>(model: &Model, buffer: usize, keep: F) -> Result<EvalRow>
where
    F: Fn(LayerTokens) -> Result<Kept> + Clone + Send + Sync + 'static,
{
    row(model, Candidate::method(Arc::new(Closure(buffer, keep))))
}

#[test]
fn a_method_sees_the_prompt_and_then_each_buffer_of_every_layer_with_the_queries() {
    let model = tiny::model("llama");
    let shape = tiny::shape("llama");
    let seen: Arc<Mutex<Vec<[usize; 3]>>> = Arc::default();
    let log = Arc::clone(&seen);
    let row = evaluated(&model, 40, move |tokens| {
        log.lock().unwrap().push([tokens.layer, tokens.held, tokens.new]);
        assert_eq!((tokens.heads, tokens.kv_heads, tokens.head_dim), (shape.heads, shape.kv_heads, shape.head_dim));
        assert_eq!(tokens.queries.len(), tokens.heads * tokens.new * tokens.head_dim);
        assert!(tokens.queries.iter().all(|x| x.is_finite()) && tokens.queries.iter().any(|&x| x != 0.0));
        assert_eq!(tokens.keys.len(), tokens.kv_heads * (tokens.held + tokens.new) * tokens.head_dim);
        // Eight bits an element of a prompt, four of later ones.
        let each = if tokens.held == 0 { 8.0 } else { 4.0 };
        Ok(tokens.replace_new(|_, new| each * new.len() as f64))
    })
    .unwrap();
    let expected: Vec<_> = [(0, 100), (100, 40), (140, 40)]
        .into_iter()
        .flat_map(|(held, new)| (0..tiny::LAYERS).map(move |layer| [layer, held, new]))
        .collect();
    // The ten tokens behind the last full buffer stay as they are.
    assert_eq!(*seen.lock().unwrap(), expected);
    assert_eq!(row.preset, "closure");
    assert!(row.kl.abs() < 1e-6 && row.top1 == 1.0, "{row:?}");
    assert_eq!((row.bits_per_element, row.decode_bits_per_element), (8.0, Some(4.0)));
}

#[test]
fn a_preset_as_a_method_finds_what_the_preset_finds() {
    let model = tiny::model("llama");
    let expected = row(&model, Candidate::preset("kivi-2").unwrap()).unwrap();
    let got = evaluated(&model, 64, |tokens| {
        let (heads, dim, new) = (tokens.kv_heads, tokens.head_dim, tokens.new);
        Ok(tokens.replace_new(|role, x| {
            let options = GearOptions { preset: Some("kivi-2".into()), ..Default::default() };
            let shape = gearkv::KvShape::new(1, heads, new, dim).unwrap();
            let config = options.resolve(role).unwrap();
            let tensor = GearTensor::compress(KvSlice::F32(x), shape, role, config, NEVER).unwrap();
            x.copy_from_slice(&tensor.decompress(NEVER).unwrap());
            tensor.parts().without_headers() as f64 * 8.0
        }))
    })
    .unwrap();
    assert_eq!(got.bits_per_element, expected.bits_per_element);
    assert_eq!(got.decode_bits_per_element, expected.decode_bits_per_element);
    assert!((got.kl / expected.kl - 1.0).abs() < 0.02, "{got:?} {expected:?}");
    let exact = evaluated(&model, 64, |tokens| Ok(tokens.replace_new(|_, _| 0.0))).unwrap();
    assert!(exact.kl < expected.kl / 100.0);
}

/// Keeps the last tokens alone.
fn last(tokens: LayerTokens, keep: usize) -> Kept {
    let plane = (tokens.held + tokens.new) * tokens.head_dim;
    let tail = |x: &[f32]| x.chunks_exact(plane).flat_map(|h| &h[plane - keep * tokens.head_dim..]).copied().collect();
    Kept { keys: tail(&tokens.keys), values: tail(&tokens.values), bits: 0.0 }
}

#[test]
fn a_method_may_drop_tokens_and_later_ones_keep_their_positions() {
    let model = tiny::model("llama");
    let held: Arc<Mutex<Vec<usize>>> = Arc::default();
    let log = Arc::clone(&held);
    let dropping = evaluated(&model, 40, move |tokens| {
        log.lock().unwrap().push(tokens.held);
        Ok(last(tokens, 50))
    })
    .unwrap();
    assert!(held.lock().unwrap()[tiny::LAYERS..].iter().all(|&held| held == 50));
    assert!(dropping.kl > 1e-6 && dropping.kl.is_finite());
    let all = evaluated(&model, 40, |tokens| {
        let keep = tokens.held + tokens.new;
        Ok(last(tokens, keep))
    });
    assert!(all.unwrap().kl.abs() < 1e-6);
}

#[test]
fn what_a_method_gives_back_is_checked() {
    let model = tiny::model("llama");
    let code = |row: Result<EvalRow>| row.unwrap_err().code();
    let broken = [
        |kept: &mut Kept| kept.keys.truncate(7),
        |kept: &mut Kept| kept.values.clear(),
        |kept: &mut Kept| kept.bits = f64::NAN,
        |kept: &mut Kept| kept.bits = -1.0,
        |kept: &mut Kept| {
            kept.keys.extend_from_within(..);
            kept.values.extend_from_within(..);
        },
    ];
    for damage in broken {
        let row = evaluated(&model, 64, move |tokens| {
            let mut kept = tokens.replace_new(|_, _| 0.0);
            damage(&mut kept);
            Ok(kept)
        });
        assert_eq!(code(row), ErrorCode::ShapeMismatch);
    }
    let row = evaluated(&model, 64, |tokens| {
        Ok(tokens.replace_new(|role, new| {
            new[3] = if role == Role::Value { f32::NAN } else { new[3] };
            0.0
        }))
    });
    assert_eq!(code(row), ErrorCode::NotFinite);
    // A sliding window counts tokens.
    let row = evaluated(&tiny::model("gemma3"), 64, |tokens| Ok(last(tokens, 20)));
    assert_eq!(code(row), ErrorCode::InvalidOption);
}

#[test]
fn a_frozen_cache_is_a_preset_named_by_its_size() {
    let model = tiny::model("llama");
    let rows: Vec<EvalRow> = ["frozen-8", "frozen-5", "frozen-5-queries"]
        .map(|name| row(&model, Candidate::preset(name).unwrap()).unwrap())
        .into();
    assert_eq!(rows[2].preset, "frozen-5-queries");
    assert!(rows.iter().all(|row| row.kl.is_finite() && row.decode_bits_per_element.is_none()));
    assert!(rows[0].bits_per_element > rows[1].bits_per_element && rows[0].kl < rows[1].kl);
    assert_ne!(rows[1].kl, rows[2].kl);
    for name in ["frozen-", "frozen-x", "frozen-3-query"] {
        assert_eq!(Candidate::preset(name).err().map(|e| e.code()), Some(ErrorCode::InvalidOption));
    }
    let refused = row(&model, Candidate::preset("frozen-99").unwrap()).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidOption);
}
