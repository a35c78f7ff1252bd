// What the kernels stand on: NVIDIA's instructions as functions here, the same functions for a processor in
// ../emulator/device.h. Kernels use these names and nothing else of CUDA.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
// Shared memory whose size the launch says.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) u8 name[]
// A kernel's argument, which lies in constant memory.
#define ARGUMENTS(type) const __grid_constant__ type
#include "instructions.cuh"
#else
#include "../emulator/device.h"
#endif
