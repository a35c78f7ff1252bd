// What a linear layer does to y = x · wᵀ + bias before it writes it; core's Epilogue. An argument and not a constant:
// it costs one branch for each sum, and spares a compilation for each epilogue.

const uint STORE = 0u;
const uint SILU = 1u;
const uint ADD_PERIODIC = 2u;
const uint GATED_RESIDUAL = 3u;
const uint RESIDUAL = 4u;

layout(set = 0, binding = 2) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 3) readonly buffer Table { float table[]; };
layout(set = 0, binding = 4) readonly buffer Rows { uint rows[]; };
layout(set = 0, binding = 5) buffer Out { float result[]; };

// Where the row's part of `table` starts: the periodic addend or the gates.
uint table_row(uint row) {
    if (a.epilogue == ADD_PERIODIC) return a.table_at + row % a.period * a.table_stride;
    if (a.epilogue != GATED_RESIDUAL) return 0u;
    uint image = image_of(row, a.images, a.image_tokens, a.context_tokens);
    return a.table_at + rows[a.rows_at + image] * a.table_stride;
}

void finish(float y, uint row, uint col, uint from) {
    if (a.has_bias != 0u) y += bias[a.bias_at + col];
    uint to = a.out_at + row * a.out_stride + col;
    if (a.epilogue == SILU) y = silu(y);
    if (a.epilogue == ADD_PERIODIC) y += table[from + col];
    if (a.epilogue == GATED_RESIDUAL) y = result[to] + y * table[from + col];
    if (a.epilogue == RESIDUAL) y += result[to];
    result[to] = y;
}
