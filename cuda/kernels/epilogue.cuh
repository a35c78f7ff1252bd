// Arguments of the linear kernels, and what they do to y = x · wᵀ + bias before they write it; core's Epilogue. An argument
// and not a constant: it costs one branch for each sum, and spares a kernel for each epilogue.
#pragma once
#include "types.cuh"

constexpr u32 STORE = 0;
constexpr u32 SILU = 1;
constexpr u32 ADD_PERIODIC = 2;
constexpr u32 GATED_RESIDUAL = 3;
constexpr u32 RESIDUAL = 4;
constexpr u32 SWIGLU = 5;

// `table` is the periodic addend, or the modulation table from the gate's first column on, whose rows `table_rows` picks.
// Scales are there for int8 alone; no bias is a null pointer. `gate`, its scale and bias are those of SWIGLU, which alone
// may have outputs of 16 bits. `stages`: slabs in shared memory, 2 to 4.
struct LinearArgs {
    AnyMatrix x;
    AnyMatrix w;
    const float* x_scale;
    const float* w_scale;
    const float* bias;
    Matrix<const float> table;
    const u32* table_rows;
    AnyMatrix gate;
    const float* gate_scale;
    const float* gate_bias;
    AnyMatrix out;
    u32 rows;
    u32 n;
    u32 k;
    u32 epilogue;
    Tokens layout;
    u32 stages;

    // A row of outputs where they are f32.
    DEVICE float* out_row(u32 r) const { return reinterpret_cast<float*>(out.at) + (u64)r * out.stride; }
};
static_assert(sizeof(LinearArgs) == 160, "args.rs");

// The row's part of `table`: the periodic addend or the gates.
DEVICE const float* table_row(const LinearArgs& a, u32 row) {
    if (a.epilogue == ADD_PERIODIC) return a.table.row(row % a.table.rows);
    if (a.epilogue == GATED_RESIDUAL) return a.table.row(a.table_rows[a.layout.image_of(row)]);
    return nullptr;
}

// What is written over `before` for y = x · wᵀ + bias, where `beside` is the row's part of the table.
DEVICE float finish(u32 epilogue, float y, float beside, float before) {
    if (epilogue == SILU) return silu(y);
    y = epilogue == GATED_RESIDUAL ? y * beside : y + beside;
    return epilogue == GATED_RESIDUAL || epilogue == RESIDUAL ? before + y : y;
}
