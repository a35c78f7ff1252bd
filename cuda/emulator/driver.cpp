// A CUDA driver without a GPU: the functions of libcuda.so that denoir-cuda calls, over kernels that were compiled for this
// processor. A stream does as little as it may: what it is asked for happens when someone waits for it, on the waiting
// thread; while it captures, it is kept in a graph. Device memory is memory of the process that starts and ends as NaN.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <dlfcn.h>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "launch.h"

using emulator::Index;

namespace {

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_CONTEXT = 201,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_UNMATCHED = 903,
};

// What cubins of every architecture and PTX hold; more arguments than any kernel has.
const u32 PARAMETER_BYTES = 160;
// Shared memory of a block on the smallest of the devices that the kernels are compiled for.
const u32 MOST_SHARED = 99 << 10;
const u32 DEFAULT_SHARED = 48 << 10;
const u64 DEVICE_BYTES = 4ull << 30;

// A kernel of a module, with the shared memory that it may have.
struct Function {
    void (*entry)(const void*);
    u32 most_shared = DEFAULT_SHARED;
};

struct Module {
    std::string image;
    std::vector<Function*> functions;
};

struct Stream;

// When it was recorded, and where to wait for that. Times here mean nothing but their order.
struct Event {
    std::chrono::steady_clock::time_point at;
    bool recorded = false;
    Stream* stream = nullptr;
    u32 pending = 0;
};

// A kernel, or an event between kernels.
struct Launch {
    Function* function;
    Index grid, block;
    u32 shared;
    u8 args[PARAMETER_BYTES];
    Event* event;
};

struct Graph {
    std::vector<Launch> launches;
};

struct Stream {
    void* context;
    Graph* capture = nullptr;
    std::deque<std::function<void()>> pending;

    void step() {
        std::function<void()> work = std::move(pending.front());
        pending.pop_front();
        work();
    }

    void finish() {
        while (!pending.empty()) step();
    }
};

std::mutex lock;
// Live allocations: what is freed twice, or never, is seen.
std::set<const void*> live;
u64 allocated = 0, most_allocated = 0;
u64 primary_holders = 0;
thread_local std::vector<void*> contexts;
thread_local bool discrete = false;
// Ten times the compute capability; Orin's.
u64 capability = 87;

void run(const Launch& launch) {
    if (launch.event != nullptr) {
        launch.event->at = std::chrono::steady_clock::now();
        launch.event->recorded = true;
        return;
    }
    emulator::launch(launch.function->entry, launch.args, launch.grid, launch.block, launch.shared);
}

// Keeps a launch for later, in a graph where the stream captures. The default stream does everything at once.
Result enqueue(Stream* stream, const Launch& launch) {
    if (stream == nullptr) run(launch);
    else if (stream->capture) stream->capture->launches.push_back(launch);
    else stream->pending.push_back([launch] { run(launch); });
    return SUCCESS;
}

Result launch(Function* function, Index grid, Index block, u32 shared, Stream* stream, void** parameters) {
    bool empty = grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x * block.y * block.z == 0;
    if (empty || grid.y > 65535 || grid.z > 65535 || shared > function->most_shared) return INVALID_VALUE;
    Launch launch = {function, grid, block, shared, {}, nullptr};
    memcpy(launch.args, parameters[0], PARAMETER_BYTES);
    return enqueue(stream, launch);
}

template <class T>
T* made(T* object) {
    std::lock_guard<std::mutex> guard(lock);
    live.insert(object);
    return object;
}

// Whether an object is alive; it no longer is.
bool gone(const void* object) {
    std::lock_guard<std::mutex> guard(lock);
    return live.erase(object) == 1;
}

// Allocations start with their size, on a line of their own.
const u64 HEADER = 256;

bool allocate(u64 bytes, void** at, bool device) {
    if (device) {
        std::lock_guard<std::mutex> guard(lock);
        if (allocated + bytes > DEVICE_BYTES) return false;
        allocated += bytes;
        if (allocated > most_allocated) most_allocated = allocated;
    }
    u8* memory = static_cast<u8*>(aligned_alloc(HEADER, HEADER + (bytes + HEADER - 1) / HEADER * HEADER));
    if (memory == nullptr) return false;
    memcpy(memory, &bytes, sizeof bytes);
    if (device) memset(memory + HEADER, 0xff, bytes);
    *at = made(memory + HEADER);
    return true;
}

Result release(void* at, bool device) {
    if (!gone(at)) return INVALID_VALUE;
    u8* memory = static_cast<u8*>(at) - HEADER;
    u64 bytes;
    memcpy(&bytes, memory, sizeof bytes);
    // What a stream still does with it is seen.
    memset(memory + HEADER, 0xff, bytes);
    free(memory);
    std::lock_guard<std::mutex> guard(lock);
    if (device) allocated -= bytes;
    return SUCCESS;
}

}  // namespace

extern "C" {

// For tests: objects that are alive, and the most memory that was allocated since the last call.
u64 emulator_live() {
    std::lock_guard<std::mutex> guard(lock);
    return live.size();
}

u64 emulator_peak() {
    std::lock_guard<std::mutex> guard(lock);
    u64 peak = most_allocated;
    most_allocated = allocated;
    return peak;
}

void emulator_reverse(u64 order) { emulator::reverse(order != 0); }

// Whether devices that are opened next have memory of their own.
void emulator_discrete(u64 yes) { discrete = yes != 0; }

// What the device is from now on.
void emulator_capability(u64 tenfold) { capability = tenfold; }

Result cuInit(u32) { return SUCCESS; }

Result cuDriverGetVersion(int* version) {
    *version = 12060;
    return SUCCESS;
}

Result cuDeviceGetCount(int* count) {
    *count = 1;
    return SUCCESS;
}

Result cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

Result cuDeviceGetName(char* name, int len, int) {
    snprintf(name, (size_t)len, "emulated on the processor");
    return SUCCESS;
}

Result cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 16: *value = 8; break;                 // multiprocessors
        case 18: *value = discrete ? 0 : 1; break;  // integrated, as Orin is
        case 38: *value = 16 << 10; break;          // second-level cache
        case 75: *value = (int)capability / 10; break;
        case 76: *value = (int)capability % 10; break;
        case 81: *value = 164 << 10; break;         // shared memory of a multiprocessor
        case 97: *value = MOST_SHARED; break;       // shared memory of a block
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}

Result cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = DEVICE_BYTES;
    return SUCCESS;
}

// One lives as long as somebody holds it.
Result cuDevicePrimaryCtxRetain(void** context, int) {
    std::lock_guard<std::mutex> guard(lock);
    if (primary_holders++ == 0) live.insert(&primary_holders);
    *context = &primary_holders;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRelease_v2(int) {
    std::lock_guard<std::mutex> guard(lock);
    if (primary_holders == 0) return INVALID_CONTEXT;
    if (--primary_holders == 0) live.erase(&primary_holders);
    return SUCCESS;
}

Result cuCtxGetDevice(int* device) {
    *device = 0;
    return contexts.empty() ? INVALID_CONTEXT : SUCCESS;
}

Result cuCtxPushCurrent_v2(void* context) {
    contexts.push_back(context);
    return SUCCESS;
}

Result cuCtxSetCurrent(void* context) {
    if (!contexts.empty()) contexts.pop_back();
    if (context != nullptr) contexts.push_back(context);
    return SUCCESS;
}

Result cuCtxPopCurrent_v2(void** context) {
    if (contexts.empty()) return INVALID_CONTEXT;
    *context = contexts.back();
    contexts.pop_back();
    return SUCCESS;
}

Result cuModuleLoadData(Module** module, const void* image) {
    const char* start = static_cast<const char*>(image);
    bool elf = memcmp(start, "\x7f" "ELF", 4) == 0;
    if (!elf && strstr(start, ".target sm_80") == nullptr) return INVALID_IMAGE;
    *module = made(new Module());
    return contexts.empty() ? INVALID_CONTEXT : SUCCESS;
}

Result cuModuleUnload(Module* module) {
    if (!gone(module)) return INVALID_VALUE;
    for (Function* function : module->functions) delete function;
    delete module;
    return SUCCESS;
}

Result cuModuleGetFunction(Function** function, Module* module, const char* name) {
    static void* self = [] {
        Dl_info info;
        dladdr(reinterpret_cast<void*>(cuInit), &info);
        return dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_NOW);
    }();
    void* entry = dlsym(self, name);
    if (entry == nullptr) return NOT_FOUND;
    *function = new Function{reinterpret_cast<void (*)(const void*)>(entry)};
    module->functions.push_back(*function);
    return SUCCESS;
}

Result cuFuncSetAttribute(Function* function, int attribute, int value) {
    if (attribute != 8 || value < 0 || (u32)value > MOST_SHARED) return INVALID_VALUE;
    function->most_shared = (u32)value;
    return SUCCESS;
}

Result cuStreamCreate(Stream** stream, u32) {
    if (contexts.empty()) return INVALID_CONTEXT;
    *stream = made(new Stream{contexts.back(), nullptr, {}});
    return SUCCESS;
}

Result cuStreamGetCtx(Stream* stream, void** context) {
    *context = stream->context;
    return SUCCESS;
}

Result cuStreamDestroy_v2(Stream* stream) {
    if (!gone(stream)) return INVALID_VALUE;
    stream->finish();
    delete stream;
    return SUCCESS;
}

Result cuStreamSynchronize(Stream* stream) {
    if (stream == nullptr) return SUCCESS;
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    stream->finish();
    return SUCCESS;
}

Result cuMemGetInfo_v2(size_t* free, size_t* all) {
    std::lock_guard<std::mutex> guard(lock);
    *all = DEVICE_BYTES;
    *free = DEVICE_BYTES - allocated;
    return SUCCESS;
}

Result cuMemAlloc_v2(void** at, size_t bytes) {
    if (contexts.empty()) return INVALID_CONTEXT;
    if (bytes == 0) return INVALID_VALUE;
    return allocate(bytes, at, true) ? SUCCESS : OUT_OF_MEMORY;
}

Result cuMemFree_v2(void* at) { return release(at, true); }

Result cuMemHostAlloc(void** at, size_t bytes, u32) {
    if (contexts.empty()) return INVALID_CONTEXT;
    return allocate(bytes, at, false) ? SUCCESS : OUT_OF_MEMORY;
}

Result cuMemFreeHost(void* at) { return release(at, false); }

Result cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t bytes, Stream* stream) {
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    stream->pending.push_back([=] { memcpy(to, from, bytes); });
    return SUCCESS;
}

Result cuMemsetD8Async(void* at, u8 byte, size_t bytes, Stream* stream) {
    stream->pending.push_back([=] { memset(at, byte, bytes); });
    return SUCCESS;
}

Result cuMemcpyHtoD_v2(void* to, const void* from, size_t bytes) {
    memcpy(to, from, bytes);
    return SUCCESS;
}

Result cuMemcpyDtoH_v2(void* to, const void* from, size_t bytes) { return cuMemcpyHtoD_v2(to, from, bytes); }

// To memory that is not page-locked: done on return.
Result cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t bytes, Stream* stream) {
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    stream->finish();
    return cuMemcpyDtoH_v2(to, from, bytes);
}

// As cuda.h has them.
struct LaunchAttribute {
    int id;
    char pad[4];
    int value[16];
};

struct LaunchConfig {
    Index grid, block;
    u32 shared;
    Stream* stream;
    LaunchAttribute* attributes;
    u32 count;
};

// Kernels that may overlap run one after the other here; a device whose kernels do not wait takes no such launch.
Result cuLaunchKernelEx(const LaunchConfig* config, Function* function, void** parameters, void**) {
    bool overlaps = config->count == 1 && config->attributes[0].id == 6 && config->attributes[0].value[0] == 1;
    if (overlaps != (capability >= 90) || config->count > 1) return INVALID_VALUE;
    return launch(function, config->grid, config->block, config->shared, config->stream, parameters);
}

// For programs that launch kernels one by one.
Result cuLaunchKernel(Function* function, u32 grid_x, u32 grid_y, u32 grid_z, u32 block_x, u32 block_y, u32 block_z,
                      u32 shared, Stream* stream, void** parameters, void**) {
    return launch(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared, stream, parameters);
}

Result cuEventCreate(Event** event, u32) {
    if (contexts.empty()) return INVALID_CONTEXT;
    *event = made(new Event());
    return SUCCESS;
}

Result cuEventDestroy_v2(Event* event) {
    if (!gone(event)) return INVALID_VALUE;
    delete event;
    return SUCCESS;
}

Result cuEventRecordWithFlags(Event* event, Stream* stream, u32) {
    const Launch record = {nullptr, {}, {}, 0, {}, event};
    if (stream == nullptr || stream->capture) return enqueue(stream, record);
    event->stream = stream;
    ++event->pending;
    stream->pending.push_back([=] {
        run(record);
        --event->pending;
    });
    return SUCCESS;
}

Result cuEventRecord(Event* event, Stream* stream) { return cuEventRecordWithFlags(event, stream, 0); }

Result cuEventSynchronize(Event* event) {
    while (event->pending > 0) event->stream->step();
    return SUCCESS;
}

Result cuEventElapsedTime(float* milliseconds, Event* from, Event* to) {
    if (!from->recorded || !to->recorded) return INVALID_HANDLE;
    *milliseconds = std::chrono::duration<float, std::milli>(to->at - from->at).count();
    return SUCCESS;
}

Result cuProfilerStart() { return SUCCESS; }

Result cuProfilerStop() { return SUCCESS; }

Result cuStreamBeginCapture_v2(Stream* stream, int) {
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    stream->capture = made(new Graph());
    return SUCCESS;
}

Result cuStreamEndCapture(Stream* stream, Graph** graph) {
    if (!stream->capture) return CAPTURE_UNMATCHED;
    *graph = stream->capture;
    stream->capture = nullptr;
    return SUCCESS;
}

Result cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    *executable = made(new Graph(*graph));
    return SUCCESS;
}

Result cuGraphLaunch(Graph* executable, Stream* stream) {
    if (stream->capture) return CAPTURE_UNSUPPORTED;
    stream->pending.push_back([launches = executable->launches] {
        for (const Launch& launch : launches) run(launch);
    });
    return SUCCESS;
}

Result cuGraphExecDestroy(Graph* executable) {
    if (!gone(executable)) return INVALID_VALUE;
    delete executable;
    return SUCCESS;
}

Result cuGraphDestroy(Graph* graph) { return cuGraphExecDestroy(graph); }
}
