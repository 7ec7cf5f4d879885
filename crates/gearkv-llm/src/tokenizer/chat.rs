//! A conversation as text, by the model's own template.

use gearkv::{ErrorCode, GearError, Result};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::architecture::unsupported;

use super::python;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

pub(super) struct ChatTemplate {
    source: String,
    bos: String,
    eos: String,
}

const CHAT_ML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
                       + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/// A template comes with the file, so it must not be able to run forever.
const FUEL: u64 = 1_000_000;
const REFUSED: &str = "refused by the template: ";

impl ChatTemplate {
    pub fn new(source: &str, bos: &str, eos: &str) -> Self {
        Self { source: source.to_owned(), bos: bos.to_owned(), eos: eos.to_owned() }
    }

    pub fn chat_ml() -> Self {
        Self::new(CHAT_ML, "", "<|im_end|>")
    }

    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let mut environment = Environment::new();
        // As Hugging Face's library renders them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL.saturating_mul(messages.len() as u64 + 1)));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", python::to_json);
        environment.add_function("strftime_now", python::strftime_now);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<String, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{REFUSED}{message}")))
            },
        );
        let failed = |error: minijinja::Error| match error.detail().and_then(|detail| detail.strip_prefix(REFUSED)) {
            Some(reason) => GearError::new(
                ErrorCode::InvalidOption,
                format!("the model's chat template refuses the messages: {reason}"),
            ),
            None => unsupported(format!("the model's chat template cannot be rendered: {error:#}")),
        };
        environment
            .render_str(
                &self.source,
                context! {
                    messages, add_generation_prompt, bos_token => self.bos, eos_token => self.eos,
                    tools => (), documents => (),
                },
            )
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn chat_ml_is_written_as_it_should_be() {
        let text = ChatTemplate::chat_ml().render(&[message("user", "Hi")], true).unwrap();
        assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn a_template_can_refuse_and_cannot_run_forever() {
        let refusing = ChatTemplate::new("{{ raise_exception('roles must alternate') }}", "", "");
        let error = refusing.render(&[message("user", "Hi")], true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidOption);
        assert!(error.to_string().contains("roles must alternate"), "{error}");
        let endless = "{% for i in range(9000) %}{% for j in range(9000) %}{% set x = i * j %}{% endfor %}{% endfor %}";
        let error = ChatTemplate::new(endless, "", "").render(&[], true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnsupportedModel);
        let broken = ChatTemplate::new("{% if %}", "", "").render(&[], true).unwrap_err();
        assert_eq!(broken.code(), ErrorCode::UnsupportedModel);
    }

    #[test]
    fn methods_of_python_strings_work() {
        let template = ChatTemplate::new("{{ bos_token }}{{ messages[0]['content'].strip() | trim }}", "<s>", "");
        assert_eq!(template.render(&[message("user", " a ")], false).unwrap(), "<s>a");
    }
}
