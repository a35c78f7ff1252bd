// out[image · count + i] = table[label[image]] + position[i], an element a thread.
#include "types.cuh"

struct ContextTokensArgs {
    AnyMatrix table;
    Matrix<const float> position;
    const u32* labels;
    Matrix<float> out;
    u32 cols;
    u32 unused;
};
static_assert(sizeof(ContextTokensArgs) == 64, "args.rs");

KERNEL(LINE_THREADS) context_tokens(ARGUMENTS(ContextTokensArgs) a) {
    wait_for_previous();
    u32 row = line_index() / a.cols, c = line_index() % a.cols, count = a.position.rows;
    if (row >= a.out.rows) return;
    float label = load(a.table.row(a.labels[row / count]), a.table.type, c);
    a.out.row(row)[c] = label + a.position.row(row % count)[c];
}
