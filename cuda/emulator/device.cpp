// Fibers, and what the lanes of a warp do together.
#include "../kernels/device.cuh"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <ucontext.h>
#include <vector>

#include "launch.h"

namespace emulator {
namespace {

const u32 STACK_BYTES = 64 << 10;
const u32 GUARD_BYTES = 64;
// Turns without progress before a block counts as stuck.
const u32 PATIENCE = 1 << 20;

struct Copy {
    void* to;
    const void* from;
    u32 live;
};

struct Fiber {
    jmp_buf place;
    std::unique_ptr<u8[]> stack;
    Index index;
    u32 number;
    bool begun, done;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
};

// Threads that wait for each other: those of a warp or of a block.
struct Barrier {
    u32 live, arrived;
    u64 generation;
};

struct Warp {
    Barrier barrier;
    Slot slots[2][32];
};

// A block under way on this thread of the system.
struct Block {
    Index index, grid;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<std::unique_ptr<Warp>> warps;
    Barrier barrier;
    u32 threads;
    Fiber* now;
    jmp_buf launcher;
    void (*kernel)(const void*);
    const void* args;
    std::vector<u8> memory;
    u8* shared;
};

thread_local Block block;
// Whether threads take turns from the last to the first.
thread_local bool reversed = false;

void run_fiber();

// Leaves a fiber for another; returns when somebody comes back.
__attribute__((noinline)) void change(jmp_buf& from, Fiber& to) {
    if (_setjmp(from) != 0) return;
    block.now = &to;
    if (to.begun) _longjmp(to.place, 1);
    to.begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = to.stack.get();
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, run_fiber, 0);
    setcontext(&context);
}

// The next thread of first..first + count that is not done, after this one.
Fiber* next(u32 number, u32 first, u32 count) {
    for (u32 i = 1; i <= count; ++i) {
        Fiber* fiber = block.fibers[first + (number - first + (reversed ? count - i : i)) % count].get();
        if (!fiber->done) return fiber;
    }
    return nullptr;
}

void release(Barrier& barrier) {
    barrier.arrived = 0;
    ++barrier.generation;
}

void wait(Barrier& barrier, u32 first, u32 count) {
    Fiber* me = block.now;
    u64 generation = barrier.generation;
    for (u32 turns = 0; barrier.generation == generation; ++turns) {
        if (turns > PATIENCE) undefined("threads that wait for others which do not come");
        change(me->place, *next(me->number, first, count));
    }
}

void run_fiber() {
    for (;;) {
        block.kernel(block.args);
        Fiber* me = block.now;
        me->done = true;
        Warp& warp = *block.warps[me->number / 32];
        if (--warp.barrier.live > 0 && warp.barrier.arrived == warp.barrier.live) undefined("a warp that lost lanes");
        if (--block.barrier.live > 0 && block.barrier.arrived == block.barrier.live) release(block.barrier);
        Fiber* other = next(me->number, 0, block.threads);
        if (other == nullptr) {
            if (_setjmp(me->place) == 0) _longjmp(block.launcher, 1);
        } else {
            change(me->place, *other);
        }
    }
}

void run_block(Index index, Index shape, u32 shared_bytes) {
    block.index = index;
    block.memory.assign(shared_bytes + GUARD_BYTES + 16, 0xff);
    block.shared = block.memory.data() + (16 - (uintptr_t)block.memory.data() % 16) % 16;
    block.barrier = {block.threads, 0, 0};
    for (u32 w = 0; w < (block.threads + 31) / 32; ++w) {
        block.warps[w]->barrier = {w * 32 + 32 <= block.threads ? 32 : block.threads % 32, 0, 0};
    }
    for (u32 i = 0; i < block.threads; ++i) {
        Fiber& fiber = *block.fibers[i];
        fiber.done = false;
        fiber.index = {i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
        fiber.open.clear();
        fiber.groups.clear();
    }
    change(block.launcher, *block.fibers[reversed ? block.threads - 1 : 0]);
    for (u32 i = 0; i < GUARD_BYTES; ++i)
        if (block.shared[shared_bytes + i] != 0xff) undefined("a write past shared memory");
}

}  // namespace

void launch(void (*kernel)(const void*), const void* args, Index grid, Index shape, u32 shared_bytes) {
    block.threads = shape.x * shape.y * shape.z;
    block.kernel = kernel;
    block.grid = grid;
    block.args = args;
    while (block.fibers.size() < block.threads) {
        block.fibers.emplace_back(new Fiber());
        Fiber& fiber = *block.fibers.back();
        fiber.stack.reset(new u8[STACK_BYTES]);
        fiber.number = (u32)block.fibers.size() - 1;
    }
    while (block.warps.size() < (block.threads + 31) / 32) block.warps.emplace_back(new Warp());
    for (u32 z = 0; z < grid.z; ++z)
        for (u32 y = 0; y < grid.y; ++y)
            for (u32 x = 0; x < grid.x; ++x) run_block({x, y, z}, shape, shared_bytes);
}

void reverse(bool order) { reversed = order; }

void undefined(const char* what) {
    fprintf(stderr, "CUDA emulator: %s\n", what);
    abort();
}

Index& block_index() { return block.index; }
Index& grid_size() { return block.grid; }
Index& thread_index() { return block.now->index; }
u8* dynamic_shared() { return block.shared; }
u32 lane() { return block.now->number % 32; }

void sync_block() {
    if (++block.barrier.arrived == block.barrier.live) release(block.barrier);
    else wait(block.barrier, 0, block.threads);
}

Slot* exchange(const Slot& mine, void (*finish)(Slot*)) {
    u32 number = block.now->number, first = number / 32 * 32;
    Warp& warp = *block.warps[number / 32];
    Slot* slots = warp.slots[warp.barrier.generation % 2];
    slots[number % 32] = mine;
    if (++warp.barrier.arrived < warp.barrier.live) {
        wait(warp.barrier, first, block.threads - first < 32 ? block.threads - first : 32);
    } else {
        if (finish != nullptr) finish(slots);
        release(warp.barrier);
    }
    return slots;
}

void copy_async(void* to, const void* from, u32 live) { block.now->open.push_back({to, from, live}); }

void copy_commit() {
    block.now->groups.push_back(block.now->open);
    block.now->open.clear();
}

void copy_wait(u32 open) {
    auto& groups = block.now->groups;
    for (; groups.size() > open; groups.pop_front()) {
        for (const Copy& copy : groups.front()) {
            memset(copy.to, 0, 16);
            memcpy(copy.to, copy.from, copy.live);
        }
    }
}

float half_to_float(u16 bits) {
    u32 exponent = bits >> 10 & 31, fraction = bits & 1023;
    float magnitude = exponent == 31  ? bits_float(0x7f800000 | fraction << 13)
                      : exponent == 0 ? (float)fraction * bits_float(0x33800000)
                                      : bits_float((exponent + 112) << 23 | fraction << 13);
    return bits & 0x8000 ? -magnitude : magnitude;
}

u16 float_to_half(float x) {
    u32 bits = float_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x477ff000) return (u16)(sign | 0x7c00);
    // Below 2^-14 the last digit is worth 2^-24: adding half of 2^0 aligns it with that of an f32.
    if (magnitude < 0x38800000) return (u16)(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000));
    return (u16)(sign | (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

namespace {

struct Row {
    u16 elements[8];
};

// The rows of four matrices, read before anybody goes on.
void read_rows(const Slot* warp, Row (&rows)[32]) {
    for (u32 i = 0; i < 32; ++i) memcpy(&rows[i], warp[i].row, 16);
}

// How tensor cores of compute capability 8.x add 16-bit products to an f32 sum (Fasi and others, PeerJ CS 330, 2021;
// Khattak and Mikaitis, arXiv 2512.07004): eight products and the sum so far are brought to the largest exponent among
// them and truncated one bit past those of an f32; they are added exactly, and the sum is truncated to an f32.
// Capability 9.0 adds 16 products and keeps two bits more: it truncates less.
const u32 PRODUCTS = 8;
const int FRACTION_BITS = 24;

// The exponent of a value; that of zero is below all others.
int exponent(float x) {
    u32 bits = float_bits(x) >> 23 & 255;
    return x == 0.0f ? -1000 : (int)(bits == 0 ? 1 : bits) - 127;
}

double power_of_two(int e) {
    u64 bits = (u64)(e + 1023) << 52;
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

float truncate_to_f32(double x) {
    float nearest = (float)x;
    return fabs((double)nearest) > fabs(x) ? bits_float(float_bits(nearest) - 1) : nearest;
}

// An operand's values along K, with their exponents.
struct Line {
    float values[16];
    int exponents[16];

    void set(u32 k, float x) {
        values[k] = x;
        exponents[k] = exponent(x);
    }
};

float add_block(float sum, const Line& x, const Line& y, u32 k0) {
    int largest = exponent(sum);
    double products[PRODUCTS], all = sum;
    for (u32 i = 0; i < PRODUCTS; ++i) {
        int e = x.exponents[k0 + i] + y.exponents[k0 + i];
        if (e > largest) largest = e;
        products[i] = (double)x.values[k0 + i] * (double)y.values[k0 + i];
        all += products[i];
    }
    if (largest < -500 || largest > 126 || all - all != 0) {
        // All is zero, or something is not finite: of NaN times zero no exponent tells.
        for (double product : products) sum += (float)product;
        return sum;
    }
    double scale = power_of_two(FRACTION_BITS - largest);
    long long total = (long long)((double)sum * scale);
    for (double product : products) total += (long long)(product * scale);
    return truncate_to_f32((double)total * power_of_two(largest - FRACTION_BITS));
}

// c += a · b of f32 values.
template <class Widen>
void product_16(Slot* warp, Widen widen) {
    Line a[16], b[8];
    for (u32 lane = 0; lane < 32; ++lane) {
        for (u32 i = 0; i < 2; ++i) {
            u32 k = lane % 4 * 2 + i;
            auto value = [&](u32 word) { return widen((u16)(warp[lane].words[word] >> 16 * i)); };
            for (u32 r = 0; r < 4; ++r) a[lane / 4 + r % 2 * 8].set(k + r / 2 * 8, value(r));
            for (u32 r = 0; r < 2; ++r) b[lane / 4].set(k + r * 8, value(4 + r));
        }
    }
    for (u32 lane = 0; lane < 32; ++lane) {
        for (u32 e = 0; e < 4; ++e) {
            float c;
            memcpy(&c, &warp[lane].sums[e], 4);
            const Line &x = a[lane / 4 + e / 2 * 8], &y = b[lane % 4 * 2 + e % 2];
            for (u32 k = 0; k < 16; k += PRODUCTS) c = add_block(c, x, y, k);
            memcpy(&warp[lane].sums[e], &c, 4);
        }
    }
}

}  // namespace

void load_matrices(Slot* warp) {
    Row rows[32];
    read_rows(warp, rows);
    for (u32 lane = 0; lane < 32; ++lane)
        for (u32 i = 0; i < 4; ++i) memcpy(&warp[lane].words[i], &rows[8 * i + lane / 4].elements[lane % 4 * 2], 4);
}

void load_matrices_transposed(Slot* warp) {
    Row rows[32];
    read_rows(warp, rows);
    for (u32 lane = 0; lane < 32; ++lane) {
        for (u32 i = 0; i < 4; ++i) {
            const Row* pair = &rows[8 * i + lane % 4 * 2];
            warp[lane].words[i] = pair[0].elements[lane / 4] | (u32)pair[1].elements[lane / 4] << 16;
        }
    }
}

void product_f16(Slot* warp) { product_16(warp, half_to_float); }

void product_bf16(Slot* warp) {
    product_16(warp, [](u16 bits) { return bits_float((u32)bits << 16); });
}

void product_int8(Slot* warp) {
    i8 a[16][32], b[8][32];
    for (u32 lane = 0; lane < 32; ++lane) {
        u32 k = lane % 4 * 4;
        for (u32 r = 0; r < 4; ++r) memcpy(&a[lane / 4 + r % 2 * 8][k + r / 2 * 16], &warp[lane].words[r], 4);
        for (u32 r = 0; r < 2; ++r) memcpy(&b[lane / 4][k + r * 16], &warp[lane].words[4 + r], 4);
    }
    for (u32 lane = 0; lane < 32; ++lane)
        for (u32 e = 0; e < 4; ++e)
            for (u32 k = 0; k < 32; ++k)
                warp[lane].sums[e] += a[lane / 4 + e / 2 * 8][k] * b[lane % 4 * 2 + e % 2][k];
}

}  // namespace emulator
