// out[t · labels + l] = SiLU(t_emb[t] + table[label[l]]), an element a thread.
#include "types.cuh"

struct ClassConditionArgs {
    Matrix<const float> t_emb;
    AnyMatrix table;
    const u32* labels;
    Matrix<float> out;
    u32 label_count;
    u32 cols;
};
static_assert(sizeof(ClassConditionArgs) == 64, "args.rs");

KERNEL(LINE_THREADS) class_condition(ARGUMENTS(ClassConditionArgs) a) {
    wait_for_previous();
    u32 row = line_index() / a.cols, c = line_index() % a.cols;
    if (row >= a.out.rows) return;
    float label = load(a.table.row(a.labels[row % a.label_count]), a.table.type, c);
    a.out.row(row)[c] = silu(a.t_emb.row(row / a.label_count)[c] + label);
}
