// The kernels, by name. src/kernels.rs launches them; scripts/cuda/ptx.py makes PTX of this file.
#include "append.cuh"
#include "attend.cuh"
#include "attend_tile.cuh"
#include "combine.cuh"
#include "compress_values.cuh"
#include "decompress.cuh"

#ifdef __CUDA_ARCH__
#define BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define KERNEL extern "C" __global__ void
#else
#define BOUNDS(threads, blocks)
#define KERNEL extern "C" void
#endif

// How many plain thread blocks, and such with tiles, a multiprocessor shall hold: with more, registers do not suffice.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define PLAIN_RESIDENT 3
#define TILE_RESIDENT 2
#else
#define PLAIN_RESIDENT 4
#define TILE_RESIDENT 3
#endif

// Named by the most channels of a head of values, with padding.
KERNEL BOUNDS(128, 3) gear_attend_64(Attention a) { attend<1, false>(a); }
KERNEL BOUNDS(128, 2) gear_attend_128(Attention a) { attend<2, false>(a); }
KERNEL BOUNDS(128, 2) gear_attend_256(Attention a) { attend<4, false>(a); }
KERNEL BOUNDS(128, PLAIN_RESIDENT) gear_attend_plain_64(Attention a) { attend<1, true>(a); }
KERNEL BOUNDS(128, PLAIN_RESIDENT) gear_attend_plain_128(Attention a) { attend<2, true>(a); }
KERNEL BOUNDS(128, 2) gear_attend_plain_256(Attention a) { attend<4, true>(a); }
// By the most channels of a head.
KERNEL BOUNDS(128, TILE_RESIDENT) gear_attend_tile_64(Attention a) { attend_tile<64>(a); }
KERNEL BOUNDS(128, TILE_RESIDENT) gear_attend_tile_128(Attention a) { attend_tile<128>(a); }
KERNEL BOUNDS(128, 2) gear_attend_tile_256(Attention a) { attend_tile<256>(a); }
KERNEL BOUNDS(1024, 1) gear_combine(Attention a) { combine(a); }
KERNEL BOUNDS(256, 4) gear_append(Appending a) { append(a); }
KERNEL BOUNDS(128, 4) gear_decompress(Decompression a) { decompress(a); }
KERNEL BOUNDS(256, 4) gear_mark(Compression a) { mark_outliers(a); }
KERNEL BOUNDS(256, 2) gear_survey(Compression a) { survey_values(a); }
KERNEL BOUNDS(256, 2) gear_compress(Compression a) { compress(a); }
KERNEL BOUNDS(256, 4) gear_move_up(Compression a) { move_up(a); }
