//! Texts as JSON gives them.

use gearkv::ErrorCode;
use gearkv_llm::{Text, Texts};

#[test]
fn both_forms_are_read_and_what_is_wrong_is_refused() {
    let items = Texts::from_json(
        r#"{"items": [{"tokenIds": [1, 2, 3], "promptTokens": 1}, {"tokenIds": [1, 2, 3, 4], "promptTokens": 2}], "perWindow": true}"#,
    )
    .unwrap();
    assert!(items.per_window && !items.layer_errors);
    assert_eq!(items.items[1], Text { token_ids: vec![1, 2, 3, 4], prompt_tokens: 2 });
    let equal = Texts::from_json(
        r#"{"promptTokens": 1, "continuationTokens": 1, "tokenIds": [[1, 2, 3, 4]], "layerErrors": true}"#,
    )
    .unwrap();
    assert!(equal.layer_errors && !equal.per_window);
    // What is behind the continuation is not read.
    assert_eq!(equal.items, [Text { token_ids: vec![1, 2, 3], prompt_tokens: 1 }]);
    for wrong in [
        "{}",
        r#"{"items": []}"#,
        r#"{"items": 3}"#,
        r#"{"items": [{"tokenIds": [1, 2], "promptTokens": 1}]}"#,
        r#"{"items": [{"tokenIds": [1, 2, 3], "promptTokens": 0}]}"#,
        r#"{"items": [{"tokenIds": [1, 2, 3]}]}"#,
        r#"{"items": [{"tokenIds": [1, 2, 3], "promptTokens": 18446744073709551615}]}"#,
        r#"{"items": [{"tokenIds": [1, 2, 3], "promptTokens": 1}], "promptTokens": 1}"#,
    ] {
        assert_eq!(Texts::from_json(wrong).unwrap_err().code(), ErrorCode::InvalidOption, "{wrong}");
    }
}
