//! Heavy hitters, on what attention is given.

use gearkv_llm::{H2o, Keeper, Kept, LayerTokens, Method};

/// One head of one channel: keys are logits, values are the tokens' numbers.
fn given(keys: &[f32], values: &[f32], held: usize) -> Kept {
    keep(&mut *H2o { name: "h2o".into(), share: 0.5 }.begin(), keys, values, held)
}

fn keep(keeper: &mut dyn Keeper, keys: &[f32], values: &[f32], held: usize) -> Kept {
    let new = keys.len() - held;
    let queries = vec![1.0; new];
    let (keys, values) = (keys.to_vec(), values.to_vec());
    keeper
        .keep(LayerTokens {
            layer: 0,
            kv_heads: 1,
            heads: 1,
            head_dim: 1,
            scale: 1.0,
            held,
            new,
            keys,
            values,
            queries: &queries,
        })
        .unwrap()
}

#[test]
fn the_heaviest_and_the_newest_stay_in_order() {
    let kept = given(&[0.0, 5.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 0);
    assert_eq!(kept.values, [1.0, 3.0, 6.0, 7.0]);
    assert_eq!(kept.keys, [5.0, 4.0, 0.0, 0.0]);
    assert_eq!(kept.bits, 2.0 * 4.0 * 16.0);
}

#[test]
fn attention_adds_up_over_calls_and_the_budget_grows_with_all_tokens() {
    let mut keeper = H2o { name: "h2o".into(), share: 0.5 }.begin();
    let first = keep(&mut *keeper, &[3.0, 0.0, 2.0, 0.0], &[0.0, 1.0, 2.0, 3.0], 0);
    assert_eq!(first.values, [0.0, 3.0]);
    // Six tokens seen, of which three stay: one new, and two of what got most in both calls.
    let again = keep(&mut *keeper, &[3.0, 0.0, 1.0, 1.0], &[0.0, 3.0, 4.0, 5.0], 2);
    assert_eq!(again.values, [0.0, 4.0, 5.0]);
    assert_eq!(again.bits, 2.0 * 16.0);
}
