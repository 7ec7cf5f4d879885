//! Evaluations of texts whose lengths differ, row by row, layer by layer.

mod common;

use common::tiny;
use gearkv::{ErrorCode, NEVER};
use gearkv_llm::{Candidate, Evaluation, LayerError, Model, Text, Texts, eval_texts};

fn text(prompt_tokens: usize, all: usize, skip: usize) -> Text {
    Text { token_ids: tiny::text(all + skip)[skip..].to_vec(), prompt_tokens }
}

fn found(model: &Model, texts: Texts, names: &[&str]) -> Evaluation {
    let candidates: Vec<_> = names.iter().map(|name| Candidate::preset(name).unwrap()).collect();
    eval_texts(model, texts, &candidates, NEVER, &mut |_, _| {}).unwrap()
}

#[test]
fn texts_of_different_lengths_count_by_their_positions_and_each_has_its_row() {
    let model = tiny::model("llama");
    let items = vec![text(100, 150, 0), text(70, 181, 30)];
    let names = ["kivi-2", "float16"];
    let together = found(&model, Texts { items: items.clone(), per_window: true, ..Texts::default() }, &names);
    assert_eq!(together.windows.len(), 2);
    for (item, window) in items.iter().zip(&together.windows) {
        // One text alone finds what it finds among others.
        let alone = found(&model, Texts { items: vec![item.clone()], ..Texts::default() }, &names);
        assert!(alone.windows.is_empty());
        assert_eq!(window.prompt_tokens, item.prompt_tokens);
        assert_eq!(window.continuation_tokens, item.token_ids.len() - item.prompt_tokens - 1);
        assert_eq!(window.float16_perplexity, alone.float16_perplexity);
        for (row, alone) in window.rows.iter().zip(&alone.rows) {
            assert_eq!(row.row, *alone);
            assert_eq!(row.position_kl.len(), window.continuation_tokens);
            let kl = row.position_kl.iter().map(|&kl| f64::from(kl)).sum::<f64>() / row.position_kl.len() as f64;
            assert!((kl - alone.kl).abs() < 1e-6 + 1e-4 * alone.kl);
            let same = row.position_same.iter().filter(|&&same| same).count();
            assert_eq!(same as f64 / row.position_same.len() as f64, alone.top1);
        }
    }
    let [first, second] = &together.windows[..] else { panic!() };
    let mean = (49.0 * first.rows[0].row.kl + 110.0 * second.rows[0].row.kl) / 159.0;
    assert!((together.rows[0].kl / mean - 1.0).abs() < 1e-12);
    assert!(first.rows[0].row.kl != second.rows[0].row.kl && together.rows[0].kl > 1e-6);
}

#[test]
fn errors_of_layers_are_none_in_float16_and_grow_as_bits_get_fewer() {
    let model = tiny::model("llama");
    let texts = Texts { items: vec![text(128, 140, 0), text(90, 110, 9)], layer_errors: true, ..Texts::default() };
    let names = ["float16", "kivi-4", "kivi-2", "h2o-0.5", "h2o-1"];
    let rows = found(&model, texts.clone(), &names).rows;
    let layers = |row: usize| rows[row].layers.as_deref().unwrap();
    assert!(rows.iter().all(|row| row.layers.as_ref().is_some_and(|layers| layers.len() == tiny::LAYERS)));
    for layer in 0..tiny::LAYERS {
        let zero = Some(0.0);
        assert_eq!(layers(0)[layer], LayerError { key: zero, value: zero, attention: 0.0 });
        let (four, two) = (layers(1)[layer], layers(2)[layer]);
        assert!(four.key > Some(0.0) && two.key > four.key && two.key < Some(1.0), "{four:?} {two:?}");
        assert!(four.value > Some(0.0) && two.value > four.value && two.value < Some(1.0), "{four:?} {two:?}");
        assert!(four.attention > 0.0 && two.attention > four.attention, "{four:?} {two:?}");
        // What was dropped has no error of its own, and attention misses it.
        let half = layers(3)[layer];
        assert!(half.key.is_none() && half.value.is_none() && half.attention > 1e-3, "{half:?}");
        // Nothing is dropped: a float32 copy of float16.
        let all = layers(4)[layer];
        assert!(all.key == zero && all.value == zero && all.attention < 1e-3, "{all:?}");
    }
    assert!(found(&model, Texts { layer_errors: false, ..texts }, &["kivi-4"]).rows[0].layers.is_none());
}

#[test]
fn heavy_hitters_take_the_bits_of_what_they_keep_and_are_named_by_their_share() {
    let model = tiny::model("llama");
    let texts = Texts { items: vec![text(128, 260, 0)], ..Texts::default() };
    let rows = found(&model, texts, &["h2o-0.75", "h2o-0.5", "h2o-0.25"]).rows;
    for (row, bits) in rows.iter().zip([12.0, 8.0, 4.0]) {
        assert_eq!(row.bits_per_element, bits, "{}", row.preset);
        assert!((row.decode_bits_per_element.unwrap() - bits).abs() < 1e-9, "{row:?}");
    }
    assert!(rows[0].kl > 0.0 && rows[2].kl > rows[0].kl);
    for name in ["h2o-", "h2o-0", "h2o-1.5", "h2o-x", "h2o-NaN", "h2o--1"] {
        assert_eq!(Candidate::preset(name).err().map(|e| e.code()), Some(ErrorCode::InvalidOption), "{name}");
    }
}
