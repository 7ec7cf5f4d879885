//! How long decode attention takes on this machine's GPU: `cargo run --release -p gearkv-cuda --example attention`.
//!
//! Layers of 8 KV heads of 128 channels and 32 query heads. Layers are rotated so that none is in the second-level cache when its turn
//! comes. Options: `--tokens 32768`, `--batches 1,8,32`, `--presets float16,gear-4`, `--rounds 5`, `--positions 64` (of a chunk), `--chunk-batch 8`
//! (the largest that chunks are measured for).

use std::sync::Arc;

use gearkv::{AttendOptions, CacheShape, GearCache, GearOptions, KvSlice, NEVER, Role};
use gearkv_cuda::cudarc::driver::CudaStream;
use gearkv_cuda::cudarc::driver::sys::CUevent_flags;
use gearkv_cuda::{DeviceLayer, Kernels, Workspace};

const HEADS: usize = 8;
const QUERY_HEADS: usize = 32;
const DIM: usize = 128;
/// More than any second-level cache holds.
const ROTATED_BYTES: usize = 400 << 20;
/// How long a round takes at least, in milliseconds.
const ROUND: f32 = 20.0;

type Failure = Box<dyn std::error::Error>;

fn argument(name: &str, default: &str) -> String {
    let given: Vec<String> = std::env::args().collect();
    let at = given.iter().position(|word| word == name);
    at.and_then(|at| given.get(at + 1)).map_or(default, String::as_str).to_owned()
}

/// Normally distributed rows, some channels wider than others.
fn rows(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let widths: Vec<f32> = (0..DIM).map(|_| 0.5 + 4.0 * uniform().abs()).collect();
    (0..count)
        .flat_map(|_| widths.clone())
        .map(|width| width * (uniform() + uniform() + uniform() + uniform()))
        .collect()
}

fn cache(preset: &str, tokens: usize) -> gearkv::Result<GearCache> {
    let options = GearOptions { preset: Some(preset.to_owned()), ..Default::default() };
    let (key, value) = (options.resolve(Role::Key)?, options.resolve(Role::Value)?);
    let shape = CacheShape { layers: 1, batch: 1, kv_heads: HEADS, head_dim: DIM };
    let mut cache = GearCache::new(shape, key, value)?;
    // All but what waits in the buffer.
    let later = 32.min(tokens / 2);
    for (count, seed) in [(tokens - later, 1), (later, 2)] {
        let (k, v) = (rows(HEADS * count, seed), rows(HEADS * count, seed + 9));
        cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), count, NEVER)?;
    }
    Ok(cache)
}

/// The median over rounds of what one call takes, in microseconds, by the device's clock.
fn time(
    stream: &Arc<CudaStream>,
    rounds: usize,
    mut call: impl FnMut(usize) -> gearkv::Result<()>,
) -> Result<f32, Failure> {
    let mut measure = |calls: usize| -> Result<f32, Failure> {
        let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        for i in 0..calls {
            call(i)?;
        }
        let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        stream.synchronize()?;
        Ok(start.elapsed_ms(&end)?)
    };
    measure(5)?;
    let calls = ((ROUND / (measure(5)? / 5.0)) as usize).clamp(5, 20_000);
    let mut times = (0..rounds).map(|_| measure(calls)).collect::<Result<Vec<f32>, _>>()?;
    times.sort_by(f32::total_cmp);
    Ok(times[rounds / 2] / calls as f32 * 1000.0)
}

/// What it takes to compress a full buffer: the median of some, in microseconds; `None` where the device does not do it.
fn time_segments(stream: &Arc<CudaStream>, layer: &mut DeviceLayer, planes: usize) -> Result<Option<f32>, Failure> {
    const SEGMENTS: usize = 20;
    let Ok(tokens) = layer.segment_tokens() else { return Ok(None) };
    layer.reserve_segments(stream, (SEGMENTS + 1) * tokens)?;
    // The buffer is filled up first, so that none has to move.
    let more = (tokens - layer.waiting() % tokens) % tokens;
    let mut marks = Vec::new();
    for i in 0..=SEGMENTS {
        let count = if i == 0 && more > 0 { more } else { tokens };
        let k = stream.clone_htod(&rows(planes * count, 7 + i as u32))?;
        layer.append::<f32>(stream, &k, &k, count)?;
        let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
        layer.settle(stream)?;
        marks.push((start, stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?));
    }
    stream.synchronize()?;
    let mut times = marks[1..].iter().map(|(start, end)| start.elapsed_ms(end)).collect::<Result<Vec<f32>, _>>()?;
    times.sort_by(f32::total_cmp);
    Ok(Some(times[SEGMENTS / 2] * 1000.0))
}

/// Bytes that a copy within the device's memory reads and writes, in GB/s.
fn copy_rate(stream: &Arc<CudaStream>, rounds: usize) -> Result<f32, Failure> {
    const BYTES: usize = 2 << 30;
    let from = stream.alloc_zeros::<u8>(BYTES)?;
    let mut to = stream.alloc_zeros::<u8>(BYTES)?;
    let microseconds = time(stream, rounds, |_| {
        stream.memcpy_dtod(&from, &mut to).expect("a copy");
        Ok(())
    })?;
    Ok(2.0 * BYTES as f32 / microseconds / 1000.0)
}

fn main() -> Result<(), Failure> {
    let (tokens, rounds): (usize, usize) = (argument("--tokens", "32768").parse()?, argument("--rounds", "5").parse()?);
    let context = gearkv_cuda::context(0)?;
    let stream = context.default_stream();
    let kernels = Kernels::load(&context)?;
    println!("{}, {tokens} tokens, {HEADS} KV heads of {DIM}, {QUERY_HEADS} query heads", context.name()?);
    let rate = copy_rate(&stream, rounds)?;
    println!("a copy within its memory: {rate:.0} GB/s read and written\n");
    let (positions, chunk_batch): (usize, usize) =
        (argument("--positions", "64").parse()?, argument("--chunk-batch", "8").parse()?);
    println!("compress: a full buffer, in µs; what it adds to each of its tokens' steps; its float16 input in GB/s.");
    println!(
        "chunk: {positions} positions in µs, and what that is of as many steps; ragged: every second sequence half as long.\n"
    );
    println!(
        "preset    batch    MiB read  of float16  attend µs   GB/s  of copy  append µs  decompress µs  compress µs  of step   GB/s   chunk µs  of steps  ragged µs"
    );
    for preset in argument("--presets", "float16,gear-4,gear-3,gear-2").split(',') {
        let cache = cache(preset, tokens)?;
        let (key, value) = (cache.tensor(0, Role::Key)?, cache.tensor(0, Role::Value)?);
        for batch in argument("--batches", "1,8,32").split(',') {
            let batch: usize = batch.parse()?;
            let upload = || DeviceLayer::upload_repeated(&kernels, &stream, key, value, 4096, batch);
            let first = upload()?;
            let read = first.bytes_read();
            let mut layers = vec![first];
            while layers.len() * read < ROTATED_BYTES {
                layers.push(upload()?);
            }
            let options = AttendOptions::new(QUERY_HEADS);
            let q = stream.clone_htod(&rows(batch * QUERY_HEADS, 5))?;
            let mut out = stream.alloc_zeros::<f32>(batch * QUERY_HEADS * DIM)?;
            let mut workspace = Workspace::default();
            let attend = time(&stream, rounds, |i| {
                layers[i % layers.len()].attend(&stream, &mut workspace, &q, &options, &mut out)
            })?;
            let decompressed = {
                let mut all = stream.alloc_zeros::<f32>(batch * HEADS * tokens * DIM)?;
                let n = layers.len();
                time(&stream, 1, |i| layers[i % n].decompress(&stream, Role::Value, &mut all))?
            };
            let visible: Vec<u32> = (0..batch).flat_map(|b| [(b % 2 * tokens / 2) as u32, tokens as u32]).collect();
            let visible = stream.clone_htod(&visible)?;
            let ragged = time(&stream, rounds, |i| {
                let layer = &layers[i % layers.len()];
                layer.attend_ragged(&stream, &mut workspace, &q, 1, &visible, &options, &mut out)
            })?;
            let chunk = if batch <= chunk_batch {
                let q = stream.clone_htod(&rows(batch * QUERY_HEADS * positions, 8))?;
                let mut out = stream.alloc_zeros::<f32>(q.len())?;
                let took = time(&stream, 1, |i| {
                    layers[i % layers.len()].attend_chunk(&stream, &mut workspace, &q, positions, &options, &mut out)
                })?;
                Some(took)
            } else {
                None
            };
            let segment = time_segments(&stream, &mut layers[0], batch * HEADS)?;
            let token = stream.clone_htod(&rows(batch * HEADS, 6))?;
            let append = {
                // As many as there is room for, so that none has to grow.
                let start = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
                for _ in 0..4000 {
                    layers[0].append::<f32>(&stream, &token, &token, 1)?;
                }
                let end = stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))?;
                stream.synchronize()?;
                start.elapsed_ms(&end)? / 4.0
            };
            let gigabytes = read as f32 / attend / 1000.0;
            let float16 = 2.0 * (2 * batch * HEADS * tokens * DIM) as f32;
            let or_none = |x: Option<f32>, digits: usize| x.map_or("-".to_owned(), |x| format!("{x:.digits$}"));
            let of_segment = (2 * batch * HEADS * 64 * DIM * 2) as f32;
            println!(
                "{preset:8} {batch:6} {:11.1} {:11.3} {attend:10.1} {gigabytes:6.0} {:8.2} {append:10.2} {decompressed:14.0} {:>12} {:>8} {:>6} {:>10} {:>9} {ragged:10.1}",
                read as f32 / 1_048_576.0,
                read as f32 / float16,
                gigabytes / rate,
                or_none(segment, 1),
                or_none(segment.map(|segment| segment / 64.0 / attend), 4),
                or_none(segment.map(|segment| of_segment / segment / 1000.0), 0),
                or_none(chunk, 0),
                or_none(chunk.map(|chunk| chunk / attend / positions as f32), 3),
            );
        }
    }
    Ok(())
}
