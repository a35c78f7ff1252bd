// out[i · count + j] = x[index[i] · count + j] for j < count, an element a thread.
#include "types.cuh"

struct GatherRowsArgs {
    AnyMatrix x;
    const u32* index;
    AnyMatrix out;
    u32 rows;
    u32 cols;
    u32 count;
    u32 unused;
};
static_assert(sizeof(GatherRowsArgs) == 56, "args.rs");

KERNEL(LINE_THREADS) gather_rows(ARGUMENTS(GatherRowsArgs) a) {
    wait_for_previous();
    u32 row = line_index() / a.cols, c = line_index() % a.cols;
    if (row >= a.rows) return;
    u32 from = a.index[row / a.count] * a.count + row % a.count;
    store(a.out.row(row), a.out.type, c, load(a.x.row(from), a.x.type, c));
}
