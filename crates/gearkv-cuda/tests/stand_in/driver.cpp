// A libcuda.so.1 that runs the kernels on the CPU: enough of the driver for cudarc, so that the same Rust code runs from end to end on
// machines without a GPU. Memory has a margin that is checked, and starts as bytes that are no number. Environment:
// GEARKV_STAND_IN_ORDER = 0, 1 or 2, the order in which threads take turns (on_cpu.hpp); GEARKV_STAND_IN_MEMORY, how many bytes there are;
// GEARKV_STAND_IN_VERSION, as 11080 for CUDA 11.8; GEARKV_STAND_IN_GPUS = 0, a driver without a GPU.
#include <map>
#include <mutex>
#include <string>

#include "gear.cu"

namespace {

typedef int Result;
typedef unsigned long long Address;
typedef void* Handle;

struct Function {
    std::function<void(void**, dim3, dim3, size_t, cpu::Order)> launch;
};
std::map<std::string, Function> functions;
std::map<Address, size_t> allocations;
std::mutex allocating; // tests run on several threads
thread_local Handle current;

constexpr size_t MARGIN = 256;
constexpr int NOT_FOUND = 500, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, NO_DEVICE = 100;

template <class Argument>
void add(const char* name, void (*kernel)(Argument)) {
    functions[name] = {[kernel](void** arguments, dim3 grid, dim3 size, size_t shared, cpu::Order order) {
        Argument argument = *(Argument*)arguments[0];
        cpu::launch(grid, size, shared, order, [&] { kernel(argument); });
    }};
}

cpu::Order order() {
    const char* given = std::getenv("GEARKV_STAND_IN_ORDER");
    return given ? (cpu::Order)std::atoi(given) : cpu::FORWARD;
}

void check_margins() {
    std::lock_guard<std::mutex> guard(allocating);
    for (auto& [at, bytes] : allocations)
        for (size_t i = 0; i < MARGIN; i++)
            if (((u8*)at)[bytes + i] != 0xee) cpu::fail("something was written behind the end of an allocation");
}

void add_all() {
    add("gear_attend_64", gear_attend_64);
    add("gear_attend_128", gear_attend_128);
    add("gear_attend_256", gear_attend_256);
    add("gear_attend_plain_64", gear_attend_plain_64);
    add("gear_attend_plain_128", gear_attend_plain_128);
    add("gear_attend_plain_256", gear_attend_plain_256);
    add("gear_attend_tile_64", gear_attend_tile_64);
    add("gear_attend_tile_128", gear_attend_tile_128);
    add("gear_attend_tile_256", gear_attend_tile_256);
    add("gear_combine", gear_combine);
    add("gear_append", gear_append);
    add("gear_decompress", gear_decompress);
    add("gear_mark", gear_mark);
    add("gear_survey", gear_survey);
    add("gear_compress", gear_compress);
    add("gear_move_up", gear_move_up);
}

} // namespace

extern "C" {
Result cuInit(unsigned) {
    static std::once_flag once;
    std::call_once(once, add_all);
    const char* gpus = std::getenv("GEARKV_STAND_IN_GPUS");
    return gpus && *gpus == '0' ? NO_DEVICE : 0;
}
Result cuDriverGetVersion(int* version) {
    const char* given = std::getenv("GEARKV_STAND_IN_VERSION");
    return *version = given ? std::atoi(given) : 12000, 0;
}
Result cuDeviceGetCount(int* count) { return *count = 1, 0; }
Result cuDeviceGet(int* device, int ordinal) { return *device = 0, ordinal == 0 ? 0 : 101; }
Result cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, (size_t)length, "stand-in"), 0; }
Result cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
    case 75: *value = 8; break;            // compute capability, major
    case 76: *value = 0; break;            // minor
    case 16: *value = 3; break;            // multiprocessors
    case 81: *value = 164 << 10; break;    // shared memory of a multiprocessor
    case 97: *value = 163 << 10; break;    // that a block may have
    default: *value = 0;
    }
    return 0;
}
Result cuDevicePrimaryCtxRetain(Handle* context, int) { return *context = (Handle)1, 0; }
Result cuDevicePrimaryCtxRelease_v2(int) { return 0; }
Result cuCtxSetCurrent(Handle context) { return current = context, 0; }
Result cuCtxGetCurrent(Handle* context) { return *context = current, 0; }
Result cuCtxSynchronize() { return 0; }
Result cuStreamCreate(Handle* stream, unsigned) { return *stream = (Handle)2, 0; }
Result cuStreamDestroy_v2(Handle) { return 0; }
Result cuStreamSynchronize(Handle) { return 0; }
Result cuStreamWaitEvent(Handle, Handle, unsigned) { return 0; }
Result cuEventCreate(Handle* event, unsigned) { return *event = (Handle)3, 0; }
Result cuEventDestroy_v2(Handle) { return 0; }
Result cuEventRecord(Handle, Handle) { return 0; }
Result cuEventSynchronize(Handle) { return 0; }
Result cuEventQuery(Handle) { return 0; }
Result cuEventElapsedTime(float* milliseconds, Handle, Handle) { return *milliseconds = 20.0f, 0; }
Result cuMemAlloc_v2(Address* address, size_t bytes) {
    if (const char* given = std::getenv("GEARKV_STAND_IN_MEMORY")) {
        std::lock_guard<std::mutex> guard(allocating);
        size_t taken = bytes;
        for (auto& [at, held] : allocations) taken += held;
        if (taken > std::strtoull(given, nullptr, 10)) return OUT_OF_MEMORY;
    }
    void* at = std::malloc(bytes + MARGIN);
    if (!at) return OUT_OF_MEMORY;
    std::memset(at, 0xff, bytes);
    std::memset((u8*)at + bytes, 0xee, MARGIN);
    std::lock_guard<std::mutex> guard(allocating);
    allocations[*address = (Address)at] = bytes;
    return 0;
}
Result cuMemAllocAsync(Address* address, size_t bytes, Handle) { return cuMemAlloc_v2(address, bytes); }
Result cuMemFree_v2(Address address) {
    check_margins();
    std::lock_guard<std::mutex> guard(allocating);
    allocations.erase(address);
    std::free((void*)address);
    return 0;
}
Result cuMemFreeAsync(Address address, Handle) { return cuMemFree_v2(address); }
Result cuMemcpyHtoD_v2(Address to, const void* from, size_t bytes) { return std::memcpy((void*)to, from, bytes), 0; }
Result cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Handle) { return cuMemcpyHtoD_v2(to, from, bytes); }
Result cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Handle) { return std::memcpy(to, (void*)from, bytes), 0; }
Result cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle) { return cuMemcpyHtoD_v2(to, (void*)from, bytes); }
Result cuMemsetD8_v2(Address to, unsigned char value, size_t bytes) { return std::memset((void*)to, value, bytes), 0; }
Result cuMemsetD8Async(Address to, unsigned char value, size_t bytes, Handle) { return cuMemsetD8_v2(to, value, bytes); }
Result cuModuleLoadData(Handle* module, const void* image) {
    auto* source = new std::string((const char*)image);
    *module = source;
    return source->find(".version") == std::string::npos ? INVALID_IMAGE : 0;
}
Result cuModuleUnload(Handle module) {
    delete (std::string*)module;
    return 0;
}
// Only what the PTX has, too.
Result cuModuleGetFunction(Handle* function, Handle module, const char* name) {
    auto found = functions.find(name);
    bool there = ((std::string*)module)->find(std::string(".entry ") + name + "(") != std::string::npos;
    if (!there || found == functions.end()) return NOT_FOUND;
    return *function = (Handle)&found->second, 0;
}
Result cuFuncSetAttribute(Handle, int, int) { return 0; }
Result cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      Handle, void** arguments, void**) {
    if (bx * by * bz > 1024 || !bx || !by || !bz || !gx || !gy || !gz || gy > 65535 || gz > 65535 || shared > 163 << 10) return INVALID_VALUE;
    ((Function*)function)->launch(arguments, {gx, gy, gz}, {bx, by, bz}, shared, order());
    check_margins();
    return 0;
}
Result cuGetErrorName(Result, const char** name) { return *name = "STAND_IN_ERROR", 0; }
Result cuGetErrorString(Result, const char** text) { return *text = "an error of the stand-in for a driver", 0; }
}
