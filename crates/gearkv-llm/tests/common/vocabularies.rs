//! Small vocabularies of every kind, and texts that are hard to split.

use std::collections::{BTreeMap, HashSet};

use super::gguf::{File, Meta};
use super::tiny;

/// How often pieces are joined to longer ones.
const MERGES: usize = 600;

/// Texts that schemes split differently, or that have been split wrongly by somebody.
pub const TEXTS: [&str; 45] = [
    "",
    " ",
    "  ",
    "   three spaces before, two behind  ",
    "\n",
    "\n\n",
    " \n \n\n  x",
    "\t\tif (x):\n\t\t\treturn 1\n",
    "a\r\nb\r\n\r\nc",
    "Hello world",
    " Hello world",
    "Hello, world! How are you?",
    "Don't WE'LL they've I'M you'd it'S can'T",
    "don’t “quoted” – dash — dots…",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "123456",
    "1234567",
    "3.14159, 1,000,000 and -42; 0x1F 10% $5 #7",
    "year2024and 2024year v1.2.3-rc4",
    "x=1;y=2;z=x+y;if(x<y){z++;}",
    "fn main() { println!(\"{:?}\", vec![1, 2]); }",
    "camelCaseAndPascalCase snake_case SCREAMING_CASE",
    "http://example.com/a?b=c&d=e#f",
    "naïve café déjà vu Ünïcödé ß ẞ",
    "Привет, как дела? Ελληνικά",
    "你好，世界！今天天气很好。",
    "こんにちは世界カタカナ",
    "안녕하세요 세계",
    "مرحبا بالعالم ١٢٣ שלום",
    "हिन्दी में नमस्ते",
    "🦀🚀 👩‍👩‍👧‍👦 🇩🇪 👍🏽!",
    "½ ² Ⅷ ① ٣",
    "a\u{a0}b\u{2003}c\u{3000}d\u{200b}e",
    "zalgo: Z\u{335}a\u{320}l\u{33a}g\u{301}o\u{329}",
    "\u{0}\u{1}\u{7f}control",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "..........!!!!!!!!!!???",
    "zebra zebra\nzebra",
    "the<|special|>the <|special|> the\n<|special|>\n",
    "<|special|><|special|>x<|spec|special|>",
    "<s>not begun</s> <unk> <0x41> ▁under▁",
];

type Names = Vec<Vec<String>>;

/// Joins the most frequent neighbours again and again, anywhere: words, spaces and digits grow together, so that what a scheme
/// splits shows.
fn join(mut texts: Names) -> Vec<(String, String)> {
    let mut merges = Vec::new();
    let mut made = HashSet::new();
    while merges.len() < MERGES {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for text in &texts {
            for pair in text.windows(2).filter(|pair| pair[0].len() + pair[1].len() < 24) {
                *counts.entry((&pair[0], &pair[1])).or_default() += 1;
            }
        }
        let fresh = counts.into_iter().filter(|((a, b), _)| !made.contains(&format!("{a}{b}")));
        let Some(((a, b), _)) = fresh.max_by(|(x, m), (y, n)| m.cmp(n).then(y.cmp(x))) else { break };
        let (a, b) = (a.to_owned(), b.to_owned());
        for text in &mut texts {
            let mut i = 0;
            while i + 1 < text.len() {
                if text[i] == a && text[i + 1] == b {
                    let next = text.remove(i + 1);
                    text[i] += &next;
                }
                i += 1;
            }
        }
        made.insert(format!("{a}{b}"));
        merges.push((a, b));
    }
    merges
}

/// What merges are learned from: the texts, and plain words of several scripts more than once.
fn corpus() -> Vec<String> {
    let plain =
        "the rain in Spain stays mainly in the plain; it's 2024 and 1234 567 89 don't we'll they've\n\n  if  return\n";
    let more = "你好世界 こんにちは Привет как дела café déjà नमस्ते 안녕하세요 مرحبا 🦀🚀 HELLO World hello";
    let words = [plain, more, plain, more, plain, " the the the   the\n\n\nthe 11 22 333 4444 55555 666666"];
    TEXTS
        .iter()
        .chain(&words)
        .filter(|text| !["<|", "<unk>", "zebra"].iter().any(|held| text.contains(held)))
        .map(|text| (*text).to_owned())
        .collect()
}

fn model_with(tokens: Vec<String>, kinds: Vec<i32>) -> File {
    assert_eq!(tokens.iter().collect::<HashSet<_>>().len(), tokens.len(), "a token twice");
    let mut file = tiny::file("llama", false);
    for name in ["token_embd.weight", "output.weight"] {
        let tensor = file.tensor_mut(name);
        tensor.dims[1] = tokens.len() as u64;
        tensor.bytes.resize(tiny::WIDTH * tokens.len() * 4, 0);
    }
    file.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Meta::I32s(kinds));
    file
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// BPE over bytes, split by the scheme.
pub fn byte_pairs(scheme: Option<&str>) -> File {
    let name = |text: &String| text.bytes().map(tiny::byte_name).collect();
    let merges = join(corpus().iter().map(name).collect());
    let mut tokens: Vec<String> = (0..=255).map(tiny::byte_name).collect();
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    let mut kinds = vec![NORMAL; tokens.len()];
    // What only Llama 3 finds at once: merges do not make it.
    tokens.push("zebra".into());
    kinds.push(NORMAL);
    let special = tokens.len() as u32;
    for (token, kind) in [("<|special|>", CONTROL), ("<|end|>", CONTROL), ("<|user|>", USER_DEFINED)] {
        tokens.push(token.into());
        kinds.push(kind);
    }
    let mut file = model_with(tokens, kinds);
    file.set("tokenizer.ggml.merges", Meta::Texts(merges.iter().map(|(a, b)| format!("{a} {b}")).collect()));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(special));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(special + 1));
    file.metadata.retain(|(key, _)| key != "tokenizer.ggml.pre");
    if let Some(scheme) = scheme {
        file.set("tokenizer.ggml.pre", Meta::Text(scheme.into()));
    }
    file
}

/// SentencePiece; as Llama 2 and Mistral have it, or, without `prefix`, as Gemma.
pub fn sentence_piece(prefix: bool) -> File {
    // Characters beyond these are in no piece, as in real vocabularies: they become bytes.
    let known = |c: char| !c.is_control() && c < '\u{1F600}' && !('ऀ'..'₀').contains(&c) && !"世界".contains(c);
    let piece = |c: char| if c == ' ' { '▁' } else { c }.to_string();
    let mut texts: Names = Vec::new();
    for text in corpus() {
        texts.extend(text.split(|c| !known(c)).map(|run| run.chars().map(piece).collect()));
    }
    let merges = join(texts.clone());
    let (mut tokens, mut kinds, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |token: String, kind: i32, score: f32| {
        tokens.push(token);
        kinds.push(kind);
        scores.push(score);
    };
    let controls = if prefix { ["<unk>", "<s>", "</s>"] } else { ["<pad>", "<eos>", "<bos>"] };
    for (i, token) in controls.into_iter().enumerate() {
        add(token.into(), if i == 0 && prefix { UNKNOWN } else { CONTROL }, 0.0);
    }
    if !prefix {
        add("<unk>".into(), UNKNOWN, 0.0);
    }
    add("<|special|>".into(), CONTROL, 0.0);
    if !prefix {
        // Gemma's own, of which the longest is taken.
        for token in ["\n", "\n\n", "\n\n\n", "  ", "   ", "<|user|>"] {
            add(token.into(), USER_DEFINED, -1000.0);
        }
    }
    for byte in 0..=255u8 {
        add(format!("<0x{byte:02X}>"), BYTE, 0.0);
    }
    for (i, (a, b)) in merges.iter().enumerate() {
        add(format!("{a}{b}"), NORMAL, -(i as f32));
    }
    let mut single: Vec<String> = texts.concat().into_iter().collect::<HashSet<_>>().into_iter().collect();
    single.sort();
    for (i, c) in single.into_iter().enumerate() {
        add(c, NORMAL, -1e4 - i as f32);
    }
    let (bos, eos) = if prefix { (1, 2) } else { (2, 1) };
    let mut file = model_with(tokens, kinds);
    file.set("tokenizer.ggml.model", Meta::Text("llama".into()));
    file.set("tokenizer.ggml.pre", Meta::Text("default".into()));
    file.set("tokenizer.ggml.scores", Meta::F32s(scores));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(bos));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(eos));
    if !prefix {
        file.set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
    }
    file
}

/// Schemes of BPE that models of the known architectures have.
pub const SCHEMES: [&str; 8] =
    ["gpt-2", "llama-bpe", "qwen2", "smollm", "tekken", "deepseek-r1-qwen", "smaug-bpe", "default"];

/// All of them by name.
pub fn all() -> Vec<(String, File)> {
    let schemes = SCHEMES.iter().map(|scheme| ((*scheme).to_owned(), byte_pairs(Some(scheme))));
    let rest = [
        ("no scheme", byte_pairs(None)),
        ("sentencepiece with a prefix", sentence_piece(true)),
        ("sentencepiece without", sentence_piece(false)),
    ];
    schemes.chain(rest.into_iter().map(|(name, file)| (name.to_owned(), file))).collect()
}
