// Velocity, guidance and the solver's linear combinations, a value of an image a thread. What changes from step to step
// is in memory, so that a graph can be replayed.
#include "types.cuh"

// core's StepValues.
struct Step {
    float advance[4];
    float look_ahead[4];
    float remaining;
    float guidance;
    u32 slot;
};

// `guided`: the null branch is in the second half of `x_hat`.
struct SolverStepArgs {
    Matrix<float> x;
    Matrix<float> x_eval;
    Matrix<float> x_hat;
    Matrix<float> velocity;
    const Step* step;
    u32 pixels;
    u32 guided;
};
static_assert(sizeof(SolverStepArgs) == 80, "args.rs");

// Σ weights[j] · velocity[j]; a zero weight reads nothing.
DEVICE float combine(const SolverStepArgs& a, const float* weights, u32 image, u32 c, u32 slot, float newest) {
    float sum = 0.0f;
    for (u32 j = 0; j < 4; ++j) {
        float w = weights[j];
        if (w != 0.0f) sum += w * (j == slot ? newest : a.velocity.row(j * a.x.rows + image)[c]);
    }
    return sum;
}

KERNEL(LINE_THREADS) solver_step(ARGUMENTS(SolverStepArgs) a) {
    wait_for_previous();
    u32 image = line_index() / a.pixels, c = line_index() % a.pixels;
    if (image >= a.x.rows) return;
    const Step& step = *a.step;
    float* x = a.x.row(image) + c;
    float* x_eval = a.x_eval.row(image) + c;
    float* x_hat = a.x_hat.row(image) + c;
    u32 slot = step.slot % 4;

    float seen = *x_eval;
    float v = (*x_hat - seen) / step.remaining;
    if (a.guided) {
        float v_null = (a.x_hat.row(a.x.rows + image)[c] - seen) / step.remaining;
        v = v_null + step.guidance * (v - v_null);
    }
    a.velocity.row(slot * a.x.rows + image)[c] = v;
    float moved = *x + combine(a, step.advance, image, c, slot, v);
    *x = moved;
    *x_eval = moved + combine(a, step.look_ahead, image, c, slot, v);
    *x_hat = seen + step.remaining * v;
}
