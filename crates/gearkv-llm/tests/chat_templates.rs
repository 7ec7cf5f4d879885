//! Chat templates render as they do where models were trained. `chat-templates.py` writes what Jinja makes of them.
//!
//! The templates are our own; each needs of the engine what those of a family of models need.

mod common;

use std::path::Path;

use common::gguf::Meta;
use common::tiny;
use gearkv::ErrorCode;
use gearkv_llm::{Message, Model};
use serde_json::Value;

fn with_template(source: &str) -> Model {
    let mut file = tiny::file("llama", false);
    let Some((_, Meta::Texts(tokens))) = file.metadata.iter_mut().find(|(key, _)| key.ends_with("ggml.tokens")) else {
        panic!()
    };
    tokens[tiny::START as usize] = "<bos>".into();
    tokens[tiny::END as usize] = "<eos>".into();
    file.set("tokenizer.chat_template", Meta::Text(source.into()));
    Model::from_bytes(file.bytes()).unwrap()
}

#[test]
fn templates_of_every_family_render_as_jinja_renders_them() {
    let reference: Value = serde_json::from_str(include_str!("chat-templates.json")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let rendered = reference["rendered"].as_object().unwrap();
    assert_eq!(rendered.len(), std::fs::read_dir(&folder).unwrap().count());
    for (name, cases) in rendered {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let model = with_template(&source);
        for (case, expected) in cases.as_object().unwrap() {
            let messages: Vec<Message> = serde_json::from_value(reference["messages"][case].clone()).unwrap();
            let got = model.tokenizer().render_chat(&messages, true);
            match expected["refused"].as_str() {
                None => assert_eq!(got.unwrap(), expected.as_str().unwrap(), "{name}, {case}"),
                Some(reason) => {
                    let error = got.unwrap_err();
                    assert_eq!(error.code(), ErrorCode::InvalidOption, "{name}, {case}");
                    assert!(error.to_string().contains(reason), "{name}, {case}: {error}");
                }
            }
        }
    }
}
