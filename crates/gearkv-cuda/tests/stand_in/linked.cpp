// The stand-in for programs that are linked with the driver and with NVIDIA's libraries, as candle is (scripts/cuda/engine): what they ask of
// these before the first product. There are no products.
#include "driver.cpp"

extern "C" {
Result cuCtxDestroy_v2(Handle) { return 0; }
Result cuMemcpyPeerAsync(Address, Handle, Address, Handle, size_t, Handle) { return NOT_FOUND; }
Result cuModuleLoad(Handle*, const char*) { return NOT_FOUND; }

int cublasCreate_v2(Handle* handle) { return *handle = &functions, 0; }
int cublasDestroy_v2(Handle) { return 0; }
int cublasSetStream_v2(Handle, Handle) { return 0; }
int curandCreateGenerator(Handle* generator, int) { return *generator = &functions, 0; }
int curandDestroyGenerator(Handle) { return 0; }
int curandSetPseudoRandomGeneratorSeed(Handle, unsigned long long) { return 0; }
int curandSetStream(Handle, Handle) { return 0; }
}
