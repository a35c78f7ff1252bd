// Runs a kernel on this thread.
#pragma once
#include "../kernels/device.cuh"

namespace emulator {

void launch(void (*kernel)(const void*), const void* args, Index grid, Index shape, u32 shared_bytes);

}  // namespace emulator
