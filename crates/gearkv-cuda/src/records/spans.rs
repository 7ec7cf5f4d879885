//! Blocks: runs of up to 64 tokens that are of one kind on either side.

use super::parts::BLOCK;
use crate::source::{Grouping, Source};

/// A run of tokens of one block, on one side.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// The first of them among the sinks, or in the buffer.
    Raw {
        buffer: bool,
        first: usize,
    },
    Coded {
        segment: usize,
        first: usize,
    },
}

pub(super) struct Span {
    pub(super) first: usize,
    pub(super) tokens: usize,
    pub(super) key: Part,
    pub(super) value: Part,
}

/// Pieces of a tensor before the device's buffer starts: where each starts, and what it is.
pub(super) fn pieces(source: &Source, end: usize) -> Vec<(usize, usize, Part)> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut push = |tokens: usize, part: Part| {
        let tokens = tokens.min(end - at);
        if tokens > 0 {
            found.push((at, tokens, part));
            at += tokens;
        }
    };
    push(source.image.sink_tokens, Part::Raw { buffer: false, first: 0 });
    for (segment, image) in source.image.segments.iter().enumerate() {
        push(image.visible, Part::Coded { segment, first: image.hidden });
    }
    push(source.image.buffer_tokens, Part::Raw { buffer: true, first: 0 });
    found
}

/// Where blocks must end.
pub(super) fn cuts(source: &Source, end: usize) -> Vec<usize> {
    let mut cuts = vec![end];
    for (start, tokens, part) in pieces(source, end) {
        // A segment whose first tokens were dropped begins inside a block.
        let (Part::Raw { first, .. } | Part::Coded { first, .. }) = part;
        let mut every = |length: usize| {
            let whole = start + (length - first % length) % length;
            cuts.extend([start].into_iter().chain((whole..start + tokens).step_by(length)));
        };
        every(BLOCK);
        if let Part::Coded { segment, .. } = part
            && let Grouping::Channel { tokens: group } =
                Grouping::of(source.config(), source.image.role, source.image.segments[segment].tokens)
        {
            every(group);
        }
    }
    cuts
}

/// The same of a segment of `tokens` tokens that is not there yet: where its blocks start, and its end.
pub(super) fn segment_cuts(sources: &[&Source], tokens: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..tokens).step_by(BLOCK).chain([tokens]).collect();
    for source in sources {
        if let Grouping::Channel { tokens: group } = Grouping::of(source.config(), source.image.role, tokens) {
            cuts.extend((0..tokens).step_by(group));
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

pub(super) fn part_at(pieces: &[(usize, usize, Part)], token: usize) -> Part {
    let at = pieces.partition_point(|(start, ..)| *start <= token) - 1;
    let (start, _, part) = pieces[at];
    match part {
        Part::Raw { buffer, .. } => Part::Raw { buffer, first: token - start },
        Part::Coded { segment, first } => Part::Coded { segment, first: first + token - start },
    }
}

pub(super) fn spans(key: &Source, value: &Source, end: usize) -> Vec<Span> {
    let (keys, values) = (pieces(key, end), pieces(value, end));
    let mut cuts = [cuts(key, end), cuts(value, end)].concat();
    cuts.sort_unstable();
    cuts.dedup();
    let mut spans: Vec<Span> = cuts
        .windows(2)
        .map(|pair| Span {
            first: pair[0],
            tokens: pair[1] - pair[0],
            key: part_at(&keys, pair[0]),
            value: part_at(&values, pair[0]),
        })
        .collect();
    // Stable: in token order within both.
    spans.sort_by_key(|span| matches!(span.value, Part::Raw { .. }));
    spans
}
