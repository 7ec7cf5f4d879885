//! Tokens that a cache gets, as JavaScript hands them over.

use gearkv::{AttendOptions, GearCache, KvSlice, NEVER};

use crate::{Result, options, whole};

/// Keys and values of new tokens for one layer, `[batch, kvHeads, tokens, headDim]`, and their queries where those are at hand.
#[derive(Clone, Copy)]
pub struct NewTokens<'a> {
    /// Which layer, from 0.
    pub layer: f64,
    /// Keys.
    pub key: KvSlice<'a>,
    /// Values.
    pub value: KvSlice<'a>,
    /// How many there are.
    pub tokens: f64,
    /// Queries, `[batch, queryHeads, tokens, headDim]`, and how they attend, as JSON.
    pub queries: Option<(&'a [f32], &'a str)>,
}

impl NewTokens<'_> {
    /// Numbers of what is given.
    pub fn len(&self) -> usize {
        self.key.len() + self.value.len() + self.queries.map_or(0, |(queries, _)| queries.len())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends them. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `OUT_OF_RANGE`.
    pub fn append_to(self, cache: &mut GearCache) -> Result<()> {
        let Self { key, value, .. } = self;
        self.hand_to(|layer, tokens, queries| match queries {
            None => cache.append(layer, key, value, tokens, NEVER),
            Some((queries, how)) => cache.append_with_queries(layer, key, value, tokens, queries, how, NEVER),
        })
    }

    /// Hands layer, number of tokens and queries on, as numbers and options that were read.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` or `INVALID_OPTION` for what cannot be read, and those of `append`.
    pub fn hand_to(
        self,
        append: impl FnOnce(usize, usize, Option<(KvSlice, &AttendOptions)>) -> gearkv::Result<()>,
    ) -> Result<()> {
        let (layer, tokens) = (whole("layer", self.layer)?, whole("tokens", self.tokens)?);
        match self.queries {
            None => append(layer, tokens, None)?,
            Some((queries, attend_json)) => {
                append(layer, tokens, Some((KvSlice::F32(queries), &options::attend(attend_json)?)))?;
            }
        }
        Ok(())
    }
}
