//! A conversation as a `.gear` container: the tensors of its cache as `layer.N.key` and `layer.N.value`, and its tokens as
//! an array `tokens`, whose metadata say which model they belong to.

use gearkv::{CacheShape, ErrorCode, GearCache, GearError, Role};
use gearkv_format::{Container, ContainerWriter, Entry, Metadata};
use gearkv_llm::{Model, Session};
use gearkv_marshal::{BindingError, Result};

const TOKENS: &str = "tokens";
const TOKEN_BYTES: usize = size_of::<u32>();

/// Everything that is in the session.
pub(crate) fn to_bytes(session: &Session) -> Result<Vec<u8>> {
    let mut writer = ContainerWriter::new();
    let cache = session.cache();
    for layer in 0..cache.shape().layers {
        for role in [Role::Key, Role::Value] {
            writer.add_tensor(&name(layer, role), cache.tensor(layer, role)?, Metadata::new())?;
        }
    }
    let tokens: Vec<u8> = session.tokens().iter().flat_map(|token| token.to_le_bytes()).collect();
    let shape = [session.tokens().len() as u64];
    writer.add_raw(TOKENS, "U32", &shape, &tokens, identity(session.model()))?;
    Ok(writer.finish()?)
}

/// Reads what [`to_bytes`] wrote, of the same model.
pub(crate) fn from_bytes(model: &Model, bytes: &[u8]) -> Result<Session> {
    let container = Container::parse(bytes)?;
    let Some(Entry::Raw(entry)) = container.entries().iter().find(|entry| entry.name() == TOKENS) else {
        return Err(corrupt("the container holds no conversation: it has no array named \"tokens\"").into());
    };
    let expected = identity(model);
    if entry.metadata != expected {
        let show = |metadata: &Metadata| serde_json::Value::Object(metadata.clone()).to_string();
        return Err(BindingError::model_mismatch(format_args!(
            "the conversation is of the model {}, and this one is {}; load the model that it was held with",
            show(&entry.metadata),
            show(&expected)
        )));
    }
    let (tokens, rest) = container.raw(TOKENS)?.as_chunks::<TOKEN_BYTES>();
    if entry.dtype != "U32" || !rest.is_empty() {
        return Err(corrupt("the conversation's tokens are not of type U32").into());
    }
    let tokens = tokens.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let shape: CacheShape = model.cache_shape();
    let tensors = (0..shape.layers)
        .map(|layer| Ok((container.tensor(&name(layer, Role::Key))?, container.tensor(&name(layer, Role::Value))?)))
        .collect::<Result<Vec<_>>>()?;
    let damaged = |error: GearError| match error.code() {
        ErrorCode::Internal => error,
        _ => corrupt(error.to_string()),
    };
    let cache = GearCache::from_tensors(shape, tensors).map_err(damaged)?;
    Ok(Session::restore(model, cache, tokens).map_err(damaged)?)
}

fn name(layer: usize, role: Role) -> String {
    let role = match role {
        Role::Key => "key",
        Role::Value => "value",
    };
    format!("layer.{layer}.{role}")
}

/// What tells a model from others. Not the weights themselves: hashing them would take longer than loading them.
fn identity(model: &Model) -> Metadata {
    let info = model.info();
    let mut identity = Metadata::new();
    identity.insert("model".into(), info.name.clone().into());
    identity.insert("architecture".into(), info.architecture.clone().into());
    identity.insert("parameters".into(), info.parameters.into());
    identity.insert("fileBytes".into(), info.file_bytes.into());
    identity
}

fn corrupt(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::CorruptData, message)
}
