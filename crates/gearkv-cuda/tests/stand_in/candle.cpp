// The stand-in for programs that are linked with the driver and with NVIDIA's libraries, as candle is (scripts/cuda/engine): what candle asks of
// these, and of its own kernels those that a model in float32 needs, written anew for one thread. Arguments are as candle 0.9.2 passes them.
#include <cmath>

#include "driver.cpp"

namespace {

template <class T>
T argument(void** arguments, int i) {
    return *(T*)arguments[i];
}

void kernel(const char* name, std::function<void(void**, dim3)> run) {
    functions[name] = {[run](void** arguments, dim3 grid, dim3, size_t, cpu::Order) { run(arguments, grid); }};
}

// Where the i-th element lies; `info` has the extents and behind them the strides, or is null where elements are neighbours.
size_t place(size_t i, size_t axes, const size_t* info, size_t operand = 1) {
    if (!info) return i;
    size_t at = 0;
    for (size_t axis = axes; axis-- > 0; i /= info[axis]) at += i % info[axis] * info[operand * axes + axis];
    return at;
}

template <class F>
void unary(const char* name, F f) {
    kernel(name, [f](void** a, dim3) {
        auto in = argument<const float*>(a, 3);
        for (size_t i = 0; i < argument<size_t>(a, 0); i++)
            argument<float*>(a, 4)[i] = f(in[place(i, argument<size_t>(a, 1), argument<const size_t*>(a, 2))]);
    });
}

template <class F>
void binary(const char* name, F f) {
    kernel(name, [f](void** a, dim3) {
        auto axes = argument<size_t>(a, 1);
        auto info = argument<const size_t*>(a, 2);
        auto left = argument<const float*>(a, 3), right = argument<const float*>(a, 4);
        for (size_t i = 0; i < argument<size_t>(a, 0); i++)
            argument<float*>(a, 5)[i] = f(left[place(i, axes, info)], right[place(i, axes, info, 2)]);
    });
}

void copy_rows(void** a, dim3) {
    auto from = argument<const float*>(a, 0);
    auto to = argument<float*>(a, 1);
    size_t rows = argument<unsigned>(a, 2), columns = argument<unsigned>(a, 3);
    size_t from_stride = argument<unsigned>(a, 4), to_stride = argument<unsigned>(a, 5);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) to[i * to_stride + j] = from[i * from_stride + j];
}

void rms_norm(void** a, dim3 grid) {
    size_t columns = (size_t)argument<int>(a, 3);
    for (size_t row = 0; row < grid.x; row++) {
        auto in = argument<const float*>(a, 0) + row * columns;
        auto out = argument<float*>(a, 1) + row * columns;
        float squares = 0;
        for (size_t i = 0; i < columns; i++) squares += in[i] * in[i];
        float scale = 1 / std::sqrt(squares / (float)columns + argument<float>(a, 5));
        for (size_t i = 0; i < columns; i++) out[i] = in[i] * scale * argument<const float*>(a, 2)[i];
    }
}

// Pairs of neighbours, or of channels half a head apart.
void rotate(void** a, bool neighbours) {
    auto in = argument<const float*>(a, 0), cos = argument<const float*>(a, 1), sin = argument<const float*>(a, 2);
    auto out = argument<float*>(a, 3);
    size_t planes = argument<unsigned>(a, 4), plane = argument<unsigned>(a, 5);
    size_t dim = neighbours ? plane : argument<unsigned>(a, 6), half = dim / 2;
    if (argument<unsigned>(a, neighbours ? 6 : 7) != 0) cpu::fail("rotations differ between batch items");
    for (size_t p = 0; p < planes; p++)
        for (size_t pair = 0; pair < plane / 2; pair++) {
            size_t t = pair / half, i = pair % half;
            size_t first = p * plane + (neighbours ? 2 * pair : t * dim + i), second = first + (neighbours ? 1 : half);
            out[first] = in[first] * cos[pair] - in[second] * sin[pair];
            out[second] = in[first] * sin[pair] + in[second] * cos[pair];
        }
}

int added = [] {
    unary("ucopy_f32", [](float x) { return x; });
    unary("usilu_f32", [](float x) { return x / (1 + std::exp(-x)); });
    unary("ugelu_f32", [](float x) { return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x))); });
    binary("badd_f32", [](float x, float y) { return x + y; });
    binary("bmul_f32", [](float x, float y) { return x * y; });
    kernel("copy2d_f32", copy_rows);
    kernel("rmsnorm_f32", rms_norm);
    kernel("rope_i_f32", [](void** a, dim3) { rotate(a, true); });
    kernel("rope_f32", [](void** a, dim3) { rotate(a, false); });
    return 0;
}();

constexpr int NOT_SUPPORTED = 15;

} // namespace

extern "C" {
Result cuCtxDestroy_v2(Handle) { return 0; }
Result cuMemcpyPeerAsync(Address, Handle, Address, Handle, size_t, Handle) { return NOT_FOUND; }
Result cuModuleLoad(Handle*, const char*) { return NOT_FOUND; }

int cublasCreate_v2(Handle* handle) { return *handle = &functions, 0; }
int cublasDestroy_v2(Handle) { return 0; }
int cublasSetStream_v2(Handle, Handle) { return 0; }
int cublasDgemmStridedBatched(...) { return NOT_SUPPORTED; }
// Matrices are column by column; types are 0 for float32.
int cublasGemmStridedBatchedEx(Handle, int turn_a, int turn_b, int m, int n, int k, const float* alpha, const float* a, int type_a, int lda,
                               long long stride_a, const float* b, int type_b, int ldb, long long stride_b, const float* beta, float* c,
                               int type_c, int ldc, long long stride_c, int batch, int, int) {
    if (type_a != 0 || type_b != 0 || type_c != 0 || *beta != 0) return NOT_SUPPORTED;
    for (; batch-- > 0; a += stride_a, b += stride_b, c += stride_c)
        for (long j = 0; j < n; j++)
            for (long i = 0; i < m; i++) {
                double sum = 0;
                for (long l = 0; l < k; l++)
                    sum += (double)(turn_a ? a[i * lda + l] : a[l * lda + i]) * (turn_b ? b[l * ldb + j] : b[j * ldb + l]);
                c[j * ldc + i] = *alpha * (float)sum;
            }
    return 0;
}
int curandCreateGenerator(Handle* generator, int) { return *generator = &functions, 0; }
int curandDestroyGenerator(Handle) { return 0; }
int curandSetPseudoRandomGeneratorSeed(Handle, unsigned long long) { return 0; }
int curandSetStream(Handle, Handle) { return 0; }
}
