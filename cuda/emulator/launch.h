// Runs a kernel on this thread.
#pragma once
#include "../kernels/device.cuh"

namespace emulator {

void launch(void (*kernel)(const void*), const void* args, Index grid, Index shape, u32 shared_bytes);
// In which order the threads of blocks take turns, in this thread's launches: kernels whose results depend on it have a race.
void reverse(bool order);

}  // namespace emulator
